/* SPDX-License-Identifier: MIT
 *
 * lwIP under the desktop program: what shim.c needs of it. stack.c has what both ports share, stack_raw.c and
 * stack_sockets.c the rest. No header of lwIP is needed here.
 */
#ifndef STACK_H
#define STACK_H

#include "miniproxy.h"

enum { STACK_ROUTES_MAX = 32, STACK_NAME_MAX = 16 };

struct stack_route {
    struct miniproxy_addr net; /* IPv4 */
    unsigned bits;
};

/* How the stack is connected, from the environment variable MINIPROXY_NET: words NAME=VALUE.
 *
 *   tap=mp0                      tap device; it exists and belongs to one program at a time
 *   ip4=198.51.100.2/30          address of the stack, prefix
 *   gw4=198.51.100.1             its router
 *   ip6=fd00:0:0:1::2            the same for IPv6, with prefix 64; optional
 *   gw6=fd00:0:0:1::1
 *   dns=127.0.0.1                name server
 *   routes=127.0.0.0/8,…         IPv4 networks behind the router; everything else is unreachable
 *   pcbs=30                      TCP connections that the stack has memory for; optional
 */
struct stack_net {
    char tap[STACK_NAME_MAX];
    struct miniproxy_addr ip4, gw4, ip6, gw6, dns;
    unsigned bits4;
    unsigned pcbs; /* 0: what lwipopts.h says */
    unsigned route_count;
    struct stack_route routes[STACK_ROUTES_MAX];
};

/* False: a line on stderr has said what is wrong. */
bool stack_net_read(struct stack_net *net);

/* The port under test. Its data is valid from stack_begin on. */
extern const struct miniproxy_port *const stack_port;
extern void *const stack_port_data;

/* Start the stack and prepare the port for one instance. False: a line on stderr has said why. */
bool stack_begin(const struct stack_net *net, struct miniproxy *proxy);

/* The port that was bound, or -1. */
int stack_listen(const struct miniproxy_addr *at);
void stack_stop_listening(void);
void stack_wait(uint32_t wait_ms);

/* From any thread, and from signal handlers. */
void stack_interrupt(void);

/* Send a line to a syslog server, always the same one. How many were dropped so far. */
uint32_t stack_syslog(const struct miniproxy_addr *to, const char *line, size_t len);

/* From any thread: forget the names that lwIP remembers, before the next stack_wait returns. */
void stack_flush_names(void);

/* End the port, let lwIP deliver what was sent before the close, and report what is left over: one line on stderr,
 * "lwip: pcbs=0 segments=0 pbufs=0 blocks=0 ..." where all is well. */
void stack_end(void);

/* ---- memp.c: lwIP's pools, each element a block of its own, so that the sanitizers see every one. */

/* Elements of TCP connections from now on; 0 leaves the limit of lwipopts.h. */
void pools_limit_connections(unsigned limit);

struct pools_use {
    unsigned connections, listeners, segments, pbufs, sockets;
    unsigned blocks;  /* of the heap, pbufs with octets to send among them */
    unsigned refused; /* how often a pool was empty */
};

struct pools_use pools_use(void);

#endif
