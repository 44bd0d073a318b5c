/* SPDX-License-Identifier: MIT */
#include "net.h"

#include <string.h>

#include "board.h"
#include "console.h"
#include "cpu.h"
#include "guard.h"
#include "lwiphooks.h"
#include "random.h"

#include "lwip/dhcp.h"
#include "lwip/dns.h"
#include "lwip/etharp.h"
#include "lwip/memp.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/prot/ieee.h"
#include "lwip/prot/ip.h"
#include "lwip/prot/ip4.h"
#include "lwip/prot/tcp.h"
#include "lwip/stats.h"
#include "lwip/sys.h"
#include "lwip/tcp.h"
#include "lwip/tcpip.h"
#include "netif/ethernet.h"

enum { FRAMES_A_POLL = 16, LINK_CHECK_MS = 500, FRAME_MAX = ETH_PAD_SIZE + SIZEOF_ETH_HDR + 1500, ENTROPY = 16 };

struct net_counters net_counters;

static struct netif netif;
static uint32_t link_checked_ms, address_told;

uint32_t sys_now(void)
{
    return cpu_now_ms();
}

/* ---- The reserve
 *
 * Received data is kept until the other side of a session takes it, and may so fill the whole pool. If then nothing at
 * all came in, nothing would ever leave: what a peer has received is only known, and freed, by its acknowledgements.
 * Therefore frames that lwIP does not keep have a pbuf of their own. One is enough: it is free again when the input
 * function returns. */

enum { RESERVE_FRAME = 96 }; /* the shortest frame, and headers with options */

static struct {
    struct pbuf_custom custom;
    bool used;
    uint32_t frame[RESERVE_FRAME / 4];
} reserve;

static void reserve_free(struct pbuf *p)
{
    (void)p;
    reserve.used = false;
}

static struct pbuf *reserve_alloc(size_t len)
{
    if (reserve.used || len > sizeof reserve.frame) return NULL;
    reserve.used = true;
    reserve.custom.custom_free_function = reserve_free;
    return pbuf_alloced_custom(PBUF_RAW, (u16_t)len, PBUF_REF, &reserve.custom, reserve.frame, sizeof reserve.frame);
}

/* ARP, and TCP without data. */
static bool is_never_kept(const struct pbuf *p)
{
    const uint8_t *frame = p->payload;
    const struct eth_hdr *ethernet = (const void *)frame;
    const struct ip_hdr *ip = (const void *)(frame + SIZEOF_ETH_HDR);
    const struct tcp_hdr *tcp;
    if (p->len < SIZEOF_ETH_HDR + IP_HLEN) return false;
    if (ethernet->type == PP_HTONS(ETHTYPE_ARP)) return true;
    if (ethernet->type != PP_HTONS(ETHTYPE_IP) || IPH_PROTO(ip) != IP_PROTO_TCP) return false;
    tcp = (const void *)((const uint8_t *)ip + IPH_HL_BYTES(ip));
    if (p->len < SIZEOF_ETH_HDR + IPH_HL_BYTES(ip) + TCP_HLEN) return false;
    return lwip_ntohs(IPH_LEN(ip)) <= IPH_HL_BYTES(ip) + TCPH_HDRLEN_BYTES(tcp);
}

struct pbuf *net_frame_alloc(size_t len)
{
    struct pbuf *p = NULL;
    if (len <= FRAME_MAX) p = pbuf_alloc(PBUF_RAW, (u16_t)len, PBUF_POOL);
    if (p == NULL) p = reserve_alloc(len);
    if (p == NULL) net_counters.dropped++;
    return p;
}

/* ---- Shares
 *
 * A few peers that send and do not read can fill the pool up to its last quarter. What is left is for connections whose
 * octets have all been taken: they give the pbuf back at once. Otherwise nobody else's request would come in until the
 * core's time-outs end those peers. A tight pool has nothing to spare: with a share of it, downloads by all sessions at
 * once took four times as long. */

enum { POOL_SHARE = FIRMWARE_TIGHT ? 0 : (PBUF_POOL_SIZE + 3) / 4 };

