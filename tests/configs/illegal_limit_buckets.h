/* SPDX-License-Identifier: MIT */
/* fails with: MINIPROXY_LIMIT_BUCKETS is out of range; see its comment in miniproxy.h */
#define MINIPROXY_WITH_LIMITS 1
#define MINIPROXY_LIMIT_BUCKETS 0
