/* SPDX-License-Identifier: MIT
 *
 * miniproxy: an embeddable HTTP/1.1 forward proxy.
 *
 * Add miniproxy.c and one file from port/ to a build, include this header, give the proxy one static
 * `struct miniproxy`, and call miniproxy_poll() from the main loop. No heap, no threads, no globals.
 *
 * This file is the reference: 1 configuration, 2 addresses and connections, 3 the port contract,
 * 4 policy and users, 5 causes, events and counters, 6 the API, 7 the instance (private).
 */
#ifndef MINIPROXY_H
#define MINIPROXY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ==== 1  Configuration =============================================================================
 *
 * Every value has a default. Override one with -D, or all of them in a header of your own that is named
 * by -DMINIPROXY_CONFIG='"my_config.h"'. miniproxy.c, the port and the application must see the same values.
 */
#ifdef MINIPROXY_CONFIG
#include MINIPROXY_CONFIG
#endif

/* Client connections served at the same time. Range 1..60000. Cost: one struct miniproxy_session each,
 * plus what the buffers below cost. */
#ifndef MINIPROXY_SESSIONS
#define MINIPROXY_SESSIONS 8
#endif

/* Sessions on top of those, used only to say 503 while all others are busy. Range 1..1000. */
#ifndef MINIPROXY_RESERVED
#define MINIPROXY_RESERVED 1
#endif

/* Payload bytes of one buffer. Range 512..65000. A request head, a response head and a trailer line must fit
 * into MINIPROXY_HEAD_MAX, which is this less MINIPROXY_HEADROOM. */
#ifndef MINIPROXY_BUFFER_SIZE
#define MINIPROXY_BUFFER_SIZE 1024
#endif

/* Buffers shared by all sessions. Range 2..65000. A direction borrows one only while bytes are in flight. The
 * default can never contend; with fewer, sessions queue for one, first come, first served. */
#ifndef MINIPROXY_BUFFERS
#define MINIPROXY_BUFFERS (2 * (MINIPROXY_SESSIONS + MINIPROXY_RESERVED))
#endif

/* Bytes a session keeps of "METHOD target" for its event, and to recognise the origin of a kept connection.
 * Range 0..4000. With 0, events that end after the head has left carry no target, and upstream connections are not
 * kept. An origin whose host and port do not fit is not kept either. */
#ifndef MINIPROXY_LINE_KEEP
#define MINIPROXY_LINE_KEEP 64
#endif

/* Field lines in a head. Range 8..1000. More: 431 (request), 502 (response). */
#ifndef MINIPROXY_FIELDS_MAX
#define MINIPROXY_FIELDS_MAX 64
#endif

/* Octets of a method. Range 7..200. Longer: 501. */
#ifndef MINIPROXY_METHOD_MAX
#define MINIPROXY_METHOD_MAX 24
#endif

/* Addresses of one name that are tried. Range 1..16. */
#ifndef MINIPROXY_ADDRESSES
#define MINIPROXY_ADDRESSES 4
#endif

/* Connection attempts that a session may have under way at once (RFC 8305). Range 1..8. 1 tries in sequence. */
#ifndef MINIPROXY_ATTEMPTS
#define MINIPROXY_ATTEMPTS 2
#endif

/* IPv6 addresses in sessions and policy. 0 saves 12 bytes an address. */
#ifndef MINIPROXY_WITH_IPV6
#define MINIPROXY_WITH_IPV6 1
#endif

/* Basic proxy authentication (RFC 7617). */
#ifndef MINIPROXY_WITH_AUTH
#define MINIPROXY_WITH_AUTH 1
#endif

/* Octets of decoded credentials, name and colon and password. Range 16..255. Longer ones are never valid. */
#ifndef MINIPROXY_CREDENTIALS_MAX
#define MINIPROXY_CREDENTIALS_MAX 96
#endif

/* Clients whose failed logins are remembered, and how many failures in a row make 429. */
#ifndef MINIPROXY_THROTTLE_CLIENTS
#define MINIPROXY_THROTTLE_CLIENTS 8
#endif
#ifndef MINIPROXY_THROTTLE_FAILURES
#define MINIPROXY_THROTTLE_FAILURES 5
#endif

/* Sessions of one client address. At the cap: 503. */
#ifndef MINIPROXY_SESSIONS_PER_CLIENT
#define MINIPROXY_SESSIONS_PER_CLIENT ((MINIPROXY_SESSIONS * 3 + 3) / 4)
#endif

/* Hash buckets for counting a client's sessions. A power of two; 2 bytes each. */
#ifndef MINIPROXY_CLIENT_BUCKETS
#define MINIPROXY_CLIENT_BUCKETS 1
#endif

