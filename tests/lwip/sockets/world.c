/* SPDX-License-Identifier: MIT */
#include "world.h"

#include "lwip/sockets.h" /* before libc's */

#include "lwip/api.h"
#include "lwip/dns.h"
#include "lwip/netif.h"
#include "lwip/priv/sockets_priv.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/priv/tcpip_priv.h"
#include "lwip/sys.h"
#include "lwip/tcpip.h"
#include "lwip/timeouts.h"
#include "lwip/udp.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct miniproxy_lwip_sockets world_sockets;

/* ---- lwIP's memory ---- */

static atomic_uint blocks, count_down, nth_fails;
static atomic_size_t used, limit;

struct block {
    size_t size;
    max_align_t memory[];
};

/* Without its timers lwIP stops at an assertion. */
static bool refuses(size_t size)
{
    unsigned nth = atomic_load(&nth_fails);
    size_t most = atomic_load(&limit);

    if (size <= LWIP_MEM_ALIGN_SIZE(sizeof(struct sys_timeo))) return false;
    if (nth > 0 && atomic_fetch_add(&count_down, 1) % nth == nth - 1) return true;
    return most > 0 && atomic_load(&used) + size > most;
}

void *world_malloc(size_t size)
{
    struct block *block = refuses(size) ? NULL : malloc(sizeof *block + size);

    if (block == NULL) return NULL;
    block->size = size;
    atomic_fetch_add(&blocks, 1);
    atomic_fetch_add(&used, size);
    return block->memory;
}

void *world_calloc(size_t count, size_t size)
{
    void *memory = world_malloc(count * size);

    if (memory != NULL) memset(memory, 0, count * size);
    return memory;
}

void world_free(void *memory)
{
    struct block *block = (struct block *)(void *)((char *)memory - offsetof(struct block, memory));

    if (memory == NULL) return;
    atomic_fetch_sub(&blocks, 1);
    atomic_fetch_sub(&used, block->size);
    free(block);
}

unsigned world_blocks(void)
{
    return atomic_load(&blocks);
}

void world_starve_memory(unsigned nth, size_t budget)
{
    atomic_store(&nth_fails, nth);
    atomic_store(&limit, budget > 0 ? atomic_load(&used) + budget : 0);
}

/* ---- Inside the stack ---- */

struct locked {
    struct tcpip_api_call_data call;
    void (*work)(void *data);
    void *data;
};

static err_t run_locked(struct tcpip_api_call_data *call)
{
    struct locked *locked = (struct locked *)(void *)call;

    locked->work(locked->data);
    return ERR_OK;
}

void world_locked(void (*work)(void *), void *data)
{
    struct locked locked = {.work = work, .data = data};

    if (tcpip_api_call(run_locked, &locked.call) != ERR_OK) abort();
}

static void count_pcbs(void *data)
{
    unsigned *count = data;

    for (const struct tcp_pcb *pcb = tcp_active_pcbs; pcb != NULL; pcb = pcb->next) ++*count;
    for (const struct tcp_pcb *pcb = tcp_bound_pcbs; pcb != NULL; pcb = pcb->next) ++*count;
    for (const struct tcp_pcb *pcb = tcp_tw_pcbs; pcb != NULL; pcb = pcb->next) ++*count;
}

unsigned world_pcbs(void)
{
    unsigned count = 0;

    world_locked(count_pcbs, &count);
    return count;
}

unsigned world_sockets_open(void)
{
    unsigned count = 0;

    for (int fd = 0; fd < MEMP_NUM_NETCONN; fd++)
        count += lwip_socket_dbg_get_socket(LWIP_SOCKET_OFFSET + fd)->conn != NULL;
    return count;
}

/* ---- Peers ---- */

static bool is_in(const struct tcp_pcb *list, const struct tcp_pcb *pcb)
{
    while (list != NULL && list != pcb) list = list->next;
    return list != NULL;
}

enum { PEERS_MAX = 400, OWN_MAX = 48 };

