/* SPDX-License-Identifier: MIT */
/* The lines of heads are told, of everything that has any. */
#define MINIPROXY_WITH_HEADS 1
#define MINIPROXY_WITH_CONDITIONS 1
#define MINIPROXY_WITH_ROUTES 1
#define MINIPROXY_WITH_SOCKS5 1
#define MINIPROXY_WITH_INTERCEPTION 1
