/* SPDX-License-Identifier: MIT
 *
 * 1 addresses · 2 records · 3 what lwIP calls · 4 accept and connect · 5 names · 6 octets · 7 relay · 8 close · 9 API.
 *
 * A connection's handle is its record, while it resolves its lookup if one is enough. lwIP's callbacks store and wake;
 * the core works later, in miniproxy_poll. A record outlives the core's connection while lwIP may still need what it
 * keeps.
 */
#include "miniproxy_lwip_raw.h"

#include "lwip/dns.h"
#include "lwip/ip.h"
#include "lwip/netif.h"
#include "lwip/pbuf.h"
#include "lwip/priv/tcp_priv.h" /* tcp_active_pcbs, tcp_ticks */
#include "lwip/tcp.h"
#include "lwip/udp.h"
#if MINIPROXY_LWIP_RAW_BOTH_FAMILIES
#include "lwip/timeouts.h"
#include "netif/ppp/ppp_opts.h" /* lwIP counts its timers with it */
#endif

#include <string.h>

#define record miniproxy_lwip_raw_record
#define lookup miniproxy_lwip_raw_lookup

/* States of a record. */
enum { FREE, PENDING, CONNECTING, OPEN, LINGER };

/* port_flags, of a name that is looked up. */
enum {
    FLAG_LOOKUP = 1,
    FLAG_SHORT = 2, /* no lookup was free for one of its families */
    FLAG_TIMER = 4, /* has an address, and waits for the other family's */
    FLAG_LATE = 8   /* has waited long enough */
};

enum {
    FIRST = 256,     /* octets: a refusal without a text is shorter */
    NO_SOURCE = 255, /* instead of a record's index */
    /* Octets that make a pbuf full: what a segment carries, which on Ethernet is less for IPv6. */
    FULL = LWIP_IPV6 && TCP_MSS > 1440 ? 1440 : TCP_MSS,
    TIME_WAIT_TICKS = 2000 / TCP_SLOW_INTERVAL,
    /* For so many half seconds what comes after the end is dropped; then lwIP resets it. */
    DROP_TICKS = 4,
    FIN_TRIES = 4, /* how often a FIN is repeated before its peer counts as one that does not read */
    /* Pbufs that a connection can hold: what it has received and nobody has taken yet is within its window, and all but
     * one of these pbufs are full. */
    HOLD_MAX = (TCP_WND + FULL - 1) / FULL
};

/* What the port relies on, and what would bring lwIP to a standstill under load. port/README.md derives it. */
#define REQUIRE(condition, message) _Static_assert(condition, "lwipopts.h: " message)

REQUIRE(NO_SYS, "the raw port needs NO_SYS 1; with an operating system use miniproxy_lwip_sockets.c");
REQUIRE(LWIP_TCP &&LWIP_CALLBACK_API, "the raw port needs LWIP_TCP 1 and LWIP_CALLBACK_API 1");
REQUIRE(LWIP_DNS &&LWIP_UDP, "the raw port resolves names by LWIP_DNS 1 and LWIP_UDP 1");
REQUIRE(MEMP_MEM_MALLOC || MEMP_NUM_UDP_PCB >= 1 + LWIP_DHCP,
        "no name could be looked up: MEMP_NUM_UDP_PCB must be 1 + LWIP_DHCP at least, better one for each lookup");
REQUIRE(TCP_LISTEN_BACKLOG, "without TCP_LISTEN_BACKLOG 1 clients that wait would take all PCBs");
REQUIRE(MEMP_NUM_TCP_PCB >= 2 * MINIPROXY_SESSIONS + MINIPROXY_RESERVED,
        "MEMP_NUM_TCP_PCB must be 2 * MINIPROXY_SESSIONS + MINIPROXY_RESERVED at least: client and origin of each");
REQUIRE(MEMP_MEM_MALLOC || MEMP_NUM_TCP_PCB_LISTEN >= MINIPROXY_LWIP_RAW_LISTENERS,
        "MEMP_NUM_TCP_PCB_LISTEN must be MINIPROXY_LWIP_RAW_LISTENERS at least");
REQUIRE(TCP_SND_BUF <= 65535, "TCP_SND_BUF must be 65535 at most: the port counts in 16 bits what is under way");
REQUIRE(PBUF_POOL_BUFSIZE >= TCP_MSS + PBUF_TRANSPORT,
        "PBUF_POOL_BUFSIZE must hold a whole segment with its headers, TCP_MSS + PBUF_TRANSPORT; leave it undefined");
REQUIRE(
    PBUF_POOL_SIZE >= MINIPROXY_LWIP_RAW_HOLDERS * HOLD_MAX + MINIPROXY_LWIP_RAW_POOL_SPARE,
    "received data may take all pbufs, and then no acknowledgement comes in: raise PBUF_POOL_SIZE or lower TCP_WND so "
    "that PBUF_POOL_SIZE >= MINIPROXY_LWIP_RAW_HOLDERS * TCP_WND / TCP_MSS + MINIPROXY_LWIP_RAW_POOL_SPARE");
REQUIRE(!TCP_QUEUE_OOSEQ || PBUF_POOL_FREE_OOSEQ,
        "segments out of order may take all pbufs: PBUF_POOL_FREE_OOSEQ 1 or TCP_QUEUE_OOSEQ 0");
REQUIRE(MEM_LIBC_MALLOC || MEM_USE_POOLS ||
            MEM_SIZE >= TCP_MSS + MINIPROXY_LWIP_RAW_SPARE + MINIPROXY_LWIP_RAW_SPARE_FIRST + 128,
        "no segment fits into the heap: MEM_SIZE must be TCP_MSS + MINIPROXY_LWIP_RAW_SPARE + "
        "MINIPROXY_LWIP_RAW_SPARE_FIRST + 128 at least");
REQUIRE(!LWIP_NETIF_TX_SINGLE_PBUF || !MINIPROXY_LWIP_RAW_RELAY,
        "with LWIP_NETIF_TX_SINGLE_PBUF 1 lwIP copies all the same: MINIPROXY_LWIP_RAW_RELAY 0 saves the pbufs");

_Static_assert(MINIPROXY_LWIP_RAW_RECORDS >= 2 * MINIPROXY_SESSIONS + MINIPROXY_RESERVED &&
                   MINIPROXY_LWIP_RAW_RECORDS < NO_SOURCE,
               "MINIPROXY_LWIP_RAW_RECORDS must be 2 * MINIPROXY_SESSIONS + MINIPROXY_RESERVED..254");
