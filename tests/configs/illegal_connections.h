/* SPDX-License-Identifier: MIT */
/* fails with: MINIPROXY_CONNS is out of range; see its comment in miniproxy.h */
#define MINIPROXY_SESSIONS 20000
#define MINIPROXY_ATTEMPTS 8
