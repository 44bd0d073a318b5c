/* SPDX-License-Identifier: MIT */
/* fails with: MINIPROXY_LWIP_RAW_BACKLOG must be 1..255 */
#define MINIPROXY_LWIP_RAW_BACKLOG 256
#include "tests/lwip/configs/base.h"
