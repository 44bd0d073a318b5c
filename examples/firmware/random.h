/* SPDX-License-Identifier: MIT
 *
 * Random numbers for TCP's sequence numbers, ports and DNS ids: what makes it hard to forge packets from afar.
 *
 * SHA-256 over a secret state. It is as good as what was mixed in at start, and no better: a board without a random
 * source gives its MAC address and the time of a few events, which somebody who knows the device can guess. A product
 * mixes in what it has: a hardware generator, noise of an ADC, the start-up content of SRAM, a seed that is kept in
 * flash and replaced at every start. Not for keys.
 */
#ifndef RANDOM_H
#define RANDOM_H

#include <stddef.h>
#include <stdint.h>

void random_mix(const void *data, size_t len);
uint32_t random_u32(void);
void random_fill(void *out, size_t len);

/* RFC 6528: a clock, plus a secret function of both ends. */
uint32_t random_tcp_isn(uint32_t local, uint16_t local_port, uint32_t remote, uint16_t remote_port);

#endif
