/* SPDX-License-Identifier: MIT */
/* fails with: TCP_SND_BUF must be 65535 at most */
#define LWIP_WND_SCALE 1
#define TCP_RCV_SCALE 1
#define TCP_SND_BUF 65536
#include "tests/lwip/configs/base.h"
