/* SPDX-License-Identifier: MIT */
#include "log.h"

#include <string.h>

#include "board.h"
#include "console.h"
#include "cpu.h"
#include "net.h"
#include "policy.h"
#include "syslog.h"
#include "sys_arch.h"
#include "tls.h"

#include "lwip/memp.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/stats.h"

/* ---- Transactions
 *
 *   uptime client user method target status cause by rule to up down dns connect first total
 *
 * Without the query, and without userinfo, which may be a password. */

static void put_address(const struct miniproxy_addr *a)
{
    char text[MINIPROXY_ADDR_TEXT];
    if (a->family == 0) {
        console_printf("-");
        return;
    }
    miniproxy_addr_format(a, text);
    console_printf("%s:%u", text, a->port);
}

static void put_target(const char *target, size_t len)
{
    const char *end = memchr(target, '?', len), *start = target, *at;
    if (end == NULL) end = target + len;
    if (end == target) console_printf("-"); /* the core may withhold one that hides a password */
    for (at = target; at + 3 <= end; at++)
        if (memcmp(at, "://", 3) == 0) start = at + 3;
    at = start;
    while (at < end && *at != '/' && *at != '@') at++;
    if (at < end && *at == '@') {
        console_escaped(target, (size_t)(start - target));
        target = at + 1;
    }
    console_escaped(target, (size_t)(end - target));
}

void log_event(void *app, const struct miniproxy_event *e)
{
    static const char *const by[] = {"-", "proxy", "origin"};
    uint32_t now_ms = cpu_now_ms();
    (void)app;
    syslog_event(e);
    console_printf("%u.%03u ", now_ms / 1000, now_ms % 1000);
    put_address(e->client);
    console_printf(" ");
    if (e->user != NULL) console_escaped(e->user, strlen(e->user));
    else console_printf("-");
    console_printf(" ");
    if (e->method_len > 0) {
        console_escaped(e->method, e->method_len);
        console_printf(" ");
        put_target(e->target, e->target_len);
    } else {
        console_printf("- -");
    }
    console_printf(" %u %s %s rule=%d to=", e->status, miniproxy_cause_token((enum miniproxy_cause)e->cause),
                   by[e->source], e->rule);
    put_address(e->address);
    console_printf(" up=%llu down=%llu dns=%u connect=%u first=%u total=%u\n", (unsigned long long)e->bytes_up,
                   (unsigned long long)e->bytes_down, e->dns_ms, e->connect_ms, e->first_byte_ms, e->total_ms);
}

/* ---- Counters */

static unsigned pcbs(const struct tcp_pcb *list)
{
    unsigned count = 0;
    for (; list != NULL; list = list->next) count++;
    return count;
}

static void proxy_counters(const struct miniproxy *proxy)
{
    const struct miniproxy_counters *c = miniproxy_counters(proxy);
    console_printf("counters accepted=%u requests=%u tunnels=%u reused=%u retried=%u evicted=%u accept_paused=%u "
                   "buffer_waits=%u\n",
                   c->accepted, c->requests, c->tunnels, c->reused, c->retried, c->evicted, c->accept_paused,
                   c->buffer_waits);
    console_printf("counters active=%u active_peak=%u buffers=%u buffers_peak=%u bytes_up=%llu bytes_down=%llu\n",
                   c->active, c->active_peak, c->buffers, c->buffers_peak, (unsigned long long)c->bytes_up,
                   (unsigned long long)c->bytes_down);
    console_printf("counters status");
    for (unsigned i = 0; i < 6; i++) console_printf(" %uxx=%u", i, c->status[i]);
    console_printf("\n");
#if MINIPROXY_WITH_CAUSE_COUNTERS
    for (unsigned i = 0; i < MINIPROXY_CAUSE_COUNT; i++)
        if (c->cause[i] > 0)
            console_printf("counters cause %s=%u\n", miniproxy_cause_token((enum miniproxy_cause)i), c->cause[i]);
#endif
}

