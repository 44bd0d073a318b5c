/* SPDX-License-Identifier: MIT */
/* fails with: with IPv4 and IPv6 a name takes two */
#define MINIPROXY_LWIP_RAW_LOOKUPS 1
#include "tests/lwip/configs/both_families.h"
