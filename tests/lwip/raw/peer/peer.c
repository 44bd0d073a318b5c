/* SPDX-License-Identifier: MIT */
#include "peer.h"

#include "miniproxy.h"

#include "lwip/init.h"
#include "lwip/netif.h"
#include "lwip/tcp.h"
#include "lwip/timeouts.h"
#include "lwip/udp.h"

#include <stdio.h>
#include <string.h>

enum { PEERS_MAX = 400, QUEUE_MAX = 64, HELD_MAX = 128, QUESTION_MAX = 300 };

struct peer {
    bool used, eof, lost;
    bool fin_due;
    struct tcp_pcb *pcb; /* or the listening one */
    bool listens;
    struct pbuf *in;
    uint16_t taken;       /* of the first pbuf in `in` */
    int queue[QUEUE_MAX]; /* of a listener */
    int queued;
    uint16_t port;
};

static struct peer peers[PEERS_MAX];
static struct netif netif;
static u8_t ext_arg;
static void (*send_packet)(const void *packet, size_t len);

/* ---- Network ---- */

static err_t output(struct pbuf *p)
{
    static uint8_t packet[2000];

    if (p->tot_len > sizeof packet) abort();
    pbuf_copy_partial(p, packet, p->tot_len, 0);
    send_packet(packet, p->tot_len);
    return ERR_OK;
}

static err_t output_ip4(struct netif *n, struct pbuf *p, const ip4_addr_t *to)
{
    (void)n;
    (void)to;
    return output(p);
}

static err_t output_ip6(struct netif *n, struct pbuf *p, const ip6_addr_t *to)
{
    (void)n;
    (void)to;
    return output(p);
}

static err_t netif_begin(struct netif *n)
{
    n->mtu = 1500;
    n->output = output_ip4;
    n->output_ip6 = output_ip6;
    n->name[0] = 'p';
    return ERR_OK;
}

static ip_addr_t address(int family, unsigned last)
{
    ip_addr_t ip;

    if (family == 4) IP_ADDR4(&ip, 10, 0, 0, (uint8_t)last);
    else IP_ADDR6(&ip, PP_HTONL(0xfd000000), 0, 0, lwip_htonl(last));
    return ip;
}

void peer_input(const void *packet, size_t len)
{
    struct pbuf *p = pbuf_alloc(PBUF_RAW, (u16_t)len, PBUF_POOL);

    if (p == NULL) abort();
    pbuf_take(p, packet, (u16_t)len);
    if (netif.input(p, &netif) != ERR_OK) pbuf_free(p);
}

/* Nothing may wait to be sent: lwIP 2.2.1, when it has to divide the last segment, sends the FIN with either part. */
static void send_fin(struct peer *p)
{
    if (!p->fin_due || p->pcb == NULL || p->pcb->unsent != NULL) return;
    p->fin_due = false;
    tcp_shutdown(p->pcb, 0, 1);
}

void peer_timers(void)
{
    sys_check_timeouts();
    for (int i = 0; i < PEERS_MAX; i++) send_fin(&peers[i]);
}

/* ---- Connections ---- */

static int new_peer(struct tcp_pcb *pcb)
{
    int i = 0;

    while (i < PEERS_MAX && peers[i].used) i++;
    if (i == PEERS_MAX || pcb == NULL) abort();
    peers[i] = (struct peer){.used = true, .pcb = pcb};
    return i;
}

static err_t on_recv(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t err)
{
    struct peer *peer = arg;

    (void)pcb;
    (void)err;
    if (p == NULL) {
        peer->eof = true;
    } else if (peer->in == NULL) {
        peer->in = p;
    } else {
        pbuf_cat(peer->in, p);
    }
    return ERR_OK;
}

static void on_err(void *arg, err_t err)
{
    struct peer *peer = arg;

    if (err != ERR_CLSD) peer->lost = true;
}

static void on_free(u8_t id, void *arg)
{
    struct peer *peer = arg;

    (void)id;
    peer->pcb = NULL;
}

static void attach(int peer)
{
    static const struct tcp_ext_arg_callbacks callbacks = {.destroy = on_free};
    struct tcp_pcb *pcb = peers[peer].pcb;

    peers[peer].port = pcb->local_port;
    tcp_arg(pcb, &peers[peer]);
    tcp_recv(pcb, on_recv);
    tcp_err(pcb, on_err);
    tcp_nagle_disable(pcb);
    tcp_ext_arg_set_callbacks(pcb, ext_arg, &callbacks);
    tcp_ext_arg_set(pcb, ext_arg, &peers[peer]);
}

