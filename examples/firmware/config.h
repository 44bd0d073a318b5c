/* SPDX-License-Identifier: MIT
 *
 * The product's configuration of miniproxy, and its size: lwipopts.h derives lwIP's pools from the same numbers.
 * -D wins over what stands in #ifndef.
 */
#ifndef FIRMWARE_CONFIG_H
#define FIRMWARE_CONFIG_H

/* 1: as little RAM as carries the traffic. Heads of up to 454 octets (MINIPROXY_HEAD_MAX), and bulk data is slower. */
#ifndef FIRMWARE_TIGHT
#define FIRMWARE_TIGHT 0
#endif

#ifndef MINIPROXY_SESSIONS
#define MINIPROXY_SESSIONS 8
#endif

/* lwIP here is built without IPv6. */
#define MINIPROXY_WITH_IPV6 0

/* A browser opens six connections and more, and may be the only client there is: no limit but that of all. */
#define MINIPROXY_SESSIONS_PER_CLIENT (MINIPROXY_SESSIONS + MINIPROXY_RESERVED)

/* A browser's connections come all at once. Each takes a PCB while it waits. */
#define MINIPROXY_LWIP_RAW_BACKLOG (MINIPROXY_SESSIONS + 1)

/* Seconds without progress after which a closed connection is given up. The octets of one whose peer does not read stay
 * in the pool for so long, of which the default, a minute, is too much here. */
#define MINIPROXY_LWIP_RAW_LINGER_S 20
#define MINIPROXY_LWIP_SOCKETS_LINGER_S 20

/* Of alerts. */
#ifndef MINIPROXY_WATCH_CLIENTS
#define MINIPROXY_WATCH_CLIENTS 8
#endif

/* What the policy asks for (firmware.mk): a compiled policy that needs more does not build, and says what. Large sets
 * of host names lie in flash alone. */
#define MINIPROXY_WITH_HOST_BLOBS 1

/* A bug stops the device, and the watchdog starts it again. The texts take some KB of flash. */
#ifndef MINIPROXY_ASSERT
_Noreturn void cpu_panic(const char *why);
#define MINIPROXY_ASSERT(condition) ((condition) ? (void)0 : cpu_panic("miniproxy: " #condition))
#endif

/* One client at a time by TLS, whose record buffers alone take 20 KB: a session more costs one MINIPROXY_TLS_ARENA. The
 * rest is the most that a handshake was seen to take, and a quarter more. */
#if defined MINIPROXY_WITH_TLS && MINIPROXY_WITH_TLS
#ifndef MINIPROXY_TLS_SESSIONS
#define MINIPROXY_TLS_SESSIONS 1
#endif
/* Chains of others' making, and authorities to verify them. Three certificates with RSA of 4096 bits and sixty names take
 * 15,600 octets, elliptic ones half of that. */
#if defined FIRMWARE_TLS_CLIENT && FIRMWARE_TLS_CLIENT
#ifndef MINIPROXY_TLS_HANDSHAKE_RAM
#define MINIPROXY_TLS_HANDSHAKE_RAM 20480
#endif
#ifndef MINIPROXY_TLS_COMMON_ARENA
#define MINIPROXY_TLS_COMMON_ARENA 32768
#endif
#endif
#ifndef MINIPROXY_TLS_HANDSHAKE_RAM
#define MINIPROXY_TLS_HANDSHAKE_RAM 6144
#endif
#ifndef MINIPROXY_TLS_COMMON_ARENA
#define MINIPROXY_TLS_COMMON_ARENA 1024
#endif
#define MEMP_NUM_TCP_PCB_LISTEN 2
#define MINIPROXY_LWIP_SOCKETS_LISTENERS 2
#endif

#if FIRMWARE_TIGHT

#ifndef MINIPROXY_BUFFERS
#define MINIPROXY_BUFFERS (2 + MINIPROXY_SESSIONS / 4)
#endif
#ifndef MINIPROXY_BUFFER_SIZE
#define MINIPROXY_BUFFER_SIZE 640
#endif
#define MINIPROXY_ATTEMPTS 1
#define MINIPROXY_ADDRESSES 2
#define MINIPROXY_LINE_KEEP 32
#define MINIPROXY_NAME_MAX 16
#define MINIPROXY_THROTTLE_CLIENTS 2
#define MINIPROXY_WITH_CAUSE_COUNTERS 0

#else

#define MINIPROXY_WITH_CONDITIONS 1
#define MINIPROXY_WITH_PBKDF2 1
#define MINIPROXY_WITH_HITS 1

/* What can be seen from inside, by those whom the policy lets in. */
#define MINIPROXY_WITH_PAGES 1
#define MINIPROXY_WITH_METRICS 1
#define MINIPROXY_WITH_STATUS 1
#define MINIPROXY_WITH_HTML 1
#define MINIPROXY_WITH_MAINTENANCE 1
#define MINIPROXY_RECORDS 8

/* Browsers send heads of a kilobyte and more, with cookies two. */
#ifndef MINIPROXY_BUFFER_SIZE
#define MINIPROXY_BUFFER_SIZE 2560
#endif
/* Fewer than two a session: a buffer is held only while octets are in it. */
#ifndef MINIPROXY_BUFFERS
#define MINIPROXY_BUFFERS (2 + MINIPROXY_SESSIONS / 2)
#endif

#endif

#endif
