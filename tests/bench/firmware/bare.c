/* SPDX-License-Identifier: MIT
 *
 * What lwIP can do on the same board without a proxy, to compare with: an echo on port 7, and on port 8 a relay to a port
 * of 10.0.2.2 that the client names in its first two octets. As one would write them: received octets are copied into the
 * other connection's queue, and the window opens as they are taken.
 *
 * The image is that of the proxy; the linker puts __wrap_lwip_init in place of lwip_init.
 */
#include "lwip/tcp.h"

#include <stdbool.h>

enum { ECHO_PORT = 7, RELAY_PORT = 8, LEGS = 8 };

/* One connection. */
struct leg {
    struct tcp_pcb *pcb;  /* NULL: free */
    struct leg *other;    /* where its octets go: itself for an echo */
    struct pbuf *waiting; /* received, not yet passed on */
    bool ended;           /* the peer has sent its FIN */
    bool connected;
};

static struct leg legs[LEGS];

static err_t on_recv(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t err);
static err_t on_sent(void *arg, struct tcp_pcb *pcb, u16_t len);
static void on_err(void *arg, err_t err);

static struct leg *leg_new(struct tcp_pcb *pcb)
{
    for (struct leg *l = legs; l < legs + LEGS; l++) {
        if (l->pcb != NULL) continue;
        *l = (struct leg){.pcb = pcb};
        tcp_arg(pcb, l);
        tcp_recv(pcb, on_recv);
        tcp_sent(pcb, on_sent);
        tcp_err(pcb, on_err);
        tcp_nagle_disable(pcb);
        return l;
    }
    return NULL;
}

static void drop(struct leg *l)
{
    if (l->waiting != NULL) pbuf_free(l->waiting);
    *l = (struct leg){0};
}

static void pass_on(struct leg *from)
{
    struct leg *to = from->other;
    if (to == NULL || !to->connected) return;
    while (from->waiting != NULL) {
        struct pbuf *p = from->waiting;
        u16_t n = p->len < tcp_sndbuf(to->pcb) ? p->len : tcp_sndbuf(to->pcb);
        if (n == 0 || tcp_write(to->pcb, p->payload, n, TCP_WRITE_FLAG_COPY) != ERR_OK) break;
        from->waiting = pbuf_free_header(p, n);
        if (from->pcb != NULL) tcp_recved(from->pcb, n);
    }
    tcp_output(to->pcb);
    if (from->ended && from->waiting == NULL) tcp_shutdown(to->pcb, 0, 1);
}

static err_t on_connected(void *arg, struct tcp_pcb *pcb, err_t err)
{
    struct leg *l = arg;
    (void)pcb;
    (void)err;
    l->connected = true;
    pass_on(l->other);
    return ERR_OK;
}

/* The first two octets are the port. */
static void start_relay(struct leg *client)
{
    ip_addr_t host;
    struct tcp_pcb *pcb;
    struct leg *origin;
    u16_t port;
    if (client->waiting->tot_len < 2) return;
    port = (u16_t)(pbuf_get_at(client->waiting, 0) << 8 | pbuf_get_at(client->waiting, 1));
    client->waiting = pbuf_free_header(client->waiting, 2);
    tcp_recved(client->pcb, 2);
    IP_ADDR4(&host, 10, 0, 2, 2);
    pcb = tcp_new();
    origin = pcb != NULL ? leg_new(pcb) : NULL;
    if (origin == NULL) return;
    origin->other = client;
    client->other = origin;
    tcp_connect(pcb, &host, port, on_connected);
}

static err_t on_recv(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t err)
{
    struct leg *l = arg;
    (void)err;
    if (p == NULL) {
        l->ended = true;
        pass_on(l);
        if (l->other != NULL && l->other->ended) { /* both ways have ended: lwIP sends the rest */
            struct tcp_pcb *other = l->other != l ? l->other->pcb : NULL;
            if (other != NULL) {
                tcp_arg(other, NULL);
                tcp_err(other, NULL);
                drop(l->other);
                tcp_close(other);
            }
            tcp_arg(pcb, NULL);
            tcp_err(pcb, NULL);
            drop(l);
            tcp_close(pcb);
        }
        return ERR_OK;
    }
    if (l->waiting == NULL) l->waiting = p;
    else pbuf_cat(l->waiting, p);
    if (l->other == NULL) start_relay(l);
    pass_on(l);
    return ERR_OK;
}

static err_t on_sent(void *arg, struct tcp_pcb *pcb, u16_t len)
{
    struct leg *l = arg;
    (void)pcb;
    (void)len;
    if (l != NULL && l->other != NULL) pass_on(l->other);
    return ERR_OK;
}

static void on_err(void *arg, err_t err)
{
    struct leg *l = arg, *other = l->other;
    (void)err;
    drop(l);
    if (other == NULL || other == l) return;
    other->other = NULL;
    tcp_abort(other->pcb); /* which comes back here */
}

static err_t on_accept(void *arg, struct tcp_pcb *pcb, err_t err)
{
    struct leg *l;
    if (pcb == NULL || err != ERR_OK) return ERR_VAL;
    l = leg_new(pcb);
    if (l == NULL) return ERR_MEM;
    l->connected = true;
    if (arg != NULL) l->other = l;
    return ERR_OK;
}

static void listen_on(u16_t port, bool echo)
{
    static bool marker;
    struct tcp_pcb *pcb = tcp_new();
    tcp_bind(pcb, IP_ADDR_ANY, port);
    pcb = tcp_listen(pcb);
    tcp_arg(pcb, echo ? &marker : NULL);
    tcp_accept(pcb, on_accept);
}

void __real_lwip_init(void);
void __wrap_lwip_init(void);

void __wrap_lwip_init(void)
{
    __real_lwip_init();
    listen_on(ECHO_PORT, true);
    listen_on(RELAY_PORT, false);
}
