/* SPDX-License-Identifier: MIT */
/* Ethernet's segments, out of order too. */
#define TCP_MSS 1460
#define TCP_WND (4 * TCP_MSS)
#define TCP_SND_BUF (4 * TCP_MSS)
#define PBUF_POOL_SIZE 54
#define TCP_QUEUE_OOSEQ 1
#include "tests/lwip/configs/base.h"
