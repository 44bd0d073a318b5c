/* SPDX-License-Identifier: MIT */
/* fails with: with LWIP_NETIF_TX_SINGLE_PBUF 1 lwIP copies all the same */
#define LWIP_NETIF_TX_SINGLE_PBUF 1
#include "tests/lwip/configs/base.h"
