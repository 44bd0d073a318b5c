/* SPDX-License-Identifier: MIT */
/* Four clients, no octet more than is asked for. */
#define LWIP_IPV4 1
#include "tests/lwip/configs/base.h"
