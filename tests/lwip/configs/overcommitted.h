/* SPDX-License-Identifier: MIT */
/* A pool that cannot hold all windows, on purpose. */
#define MINIPROXY_LWIP_RAW_HOLDERS 4
#define PBUF_POOL_SIZE 10
#include "tests/lwip/configs/base.h"
