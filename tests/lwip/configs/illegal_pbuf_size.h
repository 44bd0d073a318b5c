/* SPDX-License-Identifier: MIT */
/* fails with: PBUF_POOL_BUFSIZE must hold a whole segment with its headers */
#define PBUF_POOL_BUFSIZE 512
#include "tests/lwip/configs/base.h"
