/* SPDX-License-Identifier: MIT */
/* fails with: the raw port resolves names by LWIP_DNS 1 and LWIP_UDP 1 */
#define LWIP_UDP 0
#include "tests/lwip/configs/base.h"