static int peer_fd[PEERS_MAX]; /* -1: gone */
static bool peer_finished[PEERS_MAX], peer_parted[PEERS_MAX];
static int peer_count;
static struct miniproxy_addr listens[2], own[OWN_MAX]; /* where a peer connects to: IPv4, IPv6; and all there are */
static unsigned own_count;
static int starving[MEMP_NUM_NETCONN], starving_count;
static bool starved;
static struct netif wire, nowhere;

static const struct miniproxy_addr here_4 = {.ip = {10, 8, 0, 1}, .family = 4};
static const struct miniproxy_addr here_6 = {.ip = {0xfd, 1, [15] = 1}, .family = 6};
static const struct miniproxy_addr nowhere_4 = {.ip = {10, 9, 0, 1}, .family = 4};
static const struct miniproxy_addr nowhere_6 = {.ip = {0xfd, [15] = 1}, .family = 6};

union address {
    struct sockaddr any;
    struct sockaddr_in four;
    struct sockaddr_in6 six;
    struct sockaddr_storage storage;
};

static socklen_t to_sockaddr(union address *out, const struct miniproxy_addr *a)
{
    memset(out, 0, sizeof *out);
    if (a->family == 4) {
        out->four.sin_family = AF_INET;
        out->four.sin_port = lwip_htons(a->port);
        memcpy(&out->four.sin_addr, a->ip, 4);
        return sizeof out->four;
    }
    out->six.sin6_family = AF_INET6;
    out->six.sin6_port = lwip_htons(a->port);
    memcpy(&out->six.sin6_addr, a->ip, MINIPROXY_IP_LEN);
    return sizeof out->six;
}

static struct miniproxy_addr from_sockaddr(const union address *sa)
{
    struct miniproxy_addr a = {.family = sa->any.sa_family == AF_INET ? 4 : 6};

    if (a.family == 4) memcpy(a.ip, &sa->four.sin_addr, 4);
    else memcpy(a.ip, &sa->six.sin6_addr, MINIPROXY_IP_LEN);
    a.port = lwip_ntohs(a.family == 4 ? sa->four.sin_port : sa->six.sin6_port);
    return a;
}

struct miniproxy_addr world_here(int family, uint16_t port)
{
    struct miniproxy_addr a = family == 4 ? here_4 : here_6;

    a.port = port;
    return a;
}

struct miniproxy_addr world_nowhere(int family, uint8_t last, uint16_t port)
{
    struct miniproxy_addr a = family == 4 ? nowhere_4 : nowhere_6;

    a.ip[family == 4 ? 3 : 15] = last;
    a.port = port;
    return a;
}

static void move_nowhere(void *data)
{
    const uint8_t *last = data;
    struct miniproxy_addr four = world_nowhere(4, *last, 0), six = world_nowhere(6, *last, 0);
    ip4_addr_t ip;
    ip6_addr_t ip6;

    memset(&ip6, 0, sizeof ip6);
    memcpy(&ip.addr, four.ip, 4);
    memcpy(ip6.addr, six.ip, 16);
    netif_set_ipaddr(&nowhere, &ip);
    netif_ip6_addr_set(&nowhere, 0, &ip6);
}

void world_move_nowhere(uint8_t last)
{
    world_locked(move_nowhere, &last);
}

static uint32_t now_ms(struct conformance_world *w)
{
    (void)w;
    return sys_now();
}

static void wait_ms(struct conformance_world *w, uint32_t ms)
{
    (void)w;
    miniproxy_lwip_sockets_wait(&world_sockets, ms);
}

static int add_peer(int fd)
{
    int on = 1, peer = 0;

    if (fd < 0) return MINIPROXY_EFAIL;
    while (peer < peer_count && peer_fd[peer] >= 0) peer++;
    if (peer == PEERS_MAX || lwip_fcntl(fd, F_SETFL, O_NONBLOCK) != 0) {
        lwip_close(fd);
        return MINIPROXY_EFAIL;
    }
    lwip_setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (peer == peer_count) peer_count++;
    peer_fd[peer] = fd;
    peer_finished[peer] = peer_parted[peer] = false;
    return peer;
}

