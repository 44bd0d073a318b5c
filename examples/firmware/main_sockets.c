/* SPDX-License-Identifier: MIT
 *
 * The proxy on lwIP's sockets. What is here is what a task of an RTOS does; the threads below it are those of
 * sys_arch.c.
 */
#include "board.h"
#include "console.h"
#include "cpu.h"
#include "log.h"
#include "net.h"
#include "policy.h"
#include "port/miniproxy_lwip_sockets.h"
#include "sys_arch.h"
#include "syslog.h"
#include "tls.h"

#include "lwip/sys.h"
#include "lwip/tcpip.h"

/* WAIT_MAX_MS: how often the watchdog is fed at least, and how long a command waits. */
enum { PORT = 3128, WATCHDOG_MS = 8000, WAIT_MAX_MS = 250 };

static struct miniproxy proxy;
static struct miniproxy_lwip_sockets port;

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* In lwIP's thread. */
static void network_up(void *done)
{
    net_start();
    sys_sem_signal(done);
}

/* Not inlined: its variables would stay on the stack for good. */
__attribute__((noinline)) static void start(void)
{
    static char name[NET_NAME_LEN];
    struct miniproxy_config config = {
        .port = &miniproxy_lwip_sockets_port, .port_data = &port, .policy = &policy, .name = name, .event = log_event};
    struct miniproxy_addr everywhere = {.port = PORT};
    sys_sem_t done;
    sys_sem_new(&done, 0);
    tcpip_init(network_up, &done);
    sys_sem_wait(&done);
    net_device_name(name);
    policy_logins(&config);
    log_metrics(&config);
    if (!miniproxy_lwip_sockets_init(&port, &proxy)) cpu_panic("no memory for the port");
    tls_start(&config);
    syslog_start(name);
    if (!miniproxy_init(&proxy, &config)) cpu_panic("invalid configuration");
    if (miniproxy_lwip_sockets_listen(&port, &everywhere) < 0) cpu_panic("cannot listen");
    everywhere.port = TLS_PORT;
    if (MINIPROXY_WITH_TLS && miniproxy_lwip_sockets_listen(&port, &everywhere) < 0) cpu_panic("cannot listen for TLS");
}

int main(void)
{
    console_printf("\nminiproxy " MINIPROXY_VERSION " on %s, %u sessions, lwIP sockets\n", board_name,
                   MINIPROXY_SESSIONS);
    start();
    board_watchdog_start(WATCHDOG_MS);
    for (;;) {
        uint32_t now_ms = cpu_now_ms(), wait_ms = miniproxy_poll(&proxy, now_ms);
        wait_ms = least(wait_ms, tls_poll(now_ms));
        wait_ms = least(wait_ms, syslog_poll(&proxy, now_ms));
        log_address(PORT);
        log_commands(&proxy);
        board_watchdog_feed();
        if (wait_ms == 0) sys_turn(); /* to the network's, during a slow login or a handshake */
        miniproxy_lwip_sockets_wait(&port, least(wait_ms, WAIT_MAX_MS));
    }
}
