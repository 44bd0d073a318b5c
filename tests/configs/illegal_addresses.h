/* SPDX-License-Identifier: MIT */
/* fails with: MINIPROXY_ADDRESSES is out of range; see its comment in miniproxy.h */
#define MINIPROXY_ADDRESSES 0