static int new_peer(int family)
{
    return add_peer(lwip_socket(family == 4 ? AF_INET : AF_INET6, SOCK_STREAM, 0));
}

int world_peer_fd(int peer)
{
    return peer_fd[peer];
}

int world_peer_to(const struct miniproxy_addr *to)
{
    union address sa;
    socklen_t len = to_sockaddr(&sa, to);
    int peer = new_peer(to->family);

    if (peer < 0) return peer;
    if (lwip_connect(peer_fd[peer], &sa.any, len) == 0 || errno == EINPROGRESS) return peer;
    lwip_close(peer_fd[peer]);
    peer_fd[peer] = -1;
    return MINIPROXY_EREFUSED;
}

static int peer_connect(struct conformance_world *w, int family)
{
    (void)w;
    return world_peer_to(&listens[family == 6]);
}

static int peer_listen(struct conformance_world *w, int family, struct miniproxy_addr *at)
{
    struct miniproxy_addr any = world_here(family, 0);
    union address sa;
    socklen_t len = to_sockaddr(&sa, &any);
    int peer = new_peer(family);

    (void)w;
    if (peer < 0) return peer;
    if (lwip_bind(peer_fd[peer], &sa.any, len) != 0 || lwip_listen(peer_fd[peer], 64) != 0 ||
        lwip_getsockname(peer_fd[peer], &sa.any, &len) != 0) {
        lwip_close(peer_fd[peer]);
        peer_fd[peer] = -1;
        return MINIPROXY_EFAIL;
    }
    *at = from_sockaddr(&sa);
    return peer;
}

static int peer_accept(struct conformance_world *w, int listener)
{
    int fd = lwip_accept(peer_fd[listener], NULL, NULL);

    (void)w;
    return fd < 0 && errno == EAGAIN ? MINIPROXY_AGAIN : add_peer(fd);
}

static struct miniproxy_addr peer_address(struct conformance_world *w, int peer)
{
    union address sa;
    socklen_t len = sizeof sa;

    (void)w;
    if (lwip_getsockname(peer_fd[peer], &sa.any, &len) != 0) abort();
    return from_sockaddr(&sa);
}

static int peer_result(ssize_t n)
{
    if (n > 0) return (int)n;
    if (n == 0) return MINIPROXY_EOF;
    return errno == EAGAIN || errno == EINPROGRESS ? MINIPROXY_AGAIN : MINIPROXY_ERESET;
}

static int peer_send(struct conformance_world *w, int peer, const void *data, size_t len)
{
    (void)w;
    return peer_result(lwip_send(peer_fd[peer], data, len, 0));
}

/* lwIP frees the PCB of a socket at the end of TIME_WAIT, and the socket does not learn of it: part them before. */
static void part(void *data)
{
    int peer = *(int *)data;
    struct netconn *conn = lwip_socket_dbg_get_socket(peer_fd[peer])->conn;
    struct tcp_pcb *pcb = conn->pcb.tcp;

    if (pcb == NULL || (is_in(tcp_active_pcbs, pcb) && pcb->callback_arg == conn)) return;
    if (is_in(tcp_tw_pcbs, pcb) && pcb->callback_arg == conn) tcp_arg(pcb, NULL);
    conn->pcb.tcp = NULL;
    peer_parted[peer] = true;
}

static int peer_recv(struct conformance_world *w, int peer, void *data, size_t len)
{
    int result;

    (void)w;
    if (peer_finished[peer]) world_locked(part, &peer);
    result = peer_result(lwip_recv(peer_fd[peer], data, len, 0));
    return result < 0 && peer_parted[peer] ? MINIPROXY_EOF : result;
}

/* Nothing may wait to be sent: lwIP 2.2.1, when it has to divide the last segment, sends the FIN with either part. */
static err_t send_fin(void *arg, struct tcp_pcb *pcb, u16_t len)
{
    (void)arg;
    (void)len;
    tcp_sent(pcb, pcb->unsent != NULL ? send_fin : NULL);
    if (pcb->unsent == NULL) tcp_shutdown(pcb, 0, 1);
    return ERR_OK;
}

