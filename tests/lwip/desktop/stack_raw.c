/* SPDX-License-Identifier: MIT
 *
 * The raw port: everything happens in the thread that calls stack_wait.
 */
#include "stack_lwip.h"

#include "port/miniproxy_lwip_raw.h"

#include "lwip/init.h"
#include "lwip/sys.h"
#include "lwip/timeouts.h"
#include "netif/ethernet.h"

#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { FRAMES_AT_ONCE = 64 };

static struct miniproxy_lwip_raw raw;
static struct miniproxy_lwip_raw_syslog syslog;
static int wake_fd = -1;
static atomic_bool flush_asked;

const struct miniproxy_port *const stack_port = &miniproxy_lwip_raw_port;
void *const stack_port_data = &raw;

bool stack_begin(const struct stack_net *net, struct miniproxy *proxy)
{
    stack_seed();
    lwip_init();
    wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (wake_fd < 0 || !stack_plug_in(net, ethernet_input)) return false;
    miniproxy_lwip_raw_init(&raw, proxy);
    return true;
}

int stack_listen(const struct miniproxy_addr *at)
{
    return miniproxy_lwip_raw_listen(&raw, at);
}

void stack_stop_listening(void)
{
    miniproxy_lwip_raw_stop_listening(&raw);
}

static void sleep_until_something_comes(uint32_t wait_ms)
{
    struct pollfd polled[2] = {{.fd = stack_cable_fd(), .events = POLLIN}, {.fd = wake_fd, .events = POLLIN}};
    uint32_t timer_ms = sys_timeouts_sleeptime();
    uint64_t wakes;

    if (wait_ms > timer_ms) wait_ms = timer_ms;
    if (wait_ms > INT32_MAX) wait_ms = INT32_MAX;
    if (poll(polled, 2, (int)wait_ms) > 0 && polled[1].revents != 0)
        if (read(wake_fd, &wakes, sizeof wakes) < 0) return; /* somebody else's wake came first: there is one less */
}

void stack_wait(uint32_t wait_ms)
{
    sleep_until_something_comes(wait_ms);
    if (atomic_exchange(&flush_asked, false)) stack_age_names();
    for (int i = 0; i < FRAMES_AT_ONCE && stack_take_frame(); i++) {
    }
    sys_check_timeouts();
}

uint32_t stack_syslog(const struct miniproxy_addr *to, const char *line, size_t len)
{
    if (syslog.pcb == NULL && !miniproxy_lwip_raw_syslog_open(&syslog, to)) return 1;
    miniproxy_lwip_raw_syslog_send(&syslog, line, len);
    return syslog.dropped;
}

void stack_interrupt(void)
{
    static const uint64_t one = 1;

    if (write(wake_fd, &one, sizeof one) < 0) return; /* full: the wake is there already */
}

void stack_flush_names(void)
{
    atomic_store(&flush_asked, true);
    stack_interrupt();
}

void stack_end(void)
{
    uint32_t start_ms = sys_now();

    miniproxy_lwip_raw_syslog_close(&syslog);
    miniproxy_lwip_raw_end(&raw);
    while (stack_delivering() && sys_now() - start_ms < stack_deliver_ms()) stack_wait(20);
    stack_unplug();
    close(wake_fd);
}
