/* SPDX-License-Identifier: MIT */
#include "common.h"
#define SIM_VARIANT "tiny"
#define MINIPROXY_SESSIONS 3
#define MINIPROXY_BUFFERS 4
#define MINIPROXY_BUFFER_SIZE 1024
#define MINIPROXY_ATTEMPTS 1
