/* SPDX-License-Identifier: MIT */
#include "wire.h"

#include "peer/peer.h"

#include "lwip/dns.h"
#include "lwip/init.h"
#include "lwip/ip.h"
#include "lwip/netif.h"
#include "lwip/timeouts.h"

#include <string.h>

enum { PACKETS_MAX = 4096, PACKET_MAX = 1600 };

struct packet {
    uint64_t due_us, order;
    bool to_peers;
    uint16_t len;
    uint8_t data[PACKET_MAX];
};

struct wire_faults wire_faults;
struct wire_counts wire_counts;
bool wire_small_from_heap = true;
void (*wire_tap)(const uint8_t *packet, size_t len);

static struct packet *queue[PACKETS_MAX]; /* a heap, the next one first */
static unsigned queued;
static uint64_t now_us, order;
static uint32_t chance = 1;
static struct netif netif;

uint32_t test_rand(void);
uint32_t sys_now(void);

uint32_t test_rand(void)
{
    chance ^= chance << 13;
    chance ^= chance >> 17;
    chance ^= chance << 5;
    return chance;
}

uint32_t sys_now(void)
{
    return (uint32_t)(now_us / 1000u);
}

uint32_t wire_now_ms(void)
{
    return sys_now();
}

uint32_t wire_rand(uint32_t limit)
{
    return (uint32_t)((uint64_t)test_rand() * limit >> 32);
}

void wire_seed(uint32_t seed)
{
    chance = seed * 2654435761u | 1u;
    for (int i = 0; i < 8; i++) test_rand();
}

/* ---- The queue ---- */

static bool earlier(const struct packet *a, const struct packet *b)
{
    return a->due_us != b->due_us ? a->due_us < b->due_us : a->order < b->order;
}

static void swap(unsigned a, unsigned b)
{
    struct packet *p = queue[a];

    queue[a] = queue[b];
    queue[b] = p;
}

static void push(struct packet *p)
{
    unsigned at = queued++;

    if (at == PACKETS_MAX) abort();
    queue[at] = p;
    for (; at > 0 && earlier(queue[at], queue[(at - 1) / 2]); at = (at - 1) / 2) swap(at, (at - 1) / 2);
}

static struct packet *pop(void)
{
    struct packet *first = queue[0];

    queue[0] = queue[--queued];
    for (unsigned at = 0;;) {
        unsigned next = 2 * at + 1;

        if (next + 1 < queued && earlier(queue[next + 1], queue[next])) next++;
        if (next >= queued || !earlier(queue[next], queue[at])) return first;
        swap(at, next);
        at = next;
    }
}

static void put(bool to_peers, const void *data, size_t len)
{
    wire_counts.packets[!to_peers]++;
    for (unsigned n = wire_rand(1000) < wire_faults.copies ? 2 : 1; n > 0; n--) {
        struct packet *p;

        if (wire_rand(1000) < wire_faults.loss) {
            wire_counts.lost++;
            continue;
        }
        p = malloc(sizeof *p);
        if (p == NULL || len > PACKET_MAX) abort();
        p->due_us = now_us + 20 + wire_faults.delay_us;
        if (wire_faults.jitter_us > 0) p->due_us += wire_rand(wire_faults.jitter_us);
        p->order = order++;
        p->to_peers = to_peers;
        p->len = (uint16_t)len;
        memcpy(p->data, data, len);
        push(p);
    }
}

void wire_inject(const void *packet, size_t len)
{
    put(false, packet, len);
}

static void from_peers(const void *packet, size_t len)
{
    put(false, packet, len);
}

/* ---- The port's netif ---- */

static err_t output(struct pbuf *p)
{
    static uint8_t packet[PACKET_MAX];

    pbuf_copy_partial(p, packet, p->tot_len, 0);
    put(true, packet, p->tot_len);
    return ERR_OK;
}

static err_t output_ip4(struct netif *n, struct pbuf *p, const ip4_addr_t *to)
{
    (void)n;
    (void)to;
    return output(p);
}

#if LWIP_IPV6
static err_t output_ip6(struct netif *n, struct pbuf *p, const ip6_addr_t *to)
{
    (void)n;
    (void)to;
    return output(p);
}
#endif

static err_t netif_begin(struct netif *n)
{
    n->mtu = 1500;
    n->output = output_ip4;
#if LWIP_IPV6
    n->output_ip6 = output_ip6;
#endif
    n->name[0] = 'w';
    return ERR_OK;
}

void wire_link(bool up)
{
    if (up) netif_set_link_up(&netif);
    else netif_set_link_down(&netif);
}

/* As a driver would. */
static void receive(const uint8_t *packet, uint16_t len)
{
    struct pbuf *p = pbuf_alloc(PBUF_RAW, len, PBUF_POOL);

    if (p == NULL && len <= 64 && wire_small_from_heap) {
        p = pbuf_alloc(PBUF_RAW, len, PBUF_RAM);
        if (p != NULL) wire_counts.small_spared++;
    }
    if (p == NULL) {
        wire_counts.no_pbuf++;
        return;
    }
    pbuf_take(p, packet, len);
    if (netif.input(p, &netif) != ERR_OK) pbuf_free(p);
}

void wire_run_us(uint32_t us)
{
    uint64_t end_us = now_us + us;

    for (;;) {
        uint64_t next_us = (now_us / 1000u + 1) * 1000u;

        if (next_us > end_us) next_us = end_us;
        if (queued > 0 && queue[0]->due_us < next_us) next_us = queue[0]->due_us;
        if (next_us > now_us) {
            bool tick = next_us / 1000u != now_us / 1000u;

            now_us = next_us;
            if (tick) sys_check_timeouts();
            if (tick) peer_timers();
        }
        if (queued > 0 && queue[0]->due_us <= now_us) {
            struct packet *p = pop();

            if (p->to_peers && wire_tap != NULL) wire_tap(p->data, p->len);
            if (p->to_peers) peer_input(p->data, p->len);
            else receive(p->data, p->len);
            free(p);
        } else if (now_us >= end_us) {
            return;
        }
    }
}

void wire_begin(uint32_t seed)
{
    ip4_addr_t ip, mask, gateway;
    ip_addr_t server;

    wire_seed(seed);
    now_us = 1000000;
    lwip_init();
    IP4_ADDR(&ip, 10, 0, 0, 1);
    IP4_ADDR(&mask, 255, 255, 255, 0);
    IP4_ADDR(&gateway, 0, 0, 0, 0);
    netif_add(&netif, &ip, &mask, &gateway, NULL, netif_begin, ip_input);
    netif_set_default(&netif);
    netif_set_link_up(&netif);
    netif_set_up(&netif);
#if LWIP_IPV6
    ip_addr_t six;

    IP_ADDR6(&six, PP_HTONL(0xfd000000), 0, 0, PP_HTONL(1));
    netif_ip6_addr_set(&netif, 0, ip_2_ip6(&six));
    netif_ip6_addr_set_state(&netif, 0, IP6_ADDR_PREFERRED);
#endif
    IP_ADDR4(&server, 10, 0, 0, 2);
    dns_setserver(0, &server);
    peer_begin(from_peers);
}
