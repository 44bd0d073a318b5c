/* SPDX-License-Identifier: MIT */
/* fails with: MINIPROXY_LWIP_RAW_RECORDS must be */
#define MINIPROXY_LWIP_RAW_RECORDS 8
#include "tests/lwip/configs/base.h"
