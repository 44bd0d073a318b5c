/* SPDX-License-Identifier: MIT
 *
 * What the console says: a line for each transaction, and counters when asked.
 */
#ifndef LOG_H
#define LOG_H

#include "miniproxy.h"

/* For struct miniproxy_config.event. */
void log_event(void *app, const struct miniproxy_event *event);

/* Counters of the proxy and of lwIP, the deepest use of every pool and of the stack. */
void log_counters(const struct miniproxy *proxy);

/* What came in by the console: "c" asks for the counters. */
void log_commands(const struct miniproxy *proxy);

/* The address, once known and whenever it has changed. */
void log_address(uint16_t port);

#endif
