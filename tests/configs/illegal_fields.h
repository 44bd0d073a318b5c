/* SPDX-License-Identifier: MIT */
/* fails with: MINIPROXY_FIELDS_MAX is out of range; see its comment in miniproxy.h */
#define MINIPROXY_FIELDS_MAX 7
