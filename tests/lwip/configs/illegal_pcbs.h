/* SPDX-License-Identifier: MIT */
/* fails with: MEMP_NUM_TCP_PCB must be 2 * MINIPROXY_SESSIONS + MINIPROXY_RESERVED at least */
#define MEMP_NUM_TCP_PCB 8
#define MINIPROXY_LWIP_RAW_RECORDS 9
#include "tests/lwip/configs/base.h"
