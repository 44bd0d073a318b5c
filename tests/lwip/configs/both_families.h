/* SPDX-License-Identifier: MIT */
/* IPv4 and IPv6. */
#define LWIP_IPV6 1
#include "tests/lwip/configs/base.h"
