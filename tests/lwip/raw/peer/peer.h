/* SPDX-License-Identifier: MIT
 *
 * The other ends of connections: raw PCBs in an lwIP of their own, and a DNS server. Built as one object file in which
 * only the names of this header are global.
 *
 * A peer is a number >= 0. Results below 0 are those of enum miniproxy_result.
 */
#ifndef PEER_H
#define PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Addresses: 10.0.0.2 and fd00::2. `output` takes what the stack sends. */
void peer_begin(void (*output)(const void *packet, size_t len));
void peer_input(const void *packet, size_t len);
void peer_timers(void);

/* Connect from here to 10.0.0.1 or fd00::1. */
int peer_connect(int family, uint16_t port);
int peer_connect_from(int family, uint16_t from, uint16_t port); /* from: its own port, 0 any */
/* Listen; *port is the port. */
int peer_listen(int family, uint16_t *port);
/* A connection out of a listening peer's queue, or AGAIN. */
int peer_accept(int listener);
uint16_t peer_port(int peer); /* its own */
int peer_send(int peer, const void *data, size_t len);
int peer_recv(int peer, void *data, size_t len);
void peer_finish(int peer);
void peer_reset(int peer);
bool peer_is_reset(int peer);
/* All peers are gone, by reset; held names are answered. */
void peer_clear(void);

/* Names: known.test 10.0.0.2, other.test 10.0.0.4, nN.test 10.0.1.N, six.test fd00::2, both.test fd00::8, 10.0.0.8 and
 * 10.0.0.9. Never kept in a cache and not answered while held: slow.test 10.0.0.5, the IPv4 address of slow4.test
 * 10.0.0.6 and fd00::6, the IPv6 address of slow6.test 10.0.0.7 and fd00::7, and sole6.test fd00::10.
 * failing.test is never answered, broken.test with SERVFAIL, all others with NXDOMAIN. */
void peer_hold_names(bool on);
unsigned peer_questions(void); /* so far */

#endif
