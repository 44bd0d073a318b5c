/* SPDX-License-Identifier: MIT */
/* fails with: MEMP_NUM_TCP_PCB_LISTEN must be MINIPROXY_LWIP_RAW_LISTENERS at least */
#define MINIPROXY_LWIP_RAW_LISTENERS 3
#define MEMP_NUM_TCP_PCB_LISTEN 2
#include "tests/lwip/configs/base.h"
