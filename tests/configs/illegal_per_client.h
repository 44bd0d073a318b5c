/* SPDX-License-Identifier: MIT */
/* fails with: MINIPROXY_SESSIONS_PER_CLIENT is out of range; see its comment in miniproxy.h */
#define MINIPROXY_SESSIONS_PER_CLIENT 0
