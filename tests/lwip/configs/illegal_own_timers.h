/* SPDX-License-Identifier: MIT */
/* fails with: the raw port needs LWIP_TIMERS 1 */
#define LWIP_TIMERS_CUSTOM 1
#include "tests/lwip/configs/both_families.h"
