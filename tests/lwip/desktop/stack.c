/* SPDX-License-Identifier: MIT
 *
 * What both ports share: the netif on a tap device, routes, the name server, and the account at the end.
 */
#include "stack_lwip.h"

#include "hooks.h"
#include "tap.h"

#include "lwip/dns.h"
#include "lwip/etharp.h"
#include "lwip/ethip6.h"
#include "lwip/init.h"
#include "lwip/nd6.h"
#include "lwip/netif.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/tcpip.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    NAME_TTL_S = 600, /* no answer of the tests' name server is valid for longer */
    DELIVER_MS = 1500 /* how long the end waits for peers to take what was sent to them */
};

static struct netif cable;
static int cable_fd = -1;
static ip6_addr_t router6;
static const struct stack_net *given;

void stack_assertion(const char *what, const char *file, int line)
{
    fprintf(stderr, "miniproxy: ERROR: lwIP: %s (%s:%d)\n", what, file, line);
    abort();
}

/* ---- Addresses and routes */

static ip4_addr_t ip4_of(const struct miniproxy_addr *a)
{
    ip4_addr_t ip;

    memcpy(&ip.addr, a->ip, 4);
    return ip;
}

static ip6_addr_t ip6_of(const struct miniproxy_addr *a)
{
    ip6_addr_t ip;

    memset(&ip, 0, sizeof ip);
    memcpy(ip.addr, a->ip, 16);
    return ip;
}

static uint32_t mask_of(unsigned bits)
{
    return bits == 0 ? 0 : lwip_htonl(UINT32_MAX << (32 - bits));
}

struct netif *stack_route4(const ip4_addr_t *to)
{
    for (unsigned i = 0; i < given->route_count; i++) {
        uint32_t mask = mask_of(given->routes[i].bits);

        if (((ip4_of(&given->routes[i].net).addr ^ to->addr) & mask) == 0) return &cable;
    }
    return NULL;
}

const ip6_addr_t *stack_router6(const ip6_addr_t *to)
{
    (void)to;
    return given->gw6.family == 6 ? &router6 : NULL;
}

/* ---- The netif */

static err_t cable_output(struct netif *netif, struct pbuf *p)
{
    unsigned char frame[TAP_FRAME_MAX];
    u16_t len = pbuf_copy_partial(p, frame, sizeof frame, 0);

    (void)netif;
    tap_write(cable_fd, frame, len);
    return ERR_OK;
}

bool stack_take_frame(void)
{
    unsigned char frame[TAP_FRAME_MAX];
    size_t len = tap_read(cable_fd, frame, sizeof frame);
    struct pbuf *p;

    if (len == 0) return false;
    p = pbuf_alloc(PBUF_RAW, (u16_t)len, PBUF_POOL);
    if (p == NULL) return true; /* lost, as on a cable */
    pbuf_take(p, frame, (u16_t)len);
    if (cable.input(p, &cable) != ERR_OK) pbuf_free(p);
    return true;
}

int stack_cable_fd(void)
{
    return cable_fd;
}

static err_t cable_init(struct netif *netif)
{
    static const u8_t mac[6] = {0x02, 0x6d, 0x70, 0, 0, 1};

    netif->name[0] = 'm';
    netif->name[1] = 'p';
    netif->output = etharp_output;
    netif->output_ip6 = ethip6_output;
    netif->linkoutput = cable_output;
    netif->mtu = 1500;
    netif->hwaddr_len = sizeof mac;
    memcpy(netif->hwaddr, mac, sizeof mac);
    netif->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET | NETIF_FLAG_LINK_UP;
    return ERR_OK;
}

static void set_ip6(void)
{
    s8_t index = -1;
    ip6_addr_t ip = ip6_of(&given->ip6);

    if (given->ip6.family != 6) return;
    router6 = ip6_of(&given->gw6);
    netif_create_ip6_linklocal_address(&cable, 1);
    netif_ip6_addr_set_state(&cable, 0, IP6_ADDR_PREFERRED);
    netif_add_ip6_address(&cable, &ip, &index);
    if (index >= 0) netif_ip6_addr_set_state(&cable, index, IP6_ADDR_PREFERRED);
}

static void set_name_server(void)
{
    ip_addr_t server;
    ip4_addr_t ip = ip4_of(&given->dns);

    if (given->dns.family != 4) return;
    ip_addr_copy_from_ip4(server, ip);
    dns_setserver(0, &server);
}

void stack_seed(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    srand((unsigned)now.tv_nsec ^ (unsigned)getpid());
}

bool stack_plug_in(const struct stack_net *net, netif_input_fn input)
{
    ip4_addr_t ip = ip4_of(&net->ip4), gw = ip4_of(&net->gw4), mask = {mask_of(net->bits4)};

    given = net;
    cable_fd = tap_open(net->tap);
    if (cable_fd < 0) {
        fprintf(stderr, "miniproxy: tap device %s: %s\n", net->tap, strerror(errno));
        return false;
    }
    pools_limit_connections(net->pcbs);
    if (netif_add(&cable, &ip, &mask, &gw, NULL, cable_init, input) == NULL) return false;
    netif_set_up(&cable);
    set_ip6();
    set_name_server();
    return true;
}

/* lwIP cannot be told to forget, but its answers grow old: at each tick by a second. A lookup under way is asked once
 * more and may fail. */
void stack_age_names(void)
{
    for (int i = 0; i < NAME_TTL_S; i++) dns_tmr();
}

/* ---- The account */

/* Has the application closed it? */
static bool is_closing(const struct tcp_pcb *pcb)
{
    switch (pcb->state) {
    case SYN_SENT:
    case ESTABLISHED:
    case CLOSE_WAIT: return false;
    default: return true; /* SYN_RCVD too: nobody has heard of it */
    }
}

/* Closed, but the peer has not taken everything, or not answered the FIN. FIN_WAIT_2 is the peer's alone. */
static bool is_delivering(const struct tcp_pcb *pcb)
{
    return is_closing(pcb) && pcb->state != FIN_WAIT_2;
}

bool stack_delivering(void)
{
    for (const struct tcp_pcb *pcb = tcp_active_pcbs; pcb != NULL; pcb = pcb->next)
        if (is_delivering(pcb)) return true;
    return false;
}

uint32_t stack_deliver_ms(void)
{
    return DELIVER_MS;
}

static void abort_closing(struct tcp_pcb *list)
{
    while (list != NULL) {
        struct tcp_pcb *pcb = list;

        list = list->next;
        if (is_closing(pcb)) tcp_abort(pcb);
    }
}

/* What the port has not given back is what is left when everything that it closed is gone. */
void stack_unplug(void)
{
    struct pools_use use;

    abort_closing(tcp_active_pcbs);
    abort_closing(tcp_tw_pcbs);
    netif_remove(&cable); /* and with it what waits for an answer to ARP */
    use = pools_use();
    fprintf(stderr, "lwip: pcbs=%u listeners=%u segments=%u pbufs=%u blocks=%u sockets=%u refused=%u\n",
            use.connections, use.listeners, use.segments, use.pbufs, use.blocks, use.sockets, use.refused);
    close(cable_fd);
}