static void finish(void *data)
{
    struct tcp_pcb *pcb = lwip_socket_dbg_get_socket(peer_fd[*(int *)data])->conn->pcb.tcp;

    if (pcb != NULL) send_fin(NULL, pcb, 0);
}

static void peer_finish(struct conformance_world *w, int peer)
{
    (void)w;
    peer_finished[peer] = true;
    world_locked(finish, &peer);
}

/* A peer has read its octets, or not: either way it is gone at once. In TIME_WAIT, which lwIP does not tell the end of,
 * it is left alone. */
static void abort_netconn(void *data)
{
    struct netconn *conn = data;
    struct tcp_pcb *pcb = conn->pcb.tcp;

    if (pcb == NULL || is_in(tcp_listen_pcbs.pcbs, pcb)) return;
    if (is_in(tcp_active_pcbs, pcb) && pcb->callback_arg == conn) tcp_abort(pcb);
    else if (is_in(tcp_tw_pcbs, pcb)) tcp_arg(pcb, NULL);
    conn->pcb.tcp = NULL;
}

static void peer_reset(struct conformance_world *w, int peer)
{
    int fd;

    (void)w;
    /* a listener: lwIP cannot close it with connections in its queue when LWIP_NETCONN_FULLDUPLEX is on */
    while ((fd = lwip_accept(peer_fd[peer], NULL, NULL)) >= 0) {
        world_locked(abort_netconn, lwip_socket_dbg_get_socket(fd)->conn);
        lwip_close(fd);
    }
    world_locked(abort_netconn, lwip_socket_dbg_get_socket(peer_fd[peer])->conn);
    lwip_close(peer_fd[peer]);
    peer_fd[peer] = -1;
}

void world_starve_sockets(bool on)
{
    if (on == starved) return;
    starved = on;
    if (on) {
        while ((starving[starving_count] = lwip_socket(AF_INET, SOCK_DGRAM, 0)) >= 0) starving_count++;
        return;
    }
    while (starving_count > 0) lwip_close(starving[--starving_count]);
}

static void starve(struct conformance_world *w, bool on)
{
    (void)w;
    world_starve_sockets(on);
}

static void hold_names(struct conformance_world *w, bool on)
{
    (void)w;
    world_hold(on);
}

static void clear(struct conformance_world *w)
{
    world_starve_sockets(false);
    world_starve_memory(0, 0);
    world_hold(false);
    for (; peer_count > 0; peer_count--)
        if (peer_fd[peer_count - 1] >= 0) peer_reset(w, peer_count - 1);
}

static struct miniproxy_addr refusing(struct conformance_world *w, int family)
{
    (void)w;
    return world_here(family, 9);
}

static struct miniproxy_addr silent(struct conformance_world *w)
{
    struct miniproxy_addr at = nowhere_4;

    (void)w;
    at.ip[3] = 77;
    at.port = 80;
    return at;
}

static bool own_address(struct conformance_world *w, unsigned index, struct miniproxy_addr *at)
{
    (void)w;
    if (index < own_count) *at = own[index];
    return index < own_count;
}

/* ---- Names: all of it in lwIP's thread, or with the core locked ---- */

enum { HELD_MAX = 64, QUERY_MAX = 300, TYPE_A = 1, TYPE_AAAA = 28, CLASS_IN = 1, NO_SUCH_NAME = 3 };

static struct udp_pcb *server;
static bool names_held;
static unsigned query_count, held_count;
static struct held {
    ip_addr_t from;
    u16_t port;
    struct pbuf *query;
} held[HELD_MAX];

static size_t put_answer(uint8_t *at, unsigned type, const uint8_t *ip, size_t len)
{
    const uint8_t head[12] = {0xc0, 12, 0, (uint8_t)type, 0, CLASS_IN, 0, 0, 0, 0, 0, (uint8_t)len}; /* TTL 0 */

    memcpy(at, head, sizeof head);
    memcpy(at + sizeof head, ip, len);
    return sizeof head + len;
}

