/* SPDX-License-Identifier: MIT */
/* Copying takes less of the pool. */
#define MINIPROXY_LWIP_RAW_RELAY 0
#define PBUF_POOL_SIZE 20
#include "tests/lwip/configs/base.h"
