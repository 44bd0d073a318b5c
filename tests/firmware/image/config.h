/* SPDX-License-Identifier: MIT
 *
 * miniproxy in the image under test. IMAGE_TINY 1: for 64 KB of RAM; 0: the desktop's limits, with fewer sessions.
 * IMAGE_SMALL 1: few sessions and buffers, as in build/miniproxy-small.
 */
#ifndef IMAGE_CONFIG_H
#define IMAGE_CONFIG_H

/* in place of the product's */
#define FIRMWARE_CONFIG_H
#define FIRMWARE_TIGHT 0

#define MINIPROXY_LWIP_RAW_LISTENERS 4
#define MINIPROXY_LWIP_SOCKETS_LISTENERS 4
#define MINIPROXY_LWIP_RAW_LINGER_S 20
#define MINIPROXY_LWIP_SOCKETS_LINGER_S 20

#define MINIPROXY_ASSERT(condition) ((condition) ? (void)0 : cpu_panic("ERROR: miniproxy: " #condition))
_Noreturn void cpu_panic(const char *why);

#define LOG_KEPT_MAX 1 /* nothing it writes to makes it wait */

#if IMAGE_TINY

#define NETS_MAX 4
#define PORTS_MAX 4
#define USERS_MAX 8
#define LOG_LINE_MAX 1856
#define PAGE_NAMES_MAX 1
#define WORKERS_MAX 1
#define MINIPROXY_ADDRESSES 4
#define MINIPROXY_CLIENT_BUCKETS 1
#define MINIPROXY_FIELDS_MAX 64
#define MINIPROXY_THROTTLE_CLIENTS 8
#define MINIPROXY_LOGIN_CACHE 4

#if IMAGE_SMALL
#define MINIPROXY_SESSIONS 4
#define MINIPROXY_BUFFERS 5
#define MINIPROXY_BUFFER_SIZE 1024
#define MINIPROXY_SESSIONS_PER_CLIENT 4
#else
#define MINIPROXY_SESSIONS 6
#define MINIPROXY_BUFFERS 5
#define MINIPROXY_BUFFER_SIZE (NO_SYS ? 1536 : 1304)
#endif
#define MINIPROXY_RESERVED 1
#define MINIPROXY_WITH_FORWARDED 0 /* it takes 68 octets of every head */

#define IMAGE_WORKER_STACK 2560
#define IMAGE_HEAP 6656
#define IMAGE_COMMAND_LINE 1024
#define IMAGE_LARGE

#else

#if IMAGE_SMALL
#define MINIPROXY_SESSIONS 4
#define MINIPROXY_RESERVED 1
#define MINIPROXY_SESSIONS_PER_CLIENT 4
#define MINIPROXY_BUFFERS 5
#define MINIPROXY_BUFFER_SIZE 1024
#else
#define MINIPROXY_SESSIONS 100
#define MINIPROXY_RESERVED 8
#endif

#define IMAGE_WORKER_STACK 16384
#define IMAGE_HEAP 1048576
#define IMAGE_COMMAND_LINE 65536
#define IMAGE_LARGE __attribute__((section(".psram")))

#endif

/* The emulator does a round in some 0.1 ms. */
#define MINIPROXY_PBKDF2_SLICE 64
#define USERS_ROUNDS_DEFAULT 1000

/* no policy language, and so none of what only it can say */
#define MINIPROXY_WITH_CONDITIONS 0
#define MINIPROXY_WITH_HITS 0

/* lwIP diverts nothing */
#define MINIPROXY_WITH_INTERCEPTION 0

/* the small board has no room for it */
#if IMAGE_TINY
#define MINIPROXY_WITH_ROUTES 0
#define MINIPROXY_WITH_LIMITS 0
#define MINIPROXY_WITH_PAGES 0
#define MINIPROXY_WITH_METRICS 0
#define MINIPROXY_WITH_STATUS 0
#define MINIPROXY_WITH_PAC 0
#define MINIPROXY_RECORDS 0
#define MINIPROXY_WITH_HTML 0
#define MINIPROXY_WITH_MAINTENANCE 0
#define MINIPROXY_WITH_HEADS 0
#define MINIPROXY_WATCH_CLIENTS 4
#endif

#include "examples/desktop/config.h"

#endif
