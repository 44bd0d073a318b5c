/* SPDX-License-Identifier: MIT
 *
 * The world of the port on lwIP's sockets: peers are sockets of the same lwIP, over a netif that returns what it
 * sends (10.8.0.1, fd01::1); names are answered by a UDP PCB in lwIP's thread; a second netif sends nothing on.
 */
#ifndef LWIP_SOCKETS_WORLD_H
#define LWIP_SOCKETS_WORLD_H

#include "port/miniproxy_lwip_sockets.h"
#include "tests/port/conformance.h"

extern struct miniproxy_lwip_sockets world_sockets;
extern struct conformance_world world;

/* Start lwIP, once, and the port with its listeners. */
bool world_begin(void);
bool world_open(void);
void world_close(void);

/* This host, with the given port. */
struct miniproxy_addr world_here(int family, uint16_t port);
/* The addresses of the netif that sends nothing on: those it begins with, ending in 1, or others of their networks. */
struct miniproxy_addr world_nowhere(int family, uint8_t last, uint16_t port);
void world_move_nowhere(uint8_t last);
int world_peer_to(const struct miniproxy_addr *to);
int world_peer_fd(int peer);

/* Names:
 *   known.test 127.0.0.1 and ::1     other.test 127.0.0.2          both.test 127.0.0.4, .5, fd00::4
 *   slow.test 127.0.0.3, held        heldN.test 127.0.1.N, held    nN.test 127.0.2.N
 *   four.test 127.0.0.6, AAAA held   six.test fd00::6, no A        mapped.test ::ffff:127.0.0.9, no A
 *   failing.test never answered      any other: no such name
 */
void world_hold(bool on);
/* Ask a server that is not there, and the one that is when it does not answer; or that one at once. */
void world_ask_the_dead_first(bool on);
unsigned world_queries(void); /* answered or held so far */
unsigned world_held(void);

/* lwIP's memory: blocks allocated now; from now on every nth allocation fails (0: none), or all but `budget` bytes. */
unsigned world_blocks(void);
void world_starve_memory(unsigned nth, size_t budget);

/* Run a function with the core locked, or in lwIP's thread. */
void world_locked(void (*work)(void *), void *data);
unsigned world_pcbs(void); /* TCP PCBs but listening ones */
unsigned world_sockets_open(void);

/* Sockets until there are no more. */
void world_starve_sockets(bool on);

#endif
