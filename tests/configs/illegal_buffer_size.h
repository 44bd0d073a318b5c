/* SPDX-License-Identifier: MIT */
/* fails with: MINIPROXY_BUFFER_SIZE < 512: a refusal cannot fit; raise it in your config header */
#define MINIPROXY_BUFFER_SIZE 511
