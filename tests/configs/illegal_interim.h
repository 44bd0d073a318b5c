/* SPDX-License-Identifier: MIT */
/* fails with: MINIPROXY_INTERIM_MAX is out of range; see its comment in miniproxy.h */
#define MINIPROXY_INTERIM_MAX 0
