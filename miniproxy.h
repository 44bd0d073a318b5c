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

#define MINIPROXY_VERSION "0.2.0"

/* ==== 1  Configuration =============================================================================
 *
 * Every value has a default. Override one with -D, or all of them in a header of your own that is named
 * by -DMINIPROXY_CONFIG='"my_config.h"'. miniproxy.c, the port and the application must see the same values.
 */
#ifdef MINIPROXY_CONFIG
#include MINIPROXY_CONFIG
#endif

/* Client connections served at the same time. Range 1..20000. Cost: one struct miniproxy_session each,
 * plus what the buffers below cost. */
#ifndef MINIPROXY_SESSIONS
#define MINIPROXY_SESSIONS 8
#endif

/* Sessions on top of those, used only to say 503 while all others are busy. Range 1..1000. */
#ifndef MINIPROXY_RESERVED
#define MINIPROXY_RESERVED 1
#endif

/* Payload bytes of one buffer. Range 512..65000. A request head, a response head and a trailer line must fit
 * into MINIPROXY_HEAD_MAX, which is this less MINIPROXY_HEADROOM and 2, and which must be 256 at least. */
#ifndef MINIPROXY_BUFFER_SIZE
#define MINIPROXY_BUFFER_SIZE 1024
#endif

/* Buffers shared by all sessions. Range 2..65000. A direction borrows one only while bytes are in flight. The
 * default can never contend; with fewer, sessions queue for one, first come, first served. */
#ifndef MINIPROXY_BUFFERS
#define MINIPROXY_BUFFERS (2 * (MINIPROXY_SLOTS - 1))
#endif

/* Bytes a session keeps of "METHOD target" for its event, and to recognise the origin of a kept connection.
 * Range 16..4000. An origin whose host and port do not fit is not kept. struct miniproxy_config.begin shows all of it.
 * WITH_PAC: the Host that /proxy.pac is asked by has to fit behind "GET /proxy.pac", or the answer is 404. */
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

/* Clients whose failed logins are remembered. Range 1..1000. */
#ifndef MINIPROXY_THROTTLE_CLIENTS
#define MINIPROXY_THROTTLE_CLIENTS 8
#endif

/* How many failed logins in a row make 429. Range 1..200. */
#ifndef MINIPROXY_THROTTLE_FAILURES
#define MINIPROXY_THROTTLE_FAILURES 5
#endif

/* Passwords of humans, by PBKDF2 with so many rounds that guessing them from a stolen table is slow (struct
 * miniproxy_user.rounds). Logins are checked one at a time, first come, first served, while all else goes on. A failed
 * one takes as many rounds as the policy's costliest password, so that time tells neither names nor kinds of entries.
 * A round is about 8,100 instructions on a Cortex-M3 and 9,900 on x86-64, the check of a remembered login 17,000 and
 * 21,000; 1.3 KB, 0.5 KB more of port/miniproxy_sha256.c, and 160 bytes of RAM. */
#ifndef MINIPROXY_WITH_PBKDF2
#define MINIPROXY_WITH_PBKDF2 0
#endif

/* Rounds of PBKDF2 that one miniproxy_poll does at most. Range 1..10000. */
#ifndef MINIPROXY_PBKDF2_SLICE
#define MINIPROXY_PBKDF2_SLICE 16
#endif

/* Logins verified by PBKDF2 that are remembered, as keyed digests, for a client sends its credentials with every
 * request. Range 1..65000, 16 bytes each. */
#ifndef MINIPROXY_LOGIN_CACHE
#define MINIPROXY_LOGIN_CACHE 8
#endif

/* Conditions of a rule that need more of a request than its target: User-Agent, the Content-Type of the response, the
 * time of the week (struct miniproxy_also). */
#ifndef MINIPROXY_WITH_CONDITIONS
#define MINIPROXY_WITH_CONDITIONS 0
#endif

/* Sets of host names in blobs (struct miniproxy_hosts.blob): about 1.2 KB. 0: a policy with a blob is refused. */
#ifndef MINIPROXY_WITH_HOST_BLOBS
#define MINIPROXY_WITH_HOST_BLOBS 0
#endif

/* Count how often each rule decided (struct miniproxy_policy.hits). */
#ifndef MINIPROXY_WITH_HITS
#define MINIPROXY_WITH_HITS 0
#endif

/* Sessions of one client address. Range 1..60000. At the cap: 503. */
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

/* Octets of a trailer section. Range 64..65000. */
#ifndef MINIPROXY_TRAILER_MAX
#define MINIPROXY_TRAILER_MAX 1024
#endif

/* Octets of all chunk extensions of one message. Range 64..65000. */
#ifndef MINIPROXY_CHUNK_EXT_MAX
#define MINIPROXY_CHUNK_EXT_MAX 256
#endif

/* Longest pseudonym (struct miniproxy_config.name). Range 1..64. */
#ifndef MINIPROXY_NAME_MAX
#define MINIPROXY_NAME_MAX 32
#endif

/* Requests for http:// targets are forwarded. 0: only tunnels, by CONNECT; requests for other targets get 501. That
 * leaves a proxy for clients that speak TLS to everybody; about 4 KB less. */
#ifndef MINIPROXY_WITH_FORWARDING
#define MINIPROXY_WITH_FORWARDING 1
#endif

/* An origin connection is kept for the next request of the same client connection, if it goes there. 0: every request
 * has a connection of its own; about 0.7 KB less. */
#ifndef MINIPROXY_WITH_REUSE
#define MINIPROXY_WITH_REUSE 1
#endif

/* Upgrade to websocket is passed on (RFC 9110 section 7.8). 0: it is taken out of requests, as every other Upgrade is;
 * about 0.2 KB less. */
#ifndef MINIPROXY_WITH_UPGRADE
#define MINIPROXY_WITH_UPGRADE 1
#endif

/* The port's relay is used if it has one. 0: never; about 0.5 KB less. */
#ifndef MINIPROXY_WITH_RELAY
#define MINIPROXY_WITH_RELAY 1
#endif

/* Date in replies, and in responses that lack one (RFC 9110 section 6.6.1). 0 for a device without a clock:
 * struct miniproxy_config.unix_time is never called; about 0.4 KB less. */
#ifndef MINIPROXY_WITH_DATE
#define MINIPROXY_WITH_DATE 1
#endif

/* For a port that speaks TLS (port/miniproxy_tls.h): requests for https:// targets are sent on over TLS
 * (struct miniproxy_port.secure), and refusals tell what went wrong with it. 0: they get 501. */
#ifndef MINIPROXY_WITH_TLS
#define MINIPROXY_WITH_TLS 0
#endif

/* Ways to origins that lead through parents, HTTP proxies or SOCKS5 servers, and names that stand for a group of
 * origins, with health checks (struct miniproxy_route). 0: every origin is connected directly. */
#ifndef MINIPROXY_WITH_ROUTES
#define MINIPROXY_WITH_ROUTES 0
#endif

/* Health checks that may be under way at once: a session record each. Range 1..100. */
#ifndef MINIPROXY_CHECKS
#define MINIPROXY_CHECKS 1
#endif

/* Bandwidth, rate of requests and transactions at once, by client or user (struct miniproxy_limit). About 3.6 KB, and
 * 20 bytes a session. */
#ifndef MINIPROXY_WITH_LIMITS
#define MINIPROXY_WITH_LIMITS 0
#endif

/* Clients and users whose use is remembered at once, once for each limit that holds for them: 60 bytes each.
 * Range 1..65000. A new one takes the place of the one that was quiet for longest; if all have transactions under way, the
 * newcomer's is refused (sessions_full), which cannot be with twice MINIPROXY_SESSIONS. */
#ifndef MINIPROXY_LIMIT_BUCKETS
#define MINIPROXY_LIMIT_BUCKETS (2 * MINIPROXY_SESSIONS)
#endif

/* Clients may speak SOCKS5 on the same ports, told by their first octet (RFC 1928, CONNECT only; RFC 1929). What they
 * ask for is decided, refused and logged as a CONNECT is. Who can log in has to, if the policy has users. About 1.7
 * KB, and 28 octets of each buffer. */
#ifndef MINIPROXY_WITH_SOCKS5
#define MINIPROXY_WITH_SOCKS5 0
#endif

/* X-Forwarded-For or Forwarded in requests (struct miniproxy_config.forwarded): 0.2 KB, and 68 octets of each buffer. */
#ifndef MINIPROXY_WITH_FORWARDED
#define MINIPROXY_WITH_FORWARDED 0
#endif

/* Listeners behind a balancer that tells the client's address first (struct miniproxy_config.proxy_protocol): 1.0 KB. */
#ifndef MINIPROXY_WITH_PROXY_PROTOCOL
#define MINIPROXY_WITH_PROXY_PROTOCOL 0
#endif

/* Listeners to which a router diverts connections that were meant for origins (struct miniproxy_config.intercepts): 0.7
 * KB, and 56 octets of each buffer. */
#ifndef MINIPROXY_WITH_INTERCEPTION
#define MINIPROXY_WITH_INTERCEPTION 0
#endif

/* Pages of the proxy's own, for GET and HEAD in origin-form ("http://router:3128/health" in a browser), and for every
 * target at MINIPROXY_PAGES_HOST, which needs no address: /health, and those of the options below. Who may see them is
 * for the policy to say, by rules that name the method MINIPROXY_PAGES. 0: a request in origin-form gets 400. */
#ifndef MINIPROXY_WITH_PAGES
#define MINIPROXY_WITH_PAGES 0
#endif
/* That name, in lower case. */
#ifndef MINIPROXY_PAGES_HOST
#define MINIPROXY_PAGES_HOST "miniproxy.internal"
#endif

/* /metrics: everything that is counted, as OpenMetrics text, and miniproxy_metrics(). Counts status codes and times,
 * too: MINIPROXY_CODES * 4 + 48 bytes. */
#ifndef MINIPROXY_WITH_METRICS
#define MINIPROXY_WITH_METRICS 0
#endif

/* /: a page for people that draws what /metrics and /log say. WITH_METRICS. */
#ifndef MINIPROXY_WITH_STATUS
#define MINIPROXY_WITH_STATUS 0
#endif

/* /proxy.pac and /wpad.dat: the proxy auto-configuration of browsers (struct miniproxy_config.pac). */
#ifndef MINIPROXY_WITH_PAC
#define MINIPROXY_WITH_PAC 0
#endif