static const struct {
    const char *name;
    uint8_t pool;
} pools[] = {
    {"tcp_pcb", MEMP_TCP_PCB},
    {"tcp_seg", MEMP_TCP_SEG},
    {"pbuf_ref", MEMP_PBUF},
    {"udp_pcb", MEMP_UDP_PCB},
    {"timeout", MEMP_SYS_TIMEOUT},
    {"pbuf_pool", MEMP_PBUF_POOL},
#if !NO_SYS
    {"netconn", MEMP_NETCONN},
    {"netbuf", MEMP_NETBUF},
#endif
};
enum { POOLS = sizeof pools / sizeof *pools + 1 };

/* The last one is the heap. */
static const struct stats_mem *pool_at(unsigned i, const char **name)
{
    *name = i < POOLS - 1 ? pools[i].name : "heap";
    return i < POOLS - 1 ? lwip_stats.memp[pools[i].pool] : &lwip_stats.mem;
}

/* used, the most that was used, what there is, how often that was not enough */
static void pool_counters(void)
{
    for (unsigned i = 0; i < POOLS; i++) {
        const char *name;
        const struct stats_mem *s = pool_at(i, &name);
        console_printf("pool %s used=%u max=%u of=%u failed=%u\n", name, s->used, s->max, s->avail, s->err);
    }
}

void log_counters(const struct miniproxy *proxy)
{
    proxy_counters(proxy);
    pool_counters();
    console_printf("net received=%u dropped=%u reserve=%u pcbs_active=%u pcbs_time_wait=%u\n", net_counters.received,
                   net_counters.dropped, net_counters.reserve, pcbs(tcp_active_pcbs), pcbs(tcp_tw_pcbs));
    tls_counters();
    console_printf("stack size=%u unused=%u", cpu_stack_size(), cpu_stack_unused());
#if !NO_SYS
    console_printf(" tcpip_size=%u tcpip_unused=%u", TCPIP_THREAD_STACKSIZE, sys_stack_unused());
#endif
    console_printf("\ncounters end uptime_ms=%u\n", cpu_now_ms());
}

#if MINIPROXY_WITH_HITS

void log_hits(void)
{
    for (unsigned i = 0; policy.hits != NULL && i <= policy.rule_count; i++)
        console_printf("hits rule=%d count=%u\n", i < policy.rule_count ? (int)i : -1, policy.hits[i]);
    console_printf("hits end uptime_ms=%u\n", cpu_now_ms());
}

#else

void log_hits(void)
{
    console_printf("hits are not counted in this image\n");
}

#endif

/* ---- Metrics: what /metrics has of the board */

#if MINIPROXY_WITH_METRICS

static char *put_word(char *w, const char *text)
{
    while (*text != '\0') *w++ = *text++;
    return w;
}

