/* SPDX-License-Identifier: MIT
 *
 * Where lwIP asks the product, see LWIP_HOOK_* in lwipopts.h.
 */
#ifndef LWIPHOOKS_H
#define LWIPHOOKS_H

#include <stdbool.h>

#include "random.h"

struct pbuf;
struct tcp_hdr;
struct tcp_pcb;

/* A segment for a connection or a listener: false drops it, and an honest peer will send it again. `options`: octets
 * behind the header; `split`: not all of them are in the first pbuf; `data`: what follows. */
bool net_tcp_admits(struct tcp_pcb *pcb, const struct tcp_hdr *header, unsigned options, bool split,
                    const struct pbuf *data);

#endif