_Static_assert(
    (!MEMP_MEM_MALLOC && MINIPROXY_LWIP_RAW_RECORDS >= MEMP_NUM_TCP_PCB) ||
        MINIPROXY_LWIP_RAW_RECORDS >= 2 * MINIPROXY_SESSIONS + MINIPROXY_RESERVED + MINIPROXY_LWIP_RAW_BACKLOG,
    "clients whose connection lwIP has taken would be reset: MINIPROXY_LWIP_RAW_RECORDS must be "
    "MEMP_NUM_TCP_PCB, or 2 * MINIPROXY_SESSIONS + MINIPROXY_RESERVED + MINIPROXY_LWIP_RAW_BACKLOG at least");
_Static_assert(MINIPROXY_LWIP_RAW_HOLDERS >= 1, "MINIPROXY_LWIP_RAW_HOLDERS must be 1 at least");
_Static_assert(MINIPROXY_LWIP_RAW_LISTENERS >= 1 && MINIPROXY_LWIP_RAW_LISTENERS <= 16,
               "MINIPROXY_LWIP_RAW_LISTENERS must be 1..16");
_Static_assert(MINIPROXY_LWIP_RAW_BACKLOG >= 1 && MINIPROXY_LWIP_RAW_BACKLOG <= 255,
               "MINIPROXY_LWIP_RAW_BACKLOG must be 1..255");
_Static_assert(MINIPROXY_LWIP_RAW_LOOKUPS >= 1 && MINIPROXY_LWIP_RAW_LOOKUPS <= 255,
               "MINIPROXY_LWIP_RAW_LOOKUPS must be 1..255");
_Static_assert(MINIPROXY_LWIP_RAW_LINGER_S >= 1 && MINIPROXY_LWIP_RAW_LINGER_S <= 120,
               "MINIPROXY_LWIP_RAW_LINGER_S must be 1..120: an octet counts its half seconds");

/* ==== 1  Addresses ================================================================================= */

#if LWIP_IPV4 && LWIP_IPV6 && MINIPROXY_WITH_IPV6
#define EVERY_ADDRESS IP_ANY_TYPE
#elif LWIP_IPV4
#define EVERY_ADDRESS IP4_ADDR_ANY
#else
#define EVERY_ADDRESS IP6_ADDR_ANY
#endif

/* lwIP's form of a, v4-mapped addresses as IPv4. False: this build does not have the family. */
static bool ip_of(ip_addr_t *ip, const struct miniproxy_addr *a)
{
    const uint8_t *v4 = a->family == 4 ? a->ip : NULL;

#if MINIPROXY_WITH_IPV6
    static const uint8_t mapped[12] = {[10] = 0xff, 0xff};

    if (a->family == 6 && memcmp(a->ip, mapped, sizeof mapped) == 0) v4 = a->ip + sizeof mapped;
#if LWIP_IPV6
    if (a->family == 6 && v4 == NULL) {
        ip_addr_set_zero_ip6(ip);
        memcpy(ip_2_ip6(ip)->addr, a->ip, MINIPROXY_IP_LEN);
        return true;
    }
#endif
#endif
#if LWIP_IPV4
    if (v4 != NULL) IP_ADDR4(ip, v4[0], v4[1], v4[2], v4[3]);
    return v4 != NULL;
#else
    (void)ip;
    (void)v4;
    return false;
#endif
}

/* The other way; family 0 if it cannot be represented. */
static struct miniproxy_addr addr_of(const ip_addr_t *ip, uint16_t port)
{
    struct miniproxy_addr a = {.port = port};

#if LWIP_IPV4
    if (IP_IS_V4(ip)) {
        a.family = 4;
        memcpy(a.ip, &ip_2_ip4(ip)->addr, 4);
    }
#endif
#if LWIP_IPV6
    if (IP_IS_V6(ip) && ip6_addr_isipv4mappedipv6(ip_2_ip6(ip))) {
        a.family = 4;
        memcpy(a.ip, &ip_2_ip6(ip)->addr[3], 4);
#if MINIPROXY_WITH_IPV6
    } else if (IP_IS_V6(ip)) {
        a.family = 6;
        memcpy(a.ip, ip_2_ip6(ip)->addr, MINIPROXY_IP_LEN);
#endif
    }
#endif
    return a;
}

#ifndef ip_addr_eq /* lwIP 2.1 */
#define ip4_addr_eq ip4_addr_cmp
#define ip6_addr_zoneless_eq ip6_addr_cmp_zoneless
#define ip_addr_zoneless_eq ip_addr_cmp_zoneless
#endif

/* Targets have no zones, what lwIP knows of has. */
#if LWIP_IPV6
#define SAME_IP(a, b) ip_addr_zoneless_eq(a, b)
#else
#define SAME_IP(a, b) ip4_addr_eq(a, b)
#endif

/* Does it lead to this device? An unspecified address does, too. */
static bool is_own(const ip_addr_t *ip)
{
    const struct netif *netif;

    if (ip_addr_isany(ip) || ip_addr_isloopback(ip)) return true;
    NETIF_FOREACH(netif)
    {
#if LWIP_IPV4
        if (IP_IS_V4(ip) && ip4_addr_eq(ip_2_ip4(ip), netif_ip4_addr(netif))) return true;
#endif
#if LWIP_IPV6
        for (int i = 0; IP_IS_V6(ip) && i < LWIP_IPV6_NUM_ADDRESSES; i++)
            if (ip6_addr_zoneless_eq(ip_2_ip6(ip), netif_ip6_addr(netif, i))) return true;
#endif
    }
    return false;
}

static bool leads_to_listener(const struct miniproxy_lwip_raw *raw, const ip_addr_t *ip, uint16_t port)
{
    for (unsigned i = 0; i < MINIPROXY_LWIP_RAW_LISTENERS; i++) {
        const struct tcp_pcb *l = raw->listeners[i];

        if (l == NULL || l->local_port != port) continue;
        if (SAME_IP(&l->local_ip, ip)) return true;
        if (ip_addr_isany(&l->local_ip) && is_own(ip) &&
            (IP_IS_ANY_TYPE_VAL(l->local_ip) || IP_GET_TYPE(&l->local_ip) == IP_GET_TYPE(ip)))
            return true;
        /* What is unspecified reaches every listener of its family. */
        if (ip_addr_isany(ip) && IP_GET_TYPE(&l->local_ip) == IP_GET_TYPE(ip)) return true;
    }
    return false;
}

/* ==== 2  Records =================================================================================== */

static struct miniproxy_lwip_raw *raw_of(struct record *r)
{
    return (struct miniproxy_lwip_raw *)(void *)((char *)(r - r->index) - offsetof(struct miniproxy_lwip_raw, records));
}

static struct record *record_of(const struct miniproxy_conn *c)
{
    return (struct record *)c->handle;
}

/* The core already knows of bits that are set. */
static void wake(struct record *r, unsigned ready)
{
    if (r->conn != NULL && (r->conn->ready & ready) != ready) miniproxy_wake(r->conn, ready);
}

