/* SPDX-License-Identifier: MIT
 *
 * Two lwIPs in one program: the port's, with a netif at 10.0.0.1 and fd00::1, and the peers' (peer/peer.h), and a wire
 * between them that can lose, delay and reorder. Time is virtual, chance comes from a seed: every run can be repeated.
 */
#ifndef WIRE_H
#define WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wire_faults {
    unsigned loss;       /* per mille */
    unsigned copies;     /* per mille that arrive twice */
    uint32_t delay_us;   /* at least */
    uint32_t jitter_us;  /* random, on top: it reorders */
};

struct wire_counts {
    uint32_t packets[2];   /* sent by the port, by peers */
    uint32_t lost;         /* on the wire */
    uint32_t no_pbuf;      /* could not be received: the pool was empty */
    uint32_t small_spared; /* received all the same, in the heap */
};

extern struct wire_faults wire_faults; /* both ways */
extern struct wire_counts wire_counts;
extern bool wire_small_from_heap; /* the netif takes frames of up to 64 octets from the heap when the pool is empty */

void wire_begin(uint32_t seed);
void wire_seed(uint32_t seed);
uint32_t wire_now_ms(void);
uint32_t wire_rand(uint32_t limit); /* 0..limit-1 */

/* The link of the port's stack; without one it has no route. */
void wire_link(bool up);
/* Let both stacks work for that time. */
void wire_run_us(uint32_t us);

/* Send a packet to the port as if it came from a peer. */
void wire_inject(const void *packet, size_t len);
/* Sees what the port has sent, as it arrives, before the peers do; may be NULL. */
extern void (*wire_tap)(const uint8_t *packet, size_t len);

#endif
