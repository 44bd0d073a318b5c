/* SPDX-License-Identifier: MIT
 *
 * miniproxy on POSIX: sockets, epoll on Linux and poll elsewhere, names by libc's resolver on helper threads.
 * Link with the system's thread library (-pthread). port/README.md has the notes.
 */
#ifndef MINIPROXY_POSIX_H
#define MINIPROXY_POSIX_H

#include "miniproxy.h"

/* 1: plain POSIX.1-2008 with poll(). 0: Linux with epoll. */
#ifndef MINIPROXY_POSIX_POLL
#ifdef __linux__
#define MINIPROXY_POSIX_POLL 0
#else
#define MINIPROXY_POSIX_POLL 1
#endif
#endif

/* Addresses an instance may listen on. Range 1..32. */
#ifndef MINIPROXY_POSIX_LISTENERS
#define MINIPROXY_POSIX_LISTENERS 8
#endif

/* The resolver is shared by all instances of a process. Helper threads, that is lookups under way at the same time;
 * each is created when it is first needed. Range 1..256. */
#ifndef MINIPROXY_POSIX_RESOLVERS
#define MINIPROXY_POSIX_RESOLVERS 8
#endif

/* Names that are remembered or looked up. Range 1..10000. Cost: about 300 bytes and MINIPROXY_ADDRESSES addresses each,
 * and 2 bytes each in an instance. When all of them are being looked up, resolve says ERESOURCES. */
#ifndef MINIPROXY_POSIX_NAMES
#define MINIPROXY_POSIX_NAMES 256
#endif

/* Seconds that an answer, and the answer that a name does not exist, are remembered. libc does not tell a record's own
 * time to live. Range 1..86400. */
#ifndef MINIPROXY_POSIX_NAME_S
#define MINIPROXY_POSIX_NAME_S 60
#endif
#ifndef MINIPROXY_POSIX_NO_NAME_S
#define MINIPROXY_POSIX_NO_NAME_S 5
#endif

#if MINIPROXY_POSIX_POLL
#include <poll.h>
#endif

struct miniproxy_posix_listener {
    struct miniproxy_addr at;
    int fd;
};

/* A connection that waits for a name, in the list of that name. */
struct miniproxy_posix_waiter {
    struct miniproxy_conn *conn;
    uint16_t name;       /* entry of the resolver + 1, 0: does not wait */
    uint16_t next, prev; /* connection id + 1 */
};

/* Every member is private to miniproxy_posix.c. */
struct miniproxy_posix {
    struct miniproxy *proxy;
    struct miniproxy_posix *next;  /* all instances */
    int wake_fd[2];                /* read end and write end */
    uint32_t accept_ready;         /* one bit a listener: accept has not yet said that nothing is pending */
    uint16_t listeners_used, listener_next;
    struct miniproxy_posix_listener listeners[MINIPROXY_POSIX_LISTENERS];
    uint32_t waiting;              /* connections that wait for a name */
    uint16_t waiters_of[MINIPROXY_POSIX_NAMES]; /* first of each entry's list: connection id + 1 */
    struct miniproxy_posix_waiter waiters[MINIPROXY_CONNS]; /* by connection id */
#if MINIPROXY_POSIX_POLL
    unsigned open;                             /* connections with a socket: the first of polled[] */
    struct miniproxy_conn *polled[MINIPROXY_CONNS];
    uint16_t place[MINIPROXY_CONNS];           /* by connection id: where in polled[] */
    struct pollfd polls[1 + MINIPROXY_POSIX_LISTENERS + MINIPROXY_CONNS];
#else
    int epoll_fd;
#endif
};

/* The table for struct miniproxy_config.port; port_data is the struct miniproxy_posix. */
extern const struct miniproxy_port miniproxy_posix_port;

/* Prepare, before miniproxy_init. *posix must be zeroed; it belongs to the caller (static storage) and serves one
 * instance from one thread. False: errno says why. */
bool miniproxy_posix_init(struct miniproxy_posix *posix, struct miniproxy *proxy);

/* Listen on a numeric address. share: SO_REUSEPORT, for one instance a thread. Up to MINIPROXY_POSIX_LISTENERS. The
 * port that was bound (of interest when 0 was asked for), or -1 with errno. */
int miniproxy_posix_listen(struct miniproxy_posix *posix, const struct miniproxy_addr *at, bool share);

/* Close the listeners: for a drain. */
void miniproxy_posix_stop_listening(struct miniproxy_posix *posix);

/* Milliseconds of a monotonic clock, for miniproxy_poll. */
uint32_t miniproxy_posix_now_ms(void);

/* Sleep until there is something to do, at most wait_ms (what miniproxy_poll returned), and wake what became ready. */
void miniproxy_posix_wait(struct miniproxy_posix *posix, uint32_t wait_ms);

/* End a sleep of another thread, or of this one from a signal handler. Async-signal-safe. */
void miniproxy_posix_interrupt(struct miniproxy_posix *posix);

/* Forget all resolved names (after a change of the network), for all instances of the process. Callable from any
 * thread. */
void miniproxy_posix_flush_names(struct miniproxy_posix *posix);

/* Lines for a syslog server, by UDP (RFC 5426): one datagram each, from one thread at a time. Sending never blocks; what
 * the system does not take at once is dropped and counted, and nothing tells whether anybody listens. */
struct miniproxy_posix_syslog {
    int fd;
    uint32_t dropped;
    struct miniproxy_addr to;
};

/* False: errno says why. */
bool miniproxy_posix_syslog_open(struct miniproxy_posix_syslog *syslog, const struct miniproxy_addr *to);
void miniproxy_posix_syslog_send(struct miniproxy_posix_syslog *syslog, const char *line, size_t len);
void miniproxy_posix_syslog_close(struct miniproxy_posix_syslog *syslog);

/* Close what is left, after miniproxy_stop. Does not wait for lookups under way. Nothing happens after a
 * miniproxy_posix_init that failed, nor a second time. */
void miniproxy_posix_end(struct miniproxy_posix *posix);

#endif
