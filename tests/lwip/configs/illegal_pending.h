/* SPDX-License-Identifier: MIT */
/* fails with: clients whose connection lwIP has taken would be reset */
#define MEM_LIBC_MALLOC 1
#define MEMP_MEM_MALLOC 1
#define MINIPROXY_LWIP_RAW_RECORDS 12
#include "tests/lwip/configs/base.h"
