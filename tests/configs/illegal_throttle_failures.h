/* SPDX-License-Identifier: MIT */
/* fails with: MINIPROXY_THROTTLE_FAILURES is out of range; see its comment in miniproxy.h */
#define MINIPROXY_THROTTLE_FAILURES 0
