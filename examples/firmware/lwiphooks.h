/* SPDX-License-Identifier: MIT
 *
 * Where lwIP asks the product, see LWIP_HOOK_* in lwipopts.h.
 */
#ifndef LWIPHOOKS_H
#define LWIPHOOKS_H

#include <stdbool.h>

#include "random.h"

struct pbuf;
struct tcp_pcb;

/* Octets that have come for a connection: false drops them, and their peer will send them again. */
bool net_tcp_admits(const struct tcp_pcb *pcb, const struct pbuf *data);

#endif
