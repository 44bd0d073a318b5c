/* SPDX-License-Identifier: MIT */
#include "common.h"
#define SIM_VARIANT "routes"
#define MINIPROXY_WITH_HEADS 1
#define MINIPROXY_WITH_ROUTES 1
#define MINIPROXY_CHECKS 2
