/* SPDX-License-Identifier: MIT */
/* fails with: MINIPROXY_LWIP_RAW_HOLDERS must be 1 at least */
#define MINIPROXY_LWIP_RAW_HOLDERS 0
#include "tests/lwip/configs/base.h"