/* Memory may have become free. */
static void wake_starved(struct miniproxy_lwip_raw *raw)
{
    if (!raw->starved) return;
    raw->starved = false;
    for (unsigned i = 0; i < MINIPROXY_LWIP_RAW_RECORDS; i++) {
        struct record *r = &raw->records[i];

        if (!r->starved) continue;
        r->starved = 0;
        wake(r, MINIPROXY_WR);
    }
}

static void starve(struct record *r)
{
    r->starved = 1;
    raw_of(r)->starved = true;
}

/* Take the first pbuf off a list. */
static struct pbuf *unlink_first(struct pbuf **list)
{
    struct pbuf *p = *list;

    *list = p->next;
    p->next = NULL;
    return p;
}

/* What `in` holds counts against the window until the pbuf is free, even if it has been read in part: the sum of all
 * windows is what bounds the pool. */
static void open_window(const struct record *r, size_t octets)
{
    while (r->pcb != NULL && octets > 0) {
        uint16_t part = (uint16_t)(octets < 0xffff ? octets : 0xffff);

        tcp_recved(r->pcb, part);
        octets -= part;
    }
}

/* Free the first pbuf of `in`. The octets by which the window may open. */
static size_t drop_first(struct record *r)
{
    struct pbuf *p = unlink_first(&r->in);
    size_t octets = p->len;

    r->taken = 0;
    pbuf_free(p);
    return octets;
}

/* Free the first pbuf of `kept`, and open the window of the connection where it came from, if that still exists. */
static void drop_kept(struct record *r)
{
    struct pbuf *p = unlink_first(&r->kept);
    uint8_t source = p->if_idx;
    size_t octets = p->len;

    pbuf_free(p);
    if (source != NO_SOURCE) open_window(&raw_of(r)->records[source], octets);
}

/* What was received on r and passed on concerns r no more. */
static void forget_source(struct record *r)
{
    struct miniproxy_lwip_raw *raw = raw_of(r);

    for (unsigned i = 0; i < MINIPROXY_LWIP_RAW_RECORDS; i++)
        for (struct pbuf *p = raw->records[i].kept; p != NULL; p = p->next)
            if (p->if_idx == r->index) p->if_idx = NO_SOURCE;
}

/* lwIP has let go of the PCB, or goes on with it alone. */
static void lose_pcb(struct record *r)
{
    r->pcb = NULL;
    forget_source(r);
    while (r->kept != NULL) drop_kept(r);
}

static void detach(struct record *r)
{
    tcp_arg(r->pcb, NULL);
    tcp_recv(r->pcb, NULL);
    tcp_sent(r->pcb, NULL);
    tcp_err(r->pcb, NULL);
    tcp_poll(r->pcb, NULL, 0);
    lose_pcb(r);
}

/* lwIP does not let a client that uses its port again out of TIME_WAIT (RFC 9293 section 3.6.1): its SYN would be
 * answered with an acknowledgement of the old connection for two minutes. So what a client opened stays there just long
 * enough to acknowledge its FIN once more. Called when nothing moves `tmr` any more. */
static void shorten_time_wait(struct tcp_pcb *pcb)
{
    const uint32_t whole = 2 * TCP_MSL / TCP_SLOW_INTERVAL;

    if (pcb->listener != NULL && whole > TIME_WAIT_TICKS) pcb->tmr = tcp_ticks - (whole - TIME_WAIT_TICKS);
}

/* Both FINs are there, or ours has been acknowledged: lwIP ends it by itself, within its own time limits. */
static void leave_to_lwip(struct tcp_pcb *pcb)
{
    tcp_close(pcb); /* which also stops lwIP from moving `tmr` */
    if (pcb->state == CLOSING || pcb->state == TIME_WAIT) shorten_time_wait(pcb);
}

static void release(struct record *r)
{
    while (r->in != NULL) drop_first(r);
    r->conn = NULL;
    r->state = FREE;
}

/* ==== 3  What lwIP calls =========================================================================== */

static err_t on_recv(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t err);
static err_t on_sent(void *arg, struct tcp_pcb *pcb, u16_t len);
static err_t on_poll(void *arg, struct tcp_pcb *pcb);
static void on_err(void *arg, err_t err);

/* NULL: none. What is still being delivered gives way, longest without progress first. */
static struct record *free_record(struct miniproxy_lwip_raw *raw)
{
    struct record *stuck = NULL;

    for (unsigned i = 0; i < MINIPROXY_LWIP_RAW_RECORDS; i++) {
        struct record *r = &raw->records[i];

        if (r->state == FREE) return r;
        if (r->state == LINGER && (stuck == NULL || r->idle > stuck->idle)) stuck = r;
    }
    if (stuck != NULL) tcp_abort(stuck->pcb); /* on_err frees the record */
    return stuck;
}

static struct record *record_new(struct miniproxy_lwip_raw *raw, struct tcp_pcb *pcb, uint8_t state)
{
    struct record *r = free_record(raw);

    if (r == NULL) return NULL;
    *r = (struct record){.pcb = pcb, .index = (uint8_t)(r - raw->records), .state = state & 15u};
    tcp_arg(pcb, r);
    tcp_recv(pcb, on_recv);
    tcp_sent(pcb, on_sent);
    tcp_err(pcb, on_err);
    tcp_poll(pcb, on_poll, 1);
    tcp_nagle_disable(pcb);
    return r;
}

/* False: later, when octets have been acknowledged, or on_poll has come. lwIP 2.2.1 puts a FIN on the last segment that
 * waits to be sent. If it then has to divide that one because the peer's window is small, both parts keep the FIN, and the
 * peer takes the first for the end: octets would be lost. So nothing may wait. */
static bool send_fin(struct tcp_pcb *pcb)
{
    if (pcb->unsent != NULL) return false;
    tcp_shutdown(pcb, 0, 1); /* once it has been sent this does nothing */
    if ((pcb->flags & TF_CLOSEPEND) == 0) return true;
    tcp_clear_flags(pcb, TF_CLOSEPEND); /* no memory; lwIP would try again by itself, whatever waits then */
    return false;
}

/* ---- Without a record: closed, and lwIP has all that is still to be delivered. The argument is the port. */

static err_t on_parted_recv(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t err)
{
    (void)arg;
    (void)err;
    if (p != NULL) {
        tcp_recved(pcb, p->tot_len);
        pbuf_free(p);
    } else if (pcb->state == CLOSING || pcb->state == TIME_WAIT) {
        leave_to_lwip(pcb);
    }
    return ERR_OK;
}

/* It waits for a route or a link: there is no timer of lwIP's that would send. */
static bool is_cut_off(const struct tcp_pcb *pcb)
{
    return pcb->unsent != NULL && pcb->unacked == NULL && pcb->rtime < 0 && pcb->persist_backoff == 0;
}

