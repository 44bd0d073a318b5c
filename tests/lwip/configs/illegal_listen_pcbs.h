/* SPDX-License-Identifier: MIT */
/* fails with: MEMP_NUM_TCP_PCB_LISTEN must be 1 at least */
#define MEMP_NUM_TCP_PCB_LISTEN 0
#include "tests/lwip/configs/base.h"