static err_t on_accept(void *arg, struct tcp_pcb *pcb, err_t err)
{
    struct peer *listener = arg;
    int peer;

    if (err != ERR_OK || listener == NULL || listener->queued == QUEUE_MAX) return ERR_MEM;
    peer = new_peer(pcb);
    attach(peer);
    listener->queue[listener->queued++] = peer;
    return ERR_OK;
}

int peer_connect_from(int family, uint16_t from, uint16_t port)
{
    ip_addr_t to = address(family, 1);
    int peer = new_peer(tcp_new_ip_type(IP_GET_TYPE(&to)));

    attach(peer);
    if (tcp_bind(peers[peer].pcb, NULL, from) != ERR_OK) abort();
    if (tcp_connect(peers[peer].pcb, &to, port, NULL) != ERR_OK) abort();
    peers[peer].port = peers[peer].pcb->local_port;
    return peer;
}

int peer_connect(int family, uint16_t port)
{
    return peer_connect_from(family, 0, port);
}

int peer_listen(int family, uint16_t *port)
{
    ip_addr_t at = address(family, 2);
    int peer = new_peer(tcp_new_ip_type(IP_GET_TYPE(&at)));

    if (tcp_bind(peers[peer].pcb, &at, 0) != ERR_OK) abort();
    peers[peer].pcb = tcp_listen(peers[peer].pcb);
    peers[peer].listens = true;
    *port = peers[peer].pcb->local_port;
    tcp_arg(peers[peer].pcb, &peers[peer]);
    tcp_accept(peers[peer].pcb, on_accept);
    return peer;
}

int peer_accept(int listener)
{
    struct peer *l = &peers[listener];
    int peer;

    if (l->queued == 0) return MINIPROXY_AGAIN;
    peer = l->queue[0];
    memmove(l->queue, l->queue + 1, (size_t)--l->queued * sizeof l->queue[0]);
    return peer;
}

uint16_t peer_port(int peer)
{
    return peers[peer].port;
}

int peer_send(int peer, const void *data, size_t len)
{
    struct tcp_pcb *pcb = peers[peer].pcb;

    if (pcb == NULL) return MINIPROXY_ERESET;
    if (len > tcp_sndbuf(pcb)) len = tcp_sndbuf(pcb);
    if (len == 0 || tcp_write(pcb, data, (u16_t)len, TCP_WRITE_FLAG_COPY) != ERR_OK) return MINIPROXY_AGAIN;
    tcp_output(pcb);
    return (int)len;
}

int peer_recv(int peer, void *data, size_t len)
{
    struct peer *p = &peers[peer];
    size_t got;

    if (p->in == NULL) return p->eof ? MINIPROXY_EOF : p->lost ? MINIPROXY_ERESET : MINIPROXY_AGAIN;
    got = pbuf_copy_partial(p->in, data, (u16_t)(len < 60000 ? len : 60000), p->taken);
    p->in = pbuf_free_header(p->in, (u16_t)got);
    if (p->pcb != NULL) tcp_recved(p->pcb, (u16_t)got);
    return (int)got;
}

void peer_finish(int peer)
{
    peers[peer].fin_due = true;
    send_fin(&peers[peer]);
}

void peer_reset(int peer)
{
    struct peer *p = &peers[peer];

    if (p->pcb != NULL && p->listens) tcp_close(p->pcb);
    else if (p->pcb != NULL) tcp_abort(p->pcb);
    if (p->in != NULL) pbuf_free(p->in);
    p->in = NULL;
    p->pcb = NULL;
    p->lost = true;
}

bool peer_is_reset(int peer)
{
    return peers[peer].lost;
}

void peer_clear(void)
{
    for (int i = 0; i < PEERS_MAX; i++) {
        if (!peers[i].used) continue;
        peer_reset(i);
        peers[i].used = false;
    }
    peer_hold_names(false);
}

/* ---- Names ---- */

struct held {
    uint8_t question[QUESTION_MAX];
    size_t len;
    uint16_t port;
};

static struct udp_pcb *dns;
static struct held held[HELD_MAX];
static unsigned held_count, questions;
static bool holding;

/* "a.b" of the question, its end as result. */
static size_t name_of(const uint8_t *question, size_t len, char name[QUESTION_MAX])
{
    size_t at = 12, n = 0;

    while (at < len && question[at] != 0) {
        uint8_t part = question[at++];

        if (n > 0) name[n++] = '.';
        for (uint8_t i = 0; i < part && at < len; i++) name[n++] = (char)question[at++];
    }
    name[n] = '\0';
    return at + 1;
}

static const struct {
    const char *name;
    uint8_t four, six; /* last octet of its addresses, 0: none */
    uint8_t slow;      /* families that can be held: 4, 6, or 10 for both */
} names[] = {
    {"known.test", 2, 0, 0}, {"other.test", 4, 0, 0}, {"six.test", 0, 2, 0},   {"both.test", 8, 8, 0},
    {"slow.test", 5, 0, 10}, {"slow4.test", 6, 6, 4}, {"slow6.test", 7, 7, 6}, {"sole6.test", 0, 10, 6},
};

