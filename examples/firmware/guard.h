/* SPDX-License-Identifier: MIT
 *
 * What any peer could stop lwIP 2.2.1 with. Nothing here depends on board or product: every device that lwIP's assertions
 * end, or whose lwIP is built without them, wants both.
 */
#ifndef GUARD_H
#define GUARD_H

#include <stdbool.h>

struct pbuf;
struct tcp_hdr;
struct tcp_pcb;

/* For LWIP_HOOK_TCP_INPACKET_PCB: false drops the segment, which no honest peer sends. Mends the PCB of others. `options`:
 * octets behind the header, all of them in one pbuf with it. `data`: what follows. */
bool guard_tcp_admits(struct tcp_pcb *pcb, const struct tcp_hdr *header, unsigned options, const struct pbuf *data);

/* For TCP_OOSEQ_BYTES_LIMIT: mends the queue of segments behind a gap; the limit, which is the window. */
unsigned guard_tcp_ooseq_limit(struct tcp_pcb *pcb);

#endif
