/* SPDX-License-Identifier: MIT */
/* fails with: MINIPROXY_LINE_KEEP is out of range; see its comment in miniproxy.h */
#define MINIPROXY_LINE_KEEP 15
