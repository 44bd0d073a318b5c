/* SPDX-License-Identifier: MIT */
/* fails with: MINIPROXY_CONNECT_PORT is out of range; see its comment in miniproxy.h */
#define MINIPROXY_CONNECT_PORT 65536
