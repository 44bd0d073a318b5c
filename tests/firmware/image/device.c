/* SPDX-License-Identifier: MIT
 *
 * tests/lwip/desktop/stack.h for the device: one lwIP on the board's Ethernet chip, one of the ports, and the account
 * at the end.
 */
#include "tests/lwip/desktop/stack.h"

#include "board.h"
#include "console.h"
#include "cpu.h"
#include "hooks.h"
#include "image.h"
#include "link.h"
#include "net.h"
#include "posix.h"
#include "random.h"
#include "sys_arch.h"

#include "lwip/dns.h"
#include "lwip/ethip6.h"
#include "lwip/init.h"
#include "lwip/memp.h"
#include "lwip/nd6.h"
#include "lwip/netif.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/stats.h"
#include "lwip/tcpip.h"
#include "lwip/timeouts.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <string.h>
#include <unistd.h>

#if NO_SYS
#include "port/miniproxy_lwip_raw.h"
#else
#include "port/miniproxy_lwip_sockets.h"
#endif

enum {
    NAME_TTL_S = 600,  /* no answer of the tests' name server is valid for longer */
    DELIVER_MS = 1500, /* how long the end waits for peers to take what was sent to them */
    SLEEP_MAX_MS = 10  /* of the sockets' build: how late a signal may be noticed */
};

static const struct stack_net *given;
static struct netif *cable;
static ip6_addr_t router6;
static unsigned used_before[MEMP_MAX], heap_before;

/* ---- Addresses and routes */

static ip4_addr_t ip4_of(const struct miniproxy_addr *a)
{
    ip4_addr_t ip;

    memcpy(&ip.addr, a->ip, 4);
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

        if (((ip4_of(&given->routes[i].net).addr ^ to->addr) & mask) == 0) return cable;
    }
    return NULL;
}

const ip6_addr_t *stack_router6(const ip6_addr_t *to)
{
    (void)to;
    return given->gw6.family == 6 ? &router6 : NULL;
}

/* IPv6 finds its neighbours by multicasts, which the product's driver for this chip has no use for. */
static void accept_multicasts(void)
{
#if !IMAGE_TINY
    enum { DATA = 0xA8, COMMAND = 0xA4, MAC_CONTROL = 1, ALL_MULTICASTS = 0x80000 };

    REGISTER(0x40200000 + DATA) = 0x0010000C | ALL_MULTICASTS;
    REGISTER(0x40200000 + COMMAND) = 0x80000000u | MAC_CONTROL;
#endif
}

static void set_ip6(void)
{
    s8_t index = -1;
    ip6_addr_t ip = {0};

    cable->output_ip6 = ethip6_output;
    accept_multicasts();
    if (given->ip6.family != 6) return;
    memcpy(ip.addr, given->ip6.ip, 16);
    memcpy(router6.addr, given->gw6.ip, 16);
    netif_create_ip6_linklocal_address(cable, 1);
    netif_ip6_addr_set_state(cable, 0, IP6_ADDR_PREFERRED);
    netif_add_ip6_address(cable, &ip, &index);
    if (index >= 0) netif_ip6_addr_set_state(cable, index, IP6_ADDR_PREFERRED);
}

/* Each boot is like the one before: without this, ports and sequence numbers would be those of the last test. */
static void mix_random_of_host(void)
{
    uint8_t bytes[16];
    int fd = open("/dev/urandom", O_RDONLY);

    if (fd < 0 || read(fd, bytes, sizeof bytes) != sizeof bytes) cpu_panic("no random numbers from the host");
    close(fd);
    random_mix(bytes, sizeof bytes);
}

/* After lwip_init, or in the thread of lwIP. */
static void plug_in(void)
{
    ip4_addr_t ip = ip4_of(&given->ip4), gw = ip4_of(&given->gw4), mask = {mask_of(given->bits4)}, dns4;
    ip_addr_t dns;

    net_start();
    cable = netif_default;
    netif_set_default(NULL); /* what no route leads to is unreachable */
    link_spoil(cable);
    mix_random_of_host();
    netif_set_addr(cable, &ip, &mask, &gw);
    set_ip6();
    if (given->dns.family != 4) return;
    dns4 = ip4_of(&given->dns);
    ip_addr_copy_from_ip4(dns, dns4);
    dns_setserver(0, &dns);
}

/* lwIP cannot be told to forget, but its answers grow old: at each tick by a second. A lookup under way is asked once
 * more and may fail. */
static void age_names(void)
{
    for (int i = 0; i < NAME_TTL_S; i++) dns_tmr();
}

/* ---- The account */

static bool is_closing(const struct tcp_pcb *pcb)
{
    switch (pcb->state) {
    case SYN_SENT:
    case ESTABLISHED:
    case CLOSE_WAIT: return false;
    default: return true; /* SYN_RCVD too: nobody has heard of it */
    }
}