/* The octets of the address, their number as result. */
static size_t address_of(const char *name, unsigned type, unsigned index, uint8_t ip[16])
{
    int number = 0;
    uint8_t four[4] = {127, 0, 0, 0}, six[16] = {0xfd};

    if (strcmp(name, "known.test") == 0) four[3] = 1, six[0] = 0, six[15] = 1;
    else if (strcmp(name, "other.test") == 0) four[3] = 2;
    else if (strcmp(name, "slow.test") == 0) four[3] = 3;
    else if (strcmp(name, "both.test") == 0) four[3] = (uint8_t)(4 + index), six[15] = 4;
    else if (strcmp(name, "four.test") == 0) four[3] = 6;
    else if (strcmp(name, "six.test") == 0) six[15] = 6;
    else if (strcmp(name, "mapped.test") == 0) memcpy(six, (uint8_t[16]){[10] = 0xff, 0xff, 127, 0, 0, 9}, 16);
    else if (sscanf(name, "held%d.test", &number) == 1) four[2] = 1, four[3] = (uint8_t)number;
    else if (sscanf(name, "n%d.test", &number) == 1) four[2] = 2, four[3] = (uint8_t)number;
    if (type == TYPE_A && four[3] != 0 && index < (strcmp(name, "both.test") == 0 ? 2 : 1)) {
        memcpy(ip, four, 4);
        return 4;
    }
    if (type == TYPE_AAAA && six[15] != 0 && index == 0) {
        memcpy(ip, six, 16);
        return 16;
    }
    return 0;
}

static bool exists(const char *name)
{
    uint8_t ip[16];

    return address_of(name, TYPE_A, 0, ip) > 0 || address_of(name, TYPE_AAAA, 0, ip) > 0;
}

/* The name asked for; its type as result, 0: not a query. *end: the octets up to the end of the question. */
static unsigned parse(const uint8_t *query, size_t len, char name[QUERY_MAX], size_t *end)
{
    size_t at = 12, out = 0;

    while (at < len && query[at] != 0 && at + 1u + query[at] < len) {
        if (out > 0) name[out++] = '.';
        memcpy(name + out, query + at + 1, query[at]);
        out += query[at];
        at += 1u + query[at];
    }
    name[out] = '\0';
    *end = at + 5;
    return *end <= len ? query[at + 2] : 0;
}

static void reply(const struct held *h)
{
    uint8_t message[QUERY_MAX + 3 * 28], ip[16];
    char name[QUERY_MAX];
    size_t len = pbuf_copy_partial(h->query, message, QUERY_MAX, 0), end, size;
    unsigned type = parse(message, len, name, &end), answers = 0;
    struct pbuf *p;

    if (type == 0) return;
    for (len = end; (size = address_of(name, type, answers, ip)) > 0; answers++)
        len += put_answer(message + len, type, ip, size);
    message[2] = 0x81;
    message[3] = (uint8_t)(0x80 | (exists(name) ? 0 : NO_SUCH_NAME));
    memset(message + 4, 0, 8);
    message[5] = 1;
    message[7] = (uint8_t)answers;
    p = pbuf_alloc(PBUF_TRANSPORT, (u16_t)len, PBUF_RAM);
    if (p == NULL) return;
    pbuf_take(p, message, (u16_t)len);
    udp_sendto(server, p, &h->from, h->port);
    pbuf_free(p);
}

static bool is_held(struct pbuf *query)
{
    uint8_t message[QUERY_MAX];
    char name[QUERY_MAX];
    size_t end;
    unsigned type = parse(message, pbuf_copy_partial(query, message, sizeof message, 0), name, &end);

    if (strcmp(name, "failing.test") == 0 || (strcmp(name, "four.test") == 0 && type == TYPE_AAAA)) return true;
    return names_held && (strcmp(name, "slow.test") == 0 || strncmp(name, "held", 4) == 0);
}

static void on_query(void *arg, struct udp_pcb *pcb, struct pbuf *p, const ip_addr_t *addr, u16_t port)
{
    struct held h = {.from = *addr, .port = port, .query = p};

    (void)arg;
    (void)pcb;
    query_count++;
    if (!is_held(p)) {
        reply(&h);
    } else if (names_held && held_count < HELD_MAX) {
        held[held_count++] = h;
        return;
    }
    pbuf_free(p);
}

