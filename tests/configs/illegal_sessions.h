/* SPDX-License-Identifier: MIT */
/* fails with: MINIPROXY_SESSIONS is out of range; see its comment in miniproxy.h */
#define MINIPROXY_SESSIONS 0
