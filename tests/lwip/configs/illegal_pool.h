/* SPDX-License-Identifier: MIT */
/* fails with: received data may take all pbufs, and then no acknowledgement comes in */
#define PBUF_POOL_SIZE 27
#include "tests/lwip/configs/base.h"
