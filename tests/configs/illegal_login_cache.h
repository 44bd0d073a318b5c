/* SPDX-License-Identifier: MIT */
/* fails with: MINIPROXY_LOGIN_CACHE is out of range; see its comment in miniproxy.h */
#define MINIPROXY_WITH_PBKDF2 1
#define MINIPROXY_LOGIN_CACHE 0
