/* SPDX-License-Identifier: MIT */
#include "common.h"
#define SIM_VARIANT "tls"
#define MINIPROXY_WITH_TLS 1
#define MINIPROXY_SESSIONS 10
#define MINIPROXY_TLS_SESSIONS 12
#define MINIPROXY_TLS_COMMON_ARENA 16384
