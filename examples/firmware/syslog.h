/* SPDX-License-Identifier: MIT
 *
 * The log to a syslog server, by UDP, and alerts, which the console has too. With FIRMWARE_SYSLOG, the server's address as a
 * string; without it nothing is sent.
 */
#ifndef SYSLOG_H
#define SYSLOG_H

#include "miniproxy.h"

#ifndef FIRMWARE_SYSLOG_PORT
#define FIRMWARE_SYSLOG_PORT 514
#endif

#ifdef FIRMWARE_SYSLOG

/* When the port is prepared; name: of this device, static. */
void syslog_start(const char *name);
void syslog_event(const struct miniproxy_event *event);
/* After miniproxy_poll; returns the like. */
uint32_t syslog_poll(const struct miniproxy *proxy, uint32_t now_ms);

#else

static inline void syslog_start(const char *name)
{
    (void)name;
}

static inline void syslog_event(const struct miniproxy_event *event)
{
    (void)event;
}

static inline uint32_t syslog_poll(const struct miniproxy *proxy, uint32_t now_ms)
{
    (void)proxy, (void)now_ms;
    return MINIPROXY_FOREVER;
}

#endif

#endif
