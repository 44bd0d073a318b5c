/* SPDX-License-Identifier: MIT */
/* A router: ten thousand sessions that share 512 buffers. */
#define MINIPROXY_SESSIONS 10000
#define MINIPROXY_RESERVED 16
#define MINIPROXY_BUFFERS 512
#define MINIPROXY_BUFFER_SIZE 16384
#define MINIPROXY_CLIENT_BUCKETS 4096
