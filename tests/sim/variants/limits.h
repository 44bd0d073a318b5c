/* SPDX-License-Identifier: MIT */
#include "common.h"
#define SIM_VARIANT "limits"
#define MINIPROXY_WITH_LIMITS 1
#define MINIPROXY_LIMIT_BUCKETS 64
#define MINIPROXY_SESSIONS 8
#define MINIPROXY_BUFFERS 7
