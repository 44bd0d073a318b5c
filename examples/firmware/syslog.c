/* SPDX-License-Identifier: MIT */
#include "syslog.h"

#ifdef FIRMWARE_SYSLOG

#include <string.h>

#include "console.h"
#include "cpu.h"
#include "port/miniproxy_log.h"
#include "port/miniproxy_watch.h"

#if NO_SYS
#include "port/miniproxy_lwip_raw.h"
static struct miniproxy_lwip_raw_syslog server;
#define OPEN miniproxy_lwip_raw_syslog_open
#define SEND miniproxy_lwip_raw_syslog_send
#else
#include "port/miniproxy_lwip_sockets.h"
static struct miniproxy_lwip_sockets_syslog server;
#define OPEN miniproxy_lwip_sockets_syslog_open
#define SEND miniproxy_lwip_sockets_syslog_send
#endif

/* More than a server must take and less than it should (RFC 5424 section 6.1); what a session keeps of a target fits. */
enum { LINE_MAX = 640, FACILITY_LOCAL0 = 16 };

static char line[LINE_MAX];
static struct miniproxy_log style = {.format = &miniproxy_log_syslog, .facility = FACILITY_LOCAL0};
static struct miniproxy_watch watch;
static const struct miniproxy_log_time unknown; /* these boards have no clock: the server knows when a line came */

static void on_alert(void *app, const struct miniproxy_alert *alert)
{
    static const struct miniproxy_log words = {.format = &miniproxy_log_words};
    (void)app;
    SEND(&server, line, miniproxy_log_alert(&style, &unknown, alert, line, sizeof line));
    console_write(line, miniproxy_log_alert(&words, &unknown, alert, line, sizeof line));
    console_printf("\n");
}

void syslog_start(const char *name)
{
    static const struct miniproxy_watch_config thresholds = {.server_errors = 20,
                                                             .client_errors = 50,
                                                             .least = 50,
                                                             .sessions = 100,
                                                             .buffers = 100,
                                                             .logins = 5,
                                                             .hops = true,
                                                             .alert = on_alert};
    struct miniproxy_addr to = {.port = FIRMWARE_SYSLOG_PORT};
    if (!miniproxy_addr_parse(&to, FIRMWARE_SYSLOG, strlen(FIRMWARE_SYSLOG)) || !OPEN(&server, &to))
        cpu_panic("no syslog");
    style.host = name;
    miniproxy_watch_init(&watch, &thresholds);
}

void syslog_event(const struct miniproxy_event *event)
{
    size_t len = miniproxy_log_event(&style, &unknown, event, line, sizeof line);
    if (len > 0) SEND(&server, line, len);
    miniproxy_watch_event(&watch, event, cpu_now_ms());
}

uint32_t syslog_poll(const struct miniproxy *proxy, uint32_t now_ms)
{
    const struct miniproxy_counters *c = miniproxy_counters(proxy);
    miniproxy_watch_usage(&watch, c->active, MINIPROXY_SESSIONS, c->buffers, MINIPROXY_BUFFERS);
    return miniproxy_watch_poll(&watch, now_ms);
}

#endif