/* /log: so many of the last transactions that went well, and so many of those that did not, without pages that were sent:
 * twice this many struct miniproxy_record in RAM. Range 0..1000; 0: none. */
#ifndef MINIPROXY_RECORDS
#define MINIPROXY_RECORDS 0
#endif

/* Refusals as HTML for clients that accept it (RFC 9110 section 12.5.1): what happened, who can do something about it,
 * what to try, whom to ask. Text for all others. About 3.7 KB, and 16 bytes a session. */
#ifndef MINIPROXY_WITH_HTML
#define MINIPROXY_WITH_HTML 0
#endif

/* 503 with a message for all new requests while tunnels and responses go on: miniproxy_maintain(), struct
 * miniproxy_policy.maintenance. */
#ifndef MINIPROXY_WITH_MAINTENANCE
#define MINIPROXY_WITH_MAINTENANCE 0
#endif

/* The lines of request and response heads, for a log that helps to find faults, without what lets somebody in (struct
 * miniproxy_config.head): 1.4 KB. */
#ifndef MINIPROXY_WITH_HEADS
#define MINIPROXY_WITH_HEADS 0
#endif

/* Transactions have numbers, which pages and logs show: 4 bytes a session. */
#define MINIPROXY_WITH_IDS (MINIPROXY_WITH_HTML || MINIPROXY_WITH_HEADS || MINIPROXY_RECORDS > 0)

/* The texts of refusals in MINIPROXY_CAUSES, 2.6 KB. 0: their body is the log token alone. */
#ifndef MINIPROXY_WITH_TEXTS
#define MINIPROXY_WITH_TEXTS 1
#endif

/* Octets read and dropped after a refusal, so that a reset does not destroy the reply (RFC 9112 section 9.6). */
#ifndef MINIPROXY_LINGER_BYTES
#define MINIPROXY_LINGER_BYTES 1048576
#endif

/* Seconds that Retry-After names in a 503. Range 1..86400. */
#ifndef MINIPROXY_RETRY_AFTER_S
#define MINIPROXY_RETRY_AFTER_S 5
#endif

/* Port that CONNECT may reach where a rule names no ports (RFC 9110 section 9.3.6). Range 1..65535. */
#ifndef MINIPROXY_CONNECT_PORT
#define MINIPROXY_CONNECT_PORT 443
#endif

/* Count every cause on its own: 4 bytes a cause. */
#ifndef MINIPROXY_WITH_CAUSE_COUNTERS
#define MINIPROXY_WITH_CAUSE_COUNTERS 1
#endif

/* The text of a refusal, for a product's own words or pages: an expression of type const char *. `cause` is an enum
 * miniproxy_cause, `standard` the text of MINIPROXY_CAUSES. The result must stay valid and unchanged (a string in
 * flash), of any length. A function is declared in the config header: MINIPROXY_BODY(c, t) my_body(c, t).
 * MINIPROXY_BODY_TYPE: a string constant of at most MINIPROXY_PAGE_TYPE_MAX octets. */
#ifndef MINIPROXY_BODY
#define MINIPROXY_BODY(cause, standard) (standard)
#endif
#ifndef MINIPROXY_BODY_TYPE
#define MINIPROXY_BODY_TYPE "text/plain; charset=utf-8"
#endif

/* Words may be read and written at any address. 0 costs speed only; a Cortex-M3 or later on which the program sets
 * UNALIGN_TRP needs it. */
#ifndef MINIPROXY_ANY_ALIGNMENT
#if defined __ARM_FEATURE_UNALIGNED || defined __x86_64__ || defined __i386__
#define MINIPROXY_ANY_ALIGNMENT 1
#else
#define MINIPROXY_ANY_ALIGNMENT 0
#endif
#endif

/* Called with a condition that only a bug in miniproxy or in a port can make false. */
#ifndef MINIPROXY_ASSERT
#define MINIPROXY_ASSERT(condition) ((void)0)
#endif

/* Free bytes in front of a head that is being received. A rewritten head can grow by less (Via, Connection,
 * Transfer-Encoding, Upgrade, Date); until the origin is connected, what was learnt of the request and the origin's
 * addresses stand there. Doors: requests by SOCKS5, and diverted ones, are shorter than what they are turned into; a
 * client's address takes up to 66. */
#define MINIPROXY_HEADROOM_OF_DOORS \
    ((MINIPROXY_WITH_INTERCEPTION ? 56 : MINIPROXY_WITH_SOCKS5 ? 28 : 0) + (MINIPROXY_WITH_FORWARDED ? 68 : 0))
#define MINIPROXY_HEADROOM                                                                                        \
    (MINIPROXY_HEADROOM_OF_DOORS + (MINIPROXY_NAME_MAX + 24 > MINIPROXY_ADDRESSES * 20 ? MINIPROXY_NAME_MAX + 168 \
                                                                                      : MINIPROXY_ADDRESSES * 20 + 144))
#define MINIPROXY_HEAD_MAX (MINIPROXY_BUFFER_SIZE - MINIPROXY_HEADROOM - 2)

/* Every deadline: X(NAME, name, default in ms, meaning). 0 switches total and tunnel_total off; no other may be 0.
 * struct miniproxy_config.timeout_ms[MINIPROXY_TIMEOUT_…] overrides one when it is not 0. No timeout is
 * derived from another. Range 1..2^30 ms; ATTEMPT: less than 10 counts as 10 (RFC 8305 section 5). */
#if MINIPROXY_WITH_ROUTES
#define MINIPROXY_TIMEOUTS_OF_ROUTES(X)                                                                            \
    X(HOP,          hop,          3000u,   "way to one parent or member of a group, all before its first request") \
    X(CHECK,        check,        5000u,   "one health check")
#else
#define MINIPROXY_TIMEOUTS_OF_ROUTES(X)
#endif

#define MINIPROXY_TIMEOUTS(X)                                                                                      \
    MINIPROXY_TIMEOUTS_OF_ROUTES(X)                                                                                \
    X(HEAD,         head,         30000u,  "whole request head, from accept or from its first byte")               \
    X(IDLE,         idle,         60000u,  "kept client connection without a request")                             \
    X(BODY,         body,         30000u,  "client sends nothing of a request body that is due")                   \
    X(BUFFER,       buffer,       10000u,  "session waits for a buffer of the pool")                               \
    X(DNS,          dns,          10000u,  "name resolution")                                                      \
    X(LOGIN,        login,        30000u,  "check of a password by PBKDF2, those before it included")              \
    X(CONNECT,      connect,      10000u,  "all connection attempts to one origin together")                       \
    X(ATTEMPT,      attempt,      250u,    "head start of one connection attempt over the next")                   \
    X(FIRST_BYTE,   first_byte,   60000u,  "request sent, or the client waits for 100; origin is silent")           \
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
#define MINIPROXY_WR 2u /* send, connect, resolve or finish may make progress */
/* The connection is known to be reset or dead: a hint that lets the core give up on a request whose client has gone. A
 * port that cannot know never sets it. */
#define MINIPROXY_BROKEN 4u

/* One connection, client's or origin's, as a port sees it. It lives inside the instance and never moves. */
struct miniproxy_conn {
    intptr_t handle; /* the port's own; 0 before accept, resolve and connect, and whenever the core reuses the slot */
    uint16_t id;         /* fixed index, 0..MINIPROXY_CONNS-1: a port may keep an array beside */
    uint16_t generation; /* changes at every close: what arrives for an older one must be dropped */
    uint8_t ready; /* sticky RD | WR | BROKEN. miniproxy_wake sets bits, the core clears RD or WR on AGAIN, a port may
                      clear RD after a recv, or WR after a send, when it knows that the next would say AGAIN */
    uint8_t port_flags;  /* the port's own; 0 as handle */
    uint8_t listener;    /* set by accept: which of the port's listeners, in the order of listen calls, from 0 on */
    uint8_t no_relay;    /* WITH_TLS: set by accept or connect of a port with relay: not for this one; 0 as handle. Where
                            the port makes TLS it is one of enum miniproxy_tls_time */
};

/* Values of no_relay. BEGUN: TCP stands, the handshake is under way; MADE: it is over, or not begun. When time is up for
 * one that has BEGUN, the core answers that it was the handshake, and makes it LATE before close. */
enum miniproxy_tls_time { MINIPROXY_TLS_MADE = 1, MINIPROXY_TLS_BEGUN, MINIPROXY_TLS_LATE };

/* Session records: one more than there are places, into which a connection is taken before it has a place; and those of
 * health checks. */
#define MINIPROXY_SLOTS (MINIPROXY_SESSIONS + MINIPROXY_RESERVED + 1 + (MINIPROXY_WITH_ROUTES ? MINIPROXY_CHECKS : 0))
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
    MINIPROXY_EFAIL = -11,       /* anything else: a fault on this side, 500 */
    MINIPROXY_ESINK = -12,       /* relay: `to` takes nothing any more */
    /* recv: a client speaks plain HTTP where TLS is spoken; WITH_TLS. Told once, instead of its first octet. What is
     * sent from now on goes in clear: the refusal; what is received is only dropped */
    MINIPROXY_EPLAIN = -13,
    /* connect after secure: why the peer's certificate is not accepted … */
    MINIPROXY_ETLS_NAME = -14,        /* it is for another name */
    MINIPROXY_ETLS_EXPIRED = -15,     /* it is no longer valid, or not yet */
    MINIPROXY_ETLS_SELF_SIGNED = -16, /* nobody vouches for it but itself */
    MINIPROXY_ETLS_ISSUER = -17,      /* nobody who is trusted here has issued it */
    MINIPROXY_ETLS_CERTIFICATE = -18, /* anything else: not for servers, a weak key, cannot be read */
    /* … or what else went wrong */
    MINIPROXY_ETLS_ALERT = -19,       /* the peer ended the handshake by an alert */
    MINIPROXY_ETLS_PROTOCOL = -20,    /* the peer does not speak TLS, or not a version or suite that is spoken here */
    MINIPROXY_ETLS_TIMEOUT = -21,     /* the handshake took too long */
    MINIPROXY_ETLS_CONFIG = -22,      /* nothing is known here by which a peer could be trusted */
    /* accept: the port has taken the connection, but holds as many of its kind as it can; WITH_TLS */
    MINIPROXY_EFULL = -23
};