/* Interim (1xx) responses of one request. Range 1..255. More: 502. */
#ifndef MINIPROXY_INTERIM_MAX
#define MINIPROXY_INTERIM_MAX 16
#endif

/* Octets of a trailer section, and of all chunk extensions of one message. Range 64..65000. */
#ifndef MINIPROXY_TRAILER_MAX
#define MINIPROXY_TRAILER_MAX 1024
#endif
#ifndef MINIPROXY_CHUNK_EXT_MAX
#define MINIPROXY_CHUNK_EXT_MAX 256
#endif

/* Longest pseudonym (struct miniproxy_config.name). */
#ifndef MINIPROXY_NAME_MAX
#define MINIPROXY_NAME_MAX 32
#endif

/* Octets read and dropped after a refusal, so that a reset does not destroy the reply (RFC 9112 section 9.6). */
#ifndef MINIPROXY_LINGER_BYTES
#define MINIPROXY_LINGER_BYTES 1048576
#endif

/* Seconds that Retry-After names in a 503. */
#ifndef MINIPROXY_RETRY_AFTER_S
#define MINIPROXY_RETRY_AFTER_S 5
#endif

/* Port that CONNECT may reach where a rule names no ports (RFC 9110 section 9.3.6). */
#ifndef MINIPROXY_CONNECT_PORT
#define MINIPROXY_CONNECT_PORT 443
#endif

/* 1 refuses TRACE as its final recipient with 405 (the only choice so far). Counters of causes cost 4 bytes a cause. */
#ifndef MINIPROXY_WITH_CAUSE_COUNTERS
#define MINIPROXY_WITH_CAUSE_COUNTERS 1
#endif

/* Called with a condition that only a bug in miniproxy or in a port can make false. */
#ifndef MINIPROXY_ASSERT
#define MINIPROXY_ASSERT(condition) ((void)0)
#endif

/* Bytes a rewritten head can grow: Via, Connection, Transfer-Encoding, Upgrade, Date and a few separators. */
#define MINIPROXY_HEADROOM (MINIPROXY_NAME_MAX + 148)
#define MINIPROXY_HEAD_MAX (MINIPROXY_BUFFER_SIZE - MINIPROXY_HEADROOM)

/* Every deadline: X(NAME, name, default in ms, meaning). 0 switches total and tunnel_total off; no other may be 0.
 * struct miniproxy_config.timeout_ms[MINIPROXY_TIMEOUT_…] overrides one when it is not 0. No timeout is
 * derived from another. Range 1..2^30 ms. */
#define MINIPROXY_TIMEOUTS(X)                                                                                      \
    X(HEAD,         head,         30000u,  "whole request head, from accept or from its first byte")               \
    X(IDLE,         idle,         60000u,  "kept client connection without a request")                             \
    X(BODY,         body,         30000u,  "client sends nothing of a request body that is due")                   \
    X(BUFFER,       buffer,       10000u,  "session waits for a buffer of the pool")                               \
    X(DNS,          dns,          10000u,  "name resolution")                                                      \
    X(CONNECT,      connect,      10000u,  "all connection attempts to one origin together")                       \
    X(ATTEMPT,      attempt,      250u,    "head start of one connection attempt over the next")                   \
    X(FIRST_BYTE,   first_byte,   60000u,  "request sent, origin has not begun its response")                      \
    X(RESPONSE,     response,     60000u,  "origin pauses inside its response")                                    \
    X(WRITE,        write,        60000u,  "peer takes none of the bytes that wait for it")                        \
    X(TUNNEL,       tunnel,       600000u, "tunnel idle in both directions")                                       \
    X(HALF_CLOSED,  half_closed,  120000u, "tunnel with one direction closed and the other idle")                  \
    X(LINGER,       linger,       5000u,   "client may still read a reply after which the proxy closes")           \
    X(REFUSE,       refuse,       1000u,   "request head in a reserved session, before 503")                       \
    X(TOTAL,        total,        0u,      "one exchange from head to last byte; 0 = no limit")                    \
    X(TUNNEL_TOTAL, tunnel_total, 0u,      "lifetime of a tunnel; 0 = no limit")                                   \
    X(THROTTLE,     throttle,     30000u,  "how long too many failed logins are answered with 429")

enum miniproxy_timeout {
#define X(NAME, name, ms, meaning) MINIPROXY_TIMEOUT_##NAME,
    MINIPROXY_TIMEOUTS(X)
#undef X
    MINIPROXY_TIMEOUT_COUNT
};

/* ==== 2  Addresses and connections ================================================================= */

#if MINIPROXY_WITH_IPV6
#define MINIPROXY_IP_LEN 16
#else
#define MINIPROXY_IP_LEN 4
#endif