/* Called DROP_TICKS after the last acknowledgement of something new, again as long as a FIN alone is under way, whose
 * acknowledgement shows only here, and then when the peer's time is over. */
static err_t on_parted_poll(void *arg, struct tcp_pcb *pcb)
{
    (void)arg;
    if (pcb->state == ESTABLISHED || pcb->state == CLOSE_WAIT) send_fin(pcb);
    if (pcb->state == FIN_WAIT_2) {
        leave_to_lwip(pcb);
    } else if (is_cut_off(pcb)) {
        /* lwIP sends after this call */
    } else if (pcb->unsent == NULL && pcb->unacked != NULL && pcb->unacked->len == 0 && pcb->nrtx < FIN_TRIES) {
        /* look again as soon */
    } else if (pcb->pollinterval < 2 * MINIPROXY_LWIP_RAW_LINGER_S) {
        tcp_poll(pcb, on_parted_poll, 2 * MINIPROXY_LWIP_RAW_LINGER_S);
    } else {
        tcp_abort(pcb);
        return ERR_ABRT;
    }
    return ERR_OK;
}

static err_t on_parted_sent(void *arg, struct tcp_pcb *pcb, u16_t len)
{
    (void)len;
    send_fin(pcb);
    tcp_poll(pcb, on_parted_poll, DROP_TICKS);
    wake_starved(arg);
    return ERR_OK;
}

static void part(struct record *r)
{
    struct tcp_pcb *pcb = r->pcb;

    detach(r);
    release(r);
    tcp_arg(pcb, raw_of(r));
    tcp_recv(pcb, on_parted_recv);
    tcp_sent(pcb, on_parted_sent);
    tcp_poll(pcb, on_parted_poll, DROP_TICKS);
    if (pcb->state == CLOSING || pcb->state == TIME_WAIT) leave_to_lwip(pcb);
}

static void abort_parted(struct miniproxy_lwip_raw *raw)
{
    struct tcp_pcb *pcb = tcp_active_pcbs;

    while (pcb != NULL) {
        bool found = pcb->callback_arg == raw && pcb->recv == on_parted_recv;

        if (found) tcp_abort(pcb);
        pcb = found ? tcp_active_pcbs : pcb->next;
    }
}

/* ---- With one */

/* After both FINs lwIP may free a PCB without a word; before, it always calls on_err, and as long as octets are kept
 * it always calls on_sent. So let go as soon as nothing is left to be done. */
static void leave_if_done(struct record *r)
{
    struct tcp_pcb *pcb = r->pcb;

    if (r->kept != NULL) return;
    if (r->state == LINGER) {
        part(r);
    } else if (r->state == OPEN && r->eof && (pcb->state == CLOSING || pcb->state == TIME_WAIT)) {
        /* A FIN may come with the last acknowledgement, and on_sent is called first: on_recv has yet to tell of it. */
        detach(r);
        leave_to_lwip(pcb);
    }
}

static bool is_pool(const struct pbuf *p)
{
    return pbuf_match_type(p, PBUF_POOL) && (p->flags & PBUF_FLAG_IS_CUSTOM) == 0 && p->ref == 1;
}

/* Fill `last` up from p, both single. */
static void fill_up(struct pbuf *last, struct pbuf *p)
{
    uint8_t *start = (uint8_t *)last + LWIP_MEM_ALIGN_SIZE(sizeof *last);
    size_t room = LWIP_MEM_ALIGN_SIZE(PBUF_POOL_BUFSIZE) - last->len, n = p->len < room ? p->len : room;

    if ((uint8_t *)last->payload + last->len + n > start + LWIP_MEM_ALIGN_SIZE(PBUF_POOL_BUFSIZE)) {
        memmove(start, last->payload, last->len); /* over the headers */
        last->payload = start;
    }
    memcpy((uint8_t *)last->payload + last->len, p->payload, n);
    last->len = (u16_t)(last->len + n);
    p->payload = (uint8_t *)p->payload + n;
    p->len = (u16_t)(p->len - n);
}

/* A peer may send single octets, of which each would hold a pbuf. So all pbufs in `in` but the last have FULL octets
 * at least, and come from the pool unless it was empty. */
static void append(struct record *r, struct pbuf *p)
{
    struct pbuf *last = r->in, *copy = is_pool(p) ? NULL : pbuf_alloc(PBUF_RAW, p->tot_len, PBUF_POOL);

    if (copy != NULL) {
        pbuf_copy(copy, p);
        pbuf_free(p);
        p = copy;
    }
    while (last != NULL && last->next != NULL) last = last->next;
    while (p != NULL) {
        struct pbuf *one = unlink_first(&p);

        if (last != NULL && last->len < FULL && is_pool(last)) fill_up(last, one);
        if (one->len == 0) {
            pbuf_free(one);
        } else if (last == NULL) {
            r->in = last = one;
        } else {
            last->next = one;
            last = one;
        }
    }
}

static err_t on_recv(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t err)
{
    struct record *r = arg;

    (void)err;
    if (p == NULL) {
        r->eof = 1;
        wake(r, MINIPROXY_RD);
        leave_if_done(r);
    } else if (r->state == LINGER) {
        tcp_recved(pcb, p->tot_len);
        pbuf_free(p);
        leave_if_done(r);
    } else {
        append(r, p);
        wake(r, MINIPROXY_RD);
    }
    return ERR_OK;
}

static err_t on_sent(void *arg, struct tcp_pcb *pcb, u16_t len)
{
    struct record *r = arg;
    uint16_t before = r->acked;

    r->acked = (uint16_t)(before + len);
    /* The tot_len of a kept pbuf is the count at which it has been acknowledged. */
    while (r->kept != NULL && (uint16_t)(r->kept->tot_len - before) <= len) drop_kept(r);
    r->idle = 0;
    if (tcp_sndbuf(pcb) >= pcb->mss || tcp_sndqueuelen(pcb) == 0) wake(r, MINIPROXY_WR);
    wake_starved(raw_of(r));
    if (r->state == LINGER) send_fin(pcb);
    leave_if_done(r);
    return ERR_OK;
}

/* Every half second. */
static err_t on_poll(void *arg, struct tcp_pcb *pcb)
{
    struct record *r = arg;

    if (r->starved) wake_starved(raw_of(r));
    if (r->state != LINGER) return ERR_OK;
    send_fin(pcb);
    r->idle++;
    if (r->idle > 2 * MINIPROXY_LWIP_RAW_LINGER_S) {
        tcp_abort(pcb); /* on_err frees the record */
        return ERR_ABRT;
    }
    return ERR_OK;
}