struct miniproxy_port {
    /* Take one pending connection into c and its address into *peer. OK, AGAIN (wake: miniproxy_wake_accept),
     * ERESOURCES (the core retries later), or another error when only that one connection was lost. EFULL: the core
     * closes one that idles and came by the same listener, if there is one, and calls again at once, with c and *peer as
     * they are. */
    int (*accept)(void *port, struct miniproxy_conn *c, struct miniproxy_addr *peer);
    /* Addresses of host (a name, NUL-terminated, never an IP literal) into out[0..max-1], the resolver's preference
     * first; port fields are ignored. Count 1..max, AGAIN (after the wake the core calls again with the same name),
     * ENAME, EDNS or ERESOURCES. Any result but AGAIN ends it without a close: handle and port_flags are 0 when connect
     * follows. */
    int (*resolve)(void *port, struct miniproxy_conn *c, const char *host, struct miniproxy_addr *out, int max);
    /* Connect c. OK when established, AGAIN while under way (after the wake the core calls again with the same
     * address), or an error. As after accept, the core then takes c for readable and writable until told otherwise. */
    int (*connect)(void *port, struct miniproxy_conn *c, const struct miniproxy_addr *to);
    int (*recv)(void *port, struct miniproxy_conn *c, void *buf, size_t len);
    int (*send)(void *port, struct miniproxy_conn *c, const void *buf, size_t len);
    /* FIN after all bytes taken by send. OK, AGAIN (called again after a wake) or an error. recv goes on working. */
    int (*finish)(void *port, struct miniproxy_conn *c);
    /* Give the connection up. hard: by reset, at once; otherwise bytes taken by send or relay are still delivered. */
    void (*close)(void *port, struct miniproxy_conn *c, bool hard);
    /* Optional: NULL, and the core copies. Pass up to max octets on from one connection to another of the same port,
     * without the core's buffers. 1..max octets taken: they count as received and as sent, and are delivered even if
     * `from` is closed before. AGAIN when nothing can be taken: the port then has cleared RD of `from` (nothing
     * arrived) or WR of `to` (no room) or both, and wakes what it cleared, by rule 2. EOF and errors are those of
     * `from`, after all its octets; ESINK: `to` has failed. recv and send may be used on both at any time again. */
    int (*relay)(void *port, struct miniproxy_conn *from, struct miniproxy_conn *to, size_t max);
    /* Optional: NULL, and https targets get 501. Once for each attempt, before the first connect of c: c is to speak TLS
     * with `host`, a name as the client wrote it (any case, perhaps with a trailing dot) or an IP literal without
     * brackets, and the peer has to prove that it is that. connect says OK only when it has. OK, ERESOURCES,
     * ETLS_CONFIG or ETLS_NAME; close follows in any case. `host` is valid until connect has ended. */
    int (*secure)(void *port, struct miniproxy_conn *c, const char *host);
    /* Optional. Whom the client of an accepted connection has proved to be beneath HTTP: the common name of its
     * certificate, the identity of its shared key. Into name[0..size), not NUL-terminated; its length, 0: nobody. A
     * request without credentials is then that user's, if the policy has one of this name without a password. */
    size_t (*client_name)(void *port, struct miniproxy_conn *c, char *name, size_t size);
#if MINIPROXY_WITH_INTERCEPTION
    /* Optional. The address and port that the client of an accepted connection meant, before a router diverted it. OK or
     * an error: it was not diverted. */
    int (*meant)(void *port, struct miniproxy_conn *c, struct miniproxy_addr *to);
#endif
};

/* What ports and the main loop call back. Both only queue; miniproxy_poll does the work. */
void miniproxy_wake(struct miniproxy_conn *c, unsigned ready);
struct miniproxy;
void miniproxy_wake_accept(struct miniproxy *proxy);

/* ==== 4  Policy and users ==========================================================================
 *
 * All of it is meant to be `static const`, written by hand or by `miniproxy policy compile`. The tables must stay as
 * they are while a transaction uses them: see miniproxy_policy_in_use.
 */

/* Networks: address and prefix length. Bits behind the prefix must be 0. The networks of a set are disjoint and in
 * ascending order of their addresses, so that a search takes few steps; miniproxy_check_policy refuses other ones. */
struct miniproxy_net4 {
    uint8_t ip[4];
    uint8_t bits; /* 0..32 */
};
struct miniproxy_net6 {
    uint8_t ip[16];
    uint8_t bits; /* 0..128 */
};
struct miniproxy_nets {
    const struct miniproxy_net4 *v4;
    const struct miniproxy_net6 *v6;
    uint16_t v4_count, v6_count;
};

/* Host names, lower case, A-labels, without trailing dot. "example.com" matches that name alone,
 * ".example.com" that name and everything below it. An IP literal matches no name. A few stand in a list, of which
 * every one is looked at; thousands in a blob that `miniproxy policy compile` makes. A set can have both.
 *
 * A blob may lie in a flash partition of its own (`--blob`), to be replaced without the program. Lookups in a damaged
 * one stay within blob_len, but what they find means nothing; so keep two partitions and a policy for each, write the
 * blob that is not in use (miniproxy_policy_in_use) and call miniproxy_set_policy, which takes it only if it is whole.
 * With one partition, set a policy without it first, and wait until the old one is not in use. */
struct miniproxy_hosts {
    const char *const *names;
    const uint8_t *blob;
    uint32_t blob_len; /* the room it has; its header says how much of that it uses */
    uint16_t count; /* of names */
};

/* Texts of a condition. */
struct miniproxy_texts {
    const char *const *list;
    uint16_t count;
};

/* Ranges of ports, first and last. */
struct miniproxy_range {
    uint16_t first, last;
};
struct miniproxy_ranges {
    const struct miniproxy_range *list;
    uint16_t count;
};

/* Parts of the week, in local time (struct miniproxy_config.minute_of_week): on each day that begins in `days` (bit 0
 * is Monday), from the minute `from` until before `to`, 0..1440 each. to <= from: until that minute of the next day. */
struct miniproxy_time {
    uint16_t from, to;
    uint8_t days;
};
struct miniproxy_times {
    const struct miniproxy_time *list;
    uint16_t count;
};

/* Further conditions of a rule; a member left 0 matches everything, all others must match. */
struct miniproxy_also {
    const struct miniproxy_ranges *ports; /* used instead of struct miniproxy_rule.port */
    const struct miniproxy_texts *paths;  /* prefixes of path and query as sent, case-sensitive, dot segments and all:
                                             good  for DENY of what is spelt so, not for ALLOW; CONNECT has none, and
                                             matches  none */
#if MINIPROXY_WITH_CONDITIONS
    const struct miniproxy_texts
        *agents; /* parts of User-Agent, in lower case, found in any case; a request without one matches none */
    const struct miniproxy_texts
        *types; /* Content-Type of the response, "text/html", or "image/" for all of these, lower
                   case. Asked when a response with content begins. Tunnels, of CONNECT and of
                   websocket, have none: they match no rule with types. What has several, as a
                   list or as several fields, matches DENY always, ALLOW never; multipart/byteranges
                   matches DENY always. At most MINIPROXY_TYPE_RULES of a policy have them */
    const struct miniproxy_times *times; /* while the time is unknown DENY matches, ALLOW does not */
#endif
};
#define MINIPROXY_TYPE_RULES 32

/* Methods of a rule, as a mask. 0 = any. */
enum miniproxy_method {
    MINIPROXY_GET = 1 << 0,
    MINIPROXY_HEAD = 1 << 1,
    MINIPROXY_POST = 1 << 2,
    MINIPROXY_PUT = 1 << 3,
    MINIPROXY_DELETE = 1 << 4,
    MINIPROXY_OPTIONS = 1 << 5,
    MINIPROXY_TRACE = 1 << 6,
    MINIPROXY_CONNECT = 1 << 7,
    MINIPROXY_OTHER = 1 << 8, /* every other method */
    /* None, but a request for a page of the proxy's own (WITH_PAGES): of such a request a rule sees the client, the user,
     * the path and the time. */
    MINIPROXY_PAGES = 1 << 9
};

/* Groups of users, as a mask: bits 0..14 are the product's own; every user who logged in has this one too. */
#define MINIPROXY_AUTHENTICATED 0x8000u

enum { MINIPROXY_DENY = 0, MINIPROXY_ALLOW = 1 };

/* One rule, 24 bytes on 32 bits. A member left 0 matches everything, with three exceptions that an ALLOW rule must open
 * by name: special-purpose destination addresses (special_purpose), CONNECT to other ports than MINIPROXY_CONNECT_PORT
 * (port, ports), and pages of the proxy's own (methods). The first rule that matches decides; no match is DENY. */
struct miniproxy_rule {
    unsigned verdict : 1;         /* MINIPROXY_DENY, MINIPROXY_ALLOW */
    unsigned special_purpose : 1; /* ALLOW also covers special-purpose addresses (loopback, private, link-local, …) */
    unsigned literal : 1;         /* matches only targets that are IP literals */
    unsigned either : 1;          /* clients or users, one of them is enough: devices that cannot log in */
    unsigned methods : 12; /* enum miniproxy_method, or 0 */
    unsigned users : 16;   /* matches users of any of these groups, or 0: anybody, logged in or not */
    uint16_t port[2];      /* first and last destination port, or {0, 0} */
    const struct miniproxy_nets *clients; /* client's network */
    const struct miniproxy_nets *to;      /* network of the address that is going to be connected */
    const struct miniproxy_hosts *hosts;  /* destination name */
    const struct miniproxy_also *also;
};

#define MINIPROXY_SALT_LEN 8
#define MINIPROXY_DIGEST_LEN 32

/* A user: digest = SHA-256(salt, "name:password"), or PBKDF2-HMAC-SHA256 of the password with this salt and so many
 * rounds, or password in clear, the smallest form. One with neither logs in by what the port knows of the client
 * (struct miniproxy_port.client_name) and in no other way. */
struct miniproxy_user {
    const char *name; /* no colon, no control characters */
    const char *password;
    const uint8_t *digest; /* MINIPROXY_SALT_LEN bytes of salt, then MINIPROXY_DIGEST_LEN; wins over password */
    uint32_t rounds;       /* of PBKDF2, WITH_PBKDF2; 0: one SHA-256, for passwords that a machine made */
    uint16_t groups;       /* bits 0..14 */
};

#if MINIPROXY_WITH_ROUTES