enum { NAMES = sizeof names / sizeof names[0] };

static unsigned name_index(const char *name)
{
    unsigned i = 0;

    while (i < NAMES && strcmp(names[i].name, name) != 0) i++;
    return i;
}

/* Octets of the address, 0: none of this type, -1: no such name. */
static int look_up(const char *name, bool six, uint8_t ip[16])
{
    unsigned number, i = name_index(name);
    uint8_t last = i == NAMES ? 0 : six ? names[i].six : names[i].four;

    memset(ip, 0, 16);
    ip[0] = six ? 0xfd : 10;
    ip[six ? 15 : 3] = last;
    if (i < NAMES) return last == 0 ? 0 : six ? 16 : 4;
    if (sscanf(name, "n%u.test", &number) != 1) return -1;
    ip[2] = 1;
    ip[3] = (uint8_t)number;
    return six ? 0 : 4;
}

static bool is_held(const char *name, bool six)
{
    unsigned i = name_index(name);

    return holding && i < NAMES && (names[i].slow == 10 || names[i].slow == (six ? 6 : 4));
}

static void answer(const uint8_t *question, size_t len, uint16_t to_port)
{
    uint8_t reply[QUESTION_MAX + 40], ip[16];
    char name[QUESTION_MAX];
    size_t end = name_of(question, len, name) + 4;
    bool six = question[end - 3] == 28;
    int found = look_up(name, six, ip);
    ip_addr_t to = address(4, 1);
    struct pbuf *p;

    memcpy(reply, question, end);
    reply[2] = 0x81; /* a response, recursion desired */
    reply[3] = 0x80;
    if (strcmp(name, "broken.test") == 0) reply[3] |= 2;
    else if (found < 0) reply[3] |= 3;
    for (int i = 0; found > 0 && i < (!six && strcmp(name, "both.test") == 0 ? 2 : 1); i++) {
        const uint8_t record[12] = {0xc0,          12, 0, six ? 28 : 1, 0, 1, 0, 0, 0, name[0] == 's' ? 0 : 60, 0,
                                    (uint8_t)found};

        reply[7]++;
        memcpy(reply + end, record, 12);
        memcpy(reply + end + 12, ip, (size_t)found);
        end += 12 + (size_t)found;
        ip[3]++;
    }
    p = pbuf_alloc(PBUF_TRANSPORT, (u16_t)end, PBUF_RAM);
    pbuf_take(p, reply, (u16_t)end);
    udp_sendto(dns, p, &to, to_port);
    pbuf_free(p);
}

static void on_question(void *arg, struct udp_pcb *pcb, struct pbuf *p, const ip_addr_t *from, u16_t port)
{
    struct held q = {.len = p->tot_len, .port = port};
    char name[QUESTION_MAX];
    size_t end;

    (void)arg;
    (void)pcb;
    (void)from;
    if (p->tot_len > QUESTION_MAX) abort();
    pbuf_copy_partial(p, q.question, p->tot_len, 0);
    pbuf_free(p);
    questions++;
    end = name_of(q.question, q.len, name);
    if (strcmp(name, "failing.test") == 0) return;
    if (!is_held(name, q.question[end + 1] == 28)) answer(q.question, q.len, q.port);
    else if (held_count < HELD_MAX) held[held_count++] = q;
}

void peer_hold_names(bool on)
{
    holding = on;
    for (; !on && held_count > 0; held_count--)
        answer(held[held_count - 1].question, held[held_count - 1].len, held[held_count - 1].port);
}

unsigned peer_questions(void)
{
    return questions;
}

void peer_begin(void (*out)(const void *packet, size_t len))
{
    ip4_addr_t ip, mask, gateway;
    ip_addr_t six = address(6, 2);

    send_packet = out;
    lwip_init();
    ext_arg = tcp_ext_arg_alloc_id();
    IP4_ADDR(&ip, 10, 0, 0, 2);
    IP4_ADDR(&mask, 255, 255, 255, 0);
    IP4_ADDR(&gateway, 0, 0, 0, 0);
    netif_add(&netif, &ip, &mask, &gateway, NULL, netif_begin, ip_input);
    netif_set_default(&netif);
    netif_set_link_up(&netif);
    netif_set_up(&netif);
    netif_ip6_addr_set(&netif, 0, ip_2_ip6(&six));
    netif_ip6_addr_set_state(&netif, 0, IP6_ADDR_PREFERRED);
    dns = udp_new();
    udp_bind(dns, IP_ANY_TYPE, 53);
    udp_recv(dns, on_question, NULL);
}
