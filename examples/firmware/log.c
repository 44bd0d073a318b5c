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

/* used, the most that was used, what there is, how often that was not enough */
static void pool_counters(void)
{
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
    for (unsigned i = 0; i < sizeof pools / sizeof *pools; i++) {
        const struct stats_mem *s = lwip_stats.memp[pools[i].pool];
        console_printf("pool %s used=%u max=%u of=%u failed=%u\n", pools[i].name, s->used, s->max, s->avail, s->err);
    }
    console_printf("pool heap used=%u max=%u of=%u failed=%u\n", lwip_stats.mem.used, lwip_stats.mem.max,
                   lwip_stats.mem.avail, lwip_stats.mem.err);
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

void log_commands(const struct miniproxy *proxy)
{
    int command;
    while ((command = board_uart_get()) >= 0) {
        if (command == 'c') log_counters(proxy);
        else if (command == 'h') log_hits();
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
