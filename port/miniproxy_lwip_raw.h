/* SPDX-License-Identifier: MIT
 *
 * miniproxy on lwIP's raw API: no operating system needed (NO_SYS 1). All calls come from the loop that also feeds the
 * netif and calls sys_check_timeouts(). port/README.md has the notes and the memory that lwIP needs for it.
 */
#ifndef MINIPROXY_LWIP_RAW_H
#define MINIPROXY_LWIP_RAW_H

#include "miniproxy.h"

struct miniproxy_lwip_raw;

/* The table for struct miniproxy_config.port; port_data is the struct miniproxy_lwip_raw. */
extern const struct miniproxy_port miniproxy_lwip_raw_port;

/* Prepare, after lwip_init and before miniproxy_init. *raw must be zeroed; it belongs to the caller (static storage). */
void miniproxy_lwip_raw_init(struct miniproxy_lwip_raw *raw, struct miniproxy *proxy);

/* Listen on an address of this device, or with family 0 on all of them. The port that was bound (of interest when 0 was
 * asked for), or -1: no PCB is left, or the address is in use. */
int miniproxy_lwip_raw_listen(struct miniproxy_lwip_raw *raw, const struct miniproxy_addr *at);

/* Close the listeners: for a drain. */
void miniproxy_lwip_raw_stop_listening(struct miniproxy_lwip_raw *raw);

/* After miniproxy_stop. */
void miniproxy_lwip_raw_end(struct miniproxy_lwip_raw *raw);

#endif
