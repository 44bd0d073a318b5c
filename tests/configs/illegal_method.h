/* SPDX-License-Identifier: MIT */
/* fails with: MINIPROXY_METHOD_MAX is out of range; see its comment in miniproxy.h */
#define MINIPROXY_METHOD_MAX 6