enum miniproxy_hop_kind {
    MINIPROXY_HOP_PROXY,  /* an HTTP proxy: requests in absolute form, CONNECT for tunnels (RFC 9112 section 3.2) */
    MINIPROXY_HOP_SOCKS5, /* RFC 1928, with a login RFC 1929: it is told the origin's name */
    MINIPROXY_HOP_ORIGIN  /* a member of a group of origins: requests as if it was the one that was asked for */
};

/* A next hop: where connections lead instead of to the origin itself. Its own address is not asked of the policy.
 *
 * A hop is up until `fall` attempts in a row have failed to reach it, those of requests and checks alike: resolution,
 * connection, TLS, login. With checks it is down until `rise` of them in a row have gone well. Without, it is tried
 * again by one request after 1 s, then after 2 s and so on, up to once a minute, and is up when that goes well. */
struct miniproxy_hop {
    const char *host;  /* name, or IP literal without brackets */
    const char *login; /* "name:password", told to nobody else (RFC 9110 section 11.7.2); NULL: none */
    /* What a check asks by HEAD, "http://host/path": a status of 200..399 is good. NULL: a connection that opens is. */
    const char *check;
    uint16_t port;
    uint16_t check_s; /* from one check to the next; 0: none */
    uint8_t kind;     /* enum miniproxy_hop_kind */
    uint8_t secure;   /* an HTTP proxy that is spoken to by TLS and has to prove that it is `host`; WITH_TLS */
    uint8_t rise, fall; /* 0: 2 */
};

enum miniproxy_order {
    MINIPROXY_IN_ORDER, /* the first hop that is up */
    MINIPROXY_IN_TURN   /* each new connection by the next one */
};

/* Which way requests go: the first route that matches, directly if none does. A member left 0 matches everything. A
 * request whose hop cannot be reached goes by the next, also when it was sent already but may be repeated. If none is up:
 * 503. Requests for https:// targets go only by proxies that are spoken to by TLS, and members of groups.
 *
 * What is asked for by name is not resolved here if its way leads to a parent, which is told the name, or to a group. The
 * policy is then asked without an address (struct miniproxy_question.remote): rules that name networks do not match, and
 * an ALLOW rule without special_purpose covers every name but localhost. `resolve` has it resolved here too, and only those
 * addresses are let through that the policy allows; but what the parent finds for the name may differ. */
struct miniproxy_route {
    const struct miniproxy_nets *clients; /* client's network */
    const struct miniproxy_nets *to;      /* network of the address that is asked for: names are resolved to know it */
    const struct miniproxy_hosts *hosts;  /* name that is asked for */
    uint16_t users;                       /* groups of users, as in a rule */
    uint16_t first;                       /* of the policy's hops */
    uint8_t count;                        /* 0: directly; up to MINIPROXY_ROUTE_HOPS */
    uint8_t order;                        /* enum miniproxy_order */
    bool resolve;
};
#define MINIPROXY_ROUTE_HOPS 16

/* How a hop does, in RAM. All 0 at first: up. */
struct miniproxy_health {
    uint32_t due_ms;           /* private: of the next check, or when it is tried again */
    uint32_t used, failed;     /* connections made, attempts that have failed */
    uint16_t turn;             /* private */
    uint8_t down;              /* 0: up */
    uint8_t streak;            /* results in a row that speak against that */
    uint8_t waits;             /* private: how long until it is tried again */
    uint8_t cause;             /* enum miniproxy_cause of the last failure */
    uint8_t phase;             /* private: of the checks */
};

#endif

#if MINIPROXY_WITH_LIMITS

enum miniproxy_share {
    MINIPROXY_EACH_CLIENT, /* every client address for itself, IPv6 by its /64 */
    MINIPROXY_EACH_USER,   /* every user for himself; holds for nobody who has not logged in */
    MINIPROXY_ALL_TOGETHER
};

/* What those may use for whom it holds. A member left 0 is not limited. All limits that match a transaction hold for it,
 * up to MINIPROXY_LIMITS_EACH, the first ones. Octets are those of messages, heads included, without TLS. */
struct miniproxy_limit {
    const struct miniproxy_nets *clients;      /* NULL: every client's */
    uint16_t users;                            /* groups, as in a rule; 0: also who has not logged in */
    uint16_t at_once;                          /* transactions under way; more: 503 */
    uint16_t requests_a_minute, request_burst; /* more: 429; burst 0: those of six seconds, 1 at least */
    uint32_t down_per_s, up_per_s;             /* octets to and from clients, which wait when they are used up */
    /* Octets at once after a pause; 0: those of a tenth of a second. With fewer than come between two miniproxy_poll the
     * rate is not reached. */
    uint32_t burst;
    uint8_t share;                             /* enum miniproxy_share */
};
#define MINIPROXY_LIMITS_EACH 2

#endif

struct miniproxy_policy {
    const struct miniproxy_rule *rules;
    const struct miniproxy_user *users;
    uint16_t rule_count, user_count;
#if MINIPROXY_WITH_ROUTES
    const struct miniproxy_route *routes;
    const struct miniproxy_hop *hops;
    struct miniproxy_health *health; /* hop_count of them */
    uint16_t route_count, hop_count;
#endif
#if MINIPROXY_WITH_LIMITS
    const struct miniproxy_limit *limits;
    uint16_t limit_count;
#endif
#if MINIPROXY_WITH_MAINTENANCE
    const char *maintenance; /* as the message of miniproxy_maintain(), or NULL */
#endif
#if MINIPROXY_WITH_HITS
    uint32_t
        *hits; /* rule_count + 1 counters, or NULL: transactions that each rule decided, last those that none did */
#endif
};

/* Are the networks, blobs and types of the rules as this file says, the blobs' checksums included? The first rule whose
 * are not (0 too if more than MINIPROXY_TYPE_RULES have types, or something is wrong with routes, hops or limits), -1:
 * all are. Takes about 12 instructions a byte of a blob. miniproxy_init and miniproxy_set_policy ask it. Neither policy
 * nor its arrays may be NULL where their count is not 0. */
int miniproxy_check_policy(const struct miniproxy_policy *policy);

/* What a decision depends on. */
struct miniproxy_question {
    const struct miniproxy_addr *client;
    const struct miniproxy_user *user;     /* NULL: not logged in */
    const char *host;                      /* name, NUL-terminated, any case; of a literal its text */
    const char *path;                      /* not NUL-terminated; NULL for CONNECT */
    size_t path_len;
    const struct miniproxy_addr *address;  /* address to be connected; NULL: not resolved yet */
    uint16_t port;                         /* 0: would any port do? */
    uint16_t method;                       /* one enum miniproxy_method */
    bool literal;                          /* host is an IP literal; address is set then */
#if MINIPROXY_WITH_ROUTES
    bool remote;                           /* address is NULL and will not be known: a parent resolves the name */
#endif
#if MINIPROXY_WITH_CONDITIONS
    const char *agent;                     /* User-Agent, not NUL-terminated; NULL: none */
    size_t agent_len;
    const char *type;                      /* Content-Type of the response, not NUL-terminated; NULL: no response yet */
    size_t type_len;                       /* 0: the response has none, or no content */
    int minute_of_week;                    /* 0 is Monday 0:00, -1: unknown */
#endif
};

enum miniproxy_verdict {
    MINIPROXY_DENIED,
    MINIPROXY_ALLOWED,
    MINIPROXY_NEEDS_ADDRESS, /* depends on the address: resolve, then ask again for each */
    MINIPROXY_NEEDS_USER,    /* denied so, and a user who can log in might be allowed: 407 */
    MINIPROXY_NEEDS_TYPE     /* depends on the Content-Type of the response; WITH_CONDITIONS */
};

/* The policy as a pure function. *rule (may be NULL) gets the index of the rule that decided, -1 if none did; of
 * MINIPROXY_NEEDS_TYPE, of the one that allows a response without content. */
enum miniproxy_verdict miniproxy_decide(const struct miniproxy_policy *policy, const struct miniproxy_question *q,
                                        int *rule);

#if MINIPROXY_WITH_ROUTES
/* Which way a request goes, as a pure function: index of the route, -1 directly, or -2: it depends on the address. */
int miniproxy_find_route(const struct miniproxy_policy *policy, const struct miniproxy_question *q);
#endif

/* True for addresses that RFC 6890's registries call special-purpose, also inside v4-mapped, NAT64 and 6to4 addresses.
 */
bool miniproxy_addr_is_special(const struct miniproxy_addr *a);

/* All networks behind miniproxy_addr_is_special, for rules that open them on purpose. */
extern const struct miniproxy_nets miniproxy_special_purpose;

/* Strict text forms: IPv4 as dotted quad, IPv6 without brackets and zone. parse takes len octets, leaves port alone and
 * returns false on anything else. format writes at most MINIPROXY_ADDR_TEXT octets with NUL, without port, and
 * returns the length. */
#define MINIPROXY_ADDR_TEXT 46
bool miniproxy_addr_parse(struct miniproxy_addr *a, const char *text, size_t len);
size_t miniproxy_addr_format(const struct miniproxy_addr *a, char out[MINIPROXY_ADDR_TEXT]);

/* ==== 5  Causes, events, counters ==================================================================
 *
 * Error types of Proxy-Status (RFC 9209 section 2.3), those that occur here.
 */
#if MINIPROXY_WITH_TLS
#define MINIPROXY_ERROR_TYPES_OF_TLS(X) \
    X(tls_certificate_error) X(tls_alert_received) X(tls_protocol_error)
#else
#define MINIPROXY_ERROR_TYPES_OF_TLS(X)
#endif
#if MINIPROXY_WITH_TLS || MINIPROXY_WITH_ROUTES
#define MINIPROXY_ERROR_TYPES_OF_CONFIGURATION(X) X(proxy_configuration_error)
#else
#define MINIPROXY_ERROR_TYPES_OF_CONFIGURATION(X)
#endif

#define MINIPROXY_ERROR_TYPES(X)                                                                                      \
    X(http_request_error) X(http_request_denied) X(destination_ip_prohibited) X(proxy_internal_response)              \
    X(proxy_internal_error) X(connection_limit_reached) X(destination_unavailable) X(proxy_loop_detected)             \
    X(dns_error) X(dns_timeout) X(connection_refused) X(destination_ip_unroutable) X(connection_terminated)           \
    X(connection_timeout) X(connection_write_timeout) X(http_response_timeout) X(connection_read_timeout)             \
    X(http_response_incomplete) X(http_protocol_error) X(http_response_transfer_coding)                               \
    X(http_response_header_section_size) X(http_response_trailer_section_size) X(http_upgrade_failed)                 \
    MINIPROXY_ERROR_TYPES_OF_TLS(X) MINIPROXY_ERROR_TYPES_OF_CONFIGURATION(X)

