/* SPDX-License-Identifier: MIT
 *
 * miniproxy on lwIP's sockets (NO_SYS 0): FreeRTOS, ESP-IDF, STM32Cube and other systems that run lwIP in a thread of its
 * own. All calls come from the one task that runs the proxy. port/README.md has the notes.
 */
#ifndef MINIPROXY_LWIP_SOCKETS_H
#define MINIPROXY_LWIP_SOCKETS_H

#include "miniproxy.h"

struct miniproxy_lwip_sockets;

/* The table for struct miniproxy_config.port; port_data is the struct miniproxy_lwip_sockets. */
extern const struct miniproxy_port miniproxy_lwip_sockets_port;

/* Prepare, after tcpip_init and before miniproxy_init. *sockets must be zeroed; it belongs to the caller (static storage).
 * False: no memory for what it needs in the stack. */
bool miniproxy_lwip_sockets_init(struct miniproxy_lwip_sockets *sockets, struct miniproxy *proxy);

/* Listen on an address of this device, or with family 0 on all of them. The port that was bound (of interest when 0 was
 * asked for), or -1: no PCB is left, or the address is in use. */
int miniproxy_lwip_sockets_listen(struct miniproxy_lwip_sockets *sockets, const struct miniproxy_addr *at);

/* Sleep until there is something to do, at most wait_ms (what miniproxy_poll returned), and wake what became ready. */
void miniproxy_lwip_sockets_wait(struct miniproxy_lwip_sockets *sockets, uint32_t wait_ms);

/* End a sleep, from any thread. */
void miniproxy_lwip_sockets_interrupt(struct miniproxy_lwip_sockets *sockets);

/* Close the listeners: for a drain. */
void miniproxy_lwip_sockets_stop_listening(struct miniproxy_lwip_sockets *sockets);

/* After miniproxy_stop. */
void miniproxy_lwip_sockets_end(struct miniproxy_lwip_sockets *sockets);

#endif
