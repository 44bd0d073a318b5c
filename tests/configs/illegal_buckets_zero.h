/* SPDX-License-Identifier: MIT */
/* fails with: MINIPROXY_CLIENT_BUCKETS is not a power of two */
#define MINIPROXY_CLIENT_BUCKETS 0
