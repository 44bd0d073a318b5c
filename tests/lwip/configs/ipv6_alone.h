/* SPDX-License-Identifier: MIT */
/* No IPv4. */
#define LWIP_IPV4 0
#define LWIP_IPV6 1
#include "tests/lwip/configs/base.h"