/* Causes that only routes and limits have: part of MINIPROXY_CAUSES. */
#if MINIPROXY_WITH_ROUTES
#define MINIPROXY_CAUSES_OF_ROUTES(X)                                                                                                                         \
    X(HOPS_DOWN,             503, destination_unavailable,            "no_parent",               "None of the servers that lead to this host can be reached. Try again soon.") \
    X(HOP_LOGIN,             502, proxy_configuration_error,          "parent_login",            "The next proxy does not accept this proxy's login: its operator has to mend that.") \
    X(HOP_REFUSED,           502, destination_unavailable,            "parent_refused",          "The next proxy refused to connect to this host.")           \
    X(HOP_INVALID,           502, http_protocol_error,                "parent_invalid",          "The next proxy does not speak the protocol that it should.")
#else
#define MINIPROXY_CAUSES_OF_ROUTES(X)
#endif
#if MINIPROXY_WITH_LIMITS
#define MINIPROXY_CAUSES_OF_LIMITS(X)                                                                                                                         \
    X(REQUEST_RATE,          429, http_request_denied,                "request_rate",            "Too many requests in a short time. Wait, then try again.")  \
    X(AT_ONCE,               503, connection_limit_reached,           "at_once",                 "Too many transactions of yours are under way. Let some end, then try again.")
#else
#define MINIPROXY_CAUSES_OF_LIMITS(X)
#endif

/* Causes of pages of the proxy's own, and of maintenance: parts of MINIPROXY_CAUSES. */
#if MINIPROXY_WITH_PAGES
#define MINIPROXY_CAUSES_OF_PAGES(X)                                                                                                                          \
    X(PAGE,                  404, http_request_error,                 "no_such_page",            "This proxy has no such page.")                               \
    X(PAGE_METHOD,           405, http_request_error,                 "page_method",             "Pages of this proxy can only be read.")                     \
    X(PAGE_LOGIN_MISSING,    401, http_request_error,                 "page_login_missing",      "This page wants a user name and password.")                 \
    X(PAGE_LOGIN_FAILED,     401, http_request_error,                 "page_login_failed",       "User name or password is wrong.")
#else
#define MINIPROXY_CAUSES_OF_PAGES(X)
#endif
#if MINIPROXY_WITH_MAINTENANCE
#define MINIPROXY_CAUSES_OF_MAINTENANCE(X)                                                                                                                    \
    X(MAINTENANCE,           503, proxy_internal_response,            "maintenance",             "This proxy is under maintenance. Try again later.")
#else
#define MINIPROXY_CAUSES_OF_MAINTENANCE(X)
#endif

/* Causes that only TLS has: part of MINIPROXY_CAUSES. */
#if MINIPROXY_WITH_TLS
#define MINIPROXY_CAUSES_OF_TLS(X)                                                                                                                            \
    X(CERTIFICATE,           403, http_request_denied,                "certificate_missing",     "This proxy's policy allows this to clients only whose certificate it knows.") \
    X(PLAIN,                 400, http_request_error,                 "plain_on_tls_port",       "This port speaks TLS: use https:// in the proxy's address. What was sent was not encrypted.") \
    X(TLS_NAME,              502, tls_certificate_error,              "tls_wrong_name",          "The origin's certificate is for another host name.")        \
    X(TLS_EXPIRED,           502, tls_certificate_error,              "tls_expired",             "The origin's certificate has expired, or is not valid yet, or the proxy's clock is wrong.") \
    X(TLS_SELF_SIGNED,       502, tls_certificate_error,              "tls_self_signed",         "The origin's certificate is signed by itself: nobody vouches for it.") \
    X(TLS_ISSUER,            502, tls_certificate_error,              "tls_unknown_issuer",      "The origin's certificate is from an issuer that this proxy does not trust.") \
    X(TLS_CERTIFICATE,       502, tls_certificate_error,              "tls_bad_certificate",     "The origin's certificate is not acceptable.")               \
    X(TLS_ALERT,             502, tls_alert_received,                 "tls_alert",               "The origin refused the TLS connection.")                    \
    X(TLS_PROTOCOL,          502, tls_protocol_error,                 "tls_protocol",            "The origin does not speak TLS, or no version of it that this proxy speaks.") \
    X(TLS_TIMEOUT,           504, connection_timeout,                 "tls_timeout",             "The origin did not complete the TLS handshake in time.")    \
    X(TLS_CONFIG,            500, proxy_configuration_error,          "tls_not_configured",      "This proxy is not set up for https: it knows no certificates to trust. Use CONNECT.")
#else
#define MINIPROXY_CAUSES_OF_TLS(X)
#endif

/* Why a transaction ended as it did. X(NAME, status, error type, log token, text of the reply).
 * This is the one table that binds them (RFC 9209 section 2.3). Status 0 and type none: nothing is said to anybody. */
#define MINIPROXY_CAUSES(X)                                                                                                                                   \
    X(NONE,                  0,   none,                               "-",                       "")                                                          \
    /* the request */                                                                                                                                         \
    X(REQUEST_LINE,          400, http_request_error,                 "bad_request_line",        "The request line is malformed.")                            \
    X(TARGET,                400, http_request_error,                 "bad_target",              "The request target is malformed.")                          \
    X(ORIGIN_FORM,           400, http_request_error,                 "not_a_proxy_request",     "This is a proxy, not a web server: set it as the proxy of your client.") \
    X(HOST,                  400, http_request_error,                 "bad_host",                "Host is missing, repeated or malformed.")                   \
    X(FIELD,                 400, http_request_error,                 "bad_field",               "A header field is malformed.")                              \
    X(LENGTH,                400, http_request_error,                 "bad_length",              "The length of the body is malformed or stated twice.")      \
    X(CODING,                400, http_request_error,                 "bad_coding",              "The transfer coding leaves the end of the body in doubt.")  \
    X(CHUNK,                 400, http_request_error,                 "bad_chunk",               "The chunked body is malformed.")                            \
    X(HEAD_CUT,              400, http_request_error,                 "head_cut",                "The request ended within its head.")                        \
    X(BODY_CUT,              400, http_request_error,                 "body_cut",                "The request ended within its body.")                        \
    X(TLS,                   400, http_request_error,                 "tls_on_plain_port",       "This port speaks plain HTTP, not TLS: use http:// in the proxy's address.") \
    X(LOGIN_MISSING,         407, http_request_error,                 "login_missing",           "This proxy wants a user name and password.")                \
    X(LOGIN_FAILED,          407, http_request_error,                 "login_failed",            "User name or password is wrong.")                           \
    X(LOGIN_THROTTLED,       429, http_request_error,                 "login_throttled",         "Too many failed logins from your address. Wait, then try again.") \
    X(POLICY,                403, http_request_denied,                "policy_denied",           "This proxy's policy denies the request.")                   \
    X(CONNECT_PORT,          403, http_request_denied,                "connect_port_denied",     "This proxy's policy denies tunnels to this port.")          \
    X(ADDRESS,               403, destination_ip_prohibited,          "address_denied",          "This proxy's policy denies the address of this host.")      \
    X(CONTENT_TYPE,          403, http_request_denied,                "type_denied",             "This proxy's policy denies this type of content.")          \
    X(TRACE,                 405, http_request_error,                 "trace_refused",           "This proxy does not answer TRACE.")                         \
    X(HEAD_TIMEOUT,          408, http_request_error,                 "head_timeout",            "The request did not arrive in time. Try again.")            \
    X(BODY_TIMEOUT,          408, http_request_error,                 "body_timeout",            "The body did not arrive in time. Try again.")               \
    X(BODY_SIZE,             413, http_request_error,                 "body_too_large",          "The body is larger than this proxy passes on.")             \
    X(LINE_SIZE,             414, http_request_error,                 "target_too_long",         "The request target is too long for this proxy.")            \
    X(EXPECTATION,           417, http_request_error,                 "bad_expectation",         "The expectation of the request is unknown.")                \
    X(HEAD_SIZE,             431, http_request_error,                 "head_too_large",          "The header section is too large for this proxy.")           \
    X(TRAILER_SIZE,          431, http_request_error,                 "trailer_too_large",       "The trailer section is too large for this proxy.")          \
    X(METHOD_SIZE,           501, proxy_internal_response,            "method_too_long",         "The method is too long for this proxy.")                    \
    X(UNKNOWN_CODING,        501, proxy_internal_response,            "unknown_coding",          "This proxy knows no transfer coding but chunked.")          \
    X(SCHEME,                501, proxy_internal_response,            "scheme_unsupported",      "This proxy does not forward this scheme. Use CONNECT.")     \
    X(VERSION,               505, proxy_internal_response,            "version_unsupported",     "This proxy speaks HTTP/1.1 and HTTP/1.0.")                  \
    /* the proxy itself */                                                                                                                                    \
    X(LOGIN_QUEUE,           503, proxy_internal_response,            "login_queue",             "Too many logins are being checked. Try again soon.")        \
    X(INTERNAL,              500, proxy_internal_error,               "internal_error",          "The proxy failed. This is its own fault.")                  \
    X(SESSIONS_FULL,         503, connection_limit_reached,           "sessions_full",           "All connections of this proxy are in use. Try again soon.") \
    X(CLIENT_LIMIT,          503, connection_limit_reached,           "client_limit",            "Your address has too many connections open. Close some, then try again.") \
    X(BUFFERS_FULL,          503, proxy_internal_response,            "buffers_full",            "The memory of this proxy is in use. Try again soon.")       \
    X(RESOURCES,             503, destination_unavailable,            "no_resources",            "The proxy has no free connection to the origin. Try again soon.") \
    X(LOOP,                  502, proxy_loop_detected,                "loop",                    "The request came back to this proxy or leads to it.")       \
    /* the way to the origin */                                                                                                                               \
    X(DNS_NAME,              502, dns_error,                          "name_not_found",          "The host name does not exist. Check it.")                   \
    X(DNS_FAILED,            502, dns_error,                          "dns_failed",              "The host name could not be resolved. Try again soon.")      \
    X(DNS_TIMEOUT,           504, dns_timeout,                        "dns_timeout",             "The resolver did not answer in time. Try again soon.")      \
    X(REFUSED,               502, connection_refused,                 "connection_refused",      "The origin refused the connection: nothing listens there.") \
    X(UNREACHABLE,           502, destination_ip_unroutable,          "unreachable",             "There is no route to the origin.")                          \
    X(CONNECT_RESET,         502, connection_terminated,              "connect_failed",          "The connection to the origin failed.")                      \
    X(CONNECT_TIMEOUT,       504, connection_timeout,                 "connect_timeout",         "The origin did not accept a connection in time.")           \
    MINIPROXY_CAUSES_OF_TLS(X)                                                                                                                                \
    MINIPROXY_CAUSES_OF_ROUTES(X)                                                                                                                             \
    MINIPROXY_CAUSES_OF_LIMITS(X)                                                                                                                             \
    MINIPROXY_CAUSES_OF_PAGES(X)                                                                                                                              \
    MINIPROXY_CAUSES_OF_MAINTENANCE(X)                                                                                                                        \
    /* the origin */                                                                                                                                          \
    X(WRITE_TIMEOUT,         504, connection_write_timeout,           "origin_write_timeout",    "The origin stopped reading the request.")                   \
    X(FIRST_BYTE_TIMEOUT,    504, http_response_timeout,              "first_byte_timeout",      "The origin did not answer in time.")                        \
    X(READ_TIMEOUT,          504, connection_read_timeout,            "origin_read_timeout",     "The origin stopped within its answer.")                     \
    X(RESPONSE_RESET,        502, connection_terminated,              "origin_reset",            "The origin broke the connection off.")                      \
    X(RESPONSE_EMPTY,        502, http_response_incomplete,           "origin_empty",            "The origin closed without an answer.")                      \
    X(RESPONSE_CUT,          502, http_response_incomplete,           "origin_cut",              "The origin closed within its answer.")                      \
    X(RESPONSE_INVALID,      502, http_protocol_error,                "origin_invalid",          "The origin's answer is not valid HTTP.")                    \
    X(RESPONSE_LENGTH,       502, http_protocol_error,                "origin_length",           "The origin's answer states its length in conflicting ways.") \
    X(RESPONSE_CODING,       502, http_response_transfer_coding,      "origin_coding",           "The origin's answer has an unknown or malformed transfer coding.") \
    X(RESPONSE_HEAD_SIZE,    502, http_response_header_section_size,  "origin_head_too_large",   "The origin's header section is too large for this proxy.")  \
    X(RESPONSE_TRAILER_SIZE, 502, http_response_trailer_section_size, "origin_trailer_too_large","The origin's trailer section is too large for this proxy.") \
    X(RESPONSE_INTERIM,      502, http_protocol_error,                "origin_interim",          "The origin sent too many interim responses.")               \
    X(UPGRADE,               502, http_upgrade_failed,                "origin_upgrade",          "The origin switched to a protocol that was not asked for.") \
    /* only in events */                                                                                                                                      \
    X(CLIENT_GONE,           0,   none,                               "client_gone",             "")                                                          \
    X(CLIENT_WRITE_TIMEOUT,  0,   none,                               "client_write_timeout",    "")                                                          \
    X(TUNNEL_TIMEOUT,        0,   none,                               "tunnel_timeout",          "")                                                          \
    X(TOTAL_TIMEOUT,         504, http_response_timeout,              "total_timeout",           "The exchange took longer than this proxy allows.")          \
    X(STOPPED,               0,   none,                               "stopped",                 "")

