/* SPDX-License-Identifier: MIT */
/* fails with: MINIPROXY_CREDENTIALS_MAX is out of range; see its comment in miniproxy.h */
#define MINIPROXY_CREDENTIALS_MAX 256
