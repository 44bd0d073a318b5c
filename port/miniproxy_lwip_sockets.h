/* SPDX-License-Identifier: MIT
 *
 * miniproxy on lwIP's sockets (NO_SYS 0): FreeRTOS, ESP-IDF, STM32Cube and other systems that run lwIP in a thread of
 * its own. All calls come from the one task that runs the proxy. port/README.md has the notes.
 */
#ifndef MINIPROXY_LWIP_SOCKETS_H
#define MINIPROXY_LWIP_SOCKETS_H

#include "miniproxy.h"

#include "lwip/ip_addr.h"
#include "lwip/opt.h"

/* 1: wait with lwip_select, for stacks without poll. 0: with lwip_poll. */
#ifndef MINIPROXY_LWIP_SOCKETS_SELECT
#define MINIPROXY_LWIP_SOCKETS_SELECT (!LWIP_SOCKET_POLL)
#endif

/* Addresses an instance may listen on. Range 1..8. */
#ifndef MINIPROXY_LWIP_SOCKETS_LISTENERS
#define MINIPROXY_LWIP_SOCKETS_LISTENERS 1
#endif

/* Connections of a listener that wait to be accepted; each holds a netconn. More SYNs are ignored, and clients repeat
 * them. No more than the boxes of the system's sys_arch really hold. Range 1..255. */
#ifndef MINIPROXY_LWIP_SOCKETS_BACKLOG
#if DEFAULT_ACCEPTMBOX_SIZE < 4
#define MINIPROXY_LWIP_SOCKETS_BACKLOG DEFAULT_ACCEPTMBOX_SIZE
#else
#define MINIPROXY_LWIP_SOCKETS_BACKLOG 4
#endif
#endif

/* Queries to lwIP's resolver at the same time, shared by all instances; a name takes one, or two with IPv6. More names
 * wait. Range 1..250. About 40 bytes each; more than lwIP can hold are of no use. */
#ifndef MINIPROXY_LWIP_SOCKETS_QUERIES
#define MINIPROXY_LWIP_SOCKETS_QUERIES DNS_TABLE_SIZE
#endif

/* Seconds after a close in which what was sent may still be delivered; then it is a reset. Range 1..3600. */
#ifndef MINIPROXY_LWIP_SOCKETS_LINGER_S
#define MINIPROXY_LWIP_SOCKETS_LINGER_S 60
#endif

struct miniproxy_lwip_sockets;

/* The table for struct miniproxy_config.port; port_data is the struct miniproxy_lwip_sockets. */
extern const struct miniproxy_port miniproxy_lwip_sockets_port;

/* Prepare, after tcpip_init and before miniproxy_init. *sockets must be zeroed; it belongs to the caller (static
 * storage). False: no memory for what it needs in the stack (a socket, a netconn and a UDP PCB), or lwIP was compiled
 * with other values of POLLIN and POLLOUT than the port. */
bool miniproxy_lwip_sockets_init(struct miniproxy_lwip_sockets *sockets, struct miniproxy *proxy);

/* Listen on an address of this device, or with family 0 on all of them. The port that was bound (of interest when 0 was
 * asked for), or -1: no PCB is left, or the address is in use. */
int miniproxy_lwip_sockets_listen(struct miniproxy_lwip_sockets *sockets, const struct miniproxy_addr *at);

/* Sleep until there is something to do, at most wait_ms (what miniproxy_poll returned; 0: not at all), and wake
 * what became ready. */
void miniproxy_lwip_sockets_wait(struct miniproxy_lwip_sockets *sockets, uint32_t wait_ms);

/* End a sleep, from any thread. Not from an interrupt handler. */
void miniproxy_lwip_sockets_interrupt(struct miniproxy_lwip_sockets *sockets);

/* Close the listeners: for a drain. */
void miniproxy_lwip_sockets_stop_listening(struct miniproxy_lwip_sockets *sockets);

/* After miniproxy_stop. Does not wait for queries under way. */
void miniproxy_lwip_sockets_end(struct miniproxy_lwip_sockets *sockets);

/* Lines for a syslog server, by UDP (RFC 5426): one datagram each, from one thread at a time; it may be in
 * struct miniproxy_config.event. A line that does not fit into TCP_MSS is cut, so that none is fragmented. What lwIP does
 * not take at once is dropped and counted. Takes a UDP PCB, and no socket. */
struct miniproxy_lwip_sockets_syslog {
    struct udp_pcb *pcb; /* NULL: not open */
    ip_addr_t to;
    uint16_t port;
    uint32_t dropped;
};

/* False: no PCB is left, or this build does not have the family. */
bool miniproxy_lwip_sockets_syslog_open(struct miniproxy_lwip_sockets_syslog *syslog, const struct miniproxy_addr *to);
void miniproxy_lwip_sockets_syslog_send(struct miniproxy_lwip_sockets_syslog *syslog, const char *line, size_t len);
void miniproxy_lwip_sockets_syslog_close(struct miniproxy_lwip_sockets_syslog *syslog);

/* ---- Private ---- */

struct miniproxy_lwip_sockets_listener {
    int fd;
    uint16_t port;
    uint8_t family; /* 0: both */
};

struct miniproxy_lwip_sockets {
    struct miniproxy *proxy;
    int wake_fd; /* a socket that is never used but for its events */
    uint16_t open_used;
    uint8_t listeners_used, listener_next;
    uint8_t accept_ready; /* one bit a listener: accept has not yet said that nothing is pending */
    bool woken;           /* guarded by the stack's core lock */
    bool look_again;      /* a name waits for something of which no event tells */
    struct miniproxy_lwip_sockets_listener listeners[MINIPROXY_LWIP_SOCKETS_LISTENERS];
    struct miniproxy_conn *open[MINIPROXY_CONNS]; /* connections with a socket or a name that is looked up */
};

#endif