static void on_err(void *arg, err_t err)
{
    struct record *r = arg;
    struct miniproxy_lwip_raw *raw = raw_of(r);

    lose_pcb(r);
    if (r->state == PENDING || r->state == LINGER) {
        release(r);
    } else {
        if (err == ERR_RST) r->error = r->state == CONNECTING ? MINIPROXY_EREFUSED : MINIPROXY_ERESET;
        else r->error = err == ERR_CLSD ? MINIPROXY_ERESET : MINIPROXY_ETIMEDOUT;
        /* ERR_CLSD: both sides have sent their FIN, it has ended well. */
        wake(r, MINIPROXY_RD | MINIPROXY_WR | (err == ERR_CLSD ? 0 : MINIPROXY_BROKEN));
    }
    wake_starved(raw);
}

static err_t on_accept(void *arg, struct tcp_pcb *pcb, err_t err)
{
    struct miniproxy_lwip_raw *raw = arg;
    struct record *r;

    if (pcb == NULL || err != ERR_OK) return ERR_VAL;
    r = record_new(raw, pcb, PENDING);
    if (r == NULL) return ERR_MEM; /* lwIP resets it; see what is required of MINIPROXY_LWIP_RAW_RECORDS */
    r->acked = raw->arrivals++;
    tcp_backlog_delayed(pcb);
    miniproxy_wake_accept(raw->proxy);
    return ERR_OK;
}

static err_t on_connected(void *arg, struct tcp_pcb *pcb, err_t err)
{
    struct record *r = arg;

    (void)pcb;
    (void)err;
    r->state = OPEN;
    wake(r, MINIPROXY_WR);
    return ERR_OK;
}

/* ==== 4  accept and connect ======================================================================== */

/* Through which listener it came. That is still open: closing it resets who waits. */
static uint8_t listener_of(const struct miniproxy_lwip_raw *raw, const struct tcp_pcb *pcb)
{
    uint8_t i = MINIPROXY_LWIP_RAW_LISTENERS - 1;

    while (i > 0 && (const void *)raw->listeners[i] != (const void *)pcb->listener) i--;
    return i;
}

static int raw_accept(void *port, struct miniproxy_conn *c, struct miniproxy_addr *peer)
{
    struct miniproxy_lwip_raw *raw = port;
    struct record *first = NULL;

    for (unsigned i = 0; i < MINIPROXY_LWIP_RAW_RECORDS; i++) {
        struct record *r = &raw->records[i];

        if (r->state != PENDING) continue;
        if (first == NULL || (uint16_t)(raw->arrivals - r->acked) > (uint16_t)(raw->arrivals - first->acked)) first = r;
    }
    if (first == NULL) return MINIPROXY_AGAIN;
    first->state = OPEN;
    first->acked = 0;
    first->conn = c;
    c->handle = (intptr_t)first;
    c->listener = listener_of(raw, first->pcb);
    *peer = addr_of(&first->pcb->remote_ip, first->pcb->remote_port);
    tcp_backlog_accepted(first->pcb);
    wake(first, first->in != NULL || first->eof ? MINIPROXY_RD | MINIPROXY_WR : MINIPROXY_WR);
    return MINIPROXY_OK;
}

static int connect_begin(struct miniproxy_lwip_raw *raw, struct miniproxy_conn *c, const struct miniproxy_addr *to)
{
    struct tcp_pcb *pcb;
    struct record *r;
    ip_addr_t ip;
    err_t err;

    if (!ip_of(&ip, to)) return MINIPROXY_EUNREACHABLE;
    if (leads_to_listener(raw, &ip, to->port)) return MINIPROXY_ESELF;
    if (ip_addr_isany_val(ip)) return MINIPROXY_EUNREACHABLE;
    pcb = tcp_new_ip_type(IP_GET_TYPE(&ip));
    if (pcb == NULL) return MINIPROXY_ERESOURCES;
    ip_set_option(pcb, SOF_KEEPALIVE);
    r = record_new(raw, pcb, CONNECTING);
    err = r != NULL ? tcp_connect(pcb, &ip, to->port, on_connected) : ERR_MEM;
    if (err == ERR_OK) {
        r->conn = c;
        c->handle = (intptr_t)r;
        return MINIPROXY_AGAIN;
    }
    if (r != NULL) {
        detach(r);
        release(r);
    }
    tcp_close(pcb);
    return err == ERR_MEM || err == ERR_BUF ? MINIPROXY_ERESOURCES : MINIPROXY_EUNREACHABLE;
}

static int raw_connect(void *port, struct miniproxy_conn *c, const struct miniproxy_addr *to)
{
    struct record *r = record_of(c);
    int error;

    if (r == NULL) return connect_begin(port, c, to);
    if (r->error == 0) return r->state == OPEN ? MINIPROXY_OK : MINIPROXY_AGAIN;
    error = r->error;
    release(r);
    c->handle = 0;
    return error;
}

/* ==== 5  Names =====================================================================================
 *
 * lwIP cannot take a question back, so a lookup stays in use until it has been answered or given up.
 */

/* lwIP does not say why there is no address. But while it works on an answer there is a current netif, and while it
 * gives up there is none. */
static void on_found(const char *name, const ip_addr_t *ip, void *arg)
{
    struct lookup *l = arg;

    (void)name;
    if (ip != NULL) l->answer = *ip;
    l->result = ip != NULL ? 1 : ip_current_input_netif() != NULL ? MINIPROXY_ENAME : MINIPROXY_EDNS;
    if (l->conn != NULL) miniproxy_wake(l->conn, MINIPROXY_WR);
    else l->result = 0;
}

/* Begin a lookup, in `first` or one of those behind it. NULL: none is free. */
static struct lookup *ask(struct miniproxy_lwip_raw *raw, struct miniproxy_conn *c, const char *host,
                          struct lookup *first, uint8_t type)
{
    struct lookup *l = first;
    err_t err;

    while (l < raw->lookups + MINIPROXY_LWIP_RAW_LOOKUPS && l->result != 0) l++;
    if (l == raw->lookups + MINIPROXY_LWIP_RAW_LOOKUPS) return NULL;
    l->conn = c;
    l->result = MINIPROXY_AGAIN;
    err = dns_gethostbyname_addrtype(host, &l->answer, on_found, l, type);
    if (err == ERR_INPROGRESS) return l;
    if (err == ERR_OK) l->result = 1;
    else if (err == ERR_ARG) l->result = MINIPROXY_ENAME; /* too long for lwIP's table */
    else l->result = err == ERR_MEM ? MINIPROXY_ERESOURCES : MINIPROXY_EDNS;
    return l;
}

/* Nobody waits for it any more. */
static void leave_lookup(struct lookup *l)
{
    l->conn = NULL;
    if (l->result != MINIPROXY_AGAIN) l->result = 0;
}

#if MINIPROXY_LWIP_RAW_BOTH_FAMILIES

/* lwIP tells one address of one family, so a name takes two lookups, found by their connection. Both are handed over
 * when both are there; a second one that is late is left. */

