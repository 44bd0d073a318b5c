/* SPDX-License-Identifier: MIT */
/* fails with: MINIPROXY_ATTEMPTS is out of range; see its comment in miniproxy.h */
#define MINIPROXY_ATTEMPTS 9