enum miniproxy_cause {
#define X(NAME, status, type, token, text) MINIPROXY_CAUSE_##NAME,
    MINIPROXY_CAUSES(X)
#undef X
    MINIPROXY_CAUSE_COUNT
};

/* Who made the response. */
enum miniproxy_source { MINIPROXY_BY_NOBODY, MINIPROXY_BY_PROXY, MINIPROXY_BY_ORIGIN };

/* One finished transaction: a request with its response, a tunnel, or a refusal. Pointers are valid during the call.
 * Text comes from the client: parsed, so without control characters, but to be escaped for any format with its own
 * syntax. */
struct miniproxy_event {
    const struct miniproxy_addr *client;
    /* origin's address that this transaction used last; family 0: none. Before its way is chosen, as in begin: of the
     * connection that is kept, if there is one; so is hop */
    const struct miniproxy_addr *address;
    const char *user;                     /* or NULL */
    const char *method, *target;          /* method_len 0: no valid request line was read */
    uint16_t method_len, target_len;      /* target may be cut to MINIPROXY_LINE_KEEP */
    uint16_t session;                     /* slot, 0..MINIPROXY_SLOTS-1 */
    uint16_t status;                      /* 0: no response was begun */
    uint8_t source;                       /* enum miniproxy_source */
    uint8_t cause;                        /* enum miniproxy_cause; NONE: it went well */
    int rule;                             /* index of the rule that decided, -1: none */
#if MINIPROXY_WITH_ROUTES
    const struct miniproxy_hop *hop;      /* that was used last; NULL: none, address is the origin's */
#endif
#if MINIPROXY_WITH_SOCKS5
    bool socks;                           /* the client speaks SOCKS5: method is CONNECT, status as if it spoke HTTP */
#endif
#if MINIPROXY_WITH_IDS
    uint32_t id;                          /* number of the transaction, from 1 on; 0 again after 2^32 - 1 of them */
#endif
#if MINIPROXY_WITH_PAGES
    bool page;                            /* a page of the proxy's own was asked for, whatever came of it */
#endif
    bool reused;                          /* on a kept upstream connection */
    uint64_t bytes_up, bytes_down;        /* octets received from the client and sent to it */
    uint32_t dns_ms, connect_ms, first_byte_ms, total_ms; /* durations; first_byte from the connection on */
};

#if MINIPROXY_WITH_METRICS

/* Status codes that are counted each on its own, others by class. */
#define MINIPROXY_CODES(X)                                                                                             \
    X(200) X(201) X(202) X(204) X(206) X(301) X(302) X(303) X(304) X(307) X(308) X(400) X(401) X(403) X(404) X(405)    \
    X(407) X(408) X(409) X(410) X(413) X(414) X(416) X(417) X(421) X(422) X(429) X(431) X(500) X(501) X(502) X(503)    \
    X(504) X(505)

enum miniproxy_code {
#define X(code) MINIPROXY_CODE_##code,
    MINIPROXY_CODES(X)
#undef X
    MINIPROXY_CODE_COUNT
};

/* How often something was done, and how long it took altogether. */
struct miniproxy_took {
    uint64_t ms;
    uint32_t count;
};

#endif

struct miniproxy_counters {
    uint32_t accepted;        /* connections */
    uint32_t requests;        /* transactions ended, refusals included; but for pages that were sent */
    uint32_t tunnels;         /* CONNECT and Upgrade tunnels begun */
    uint32_t reused;          /* requests on a kept upstream connection */
    uint32_t retried;         /* of those, sent again on a new one */
    uint32_t evicted;         /* idle connections closed to make room */
    uint32_t accept_paused;   /* times the port had no resources to accept */
    uint32_t buffer_waits;    /* times a session queued for a buffer */
    uint16_t active, active_peak;   /* sessions */
    uint16_t buffers, buffers_peak; /* borrowed */
    uint64_t bytes_up, bytes_down;
    uint32_t status[6];       /* [1..5] by class; [0] no response */
#if MINIPROXY_WITH_CAUSE_COUNTERS
    uint32_t cause[MINIPROXY_CAUSE_COUNT];
#endif
#if MINIPROXY_WITH_METRICS
    uint32_t code[MINIPROXY_CODE_COUNT];
    /* Names resolved, connections made, first octets of responses waited for, transactions. */
    struct miniproxy_took dns, connect, first_byte, total;
#endif
#if MINIPROXY_WITH_PAGES
    /* Pages of the proxy's own that were sent, which no other counter contains but those of connections, octets and hits
     * of rules: who watches the proxy does not change what he sees. Their part of the octets. */
    uint32_t pages;
    uint64_t page_bytes_up, page_bytes_down;
#endif
};

#if MINIPROXY_RECORDS > 0
/* A transaction as it is remembered. */
struct miniproxy_record {
    uint32_t id;                     /* 0: none */
    uint32_t ended_ms, total_ms;     /* on the clock of miniproxy_poll; duration */
    uint64_t bytes_up, bytes_down;
    struct miniproxy_addr client, address;
    uint16_t status;
    int16_t rule;
    uint8_t cause, source, method_len;
    uint8_t user_len;
    uint16_t line_len;
    char user[12];                   /* the beginning of the name */
    char line[MINIPROXY_LINE_KEEP];  /* "METHOD target", without query */
};
#endif

const char *miniproxy_cause_token(enum miniproxy_cause cause);
const char *miniproxy_cause_type(enum miniproxy_cause cause); /* RFC 9209 error type; "" if there is none */
unsigned miniproxy_cause_status(enum miniproxy_cause cause);

/* ==== 6  API ======================================================================================= */

/* PBKDF2-HMAC-SHA256 (RFC 8018 section 5.2) in steps, for the first 32 octets: begin counts as the first round,
 * conclude leaves the state as it is. All three leave nothing of the password behind but in the state. port/miniproxy_sha256.h
 * has them; a device may have its own. */
struct miniproxy_pbkdf2 {
    uint32_t inner[8], outer[8], last[8], sum[8];
};
struct miniproxy_pbkdf2_functions {
    void (*begin)(struct miniproxy_pbkdf2 *state, const void *password, size_t len, const uint8_t *salt,
                  size_t salt_len);
    void (*go_on)(struct miniproxy_pbkdf2 *state, uint32_t rounds);
    void (*conclude)(struct miniproxy_pbkdf2 *state, uint8_t digest[MINIPROXY_DIGEST_LEN]);
};
#define MINIPROXY_SECRET_LEN 32

#if MINIPROXY_WITH_FORWARDED
/* What origins are told of the client's address. One that a request brings along is passed on with the own behind it. */
enum miniproxy_forwarded {
    MINIPROXY_FORWARDED_NOT, /* nothing; what a request brings is passed on as it is */
    MINIPROXY_X_FORWARDED_FOR,
    MINIPROXY_FORWARDED      /* RFC 7239 */
};
#endif

#if MINIPROXY_WITH_HEADS
enum miniproxy_side { MINIPROXY_OF_CLIENT, MINIPROXY_OF_ORIGIN };
#endif

