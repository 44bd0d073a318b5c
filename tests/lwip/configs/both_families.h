/* SPDX-License-Identifier: MIT */
/* IPv4 and IPv6. */
#define LWIP_IPV6 1
#define MEMP_NUM_SYS_TIMEOUT (LWIP_NUM_SYS_TIMEOUT_INTERNAL + DNS_TABLE_SIZE / 2)
#include "tests/lwip/configs/base.h"
