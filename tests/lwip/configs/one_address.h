/* SPDX-License-Identifier: MIT */
/* IPv4 and IPv6, but one address of each name: no timers. */
#define LWIP_IPV6 1
#define MINIPROXY_ADDRESSES 1
#define MINIPROXY_ATTEMPTS 1
#include "tests/lwip/configs/base.h"