#if MINIPROXY_WITH_PAC
/* What /proxy.pac says. Names without a dot, those that end with .local, and literals of private networks (RFC 1918), of
 * loopback and link-local ones are always reached directly. All texts are part of a script: of host names and ports. */
struct miniproxy_pac {
    const char *proxy;                     /* "host:port"; NULL: what the request's Host names, by which it came */
    bool speaks_tls;                       /* … by TLS: "HTTPS host:port", and 443 where Host names no port */
    uint32_t tls_listeners;                /* the same of what Host names, if bit i is set and it came by listener i */
    const struct miniproxy_texts *direct;  /* domains reached directly with all below them, "corp.example"; may be NULL */
    bool falls_back;                       /* reach all directly while the proxy does not answer */
};
#endif

struct miniproxy_config {
    const struct miniproxy_port *port;
    void *port_data;                        /* first argument of every port function */
    const struct miniproxy_policy *policy;  /* NULL denies everything */
    /* Pseudonym for Via and Proxy-Status: a token of 1..MINIPROXY_NAME_MAX octets beginning with a letter, unique to
     * the device, for loops are recognised by it. Not the host name (RFC 9110 section 7.6.3). NULL: "miniproxy". */
    const char *name;
    const char *realm;                      /* of Basic; up to 64 octets of printable ASCII without " and \. NULL: "proxy" */
    void (*event)(void *app, const struct miniproxy_event *event); /* may be NULL; must not call the API */
    /* A request line was read: like event, with the whole method and target, and without a result yet. Every begin of a
     * session is followed by one event of that session, but not every event by a begin: heads can be too broken. May be
     * NULL. */
    void (*begin)(void *app, const struct miniproxy_event *event);
    /* WITH_PBKDF2: NULL: users with rounds never match. secret: MINIPROXY_SECRET_LEN random octets, made at each start,
     * under which verified logins are remembered; NULL: none is. */
    const struct miniproxy_pbkdf2_functions *pbkdf2;
    const uint8_t *secret;
#if MINIPROXY_WITH_ROUTES
    /* A hop of the policy went down or came up; its health tells which. May be NULL; must not call the API. */
    void (*hop)(void *app, const struct miniproxy_policy *policy, unsigned hop);
#endif
#if MINIPROXY_WITH_FORWARDED
    uint8_t forwarded;                      /* enum miniproxy_forwarded */
#endif
#if MINIPROXY_WITH_PROXY_PROTOCOL
    /* A bit for each listener, 0..7, whose connections begin with a header of the PROXY protocol, version 1 or 2. It is
     * believed: nobody but the balancer may reach them. What begins otherwise is closed. Not for listeners of TLS. */
    uint8_t proxy_protocol;
#endif
#if MINIPROXY_WITH_INTERCEPTION
    /* A bit for each listener, 0..7, to which connections are diverted. A request in origin-form, or OPTIONS *, is there
     * taken as one for http://HOST, with the host that its Host names and the port that its connection was meant for;
     * without one, by HTTP/1.0, for the address that it was meant for. Host is resolved and allowed as in any other
     * request. */
    uint8_t intercepts;
#endif
#if MINIPROXY_WITH_HEADS
    /* A line of a head, without its end, as it was received from a client or an origin (or parent); len 0: the head is
     * complete. The first is the request line or status line; interim responses have heads of their own. A line that is
     * refused is the last one, and reaches until the octet that is wrong; so does what there is of a line that never
     * became complete. Octets are whatever was sent: a log must escape them.
     * "[...]" stands in place of all that follows in a line where something begins that lets somebody in: values of
     * Authorization, Proxy-Authorization, Cookie, Set-Cookie, Authentication-Info, and of fields whose name contains such
     * a word, token, secret, password or api-key; userinfo in any value, or in a target; a line that may go on with one
     * of these. Queries are told. Nothing is told of SOCKS5 requests, which have no head, of trailers, of health checks,
     * and of what the proxy itself says. Line and event are valid until it returns. The event of a client's first line
     * has no method yet if the request was diverted. May be NULL; must not call the API. */
    void (*head)(void *app, const struct miniproxy_event *event, enum miniproxy_side side, const char *line, size_t len);
#endif
#if MINIPROXY_WITH_PAGES
    /* A page of the product's own, or instead of one of miniproxy's: text and its Content-Type for a path with its query,
     * that stay valid and unchanged, of at most MINIPROXY_PAGE_MAX and MINIPROXY_PAGE_TYPE_MAX octets. NULL, or
     * either is longer: there is none. May be NULL. */
    const char *(*page)(void *app, const char *path, size_t path_len, const char **type);
    /* Names of this proxy in Host, in lower case. Addresses, names without a dot and MINIPROXY_PAGES_HOST always are; a
     * request for a page by another name, /health and PAC apart, is one for another server: 400. May be NULL. */
    const struct miniproxy_texts *page_names;
#endif
#if MINIPROXY_WITH_METRICS
    /* Lines of the product's own in /metrics: the `at`th group of at most `room` octets into out, from 0 on, until it
     * returns 0. May be NULL; must not call the API. */
    size_t (*metrics)(void *app, unsigned at, char *out, size_t room);
    /* Of several instances: what all of them have counted together, each time that somebody asks. NULL: only this one. */
    const struct miniproxy_counters *(*totals)(void *app);
#endif
#if MINIPROXY_WITH_PAC
    const struct miniproxy_pac *pac;        /* NULL: there is none, 404 */
#endif
#if MINIPROXY_WITH_HTML
    const char *contact;                    /* whom users may ask: an address or some words; NULL: nobody is named */
    /* The whole page, of this type, instead of the standard one: text in UTF-8 of at most MINIPROXY_PAGE_MAX octets,
     * that stays valid and unchanged. It must not contain unescaped text of the event. NULL: none, for this refusal.
     * Asked once a refusal. May be NULL; must not call the API. */
    const char *(*refusal)(void *app, const struct miniproxy_event *event, bool html);
#endif
    /* WITH_CONDITIONS: local time in minutes since Monday 0:00, or -1 while it is unknown. NULL: unknown. */
    int (*minute_of_week)(void *app);
    uint32_t (*unix_time)(void *app);       /* seconds since 1970, or 0 while unknown; NULL: no clock, no Date */
    void (*sha256)(uint8_t digest[MINIPROXY_DIGEST_LEN], const void *data, size_t len); /* NULL: digests never match */
    void *app;
    uint64_t body_max;                      /* octets of a request body, 0: no limit. More: 413 */
    uint32_t timeout_ms[MINIPROXY_TIMEOUT_COUNT]; /* 0: the default of MINIPROXY_TIMEOUTS */
    uint16_t sessions_per_client;           /* 0: MINIPROXY_SESSIONS_PER_CLIENT */
};

#define MINIPROXY_FOREVER UINT32_MAX
#define MINIPROXY_PAGE_MAX 60000
#define MINIPROXY_PAGE_TYPE_MAX 64

/* Start. The instance must be zeroed (static storage is); only its first page is written, sessions and buffers are
 * touched when used. The configuration is copied, what it points at is not. False: the configuration is invalid. */
bool miniproxy_init(struct miniproxy *proxy, const struct miniproxy_config *config);

/* Do everything that can be done now. now_ms is any millisecond clock that wraps at 2^32. Returns after how many
 * milliseconds it must be called again at the latest: 0 at once, MINIPROXY_FOREVER only after a wake. */
uint32_t miniproxy_poll(struct miniproxy *proxy, uint32_t now_ms);

/* Decide new requests by another policy. Requests already decided keep the old one, which must stay in memory while
 * miniproxy_policy_in_use says so (the current policy always is). False: miniproxy_check_policy finds fault with it,
 * and the old one stays. Call miniproxy_poll next, for the hops of the new policy may have to be checked. */
bool miniproxy_set_policy(struct miniproxy *proxy, const struct miniproxy_policy *policy);
bool miniproxy_policy_in_use(const struct miniproxy *proxy, const struct miniproxy_policy *policy);

/* Accept nothing any more, close idle connections, let what runs finish: from the next miniproxy_poll on. Done when
 * miniproxy_active is 0. */
void miniproxy_drain(struct miniproxy *proxy);
unsigned miniproxy_active(const struct miniproxy *proxy);

#if MINIPROXY_WITH_MAINTENANCE
/* From now on new requests are answered by 503 with this message, a text of one or a few lines that must stay valid;
 * what runs goes on, and so do pages. NULL: no maintenance any more. A policy may order it, too. */
void miniproxy_maintain(struct miniproxy *proxy, const char *message);
#endif

/* What /health says: a word, with 200 for OK and BUSY, 503 for the others. */
enum miniproxy_condition {
    MINIPROXY_OK_TO_SERVE,    /* "ok" */
    MINIPROXY_BUSY,           /* "busy": all sessions are in use */
    MINIPROXY_IN_MAINTENANCE, /* "maintenance" */
    MINIPROXY_DRAINING        /* "draining" */
};
#if MINIPROXY_WITH_PAGES || MINIPROXY_WITH_METRICS
enum miniproxy_condition miniproxy_condition(const struct miniproxy *proxy);
#endif

/* The `at`th group of lines of OpenMetrics text into out[0..room), from 0 on, and its length; 0: there is no further one.
 * room: MINIPROXY_METRICS_GROUP at least, of which a group takes less. */
#define MINIPROXY_METRICS_GROUP 440
#if MINIPROXY_WITH_METRICS
size_t miniproxy_metrics(const struct miniproxy *proxy, unsigned at, char *out, size_t room);
#endif

#if MINIPROXY_RECORDS > 0
/* The `at`th of the remembered transactions, from the newest (0) on; NULL: there is none. */
const struct miniproxy_record *miniproxy_recent(const struct miniproxy *proxy, unsigned at);
#endif

/* Close everything at once. */
void miniproxy_stop(struct miniproxy *proxy);

const struct miniproxy_counters *miniproxy_counters(const struct miniproxy *proxy);

/* ==== 7  The instance ==============================================================================
 *
 * Visible only so that the compiler knows the size; every member is private to miniproxy.c.
 */
#if MINIPROXY_BUFFER_SIZE < 512
#error "MINIPROXY_BUFFER_SIZE < 512: a refusal cannot fit; raise it in your config header"
#endif

/* Payload on its way in one direction: data[out..out_end) is ready to be sent, data[in..in_end) has been
 * received and not yet been looked at; out_end <= in. */
