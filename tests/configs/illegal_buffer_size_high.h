/* SPDX-License-Identifier: MIT */
/* fails with: MINIPROXY_BUFFER_SIZE is out of range; see its comment in miniproxy.h */
#define MINIPROXY_BUFFER_SIZE 65001
