/* SPDX-License-Identifier: MIT */
/* fails with: MINIPROXY_HEAD_MAX is out of range; see its comment in miniproxy.h */
#define MINIPROXY_BUFFER_SIZE 512
#define MINIPROXY_ADDRESSES 16
