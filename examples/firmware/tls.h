/* SPDX-License-Identifier: MIT
 *
 * TLS for clients, where MINIPROXY_WITH_TLS is 1: a second port, TLS_PORT, beside the plain one. Without it nothing of
 * this is in the image.
 */
#ifndef TLS_H
#define TLS_H

#include "miniproxy.h"

enum { TLS_PORT = 3129 };

/* The index of the listener on TLS_PORT: the second that is opened. */
enum { TLS_LISTENER = 1 };

#if MINIPROXY_WITH_TLS

/* Put TLS between the port in *config and the core. Before miniproxy_init; panics if there is no true randomness, or no
 * certificate that can be read. */
void tls_start(struct miniproxy_config *config);

/* After each miniproxy_poll, with the time that it was given. Returns when both are due again, as that does. */
uint32_t tls_poll(uint32_t now_ms);

/* For log_counters. */
void tls_counters(void);

#else

static inline void tls_start(struct miniproxy_config *config)
{
    (void)config;
}

static inline uint32_t tls_poll(uint32_t now_ms)
{
    (void)now_ms;
    return MINIPROXY_FOREVER;
}

static inline void tls_counters(void) {}

#endif
#endif