REQUIRE(LWIP_TIMERS && !LWIP_TIMERS_CUSTOM,
        "the raw port needs LWIP_TIMERS 1, and not LWIP_TIMERS_CUSTOM, to look up IPv4 and IPv6 together");
/* A name with a timer has two lookups. */
REQUIRE(MEMP_MEM_MALLOC || MEMP_NUM_SYS_TIMEOUT >= LWIP_NUM_SYS_TIMEOUT_INTERNAL + MINIPROXY_LWIP_RAW_LOOKUPS / 2,
        "names wait for their second address by a timer: MEMP_NUM_SYS_TIMEOUT must be "
        "LWIP_NUM_SYS_TIMEOUT_INTERNAL + MINIPROXY_LWIP_RAW_LOOKUPS / 2 at least");
_Static_assert(MINIPROXY_LWIP_RAW_LOOKUPS >= 2,
               "MINIPROXY_LWIP_RAW_LOOKUPS (DNS_TABLE_SIZE) must be 2..255: with IPv4 and IPv6 a name takes two");

/* How long a name's second family is waited for (RFC 8305 section 3). */
#define SECOND_ANSWER_MS 50u

/* Without an IPv6 address that leads anywhere, such addresses of others are of no use. */
static bool has_ipv6(void)
{
    const struct netif *netif;

    NETIF_FOREACH(netif)
    for (int i = 0; i < LWIP_IPV6_NUM_ADDRESSES; i++)
        if (ip6_addr_isvalid(netif_ip6_addr_state(netif, i)) && !ip6_addr_islinklocal(netif_ip6_addr(netif, i)) &&
            !ip6_addr_isloopback(netif_ip6_addr(netif, i)))
            return true;
    return false;
}

/* IPv6 has half of the lookups at most: some name servers never answer for it, and what waits for them must leave room
 * to ask for IPv4. */
static void ask_both(struct miniproxy_lwip_raw *raw, struct miniproxy_conn *c, const char *host)
{
    struct lookup *half = raw->lookups + (MINIPROXY_LWIP_RAW_LOOKUPS + 1) / 2;

    c->port_flags = FLAG_LOOKUP;
    if (ask(raw, c, host, raw->lookups, LWIP_DNS_ADDRTYPE_IPV4) == NULL) c->port_flags |= FLAG_SHORT;
    if (has_ipv6() && ask(raw, c, host, half, LWIP_DNS_ADDRTYPE_IPV6) == NULL) c->port_flags |= FLAG_SHORT;
}

static void on_late(void *arg)
{
    struct miniproxy_conn *c = arg;

    c->port_flags = (uint8_t)((c->port_flags & ~FLAG_TIMER) | FLAG_LATE);
    miniproxy_wake(c, MINIPROXY_WR);
}

/* The addresses that are there, IPv6 first, or why there is none. */
static int answers(struct miniproxy_lwip_raw *raw, const struct miniproxy_conn *c, struct miniproxy_addr *out, int max)
{
    struct miniproxy_addr list[2] = {{.family = 0}};
    int count = 0, error = c->port_flags & FLAG_SHORT ? MINIPROXY_ERESOURCES : MINIPROXY_ENAME;

    for (const struct lookup *l = raw->lookups; l < raw->lookups + MINIPROXY_LWIP_RAW_LOOKUPS; l++) {
        if (l->conn != c || l->result == MINIPROXY_AGAIN) continue;
        if (l->result == 1) {
            struct miniproxy_addr found = addr_of(&l->answer, 0);

            if (found.family == 6) list[1] = list[0];
            list[found.family == 6 ? 0 : count] = found;
            count++;
        } else if (l->result != MINIPROXY_ENAME) {
            error = l->result; /* the name may exist */
        }
    }
    if (count > max) count = max;
    memcpy(out, list, (size_t)count * sizeof list[0]);
    return count > 0 ? count : error;
}

static bool is_waiting(struct miniproxy_lwip_raw *raw, const struct miniproxy_conn *c)
{
    for (const struct lookup *l = raw->lookups; l < raw->lookups + MINIPROXY_LWIP_RAW_LOOKUPS; l++)
        if (l->conn == c && l->result == MINIPROXY_AGAIN) return true;
    return false;
}

static void forget(struct miniproxy_lwip_raw *raw, struct miniproxy_conn *c)
{
    for (struct lookup *l = raw->lookups; l < raw->lookups + MINIPROXY_LWIP_RAW_LOOKUPS; l++)
        if (l->conn == c) leave_lookup(l);
    if (c->port_flags & FLAG_TIMER) sys_untimeout(on_late, c);
    c->port_flags = 0;
}

static int raw_resolve(void *port, struct miniproxy_conn *c, const char *host, struct miniproxy_addr *out, int max)
{
    int result;

    if (!(c->port_flags & FLAG_LOOKUP)) ask_both(port, c, host);
    result = answers(port, c, out, max);
    if (is_waiting(port, c) && (result < 0 || !(c->port_flags & FLAG_LATE))) {
        if (result > 0 && !(c->port_flags & FLAG_TIMER)) {
            c->port_flags |= FLAG_TIMER;
            sys_timeout(SECOND_ANSWER_MS, on_late, c);
        }
        return MINIPROXY_AGAIN;
    }
    forget(port, c);
    return result;
}

#else

/* lwIP may find either where both are of use, but there is room for one. */
#if LWIP_IPV4 && LWIP_IPV6 && !MINIPROXY_WITH_IPV6
#define ADDRESS_TYPE LWIP_DNS_ADDRTYPE_IPV4
#else
#define ADDRESS_TYPE LWIP_DNS_ADDRTYPE_DEFAULT
#endif

static void forget(struct miniproxy_lwip_raw *raw, struct miniproxy_conn *c)
{
    (void)raw;
    leave_lookup((struct lookup *)c->handle);
    c->port_flags = 0;
}

static int raw_resolve(void *port, struct miniproxy_conn *c, const char *host, struct miniproxy_addr *out, int max)
{
    struct miniproxy_lwip_raw *raw = port;
    struct lookup *l = (struct lookup *)c->handle;
    int result;

    (void)max; /* lwIP knows one address of a name */
    if (l == NULL) l = ask(raw, c, host, raw->lookups, ADDRESS_TYPE);
    if (l == NULL) return MINIPROXY_ERESOURCES;
    c->handle = (intptr_t)l;
    c->port_flags = FLAG_LOOKUP;
    result = l->result;
    if (result == MINIPROXY_AGAIN) return result;
    if (result > 0) *out = addr_of(&l->answer, 0);
    if (result > 0 && out->family == 0) result = MINIPROXY_ENAME;
    forget(raw, c);
    c->handle = 0;
    return result;
}

#endif

/* ==== 6  Octets ==================================================================================== */

