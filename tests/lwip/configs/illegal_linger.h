/* SPDX-License-Identifier: MIT */
/* fails with: MINIPROXY_LWIP_RAW_LINGER_S must be 1..120 */
#define MINIPROXY_LWIP_RAW_LINGER_S 121
#include "tests/lwip/configs/base.h"
