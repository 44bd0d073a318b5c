/* SPDX-License-Identifier: MIT */
/* Windows of one segment: the smallest pool. */
#define TCP_WND TCP_MSS
#define PBUF_POOL_SIZE 15
#include "tests/lwip/configs/base.h"
