/* SPDX-License-Identifier: MIT */
/* fails with: the raw port needs LWIP_TCP 1 and LWIP_CALLBACK_API 1 */
#define LWIP_EVENT_API 1
#define LWIP_CALLBACK_API 0
#include "tests/lwip/configs/base.h"
