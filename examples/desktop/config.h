/* SPDX-License-Identifier: MIT
 *
 * miniproxy on a desktop or a server: every value of miniproxy.h that differs from the small defaults. -D wins over it.
 */
#ifndef DESKTOP_CONFIG_H
#define DESKTOP_CONFIG_H

#ifndef MINIPROXY_SESSIONS
#define MINIPROXY_SESSIONS 10000
#endif

#ifndef MINIPROXY_RESERVED
#define MINIPROXY_RESERVED 64
#endif

/* Heads of 32 KB and more fit. Memory of a buffer that is never borrowed is never touched. */
#ifndef MINIPROXY_BUFFER_SIZE
#define MINIPROXY_BUFFER_SIZE 34816
#endif

#ifndef MINIPROXY_LINE_KEEP
#define MINIPROXY_LINE_KEEP 128
#endif

#ifndef MINIPROXY_FIELDS_MAX
#define MINIPROXY_FIELDS_MAX 200
#endif

#ifndef MINIPROXY_ADDRESSES
#define MINIPROXY_ADDRESSES 8
#endif

#ifndef MINIPROXY_CREDENTIALS_MAX
#define MINIPROXY_CREDENTIALS_MAX 255
#endif

#ifndef MINIPROXY_WITH_PBKDF2
#define MINIPROXY_WITH_PBKDF2 1
#endif

/* About 0.1 ms, for which all others wait. */
#ifndef MINIPROXY_PBKDF2_SLICE
#define MINIPROXY_PBKDF2_SLICE 256
#endif

#ifndef MINIPROXY_LOGIN_CACHE
#define MINIPROXY_LOGIN_CACHE 1024
#endif

#ifndef MINIPROXY_THROTTLE_CLIENTS
#define MINIPROXY_THROTTLE_CLIENTS 256
#endif

/* All of them, for a single client is the usual case; --per-client lowers it. */
#ifndef MINIPROXY_SESSIONS_PER_CLIENT
#define MINIPROXY_SESSIONS_PER_CLIENT MINIPROXY_SESSIONS
#endif

#ifndef MINIPROXY_CLIENT_BUCKETS
#define MINIPROXY_CLIENT_BUCKETS 4096
#endif

#ifndef MINIPROXY_TRAILER_MAX
#define MINIPROXY_TRAILER_MAX 16384
#endif

#ifndef MINIPROXY_CHUNK_EXT_MAX
#define MINIPROXY_CHUNK_EXT_MAX 4096
#endif

#ifndef MINIPROXY_WITH_SOCKS5
#define MINIPROXY_WITH_SOCKS5 1
#endif

#ifndef MINIPROXY_WITH_FORWARDED
#define MINIPROXY_WITH_FORWARDED 1
#endif

#ifndef MINIPROXY_WITH_PROXY_PROTOCOL
#define MINIPROXY_WITH_PROXY_PROTOCOL 1
#endif

#ifndef MINIPROXY_WITH_HTML
#define MINIPROXY_WITH_HTML 1
#endif

#ifndef MINIPROXY_WITH_INTERCEPTION
#define MINIPROXY_WITH_INTERCEPTION 1
#endif

/* Who uploads fast, and by TLS, has sent many megabytes before it sees that it was refused. */
#ifndef MINIPROXY_LINGER_BYTES
#define MINIPROXY_LINGER_BYTES (32 * 1024 * 1024)
#endif

/* What the policy language can say. */
#ifndef MINIPROXY_WITH_CONDITIONS
#define MINIPROXY_WITH_CONDITIONS 1
#endif

#ifndef MINIPROXY_WITH_HITS
#define MINIPROXY_WITH_HITS 1
#endif

#ifndef MINIPROXY_WITH_LIMITS
#define MINIPROXY_WITH_LIMITS 1
#endif

#ifndef MINIPROXY_WITH_HOST_BLOBS
#define MINIPROXY_WITH_HOST_BLOBS 1
#endif

#ifndef MINIPROXY_WITH_ROUTES
#define MINIPROXY_WITH_ROUTES 1
#endif

#ifndef MINIPROXY_CHECKS
#define MINIPROXY_CHECKS 4
#endif

/* What can be seen from outside, and who may see it is for the policy to say. */
#ifndef MINIPROXY_WITH_PAGES
#define MINIPROXY_WITH_PAGES 1
#endif

#ifndef MINIPROXY_WITH_METRICS
#define MINIPROXY_WITH_METRICS 1
#endif

#ifndef MINIPROXY_WITH_STATUS
#define MINIPROXY_WITH_STATUS 1
#endif

#ifndef MINIPROXY_WITH_PAC
#define MINIPROXY_WITH_PAC 1
#endif

#ifndef MINIPROXY_RECORDS
#define MINIPROXY_RECORDS 32
#endif

#ifndef MINIPROXY_WITH_HTML
#define MINIPROXY_WITH_HTML 1
#endif

#ifndef MINIPROXY_WITH_MAINTENANCE
#define MINIPROXY_WITH_MAINTENANCE 1
#endif

#ifndef MINIPROXY_WITH_HEADS
#define MINIPROXY_WITH_HEADS 1
#endif

/* --log-heads */
#ifndef MINIPROXY_WITH_HEADS
#define MINIPROXY_WITH_HEADS 1
#endif

/* --alerts */
#ifndef MINIPROXY_WATCH_CLIENTS
#define MINIPROXY_WATCH_CLIENTS 256
#endif

#ifndef MINIPROXY_WATCH_HOPS
#define MINIPROXY_WATCH_HOPS 256
#endif

/* For builds with MINIPROXY_WITH_TLS. An instance a thread; memory of a TLS connection that never was is never touched;
 * all roots that a system trusts. */
#ifndef MINIPROXY_TLS_THREAD
#define MINIPROXY_TLS_THREAD _Thread_local
#endif

#ifndef MINIPROXY_TLS_SESSIONS
#define MINIPROXY_TLS_SESSIONS 2000
#endif

/* A chain of certificates of 16 KB, with hundreds of names. */
#ifndef MINIPROXY_TLS_HANDSHAKE_RAM
#define MINIPROXY_TLS_HANDSHAKE_RAM (80 * 1024)
#endif

/* SIGHUP takes new certificates while handshakes go on with the old ones. */
#ifndef MINIPROXY_TLS_GENERATIONS
#define MINIPROXY_TLS_GENERATIONS 2
#endif

#ifndef MINIPROXY_TLS_COMMON_ARENA
#define MINIPROXY_TLS_COMMON_ARENA (2 * 1024 * 1024)
#endif

#if defined(MINIPROXY_DEBUG) && !defined(MINIPROXY_ASSERT)
#include <stdio.h>
#include <stdlib.h>
#define MINIPROXY_ASSERT(condition)                                                                                    \
    ((condition) ? (void)0 : (fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition), abort()))
#endif

#endif
