/* SPDX-License-Identifier: MIT */
/* fails with: the raw port needs NO_SYS 1; with an operating system use miniproxy_lwip_sockets.c */
#define NO_SYS 0
#include "tests/lwip/configs/base.h"
