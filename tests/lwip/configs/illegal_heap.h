/* SPDX-License-Identifier: MIT */
/* fails with: no segment fits into the heap: MEM_SIZE must be */
#define MEM_SIZE 855
#include "tests/lwip/configs/base.h"
