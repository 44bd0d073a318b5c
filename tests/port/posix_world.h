/* SPDX-License-Identifier: MIT
 *
 * The world of the POSIX port: peers are sockets in the same process, names come from a table instead of libc.
 */
#ifndef POSIX_WORLD_H
#define POSIX_WORLD_H

#include "conformance.h"
#include "port/miniproxy_posix.h"

extern struct miniproxy_posix posix;
extern struct conformance_world posix_world;

/* Start the port with its listeners. */
bool posix_world_begin(void);

/* On loopback, of the given port. */
struct miniproxy_addr posix_world_loopback(int family, uint16_t port);

/* Connect a peer to any address. Negative: failed. */
int posix_world_peer_to(const struct miniproxy_addr *to);
int posix_world_peer_fd(int peer);

/* Names, resolved in place of libc (link with --wrap):
 *   known.test 127.0.0.1 and ::1    other.test 127.0.0.2          both.test 18 IPv6 addresses, then two of IPv4
 *   slow.test 127.0.0.3, held       heldN.test 127.0.1.N, held    nN.test 127.0.2.N    mapped.test ::ffff:127.0.0.9
 *   failing.test EAI_AGAIN          memory.test EAI_MEMORY        any other: EAI_NONAME
 */
void posix_world_hold(bool on);
unsigned posix_world_lookups(void); /* so far */
unsigned posix_world_held(void);    /* that wait now */
bool posix_world_signals_blocked(void); /* in every lookup so far */

/* The next calls of a function fail: `times` of them with errno `error`. */
enum posix_call { CALL_ACCEPT, CALL_CONNECT, CALL_RECV, CALL_SEND, CALL_SOCKET, CALL_EPOLL_CTL,
                  CALL_PTHREAD_CREATE, CALL_COUNT };
void posix_world_fail(enum posix_call call, int error, unsigned times);
unsigned posix_world_calls(enum posix_call call); /* so far */

#endif
