/* SPDX-License-Identifier: MIT */
/* fails with: MINIPROXY_LWIP_RAW_LOOKUPS must be 1..255 */
#define MINIPROXY_LWIP_RAW_LOOKUPS 256
#include "tests/lwip/configs/base.h"
