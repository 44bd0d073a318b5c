/* SPDX-License-Identifier: MIT */
/* fails with: MINIPROXY_LWIP_RAW_LISTENERS must be 1..16 */
#define MINIPROXY_LWIP_RAW_LISTENERS 17
#include "tests/lwip/configs/base.h"