struct miniproxy_buffer {
    struct miniproxy_buffer *next; /* free list */
    uint16_t out, out_end, in, in_end;
    uint16_t scan; /* where the search for the end of a head goes on */
    union {
        unsigned char data[MINIPROXY_BUFFER_SIZE];
        uint64_t align;
    } u;
};

struct miniproxy_pipe {
    struct miniproxy_buffer *buffer; /* NULL: none borrowed */
    uint16_t extra;  /* octets of chunk extensions or trailers so far */
    uint8_t source;  /* how the received bytes are framed */
    uint8_t chunk;   /* state of the chunked parser */
    uint8_t digits;  /* of the chunk size so far */
    uint8_t flags;
    uint64_t left;   /* octets of the body or chunk still to come */
};

struct miniproxy_timer {
    uint32_t due_ms;
    uint16_t prev, next; /* timer number + 1, within the queue of its timeout */
};

/* Timers of a session: one for its state (in an exchange: for the response), one beside (the request; a wait for a
 * buffer; the next connection attempt), one for the whole. */
enum { MINIPROXY_TIMER_PHASE, MINIPROXY_TIMER_SIDE, MINIPROXY_TIMER_WHOLE, MINIPROXY_TIMERS_EACH };

#if MINIPROXY_WITH_LIMITS
/* A direction that is limited. */
struct miniproxy_turn {
    uint16_t octets;     /* that it wants to take; those buckets that it is through with are paid for them */
    uint16_t prev, next; /* slot + 1, within the queue of a bucket */
    uint8_t stage;       /* which of the session's buckets it waits for + 1 */
};
#endif

/* Small members that are used often come first: short offsets make short instructions. */
struct miniproxy_session {
    uint32_t flags;
    uint8_t state, cause, source;
    uint8_t lane;      /* run queue it stands in + 1 */
    uint8_t wait_lane; /* buffer queue it stands in + 1 */
    uint8_t server_at; /* which of server[] is the connection in use */
    uint8_t servers_open; /* a bit for each of server[] that the port knows of */
    uint8_t interim;
    uint8_t timeout[MINIPROXY_TIMERS_EACH]; /* queue of each timer: enum miniproxy_timeout + 1, 0: not armed */
    uint8_t method_len;
    struct miniproxy_conn client;
    struct miniproxy_conn server[MINIPROXY_ATTEMPTS];
#if MINIPROXY_WITH_CONDITIONS
    /* Of the policy's rules with types, a bit for each that may decide. 32-bit targets have a gap here anyway. */
    uint32_t type_rules;
#endif
    struct miniproxy_pipe up, down; /* client to origin, origin to client */
    uint64_t up_limit; /* octets that further chunks of a request may have */
    const struct miniproxy_policy *policy; /* of the transaction under way */
    const struct miniproxy_user *user;
    uint32_t reply_at; /* octets of the reply's text that have been in a buffer, one more when its head has */
    uint16_t run_next, wait_next, peer_prev, peer_next; /* slot + 1 */
    uint16_t status;
    int16_t rule;
    uint16_t line_len, origin_at, origin_len;
#if MINIPROXY_WITH_SOCKS5
    uint8_t socks_stage; /* how far a client that speaks SOCKS5 is */
#endif
#if MINIPROXY_WITH_ROUTES
    uint16_t route, hop; /* index in the policy + 1; 0: directly. The hop is that of server[], also while it is kept */
    uint16_t hops_left;  /* of the route: a bit for each that has not been tried */
    uint16_t login_at;   /* in the rewritten head: where what concerns its parent begins; 0: nothing does */
    uint8_t hop_stage;   /* what a SOCKS5 server is waited for to say */
#endif
#if MINIPROXY_WITH_CONDITIONS
    int16_t rest_rule; /* decides if none of type_rules matches, -1: none does */
#endif
    uint64_t bytes_up, bytes_down; /* between two transactions bytes_up counts what was dropped */
    uint32_t start_ms, mark_ms; /* transaction, state began */
    uint32_t dns_ms, connect_ms, first_byte_ms;
    struct miniproxy_timer timer[MINIPROXY_TIMERS_EACH];
#if MINIPROXY_WITH_LIMITS
    uint16_t buckets[MINIPROXY_LIMITS_EACH]; /* that its transaction holds, + 1 each; 0: no further one */
    struct miniproxy_turn turn[2];           /* down, up */
    uint8_t retry_s;                         /* of a request that came too soon: until one may come */
#endif
    struct miniproxy_addr client_addr, server_addr;
#if MINIPROXY_WITH_IDS
    uint32_t id;
#endif
#if MINIPROXY_WITH_PAGES
    uint8_t page_asked;    /* in which way a page of the proxy's own was asked for */
    uint8_t page;          /* which one is the response */
    const char *page_text; /* of one that is a text */
    const char *page_type;
    uint8_t page_host_len; /* that follows what is kept of the line */
#endif
#if MINIPROXY_WITH_MAINTENANCE
    const char *message;   /* why it is refused */
#endif
#if MINIPROXY_WITH_HTML
    const char *refusal; /* of a refusal, if the product has one of its own */
    uint32_t refused_s;  /* what its page says when it was made */
    bool takes_html;
#endif
    char line[MINIPROXY_LINE_KEEP]; /* "METHOD target" */
};

struct miniproxy_list {
    uint16_t head, tail; /* slot + 1 */
};

struct miniproxy_failures {
    struct miniproxy_addr client;
    uint32_t since_ms;
    uint8_t count;
};

#if MINIPROXY_WITH_PBKDF2
/* The first login in the queue. */
struct miniproxy_login {
    struct miniproxy_pbkdf2 state;
    const struct miniproxy_user *user; /* whose rounds are computed; NULL: nobody's */
    uint32_t tag[4];                   /* under which it is remembered */
    uint32_t done, most;               /* rounds */
    uint8_t cause;                     /* the result; MINIPROXY_CAUSE_COUNT: none yet */
    bool is_begun;
};
#endif

#if MINIPROXY_WITH_LIMITS
/* What one client, one user or all have left of a limit. */
struct miniproxy_bucket {
    int64_t tokens[2];                   /* thousandths of an octet, down and up; less than 0 is a debt */
    const struct miniproxy_limit *limit; /* NULL: the record is free */
    uint32_t who[2];
    uint32_t requests;                   /* 60,000ths of a request */
    uint32_t since_ms;                   /* when all that was reckoned */
    uint32_t due_ms;                     /* when there is enough for the first in a queue */
    union {
        struct miniproxy_list queue[2];           /* of sessions, down and up */
        struct { uint16_t older, newer; } quiet;  /* neighbours of one that nobody holds */
    } u;
    uint16_t holders;                    /* transactions */
    uint16_t next;                       /* number + 1: in its chain, or the next free one */
    uint16_t place;                      /* in the heap + 1; 0: nobody waits */
    bool is_old;                         /* of a policy that new requests are not decided by any more */
};

struct miniproxy_limits {
    uint16_t used, free;                      /* high-water mark; free list, number + 1 */
    struct miniproxy_list quiet;              /* those that nobody holds, the one that was quiet for longest first */
    uint16_t waiting;                         /* in the heap: */
    uint16_t heap[MINIPROXY_LIMIT_BUCKETS];   /* numbers + 1 by due_ms */
    uint16_t chains[MINIPROXY_LIMIT_BUCKETS]; /* number + 1 of the first whose limit and owner have this hash */
    struct miniproxy_bucket buckets[MINIPROXY_LIMIT_BUCKETS];
};
#endif

struct miniproxy {
    uint32_t now_ms, accept_retry_ms;
    uint8_t accept_ready, accept_paused, draining;
    bool moved_up, moved_down, more; /* this visit of a session: bytes moved; there is more to do at once */
    uint16_t slots_used, slots_free;     /* high-water mark; free list, slot + 1 */
    uint16_t buffers_used;               /* the same for buffers */
    struct miniproxy_buffer *buffers_free;
    uint16_t granted;              /* buffers promised to sessions that waited for one */
    struct miniproxy_list run[2];  /* woken, and those with more to do after a visit */
    struct miniproxy_list wait[2]; /* for a buffer: replies and responses, requests */
    uint16_t reserved;             /* sessions that are there to be refused: */
#if MINIPROXY_WITH_ROUTES
    uint32_t check_due_ms;         /* nobody has to be checked before */
    uint8_t checks;                /* under way */
    bool checks_wait;              /* somebody has to be then */
    uint16_t check_next;           /* the hop behind that which was checked last */
#endif
    struct miniproxy_config config;
    struct miniproxy_counters counters;
    struct miniproxy_list timers[MINIPROXY_TIMEOUT_COUNT]; /* each in order of due_ms: one queue a duration */
    uint16_t refused[MINIPROXY_RESERVED]; /* slot + 1 each, the first to come first */
    uint16_t peers[MINIPROXY_CLIENT_BUCKETS];
#if MINIPROXY_WITH_AUTH
    struct miniproxy_failures failures[MINIPROXY_THROTTLE_CLIENTS];
#endif
#if MINIPROXY_WITH_PBKDF2
    struct miniproxy_list logins; /* sessions whose passwords take long */
    struct miniproxy_login login;
    uint32_t known[MINIPROXY_LOGIN_CACHE][4]; /* logins that are remembered, the latest first; 0: unused */
#endif
#if MINIPROXY_WITH_LIMITS
    struct miniproxy_limits limits;
#endif
#if MINIPROXY_WITH_IDS
    uint32_t last_id;
#endif
#if MINIPROXY_RECORDS > 0
    uint16_t records_at[2];        /* the next of each to be overwritten */
    struct miniproxy_record records[2][MINIPROXY_RECORDS]; /* that went well, that did not */
#endif
#if MINIPROXY_WITH_MAINTENANCE
    const char *maintenance;       /* message, or NULL */
#endif
    struct miniproxy_session sessions[MINIPROXY_SLOTS];
    struct miniproxy_buffer buffers[MINIPROXY_BUFFERS];
};

/* RAM of an instance in bytes, as a formula: fixed part + sessions + buffers. */
#define MINIPROXY_RAM                                                                                                  \
    (offsetof(struct miniproxy, sessions) + MINIPROXY_SLOTS * sizeof(struct miniproxy_session) +                       \
     MINIPROXY_BUFFERS * sizeof(struct miniproxy_buffer))

#endif
