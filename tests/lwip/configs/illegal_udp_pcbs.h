/* SPDX-License-Identifier: MIT */
/* fails with: no name could be looked up: MEMP_NUM_UDP_PCB must be 1 + LWIP_DHCP at least */
#define LWIP_DHCP 1
#define MEMP_NUM_UDP_PCB 1
#include "tests/lwip/configs/base.h"
