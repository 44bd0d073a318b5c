/* SPDX-License-Identifier: MIT */
/* Four clients in 8 KB of RAM, addresses of both families and logins included. */
#define MINIPROXY_RAM_BUDGET 8192
#define MINIPROXY_SESSIONS 4
#define MINIPROXY_RESERVED 1
#define MINIPROXY_BUFFERS 5
#define MINIPROXY_BUFFER_SIZE 1024
#define MINIPROXY_THROTTLE_CLIENTS 4
