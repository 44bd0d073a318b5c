/* SPDX-License-Identifier: MIT */
/* fails with: struct miniproxy is larger than MINIPROXY_RAM_BUDGET: lower MINIPROXY_SESSIONS, _BUFFERS or _BUFFER_SIZE */
#define MINIPROXY_RAM_BUDGET 4096