static void hold(void *data)
{
    const bool *on = data;
    unsigned kept = 0;

    names_held = *on;
    for (unsigned i = 0; i < held_count; i++) {
        if (is_held(held[i].query) && names_held) {
            held[kept++] = held[i];
            continue;
        }
        if (!is_held(held[i].query)) reply(&held[i]);
        pbuf_free(held[i].query);
    }
    held_count = kept;
}

void world_hold(bool on)
{
    world_locked(hold, &on);
}

static void read_counts(void *data)
{
    unsigned *counts = data;

    counts[0] = query_count;
    counts[1] = held_count;
}

static void set_servers(void *data)
{
    const ip_addr_t here = IPADDR4_INIT_BYTES(10, 8, 0, 1), dead = IPADDR4_INIT_BYTES(10, 9, 0, 77);
    const bool *on = data;

    dns_setserver(0, *on ? &dead : &here);
    dns_setserver(1, *on ? &here : NULL);
}

void world_ask_the_dead_first(bool on)
{
    world_locked(set_servers, &on);
}

unsigned world_queries(void)
{
    unsigned counts[2];

    world_locked(read_counts, counts);
    return counts[0];
}

unsigned world_held(void)
{
    unsigned counts[2];

    world_locked(read_counts, counts);
    return counts[1];
}

/* ---- The world ---- */

struct conformance_world world = {
    .port = &miniproxy_lwip_sockets_port,
    .port_data = &world_sockets,
    .ipv4 = true,
    .ipv6 = true,
    .many = 50,
    .listener = {0, 2},
    .room_max = 16 * TCP_WND + 16 * TCP_SND_BUF,
    .now_ms = now_ms,
    .wait = wait_ms,
    .peer_connect = peer_connect,
    .peer_listen = peer_listen,
    .peer_accept = peer_accept,
    .peer_address = peer_address,
    .peer_send = peer_send,
    .peer_recv = peer_recv,
    .peer_finish = peer_finish,
    .peer_reset = peer_reset,
    .clear = clear,
    .refusing = refusing,
    .silent = silent,
    .own = own_address,
    .starve = starve,
    .known = {.host = "known.test", .address = {.ip = {127, 0, 0, 1}, .family = 4}},
    .other = {.host = "other.test", .address = {.ip = {127, 0, 0, 2}, .family = 4}},
    .missing = "missing.test",
    .failing = "failing.test",
    .both = "both.test",
    .hold_names = hold_names,
    .slow = {.host = "slow.test", .address = {.ip = {127, 0, 0, 3}, .family = 4}},
};

static err_t drop(struct netif *netif, struct pbuf *p, const ip4_addr_t *ip)
{
    (void)netif, (void)p, (void)ip;
    return ERR_OK;
}

static err_t drop_6(struct netif *netif, struct pbuf *p, const ip6_addr_t *ip)
{
    (void)netif, (void)p, (void)ip;
    return ERR_OK;
}

/* One message a packet: lwIP's own loopback goes round without letting go of the core, and two ends whose windows are
 * both closed answer each other's acknowledgements for ever. */
static err_t send_back(struct netif *netif, struct pbuf *p)
{
    struct pbuf *copy = pbuf_clone(PBUF_RAW, PBUF_RAM, p);

    if (copy != NULL && tcpip_input(copy, netif) != ERR_OK) pbuf_free(copy);
    return ERR_OK;
}

static err_t send_back_4(struct netif *netif, struct pbuf *p, const ip4_addr_t *ip)
{
    (void)ip;
    return send_back(netif, p);
}

static err_t send_back_6(struct netif *netif, struct pbuf *p, const ip6_addr_t *ip)
{
    (void)ip;
    return send_back(netif, p);
}

static err_t begin_wire(struct netif *netif)
{
    netif->output = send_back_4;
    netif->output_ip6 = send_back_6;
    return ERR_OK;
}

static err_t begin_nowhere(struct netif *netif)
{
    netif->output = drop;
    netif->output_ip6 = drop_6;
    return ERR_OK;
}

