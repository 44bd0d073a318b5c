/* SPDX-License-Identifier: MIT */
/* fails with: MINIPROXY_NAME_MAX is out of range; see its comment in miniproxy.h */
#define MINIPROXY_NAME_MAX 65