static bool delivering(void)
{
    for (const struct tcp_pcb *pcb = tcp_active_pcbs; pcb != NULL; pcb = pcb->next)
        if (is_closing(pcb) && pcb->state != FIN_WAIT_2) return true;
    return false;
}

static void abort_closing(struct tcp_pcb *list)
{
    while (list != NULL) {
        struct tcp_pcb *pcb = list;

        list = list->next;
        if (is_closing(pcb)) tcp_abort(pcb);
    }
}

/* The stack then has memory for so many TCP connections. */
static void withhold_connections(void)
{
    if (given->pcbs == 0) return;
    for (unsigned i = given->pcbs; i < MEMP_NUM_TCP_PCB; i++) (void)memp_malloc(MEMP_TCP_PCB);
}

static void remember_what_is_used(void)
{
    withhold_connections();
    for (unsigned i = 0; i < MEMP_MAX; i++) used_before[i] = lwip_stats.memp[i]->used;
    heap_before = lwip_stats.mem.used;
}

static unsigned more_used(unsigned pool)
{
    return lwip_stats.memp[pool]->used - used_before[pool];
}

static unsigned refused_by_pools(void)
{
    unsigned refused = lwip_stats.mem.err;

    for (unsigned i = 0; i < MEMP_MAX; i++) refused += lwip_stats.memp[i]->err;
    return refused;
}

/* What the port has not given back is what is left when everything that it closed is gone. */
static void print_account(void)
{
    abort_closing(tcp_active_pcbs);
    abort_closing(tcp_tw_pcbs);
    console_printf("lwip: pcbs=%u listeners=%u segments=%u pbufs=%u blocks=%u sockets=%u refused=%u\n",
                   more_used(MEMP_TCP_PCB), more_used(MEMP_TCP_PCB_LISTEN), more_used(MEMP_TCP_SEG),
                   more_used(MEMP_PBUF) + more_used(MEMP_PBUF_POOL), (unsigned)lwip_stats.mem.used - heap_before,
#if NO_SYS
                   0,
#else
                   more_used(MEMP_NETCONN),
#endif
                   refused_by_pools());
    console_printf("stack: unused=%u worker=%u", cpu_stack_unused(), posix_stack_unused());
#if !NO_SYS
    console_printf(" lwip=%u", sys_stack_unused());
#endif
    console_printf(" heap=%u\n", image_heap_used());
}

#if NO_SYS
static struct miniproxy_lwip_raw raw;
static struct miniproxy_lwip_raw_syslog syslog;
#else
static struct miniproxy_lwip_sockets sockets;
static struct miniproxy_lwip_sockets_syslog syslog;
#endif

/* What the port holds. */
static void print_port(void)
{
    unsigned connections = 0, lookups = 0;

#if NO_SYS
    for (unsigned i = 0; i < MINIPROXY_LWIP_RAW_RECORDS; i++) connections += raw.records[i].state != 0;
    for (unsigned i = 0; i < MINIPROXY_LWIP_RAW_LOOKUPS; i++) lookups += raw.lookups[i].result != 0;
#else
    connections = sockets.open_used; /* lookups are among them */
#endif
    console_printf(" records=%u lookups=%u", connections, lookups);
}

static void print_stacks(void)
{
    console_printf(" stack=%u worker=%u", cpu_stack_unused(), posix_stack_unused());
#if !NO_SYS
    console_printf(" lwip=%u", sys_stack_unused());
#endif
}

static unsigned count_pbufs(const struct tcp_seg *segment)
{
    unsigned count = 0;

    for (; segment != NULL; segment = segment->next) count += pbuf_clen(segment->p);
    return count;
}

/* A line each: who holds what, when something has not come back. */
static void print_connections(const struct tcp_pcb *pcb)
{
    for (; pcb != NULL; pcb = pcb->next)
        console_printf("connection: local=%u remote=%u %s window=%u peer=%u pbufs=%u retries=%u probes=%u prio=%u\n",
                       pcb->local_port, pcb->remote_port, tcp_debug_state_str(pcb->state), (unsigned)pcb->rcv_wnd,
                       (unsigned)pcb->snd_wnd, count_pbufs(pcb->unsent) + count_pbufs(pcb->unacked), pcb->nrtx,
                       pcb->persist_probe, pcb->prio);
}

void image_print_pools(void)
{
    static const char *const names[] = {
#define LWIP_MEMPOOL(name, num, size, desc) #name,
#include "lwip/priv/memp_std.h"
    };

    print_connections(tcp_active_pcbs);
    console_printf("pools:");
    for (unsigned i = 0; i < MEMP_MAX; i++) {
        const struct stats_mem *s = lwip_stats.memp[i];
        console_printf(" %s=%u/%u/%u", names[i], (unsigned)s->used, (unsigned)s->max, (unsigned)s->avail);
    }
    console_printf(" heap=%u/%u/%u", (unsigned)lwip_stats.mem.used, (unsigned)lwip_stats.mem.max,
                   (unsigned)lwip_stats.mem.avail);
    print_port();
    console_printf(" malloc=%u", (unsigned)mallinfo().uordblks);
    print_stacks();
    console_printf(" received=%u dropped=%u reserve=%u refused=%u lost_in=%u lost_out=%u twice=%u late=%u\n",
                   net_counters.received, net_counters.dropped, net_counters.reserve, refused_by_pools(),
                   link_counters.lost_in, link_counters.lost_out, link_counters.twice, link_counters.late);
}