static void begin_netif(struct netif *netif, netif_init_fn begin, const struct miniproxy_addr *four,
                        const struct miniproxy_addr *six)
{
    ip4_addr_t ip, mask, none = {0};
    ip6_addr_t ip6;

    memset(&ip6, 0, sizeof ip6);
    memcpy(&ip.addr, four->ip, 4);
    memcpy(ip6.addr, six->ip, 16);
    IP4_ADDR(&mask, 255, 255, 255, 0);
    netif_add(netif, &ip, &mask, &none, NULL, begin, tcpip_input);
    netif->mtu = 1500;
    netif_set_up(netif);
    netif_set_link_up(netif);
    netif_ip6_addr_set(netif, 0, &ip6);
    netif_ip6_addr_set_state(netif, 0, IP6_ADDR_PREFERRED);
}

static void begin_network(void *data)
{
    ip_addr_t here = IPADDR4_INIT_BYTES(10, 8, 0, 1);

    (void)data;
    begin_netif(&wire, begin_wire, &here_4, &here_6);
    begin_netif(&nowhere, begin_nowhere, &nowhere_4, &nowhere_6);
    server = udp_new();
    udp_bind(server, &here, 53);
    udp_recv(server, on_query, NULL);
    dns_setserver(0, &here);
}

static void add_own(struct miniproxy_addr at, int port)
{
    at.port = (uint16_t)port;
    if (own_count < OWN_MAX) own[own_count++] = at;
}

static const struct miniproxy_addr any_4 = {.family = 4}, any_6 = {.family = 6}, any_of_all = {.family = 0};

bool world_open(void)
{
    static struct miniproxy proxy;
    const struct miniproxy_addr mapped = {.ip = {[10] = 0xff, 0xff, 10, 8, 0, 1}, .family = 6};
    const struct miniproxy_addr loopback = {.ip = {127, 1, 2, 3}, .family = 4};
    const struct miniproxy_addr loopback_6 = {.ip = {[15] = 1}, .family = 6};
    struct miniproxy_addr four = world_here(4, 0), six = world_here(6, 0);
    int port_4, port_6, port_any, port_any_6;

    memset(&world_sockets, 0, sizeof world_sockets);
    if (!miniproxy_lwip_sockets_init(&world_sockets, &proxy)) return false;
    port_4 = miniproxy_lwip_sockets_listen(&world_sockets, &four);
    port_6 = miniproxy_lwip_sockets_listen(&world_sockets, &six);
    port_any = miniproxy_lwip_sockets_listen(&world_sockets, &any_of_all);
    port_any_6 = miniproxy_lwip_sockets_listen(&world_sockets, &any_6);
    if (port_4 < 0 || port_6 < 0 || port_any < 0 || port_any_6 < 0) return false;
    own_count = 0;
    listens[0] = four;
    listens[0].port = (uint16_t)port_4;
    listens[1] = six;
    listens[1].port = (uint16_t)port_any;
    add_own(four, port_4);
    add_own(mapped, port_4);
    add_own(six, port_6);
    add_own(six, port_any_6);
    add_own(nowhere_6, port_any_6);
    add_own(four, port_any);
    add_own(loopback, port_any);
    add_own(any_4, port_any);
    add_own(mapped, port_any);
    add_own(nowhere_4, port_any);
    add_own(six, port_any);
    add_own(any_6, port_any);
    add_own(nowhere_6, port_any);
    add_own(loopback_6, port_any);
    add_own(loopback_6, port_any_6);
    add_own(any_6, port_any_6);
    return true;
}

void world_close(void)
{
    clear(&world);
    miniproxy_lwip_sockets_end(&world_sockets);
}

static void on_started(void *arg)
{
    sys_sem_signal(arg);
}

bool world_begin(void)
{
    sys_sem_t started;

    if (sys_sem_new(&started, 0) != ERR_OK) return false;
    tcpip_init(on_started, &started);
    sys_arch_sem_wait(&started, 0);
    sys_sem_free(&started);
    world_locked(begin_network, NULL);
    return world_open();
}
