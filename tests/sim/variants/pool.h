/* SPDX-License-Identifier: MIT */
#include "common.h"
#define SIM_VARIANT "pool"
#define MINIPROXY_SESSIONS 8
#define MINIPROXY_BUFFERS 6
#define MINIPROXY_BUFFER_SIZE 576
#define MINIPROXY_WITH_HTML 1
