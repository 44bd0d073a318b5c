/* SPDX-License-Identifier: MIT */
/* Memory from malloc. */
#define MEM_LIBC_MALLOC 1
#define MEMP_MEM_MALLOC 1
#include "tests/lwip/configs/base.h"
