/* SPDX-License-Identifier: MIT */
#include "common.h"
#define SIM_VARIANT "roomy"
#define MINIPROXY_SESSIONS 12
#define MINIPROXY_RESERVED 2
#define MINIPROXY_BUFFER_SIZE 4096
#define MINIPROXY_ATTEMPTS 3
#define MINIPROXY_CLIENT_BUCKETS 4
