/* SPDX-License-Identifier: MIT */
/* fails with: segments out of order may take all pbufs: PBUF_POOL_FREE_OOSEQ 1 or TCP_QUEUE_OOSEQ 0 */
#define TCP_QUEUE_OOSEQ 1
#define PBUF_POOL_FREE_OOSEQ 0
#include "tests/lwip/configs/base.h"