static bool has_share(const struct tcp_pcb *pcb, const struct pbuf *data)
{
    const struct stats_mem *pool = lwip_stats.memp[MEMP_PBUF_POOL];
    if (data->tot_len == 0 || pool->avail - pool->used >= POOL_SHARE) return true;
    return pcb->state == LISTEN || pcb->rcv_wnd == TCP_WND_MAX(pcb);
}

bool net_tcp_admits(struct tcp_pcb *pcb, const struct tcp_hdr *header, unsigned options, bool split,
                    const struct pbuf *data)
{
    if (!split && guard_tcp_admits(pcb, header, options, data) && has_share(pcb, data)) return true;
    net_counters.dropped++;
    return false;
}

/* ---- Frames */

static void input(struct pbuf *p)
{
    net_counters.received++;
    if (p == &reserve.custom.pbuf) {
        if (!is_never_kept(p)) {
            net_counters.dropped++;
            pbuf_free(p);
            return;
        }
        net_counters.reserve++;
    }
    if (netif.input(p, &netif) != ERR_OK) pbuf_free(p);
}

static void check_link(void)
{
    bool up = ethernet_link();
    link_checked_ms = cpu_now_ms();
    if (up == (netif_is_link_up(&netif) != 0)) return;
    console_printf("LINK %s\n", up ? "up" : "down");
    if (up) netif_set_link_up(&netif);
    else netif_set_link_down(&netif);
}

bool net_poll(void)
{
    if (cpu_now_ms() - link_checked_ms >= LINK_CHECK_MS) check_link();
    for (unsigned i = 0; i < FRAMES_A_POLL; i++) {
        struct pbuf *p = ethernet_receive();
        if (p == NULL) return false;
        input(p);
    }
    return true;
}

bool net_wanted(void)
{
    ethernet_arm();
    return ethernet_pending();
}

bool net_address_news(uint32_t *address)
{
    *address = ip4_addr_get_u32(netif_ip4_addr(&netif));
    if (*address == address_told) return false;
    address_told = *address;
    return *address != 0;
}

/* ---- Start */

void net_device_name(char out[NET_NAME_LEN])
{
    static const char digits[] = "0123456789abcdef";
    char *at = out;
    memcpy(at, "mp-", 3);
    at += 3;
    for (unsigned i = 0; i < ETH_HWADDR_LEN; i++) {
        *at++ = digits[netif.hwaddr[i] >> 4];
        *at++ = digits[netif.hwaddr[i] & 15];
    }
    *at = '\0';
}

#ifdef FIRMWARE_ADDRESS

static void configure(void)
{
    ip4_addr_t address, mask, gateway;
    ip_addr_t dns;
    ip4addr_aton(FIRMWARE_ADDRESS, &address);
    ip4addr_aton(FIRMWARE_NETMASK, &mask);
    ip4addr_aton(FIRMWARE_GATEWAY, &gateway);
    netif_set_addr(&netif, &address, &mask, &gateway);
    ipaddr_aton(FIRMWARE_DNS, &dns);
    dns_setserver(0, &dns);
}

#else

static void configure(void)
{
    dhcp_start(&netif); /* names its servers too */
}

#endif

static err_t netif_setup(struct netif *n)
{
    if (!ethernet_init(n)) return ERR_IF;
    n->name[0] = 'e';
    n->name[1] = 'n';
    n->hwaddr_len = ETH_HWADDR_LEN;
    n->output = etharp_output;
    n->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET;
    netif_set_hostname(n, FIRMWARE_HOSTNAME);
    return ERR_OK;
}

static void seed(void)
{
    uint8_t bytes[ENTROPY];
    if (!board_entropy(bytes, sizeof bytes)) console_printf("RANDOM this board has no source of random numbers\n");
    random_mix(bytes, sizeof bytes);
    random_mix(netif.hwaddr, sizeof netif.hwaddr);
}

void net_start(void)
{
#if NO_SYS
    netif_input_fn in = ethernet_input;
#else
    netif_input_fn in = tcpip_input;
#endif
    if (netif_add_noaddr(&netif, NULL, netif_setup, in) == NULL) cpu_panic("the Ethernet chip does not answer");
    seed();
    netif_set_default(&netif);
    netif_set_up(&netif);
    check_link();
    configure();
}
