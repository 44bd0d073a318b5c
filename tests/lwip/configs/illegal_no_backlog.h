/* SPDX-License-Identifier: MIT */
/* fails with: without TCP_LISTEN_BACKLOG 1 clients that wait would take all PCBs */
#define TCP_LISTEN_BACKLOG 0
#include "tests/lwip/configs/base.h"
