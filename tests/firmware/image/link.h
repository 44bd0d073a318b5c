/* SPDX-License-Identifier: MIT
 *
 * A bad cable: frames get lost, come twice, or overtake each other. Off unless the environment asks for it:
 *
 *   MINIPROXY_LINK=lost=20,twice=10,late=10,seed=7      of 1000 frames; seed makes a run repeatable
 *
 * Frames that are sent are lost and doubled, those that come in are also late.
 */
#ifndef IMAGE_LINK_H
#define IMAGE_LINK_H

#include <stdint.h>

struct netif;

struct link_counters {
    uint32_t lost_in, lost_out, twice, late;
};
extern struct link_counters link_counters;

/* After net_start. */
void link_spoil(struct netif *netif);

/* From now on it is a good one. */
void link_mend(void);

#endif
