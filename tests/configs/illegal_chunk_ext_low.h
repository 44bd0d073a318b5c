/* SPDX-License-Identifier: MIT */
/* fails with: MINIPROXY_CHUNK_EXT_MAX is out of range; see its comment in miniproxy.h */
#define MINIPROXY_CHUNK_EXT_MAX 63
