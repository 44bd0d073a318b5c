/* SPDX-License-Identifier: MIT */
/* fails with: MINIPROXY_TRAILER_MAX is out of range; see its comment in miniproxy.h */
#define MINIPROXY_TRAILER_MAX 63