static char *put_decimal(char *w, uint32_t value)
{
    char digits[10];
    unsigned n = 0;
    do {
        digits[n++] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    while (n > 0) *w++ = digits[--n];
    return w;
}

/* What stands in front of the samples of a name. */
static char *put_family(char *w, const char *name, const char *type, const char *help)
{
    w = put_word(put_word(put_word(put_word(put_word(w, "# TYPE "), name), " "), type), "\n# HELP ");
    return put_word(put_word(put_word(put_word(w, name), " "), help), "\n");
}

static const struct {
    const char *name, *type, *help;
} pool_families[] = {
    {"lwip_pool_used", "gauge", "In use."},
    {"lwip_pool_peak", "gauge", "The most that was in use."},
    {"lwip_pool_limit", "gauge", "What there is; octets of the heap."},
    {"lwip_pool_failures", "counter", "Times that was not enough."},
};

static char *put_pool(char *w, unsigned family, unsigned i)
{
    const char *name;
    const struct stats_mem *s = pool_at(i, &name);
    const uint32_t values[] = {s->used, s->max, s->avail, s->err};
    w = put_word(put_word(w, pool_families[family].name), family == 3 ? "_total{pool=\"" : "{pool=\"");
    return put_word(put_decimal(put_word(put_word(w, name), "\"} "), values[family]), "\n");
}

static const struct {
    const char *name, *type, *help;
} board_families[] = {
    {"board_stack_bytes", "gauge", "Octets of the stack."},
    {"board_stack_unused_bytes", "gauge", "Octets of it that were never used."},
    {"board_frames_received", "counter", "Ethernet frames that came in."},
    {"board_frames_dropped", "counter", "Frames dropped for want of memory."},
    {"board_uptime_seconds", "gauge", "Since the start; from 0 again after 49 days."},
};
enum { POOL_FAMILIES = sizeof pool_families / sizeof *pool_families,
       BOARD_FAMILIES = sizeof board_families / sizeof *board_families };

static size_t board_metrics(void *app, unsigned at, char *out, size_t room)
{
    const uint32_t values[] = {cpu_stack_size(), cpu_stack_unused(), net_counters.received, net_counters.dropped,
                               cpu_now_ms() / 1000};
    char *w = out;
    (void)app, (void)room; /* a group takes less than half of what there is */
    if (at < POOL_FAMILIES * POOLS) {
        unsigned family = at / POOLS, i = at % POOLS;
        if (i == 0) w = put_family(w, pool_families[family].name, pool_families[family].type, pool_families[family].help);
        return (size_t)(put_pool(w, family, i) - out);
    }
    at -= POOL_FAMILIES * POOLS;
    if (at >= BOARD_FAMILIES) return 0;
    w = put_family(w, board_families[at].name, board_families[at].type, board_families[at].help);
    w = put_word(put_word(w, board_families[at].name), *board_families[at].type == 'c' ? "_total " : " ");
    return (size_t)(put_word(put_decimal(w, values[at]), "\n") - out);
}

void log_metrics(struct miniproxy_config *config)
{
    config->metrics = board_metrics;
}

#else

void log_metrics(struct miniproxy_config *config)
{
    (void)config;
}

#endif

/* ---- Maintenance */

#if MINIPROXY_WITH_MAINTENANCE

static void toggle_maintenance(struct miniproxy *proxy)
{
    bool begins = miniproxy_condition(proxy) != MINIPROXY_IN_MAINTENANCE;
    miniproxy_maintain(proxy, begins ? "This device is under maintenance. Try again later." : NULL);
    console_printf("maintenance %s\n", begins ? "begins" : "ends");
}

#else

static void toggle_maintenance(struct miniproxy *proxy)
{
    (void)proxy;
    console_printf("maintenance is not in this image\n");
}

#endif

/* ---- Console */

#if FIRMWARE_TEST

static unsigned overflow(unsigned n)
{
    static volatile unsigned enough; /* never: 0 is reached when RAM is long exceeded */
    volatile unsigned local[16] = {n};
    return n == enough ? 0 : overflow(n + 1) + local[n & 15];
}

static void test_command(int command)
{
    if (command == 'f') *(volatile uint32_t *)0xF0000000 = 1;
    while (command == 'w') {}
    if (command == 'o') overflow(1);
    if (command == 'p') cpu_panic("asked for");
}

#else

static void test_command(int command)
{
    (void)command;
}

#endif

void log_commands(struct miniproxy *proxy)
{
    int command;
    while ((command = board_uart_get()) >= 0) {
        if (command == 'c') log_counters(proxy);
        else if (command == 'h') log_hits();
        else if (command == 'm') toggle_maintenance(proxy);
        else test_command(command);
    }
}

void log_address(uint16_t port)
{
    struct miniproxy_addr at = {.port = port, .family = 4};
    uint32_t address;
    if (!net_address_news(&address)) return;
    memcpy(at.ip, &address, sizeof address);
    console_printf("READY ");
    put_address(&at);
    console_printf("\n");
}
