/* SPDX-License-Identifier: MIT */
/* Memory from malloc. */
#define MEM_LIBC_MALLOC 1
#define MEMP_MEM_MALLOC 1
#define PBUF_POOL_SIZE 36 /* 9 connections, 4 that wait, 4 origins that are gone: windows of 2 segments, 2 spare */
#include "tests/lwip/configs/base.h"
