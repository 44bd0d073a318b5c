/* SPDX-License-Identifier: MIT */
/* fails with: MINIPROXY_RESERVED is out of range; see its comment in miniproxy.h */
#define MINIPROXY_RESERVED 0
