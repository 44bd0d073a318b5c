/* SPDX-License-Identifier: MIT */
/* lwIP with IPv6, miniproxy without. */
#define LWIP_IPV6 1
#define MINIPROXY_WITH_IPV6 0
#include "tests/lwip/configs/base.h"
