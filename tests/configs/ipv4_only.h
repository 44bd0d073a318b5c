/* SPDX-License-Identifier: MIT */
/* A network without IPv6. */
#define MINIPROXY_WITH_IPV6 0
