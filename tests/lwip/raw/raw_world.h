/* SPDX-License-Identifier: MIT
 *
 * The world of the raw port: peers in another lwIP behind a wire, virtual time.
 */
#ifndef RAW_WORLD_H
#define RAW_WORLD_H

#include "peer/peer.h"
#include "port/miniproxy_lwip_raw.h"
#include "tests/port/conformance.h"
#include "wire.h"

extern struct miniproxy_lwip_raw raw;
extern struct conformance_world raw_world;

/* Start both stacks and the port, with its listeners. */
bool raw_world_begin(uint32_t seed);

uint16_t raw_world_port(void); /* where the port listens, both families */
struct miniproxy_addr raw_world_peer_at(int family, uint16_t port);

#endif