/* An IP address and port. IPv4 uses ip[0..3], network order; the port is in host order. */
struct miniproxy_addr {
    uint8_t ip[MINIPROXY_IP_LEN];
    uint16_t port;
    uint8_t family; /* 4, 6, or 0 for none */
};

#define MINIPROXY_RD 1u /* recv may return something else than AGAIN */
#define MINIPROXY_WR 2u /* send, connect or finish may make progress */

/* One connection, client's or origin's, as a port sees it. It lives inside the instance and never moves. */
struct miniproxy_conn {
    intptr_t handle;     /* the port's own; 0 before accept, resolve and connect, and whenever the core reuses the slot */
    uint16_t id;         /* fixed index, 0..MINIPROXY_CONNS-1: a port may keep an array beside */
    uint16_t generation; /* changes at every close: what arrives for an older one must be dropped */
    uint8_t ready;       /* sticky RD | WR. miniproxy_wake sets bits, the core clears them on AGAIN, a port may clear RD
                            after a recv when it knows that nothing more is there */
    uint8_t port_flags;  /* the port's own; 0 as handle */
};

#define MINIPROXY_SLOTS (MINIPROXY_SESSIONS + MINIPROXY_RESERVED)
#define MINIPROXY_CONNS (MINIPROXY_SLOTS * (1 + MINIPROXY_ATTEMPTS))

/* ==== 3  The port contract =========================================================================
 *
 * A port is a table of non-blocking functions over some network. The rules (tests/port checks them):
 *
 * 1. recv and send return 1..len or a negative result, never 0. AGAIN and EOF are different results.
 * 2. After AGAIN the port calls miniproxy_wake as soon as a retry could succeed. Extra wakes are harmless.
 * 3. A retried send repeats the same bytes, perhaps with more behind them, perhaps at another address.
 * 4. close cannot fail. Afterwards the port holds no pointer to the connection; a resolution or an attempt that
 *    was under way is cancelled, or its late answer dropped by comparing generation.
 * 5. recv hands over every byte it can before it reports EOF or a reset.
 * 6. All calls come from one context, and miniproxy_wake may be called from inside any of them. None may
 *    block, and none may call miniproxy_poll.
 */
enum miniproxy_result {
    MINIPROXY_OK = 0,
    MINIPROXY_AGAIN = -1,        /* not now; a wake follows */
    MINIPROXY_EOF = -2,          /* the peer has sent its FIN and everything before it has been read */
    MINIPROXY_ERESET = -3,       /* connection reset, or broken in a way that cannot be told from that */
    MINIPROXY_EREFUSED = -4,     /* connection refused */
    MINIPROXY_EUNREACHABLE = -5, /* no route, network down, address family missing */
    MINIPROXY_ETIMEDOUT = -6,    /* the stack below gave up */
    MINIPROXY_ENAME = -7,        /* the name does not exist, or has no address */
    MINIPROXY_EDNS = -8,         /* the resolver failed; another try may succeed */
    MINIPROXY_ERESOURCES = -9,   /* no descriptor, PCB, thread or memory for it now */
    MINIPROXY_ESELF = -10,       /* connect: the address and port are one of this port's own listeners */
    MINIPROXY_EFAIL = -11        /* anything else */
};

struct miniproxy_port {
    /* Take one pending connection into c and its address into *peer. OK, AGAIN (wake: miniproxy_wake_accept),
     * ERESOURCES (the core retries later), or another error when only that one connection was lost. */
    int (*accept)(void *port, struct miniproxy_conn *c, struct miniproxy_addr *peer);
    /* Addresses of host (a name, NUL-terminated, never an IP literal) into out[0..max-1], the resolver's preference first;
     * port fields are ignored. Count 1..max, AGAIN (after the wake the core calls again with the same name), ENAME, EDNS
     * or ERESOURCES. */
    int (*resolve)(void *port, struct miniproxy_conn *c, const char *host, struct miniproxy_addr *out, int max);
    /* Connect c. OK when established, AGAIN while under way (after the wake the core calls again with the same
     * address), or an error. */
    int (*connect)(void *port, struct miniproxy_conn *c, const struct miniproxy_addr *to);
    int (*recv)(void *port, struct miniproxy_conn *c, void *buf, size_t len);
    int (*send)(void *port, struct miniproxy_conn *c, const void *buf, size_t len);
    /* FIN after all bytes taken by send. OK, AGAIN (called again after a wake) or an error. recv goes on working. */
    int (*finish)(void *port, struct miniproxy_conn *c);
    /* Give the connection up. hard: by reset, at once; otherwise bytes taken by send are still delivered. */
    void (*close)(void *port, struct miniproxy_conn *c, bool hard);
};

#endif
