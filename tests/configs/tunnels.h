/* SPDX-License-Identifier: MIT */
/* Nothing but CONNECT. */
#include "smallest.h"
#define MINIPROXY_WITH_FORWARDING 0