/* What recv says when it has no octets. */
static int end_of(const struct record *r)
{
    if (r->eof) return MINIPROXY_EOF;
    return r->error != 0 ? r->error : MINIPROXY_AGAIN;
}

static int raw_recv(void *port, struct miniproxy_conn *c, void *buf, size_t len)
{
    struct record *r = record_of(c);
    size_t got = 0, opened = 0;

    (void)port;
    while (got < len && r->in != NULL) {
        struct pbuf *p = r->in;
        size_t left = (size_t)(p->len - r->taken), n = left < len - got ? left : len - got;

        memcpy((uint8_t *)buf + got, (const uint8_t *)p->payload + r->taken, n);
        got += n;
        r->taken = (uint16_t)(r->taken + n);
        if (n == left) opened += drop_first(r);
    }
    open_window(r, opened);
    if (got == 0) return end_of(r);
    if (r->in == NULL && end_of(r) == MINIPROXY_AGAIN) c->ready &= (uint8_t)~MINIPROXY_RD;
    return (int)got;
}

/* lwIP 2.2.1 puts new octets onto the last segment that waits, even if that one is to be repeated and others have been
 * sent behind it: they would get its successor's numbers, and replace it. */
static bool may_append(const struct tcp_pcb *pcb)
{
    const struct tcp_seg *last = pcb->unsent;

    while (last != NULL && last->next != NULL) last = last->next;
    return last == NULL || lwip_ntohl(last->tcphdr->seqno) + TCP_TCPLEN(last) == pcb->snd_lbb;
}

/* tcp_write that leaves something of the heap; more where much is under way already, or the peer's window is too small to
 * take this at once, so that peers which do not read cannot keep others from a short answer. */
static err_t write_sparing(struct record *r, const void *data, size_t len, u8_t flags)
{
    size_t under_way = len + TCP_SND_BUF - tcp_sndbuf(r->pcb);
    bool first = under_way <= FIRST && under_way <= r->pcb->snd_wnd;
    u16_t left = (u16_t)(MINIPROXY_LWIP_RAW_SPARE + (first ? 0 : MINIPROXY_LWIP_RAW_SPARE_FIRST));
    struct pbuf *spare = may_append(r->pcb) ? pbuf_alloc(PBUF_RAW, left, PBUF_RAM) : NULL;
    err_t err = ERR_MEM;

    if (spare == NULL) return err;
    err = tcp_write(r->pcb, data, (u16_t)len, flags);
    pbuf_free(spare);
    return err;
}

/* Copy octets into lwIP's send queue. The number taken, AGAIN (a wake is sure to come), or ERESET. */
static int write_copy(struct record *r, const void *data, size_t len)
{
    size_t room = tcp_sndbuf(r->pcb);
    err_t err;

    if (len > room) len = room;
    if (len > 0xffff) len = 0xffff;
    if (len == 0) return MINIPROXY_AGAIN;
    while ((err = write_sparing(r, data, len, TCP_WRITE_FLAG_COPY)) == ERR_MEM && len >= 128) len /= 2;
    if (err == ERR_OK) return (int)len;
    if (err != ERR_MEM) return MINIPROXY_ERESET;
    starve(r);
    return MINIPROXY_AGAIN;
}

static int raw_send(void *port, struct miniproxy_conn *c, const void *buf, size_t len)
{
    struct record *r = record_of(c);
    int n;

    (void)port;
    if (r->pcb == NULL) return r->error != 0 ? r->error : MINIPROXY_ERESET;
    n = write_copy(r, buf, len);
    if (n > 0) tcp_output(r->pcb);
    if (tcp_sndbuf(r->pcb) == 0) c->ready &= (uint8_t)~MINIPROXY_WR;
    return n;
}

static int raw_finish(void *port, struct miniproxy_conn *c)
{
    struct record *r = record_of(c);

    (void)port;
    if (r->pcb == NULL) return r->error != 0 ? r->error : MINIPROXY_ERESET;
    if (send_fin(r->pcb)) return MINIPROXY_OK;
    if (r->pcb->unsent == NULL) starve(r);
    c->ready &= (uint8_t)~MINIPROXY_WR; /* until all has been acknowledged, at the latest */
    return MINIPROXY_AGAIN;
}

/* ==== 7  relay =====================================================================================
 *
 * A pbuf that was received goes into the other connection's send queue as it is, and is kept until the peer has
 * acknowledged it. Only full ones, so that a peer cannot have the pool kept by single octets, only what is left of one
 * as a whole, and only from one source at a time, so that what a connection keeps is bounded by one window. All else is
 * copied.
 */
#if MINIPROXY_LWIP_RAW_RELAY

static void keep(struct record *to, struct pbuf *p, uint8_t source)
{
    struct pbuf **end = &to->kept;

    while (*end != NULL) end = &(*end)->next;
    *end = p;
    p->if_idx = source;
    p->tot_len = (u16_t)(to->acked + (TCP_SND_BUF - tcp_sndbuf(to->pcb)));
}

/* Pass on the first pbuf of `from`, or up to max octets of it. */
static int relay_first(struct record *from, struct record *to, size_t max)
{
    struct pbuf *p = from->in;
    const uint8_t *data = (const uint8_t *)p->payload + from->taken;
    size_t left = (size_t)(p->len - from->taken), room = tcp_sndbuf(to->pcb);
    err_t err;
    int n;

    if (p->len >= FULL && left <= max && left <= TCP_SND_BUF && (to->kept == NULL || to->kept->if_idx == from->index)) {
        if (left > room) return MINIPROXY_AGAIN;
        err = write_sparing(to, data, left, 0);
        if (err == ERR_OK) {
            from->taken = 0;
            keep(to, unlink_first(&from->in), from->index);
            return (int)left;
        }
        if (err != ERR_MEM) return MINIPROXY_ESINK;
        if (tcp_sndqueuelen(to->pcb) > 0) {
            starve(to);
            return MINIPROXY_AGAIN;
        }
        /* Nothing is under way whose end would give memory back. */
    }
    n = write_copy(to, data, left < max ? left : max);
    if (n == MINIPROXY_ERESET) return MINIPROXY_ESINK;
    if (n < 0) return n;
    from->taken = (uint16_t)(from->taken + n);
    if (from->taken == p->len) open_window(from, drop_first(from));
    return n;
}

/* The source's window is used up by what the sink has not acknowledged: it is the sink that is waited for. */
static bool fills(const struct record *sink, const struct record *source)
{
    return sink->kept != NULL && sink->kept->if_idx == source->index && source->pcb != NULL &&
           source->pcb->rcv_wnd < source->pcb->mss;
}

