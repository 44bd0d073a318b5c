/* SPDX-License-Identifier: MIT */
/* fails with: MINIPROXY_RETRY_AFTER_S is out of range; see its comment in miniproxy.h */
#define MINIPROXY_RETRY_AFTER_S 0
