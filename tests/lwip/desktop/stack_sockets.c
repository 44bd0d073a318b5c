/* SPDX-License-Identifier: MIT
 *
 * The sockets port: lwIP's thread, a thread that brings frames, and the thread of the proxy. contrib's sys_arch.c is
 * the operating system.
 */
#define _DEFAULT_SOURCE
#include "stack_lwip.h"

#include "port/miniproxy_lwip_sockets.h"

#include "lwip/sys.h"
#include "lwip/tcpip.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

static struct miniproxy_lwip_sockets sockets;
static struct miniproxy_lwip_sockets_syslog syslog;
static pthread_t receiver;
static int stop_fd = -1;

const struct miniproxy_port *const stack_port = &miniproxy_lwip_sockets_port;
void *const stack_port_data = &sockets;

static void *receive(void *unused)
{
    struct pollfd polled[2] = {{.fd = stack_cable_fd(), .events = POLLIN}, {.fd = stop_fd, .events = POLLIN}};

    for (;;) {
        if (poll(polled, 2, -1) < 0) continue;
        if (polled[1].revents != 0) return unused;
        while (stack_take_frame()) {
        }
    }
}

static void initialised(void *semaphore)
{
    sys_sem_signal(semaphore);
}

bool stack_begin(const struct stack_net *net, struct miniproxy *proxy)
{
    sys_sem_t done;
    bool ok;

    if (sys_sem_new(&done, 0) != ERR_OK) return false;
    stack_seed();
    tcpip_init(initialised, &done);
    sys_sem_wait(&done);
    sys_sem_free(&done);
    stop_fd = eventfd(0, EFD_CLOEXEC);
    LOCK_TCPIP_CORE();
    ok = stop_fd >= 0 && stack_plug_in(net, tcpip_input);
    UNLOCK_TCPIP_CORE();
    ok = ok && pthread_create(&receiver, NULL, receive, NULL) == 0;
    return ok && miniproxy_lwip_sockets_init(&sockets, proxy);
}

int stack_listen(const struct miniproxy_addr *at)
{
    return miniproxy_lwip_sockets_listen(&sockets, at);
}

void stack_stop_listening(void)
{
    miniproxy_lwip_sockets_stop_listening(&sockets);
}

void stack_wait(uint32_t wait_ms)
{
    miniproxy_lwip_sockets_wait(&sockets, wait_ms);
}

uint32_t stack_syslog(const struct miniproxy_addr *to, const char *line, size_t len)
{
    if (syslog.pcb == NULL && !miniproxy_lwip_sockets_syslog_open(&syslog, to)) return 1;
    miniproxy_lwip_sockets_syslog_send(&syslog, line, len);
    return syslog.dropped;
}

void stack_interrupt(void)
{
    miniproxy_lwip_sockets_interrupt(&sockets);
}

void stack_flush_names(void)
{
    LOCK_TCPIP_CORE();
    stack_age_names();
    UNLOCK_TCPIP_CORE();
}

/* What was closed is on its way in lwIP's own thread meanwhile. */
static void wait_for_delivery(void)
{
    uint32_t start_ms = sys_now();
    bool more = true;

    while (more && sys_now() - start_ms < stack_deliver_ms()) {
        LOCK_TCPIP_CORE();
        more = stack_delivering();
        UNLOCK_TCPIP_CORE();
        if (more) usleep(5000);
    }
}

void stack_end(void)
{
    static const uint64_t one = 1;

    miniproxy_lwip_sockets_syslog_close(&syslog);
    miniproxy_lwip_sockets_end(&sockets);
    wait_for_delivery();
    if (write(stop_fd, &one, sizeof one) < 0) return;
    pthread_join(receiver, NULL);
    LOCK_TCPIP_CORE();
    stack_unplug();
    UNLOCK_TCPIP_CORE();
    close(stop_fd);
}