static int raw_relay(void *port, struct miniproxy_conn *from, struct miniproxy_conn *to, size_t max)
{
    struct record *source = record_of(from), *sink = record_of(to);
    size_t passed = 0;
    int n = MINIPROXY_AGAIN;

    (void)port;
    if (sink->pcb == NULL) return MINIPROXY_ESINK;
    while (source->in != NULL && source->in->len == source->taken) open_window(source, drop_first(source));
    if (source->in == NULL && end_of(source) != MINIPROXY_AGAIN) return end_of(source);
    while (source->in != NULL && passed < max) {
        n = relay_first(source, sink, max - passed);
        if (n < 0) break;
        passed += (size_t)n;
    }
    if (passed > 0) tcp_output(sink->pcb);
    if (source->in == NULL && end_of(source) == MINIPROXY_AGAIN) {
        if (fills(sink, source)) to->ready &= (uint8_t)~MINIPROXY_WR;
        else from->ready &= (uint8_t)~MINIPROXY_RD;
    }
    if (n == MINIPROXY_AGAIN && source->in != NULL) to->ready &= (uint8_t)~MINIPROXY_WR;
    return passed > 0 ? (int)passed : n;
}

#endif

/* ==== 8  close ===================================================================================== */

/* Octets that were not read are dropped, and those that still come, too: a reset would destroy what has been sent. */
static void linger(struct record *r)
{
    size_t opened = 0;

    while (r->in != NULL) opened += drop_first(r);
    open_window(r, opened);
    r->state = LINGER;
    r->idle = 0;
    tcp_setprio(r->pcb, TCP_PRIO_MIN); /* when PCBs are short, lwIP frees the one that has been quiet for longest */
    send_fin(r->pcb);
    leave_if_done(r);
}

static void raw_close(void *port, struct miniproxy_conn *c, bool hard)
{
    struct record *r = record_of(c);

    if (c->port_flags & FLAG_LOOKUP) {
        forget(port, c);
    } else if (r != NULL) {
        r->conn = NULL;
        if (r->pcb == NULL) {
            release(r);
        } else if (hard || r->state == CONNECTING) {
            r->state = LINGER;
            tcp_abort(r->pcb); /* on_err frees the record */
        } else {
            linger(r);
        }
    }
    c->handle = 0;
}

const struct miniproxy_port miniproxy_lwip_raw_port = {
    .accept = raw_accept,
    .resolve = raw_resolve,
    .connect = raw_connect,
    .recv = raw_recv,
    .send = raw_send,
    .finish = raw_finish,
    .close = raw_close,
#if MINIPROXY_LWIP_RAW_RELAY
    .relay = raw_relay,
#endif
};

/* ==== 9  API ======================================================================================= */

void miniproxy_lwip_raw_init(struct miniproxy_lwip_raw *raw, struct miniproxy *proxy)
{
    raw->proxy = proxy;
}

/* A PCB that listens, or NULL. */
static struct tcp_pcb *listen_at(const ip_addr_t *ip, uint16_t port)
{
    struct tcp_pcb *pcb = tcp_new_ip_type(IP_GET_TYPE(ip)), *listening = NULL;

    if (pcb == NULL) return NULL;
    ip_set_option(pcb, SOF_KEEPALIVE); /* connections inherit it */
#if SO_REUSE
    ip_set_option(pcb, SOF_REUSEADDR);
#endif
    if (tcp_bind(pcb, ip, port) == ERR_OK) listening = tcp_listen_with_backlog(pcb, MINIPROXY_LWIP_RAW_BACKLOG);
    if (listening == NULL) tcp_close(pcb);
    return listening;
}

int miniproxy_lwip_raw_listen(struct miniproxy_lwip_raw *raw, const struct miniproxy_addr *at)
{
    unsigned i = 0;
    ip_addr_t ip;

    if (at->family == 0) ip = *EVERY_ADDRESS;
    else if (!ip_of(&ip, at)) return -1;
    while (i < MINIPROXY_LWIP_RAW_LISTENERS && raw->listeners[i] != NULL) i++;
    if (i == MINIPROXY_LWIP_RAW_LISTENERS) return -1;
    raw->listeners[i] = listen_at(&ip, at->port);
    if (raw->listeners[i] == NULL) return -1;
    tcp_arg(raw->listeners[i], raw);
    tcp_accept(raw->listeners[i], on_accept);
    return raw->listeners[i]->local_port;
}

/* Reset all connections in a state; on_err frees their records. */
static void abort_all(struct miniproxy_lwip_raw *raw, unsigned state)
{
    for (unsigned i = 0; i < MINIPROXY_LWIP_RAW_RECORDS; i++)
        if (raw->records[i].state == state) tcp_abort(raw->records[i].pcb);
}

void miniproxy_lwip_raw_stop_listening(struct miniproxy_lwip_raw *raw)
{
    for (unsigned i = 0; i < MINIPROXY_LWIP_RAW_LISTENERS; i++) {
        if (raw->listeners[i] != NULL) tcp_close(raw->listeners[i]);
        raw->listeners[i] = NULL;
    }
    abort_all(raw, PENDING);
}

void miniproxy_lwip_raw_end(struct miniproxy_lwip_raw *raw)
{
    miniproxy_lwip_raw_stop_listening(raw);
    abort_all(raw, LINGER);
    abort_parted(raw);
}

/* ---- Syslog */

bool miniproxy_lwip_raw_syslog_open(struct miniproxy_lwip_raw_syslog *syslog, const struct miniproxy_addr *to)
{
    syslog->pcb = NULL;
    if (!ip_of(&syslog->to, to)) return false;
    syslog->port = to->port;
    syslog->dropped = 0;
    syslog->pcb = udp_new_ip_type(IP_GET_TYPE(&syslog->to));
    return syslog->pcb != NULL;
}

/* NULL where that would take what connections need. */
static struct pbuf *pbuf_of_line(const char *line, size_t len)
{
    struct pbuf *spare = pbuf_alloc(PBUF_RAW, MINIPROXY_LWIP_RAW_SPARE + MINIPROXY_LWIP_RAW_SPARE_FIRST, PBUF_RAM), *p;

    if (spare == NULL) return NULL;
    p = pbuf_alloc(PBUF_TRANSPORT, (u16_t)len, PBUF_RAM);
    pbuf_free(spare);
    if (p != NULL) memcpy(p->payload, line, len);
    return p;
}

void miniproxy_lwip_raw_syslog_send(struct miniproxy_lwip_raw_syslog *syslog, const char *line, size_t len)
{
    struct pbuf *p = pbuf_of_line(line, len < TCP_MSS ? len : TCP_MSS);

    if (p == NULL || udp_sendto(syslog->pcb, p, &syslog->to, syslog->port) != ERR_OK) syslog->dropped++;
    if (p != NULL) pbuf_free(p);
}

void miniproxy_lwip_raw_syslog_close(struct miniproxy_lwip_raw_syslog *syslog)
{
    if (syslog->pcb != NULL) udp_remove(syslog->pcb);
    syslog->pcb = NULL;
}
