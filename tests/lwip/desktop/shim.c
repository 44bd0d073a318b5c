/* SPDX-License-Identifier: MIT
 *
 * The API of port/miniproxy_posix.h on top of lwIP, for the desktop program.
 *
 * Its options speak of this machine, but the stack is another host at the end of a cable. So addresses are exchanged
 * between the program and the port:
 *
 *   listen on a loopback address     the stack's own address
 *   listen on an unspecified one     the same: all addresses of the stack
 *   connect to a listener as it was  the stack's own address and that port, so that it is the port under test that has
 *   asked for                        to recognise it
 *   connect to ::1                   the kernel's end of the cable, for Linux lets ::1 come from no cable; 127.0.0.0/8
 *                                    it does let through
 *   accept from there                ::1, likewise
 */
#define _GNU_SOURCE
#include "port/miniproxy_posix.h"

#include "stack.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static struct stack_net net;
static bool begun;

/* ---- Addresses */

static size_t addr_len(const struct miniproxy_addr *a)
{
    return a->family == 4 ? 4 : MINIPROXY_IP_LEN;
}

static bool is_unspecified(const struct miniproxy_addr *a)
{
    static const uint8_t zeros[MINIPROXY_IP_LEN];

    return memcmp(a->ip, zeros, addr_len(a)) == 0;
}

static bool is_loopback(const struct miniproxy_addr *a)
{
    static const uint8_t one6[MINIPROXY_IP_LEN] = {[MINIPROXY_IP_LEN - 1] = 1};

    if (a->family == 4) return a->ip[0] == 127;
    return memcmp(a->ip, one6, MINIPROXY_IP_LEN) == 0;
}

static bool is_same_host(const struct miniproxy_addr *a, const struct miniproxy_addr *b)
{
    return a->family == b->family && memcmp(a->ip, b->ip, addr_len(a)) == 0;
}

static struct miniproxy_addr with_port(const struct miniproxy_addr *a, uint16_t port)
{
    struct miniproxy_addr result = *a;

    result.port = port;
    return result;
}

static const struct miniproxy_addr *own_address(const struct miniproxy_addr *of_family)
{
    return of_family->family == 4 ? &net.ip4 : &net.ip6;
}

static bool leads_to_listener(const struct miniproxy_posix *posix, const struct miniproxy_addr *to)
{
    if (!is_loopback(to)) return false;
    for (unsigned i = 0; i < posix->listeners_used; i++) {
        const struct miniproxy_addr *at = &posix->listeners[i];

        if (at->port != to->port || at->family != to->family) continue;
        if (is_same_host(at, to) || is_unspecified(at)) return true;
    }
    return false;
}

static struct miniproxy_addr outside(const struct miniproxy_posix *posix, const struct miniproxy_addr *to)
{
    if (leads_to_listener(posix, to)) return with_port(own_address(to), to->port);
    if (to->family == 6 && is_loopback(to)) return with_port(&net.gw6, to->port);
    return *to;
}

/* ---- The port table */

static int shim_accept(void *port, struct miniproxy_conn *c, struct miniproxy_addr *peer)
{
    int result = stack_port->accept(stack_port_data, c, peer);

    (void)port;
    if (result == MINIPROXY_OK && is_same_host(peer, &net.gw6)) {
        memset(peer->ip, 0, sizeof peer->ip);
        peer->ip[MINIPROXY_IP_LEN - 1] = 1;
    }
    return result;
}

static int shim_resolve(void *port, struct miniproxy_conn *c, const char *host, struct miniproxy_addr *out, int max)
{
    (void)port;
    return stack_port->resolve(stack_port_data, c, host, out, max);
}

static int shim_connect(void *port, struct miniproxy_conn *c, const struct miniproxy_addr *to)
{
    struct miniproxy_addr there = outside(port, to);

    return stack_port->connect(stack_port_data, c, &there);
}

static int shim_recv(void *port, struct miniproxy_conn *c, void *buf, size_t len)
{
    (void)port;
    return stack_port->recv(stack_port_data, c, buf, len);
}

static int shim_send(void *port, struct miniproxy_conn *c, const void *buf, size_t len)
{
    (void)port;
    return stack_port->send(stack_port_data, c, buf, len);
}

static int shim_finish(void *port, struct miniproxy_conn *c)
{
    (void)port;
    return stack_port->finish(stack_port_data, c);
}

static void shim_close(void *port, struct miniproxy_conn *c, bool hard)
{
    (void)port;
    stack_port->close(stack_port_data, c, hard);
}

static int shim_relay(void *port, struct miniproxy_conn *from, struct miniproxy_conn *to, size_t max)
{
    (void)port;
    return stack_port->relay(stack_port_data, from, to, max);
}

struct miniproxy_port miniproxy_posix_port = {
    .accept = shim_accept,
    .resolve = shim_resolve,
    .connect = shim_connect,
    .recv = shim_recv,
    .send = shim_send,
    .finish = shim_finish,
    .close = shim_close,
};

/* ---- The API */

bool miniproxy_posix_init(struct miniproxy_posix *posix, struct miniproxy *proxy)
{
    errno = ENOTSUP; /* --workers: a second instance would need a second stack */
    if (begun) return false;
    errno = ENODEV;
    if (!stack_net_read(&net) || !stack_begin(&net, proxy)) return false;
    begun = true;
    posix->proxy = proxy;
    if (stack_port->relay != NULL) miniproxy_posix_port.relay = shim_relay;
    return true;
}

int miniproxy_posix_listen(struct miniproxy_posix *posix, const struct miniproxy_addr *at, bool share)
{
    struct miniproxy_addr there = is_loopback(at) ? with_port(own_address(at), at->port) : *at;
    int port;

    errno = share ? ENOTSUP : ENOSPC;
    if (share || posix->listeners_used == MINIPROXY_POSIX_LISTENERS) return -1;
    port = stack_listen(&there);
    /* lwIP 2.2.1 may begin with the last port there is, and finds none behind it; then it begins again */
    if (port < 0 && there.port == 0) port = stack_listen(&there);
    errno = EADDRINUSE;
    if (port < 0) return -1;
    posix->listeners[posix->listeners_used++] = with_port(at, (uint16_t)port);
    return port;
}

void miniproxy_posix_stop_listening(struct miniproxy_posix *posix)
{
    posix->listeners_used = 0;
    stack_stop_listening();
}

uint32_t miniproxy_posix_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint32_t)((uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u);
}

void miniproxy_posix_wait(struct miniproxy_posix *posix, uint32_t wait_ms)
{
    (void)posix;
    stack_wait(wait_ms);
}

void miniproxy_posix_interrupt(struct miniproxy_posix *posix)
{
    (void)posix;
    stack_interrupt();
}

void miniproxy_posix_flush_names(struct miniproxy_posix *posix)
{
    (void)posix;
    stack_flush_names();
}

void miniproxy_posix_end(struct miniproxy_posix *posix)
{
    posix->proxy = NULL;
    stack_end();
}

/* ---- Syslog */

/* The stack is not there yet, nor is the address of the kernel's end. */
bool miniproxy_posix_syslog_open(struct miniproxy_posix_syslog *syslog, const struct miniproxy_addr *to)
{
    syslog->to = *to;
    return true;
}

void miniproxy_posix_syslog_send(struct miniproxy_posix_syslog *syslog, const char *line, size_t len)
{
    bool is_here = syslog->to.family == 6 && is_loopback(&syslog->to);
    struct miniproxy_addr there = is_here ? with_port(&net.gw6, syslog->to.port) : syslog->to;

    syslog->dropped = stack_syslog(&there, line, len);
}
