/* SPDX-License-Identifier: MIT
 *
 * What the console says: a line for each transaction, and counters when asked.
 */
#ifndef LOG_H
#define LOG_H

#include "miniproxy.h"

/* For struct miniproxy_config.event. */
void log_event(void *app, const struct miniproxy_event *event);

/* Counters of the proxy, of TLS and of lwIP, the deepest use of every pool and of the stack. */
void log_counters(const struct miniproxy *proxy);

/* How often each rule of the policy decided, by the numbers of the log; -1: none did. */
void log_hits(void);

/* What /metrics has of the board: pools of lwIP, stack, frames, time since the start. */
void log_metrics(struct miniproxy_config *config);

/* What came in by the console: "c" asks for the counters, "h" for the hits, "m" begins maintenance or ends it. */
void log_commands(struct miniproxy *proxy);

/* The address, once known and whenever it has changed. */
void log_address(uint16_t port);

#endif
