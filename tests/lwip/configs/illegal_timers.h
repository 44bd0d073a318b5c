/* SPDX-License-Identifier: MIT */
/* fails with: MEMP_NUM_SYS_TIMEOUT must be LWIP_NUM_SYS_TIMEOUT_INTERNAL + MINIPROXY_LWIP_RAW_LOOKUPS / 2 */
#define LWIP_IPV6 1
#define MEMP_NUM_SYS_TIMEOUT (LWIP_NUM_SYS_TIMEOUT_INTERNAL + DNS_TABLE_SIZE / 2 - 1)
#include "tests/lwip/configs/base.h"
