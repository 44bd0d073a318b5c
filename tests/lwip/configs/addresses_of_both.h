/* SPDX-License-Identifier: MIT */
/* lwIP without IPv6, miniproxy with. */
#define MINIPROXY_WITH_IPV6 1
#include "tests/lwip/configs/base.h"
