/* SPDX-License-Identifier: MIT
 *
 * The proxy without an operating system: one loop over lwIP's raw API. Frames, lwIP's timers, the proxy, sleep.
 */
#include "board.h"
#include "console.h"
#include "cpu.h"
#include "log.h"
#include "net.h"
#include "policy.h"
#include "port/miniproxy_lwip_raw.h"
#include "syslog.h"
#include "tls.h"

#include "lwip/init.h"
#include "lwip/timeouts.h"

/* SLEEP_MAX_MS: how often the watchdog is fed at least, and how long a command waits. */
enum { PORT = 3128, WATCHDOG_MS = 8000, SLEEP_MAX_MS = 250 };

static struct miniproxy proxy;
static struct miniproxy_lwip_raw port;

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Not inlined: its variables would stay on the stack for good. */
__attribute__((noinline)) static void start(void)
{
    static char name[NET_NAME_LEN];
    struct miniproxy_config config = {
        .port = &miniproxy_lwip_raw_port, .port_data = &port, .policy = &policy, .name = name, .event = log_event};
    struct miniproxy_addr everywhere = {.port = PORT};
    lwip_init();
    net_start();
    net_device_name(name);
    policy_logins(&config);
    log_metrics(&config);
    miniproxy_lwip_raw_init(&port, &proxy);
    tls_start(&config);
    syslog_start(name);
    if (!miniproxy_init(&proxy, &config)) cpu_panic("invalid configuration");
    if (miniproxy_lwip_raw_listen(&port, &everywhere) < 0) cpu_panic("cannot listen");
    everywhere.port = TLS_PORT;
    if (MINIPROXY_WITH_TLS && miniproxy_lwip_raw_listen(&port, &everywhere) < 0) cpu_panic("cannot listen for TLS");
}

int main(void)
{
    console_printf("\nminiproxy " MINIPROXY_VERSION " on %s, %u sessions, lwIP raw\n", board_name, MINIPROXY_SESSIONS);
    start();
    board_watchdog_start(WATCHDOG_MS);
    for (;;) {
        bool more = net_poll();
        uint32_t now_ms, wait_ms;
        sys_check_timeouts();
        now_ms = cpu_now_ms();
        wait_ms = miniproxy_poll(&proxy, now_ms);
        wait_ms = least(wait_ms, tls_poll(now_ms));
        wait_ms = least(wait_ms, syslog_poll(&proxy, now_ms));
        log_address(PORT);
        log_commands(&proxy);
        board_watchdog_feed();
        if (more || wait_ms == 0) continue;
        cpu_sleep(least(least(wait_ms, sys_timeouts_sleeptime()), SLEEP_MAX_MS), net_wanted);
    }
}
