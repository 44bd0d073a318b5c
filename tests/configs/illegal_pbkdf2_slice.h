/* SPDX-License-Identifier: MIT */
/* fails with: MINIPROXY_PBKDF2_SLICE is out of range; see its comment in miniproxy.h */
#define MINIPROXY_WITH_PBKDF2 1
#define MINIPROXY_PBKDF2_SLICE 0