/* ---- Sleep
 *
 * The linker puts __wrap_cpu_sleep in place of the product's function (--wrap). A sleep while the core has work left
 * ends with whatever the next frame or tick brings: that is slow, and seen only by who measures. */

static bool has_work;

void __real_cpu_sleep(uint32_t ms, bool (*wanted)(void));
void __wrap_cpu_sleep(uint32_t ms, bool (*wanted)(void));

void __wrap_cpu_sleep(uint32_t ms, bool (*wanted)(void))
{
    if (has_work) cpu_panic("ERROR: asleep with work left");
    __real_cpu_sleep(ms, wanted);
}

/* ---- The raw port */

#if NO_SYS

const struct miniproxy_port *const stack_port = &miniproxy_lwip_raw_port;
void *const stack_port_data = &raw;

static bool wanted(void)
{
    return posix_signal_waits() || net_wanted();
}

bool stack_begin(const struct stack_net *net, struct miniproxy *proxy)
{
    given = net;
    lwip_init();
    plug_in();
    miniproxy_lwip_raw_init(&raw, proxy);
    remember_what_is_used();
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

static void turn(uint32_t wait_ms)
{
    uint32_t timer_ms = sys_timeouts_sleeptime();

    if (wait_ms > 0) cpu_sleep(wait_ms < timer_ms ? wait_ms : timer_ms, wanted);
    (void)net_poll();
    sys_check_timeouts();
}

void stack_wait(uint32_t wait_ms)
{
    bool signals = posix_take_signals();

    has_work = wait_ms == 0;
    turn(signals ? 0 : wait_ms);
    has_work = false;
}

uint32_t stack_syslog(const struct miniproxy_addr *to, const char *line, size_t len)
{
    if (syslog.pcb == NULL && !miniproxy_lwip_raw_syslog_open(&syslog, to)) return 1;
    miniproxy_lwip_raw_syslog_send(&syslog, line, len);
    return syslog.dropped;
}

void stack_flush_names(void)
{
    age_names();
}

void stack_end(void)
{
    uint32_t start_ms = cpu_now_ms();

    while (delivering() && cpu_now_ms() - start_ms < DELIVER_MS) turn(10);
    miniproxy_lwip_raw_syslog_close(&syslog);
    miniproxy_lwip_raw_end(&raw);
    print_account();
}

#else

/* ---- The sockets port */

#include "lwip/sys.h"

const struct miniproxy_port *const stack_port = &miniproxy_lwip_sockets_port;
void *const stack_port_data = &sockets;

static void in_lwip_thread(void *done)
{
    plug_in();
    sys_sem_signal(done);
}

bool stack_begin(const struct stack_net *net, struct miniproxy *proxy)
{
    sys_sem_t done;

    given = net;
    sys_sem_new(&done, 0);
    tcpip_init(in_lwip_thread, &done);
    sys_sem_wait(&done);
    remember_what_is_used();
    return miniproxy_lwip_sockets_init(&sockets, proxy);
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
    bool signals = posix_take_signals();

    has_work = wait_ms == 0;
    if (signals) wait_ms = 0;
    if (wait_ms == 0) sys_turn(); /* as in the product's main_sockets.c: to the network's thread */
    miniproxy_lwip_sockets_wait(&sockets, wait_ms < SLEEP_MAX_MS ? wait_ms : SLEEP_MAX_MS);
    has_work = false;
}

uint32_t stack_syslog(const struct miniproxy_addr *to, const char *line, size_t len)
{
    if (syslog.pcb == NULL && !miniproxy_lwip_sockets_syslog_open(&syslog, to)) return 1;
    miniproxy_lwip_sockets_syslog_send(&syslog, line, len);
    return syslog.dropped;
}

void stack_flush_names(void)
{
    LOCK_TCPIP_CORE();
    age_names();
    UNLOCK_TCPIP_CORE();
}

void stack_end(void)
{
    uint32_t start_ms = cpu_now_ms();

    miniproxy_lwip_sockets_syslog_close(&syslog);
    miniproxy_lwip_sockets_end(&sockets);
    while (delivering() && cpu_now_ms() - start_ms < DELIVER_MS) sys_msleep(10);
    LOCK_TCPIP_CORE();
    print_account();
    UNLOCK_TCPIP_CORE();
}

#endif

/* The worker is never asleep when another thread runs. */
void stack_interrupt(void)
{
}
