/* SPDX-License-Identifier: MIT
 *
 * miniproxy on POSIX: sockets, epoll on Linux and poll elsewhere, names by libc's resolver on helper threads.
 */
#ifndef MINIPROXY_POSIX_H
#define MINIPROXY_POSIX_H

#include "miniproxy.h"

#include <sys/socket.h>

/* placeholder: struct and tunables are defined by the port's author */
struct miniproxy_posix;

/* The table for struct miniproxy_config.port; port_data is the struct miniproxy_posix. */
extern const struct miniproxy_port miniproxy_posix_port;

/* Prepare, before miniproxy_init. *posix must be zeroed; it belongs to the caller (static storage) and serves one instance from one
 * thread. False: errno says why. */
bool miniproxy_posix_init(struct miniproxy_posix *posix, struct miniproxy *proxy);

/* Listen on a numeric address. share: SO_REUSEPORT, for one instance a thread. Up to MINIPROXY_POSIX_LISTENERS. The port that was
 * bound (of interest when 0 was asked for), or -1 with errno. */
int miniproxy_posix_listen(struct miniproxy_posix *posix, const struct miniproxy_addr *at, bool share);

/* Close the listeners: for a drain. */
void miniproxy_posix_stop_listening(struct miniproxy_posix *posix);

/* Milliseconds of a monotonic clock, for miniproxy_poll. */
uint32_t miniproxy_posix_now_ms(void);

/* Sleep until there is something to do, at most wait_ms (what miniproxy_poll returned), and wake what became ready. */
void miniproxy_posix_wait(struct miniproxy_posix *posix, uint32_t wait_ms);

/* End a sleep of another thread, or of this one from a signal handler. Async-signal-safe. */
void miniproxy_posix_interrupt(struct miniproxy_posix *posix);

/* Forget all resolved names (after a change of the network). Callable from any thread. */
void miniproxy_posix_flush_names(struct miniproxy_posix *posix);

/* Close what is left, after miniproxy_stop. */
void miniproxy_posix_end(struct miniproxy_posix *posix);

#endif
