/* SPDX-License-Identifier: MIT */
/* fails with: MINIPROXY_BUFFERS is out of range; see its comment in miniproxy.h */
#define MINIPROXY_BUFFERS 1
