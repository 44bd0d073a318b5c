/* SPDX-License-Identifier: MIT */
#include "common.h"
#define SIM_VARIANT "routes_few"
#define MINIPROXY_WITH_ROUTES 1
#define MINIPROXY_CHECKS 1
#define MINIPROXY_SESSIONS 6
#define MINIPROXY_BUFFERS 6
