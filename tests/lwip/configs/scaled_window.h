/* SPDX-License-Identifier: MIT */
/* With windows beyond 64 KB some of lwIP's counts are wider. */
#define LWIP_WND_SCALE 1
#define TCP_RCV_SCALE 0
#include "tests/lwip/configs/base.h"
