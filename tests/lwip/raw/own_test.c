/* SPDX-License-Identifier: MIT
 *
 * What is the raw port's own: memory that runs out, and comes back; a bad network; everything at once. Arguments: the
 * suite's name, the results file.
 */
#include "raw_world.h"

#include "lwip/inet_chksum.h"
#include "lwip/mem.h"
#include "lwip/memp.h"
#include "lwip/netif.h"
#include "lwip/pbuf.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/stats.h"
#include "lwip/tcp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct miniproxy_port *const port = &miniproxy_lwip_raw_port;

enum {
    RECORDS = MINIPROXY_LWIP_RAW_RECORDS,
    FULL = LWIP_IPV6 && TCP_MSS > 1440 ? 1440 : TCP_MSS,
    HOLD_MAX = (TCP_WND + FULL - 1) / FULL,
    LIMITED = !MEMP_MEM_MALLOC, /* else memory does not run out */
    PEER_WND = 4 * 1460
};

static mem_size_t heap_used; /* before anything happened */
static unsigned timers_used; /* when nothing is under way */
static uint8_t bytes[70000];

static bool check(bool condition, const char *expected)
{
    return conformance_check(condition, expected);
}

static void run_ms(uint32_t ms)
{
    wire_run_us(ms * 1000u);
}

static int port_recv(struct miniproxy_conn *c, void *data, size_t len)
{
    int n = port->recv(&raw, c, data, len);

    if (n == MINIPROXY_AGAIN) c->ready &= (uint8_t)~MINIPROXY_RD;
    return n;
}

static int port_send(struct miniproxy_conn *c, const void *data, size_t len)
{
    int n = port->send(&raw, c, data, len);

    if (n == MINIPROXY_AGAIN) c->ready &= (uint8_t)~MINIPROXY_WR;
    return n;
}

static struct pbuf *kept_by(const struct miniproxy_conn *c)
{
    return ((struct miniproxy_lwip_raw_record *)c->handle)->kept;
}

static unsigned used(memp_t pool)
{
    return (unsigned)lwip_stats.memp[pool]->used;
}

static unsigned records_used(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < RECORDS; i++) n += raw.records[i].state != 0;
    return n;
}

static unsigned lookups_used(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < MINIPROXY_LWIP_RAW_LOOKUPS; i++) n += raw.lookups[i].result != 0;
    return n;
}

/* After every test: nothing is left behind in lwIP or in the port. */
static bool all_given_back(void)
{
    run_ms(30000);
    check(records_used() == 0, "all records are free again");
    check(lookups_used() == 0, "all lookups are free again");
    check(used(MEMP_TCP_PCB) == 0, "all PCBs are free again");
    check(used(MEMP_TCP_SEG) == 0, "all segments are free again");
    check(used(MEMP_PBUF_POOL) == 0 && used(MEMP_PBUF) == 0, "all pbufs are free again");
    return check(lwip_stats.mem.used == heap_used, "the heap is as before");
}

/* ---- Streams whose octets can be checked at both ends ---- */

struct stream {
    uint8_t data[16384];
    size_t at, end;
};

static void stream_put(struct stream *s, const void *data, size_t len)
{
    memmove(s->data, s->data + s->at, s->end - s->at);
    s->end -= s->at;
    s->at = 0;
    if (s->end + len > sizeof s->data) abort();
    memcpy(s->data + s->end, data, len);
    s->end += len;
}

static size_t stream_len(const struct stream *s)
{
    return s->end - s->at;
}

static bool stream_take(struct stream *s, const void *data, size_t len)
{
    if (len > stream_len(s) || memcmp(s->data + s->at, data, len) != 0)
        return check(false, "octets arrive as they were sent");
    s->at += len;
    return true;
}

static void random_bytes(size_t len)
{
    for (size_t i = 0; i < len; i++) bytes[i] = (uint8_t)wire_rand(256);
}

/* ---- A connection with its peer, and what is on the way ---- */

struct end {
    struct miniproxy_conn *c;
    int peer;
    struct stream in, out;              /* peer to port, port to peer */
    bool peer_finished, finished, gone; /* gone: some reset; only what comes is compared no more */
};

static bool open_end(struct end *e, enum conformance_kind kind)
{
    struct conformance_pair p;

    memset(e, 0, sizeof *e);
    if (!conformance_pair(&p, kind)) return false;
    e->c = p.c;
    e->peer = p.peer;
    return true;
}

static size_t peer_sends(struct end *e, size_t len)
{
    int n;

    if (len > sizeof e->in.data - stream_len(&e->in)) len = sizeof e->in.data - stream_len(&e->in);
    random_bytes(len);
    n = len > 0 ? peer_send(e->peer, bytes, len) : 0;
    if (n > 0) stream_put(&e->in, bytes, (size_t)n);
    return n > 0 ? (size_t)n : 0;
}

static int peer_gets(struct end *e, size_t len)
{
    int n = peer_recv(e->peer, bytes, len);

    if (n > 0) stream_take(&e->out, bytes, (size_t)n);
    return n;
}

static int sends(struct end *e, size_t len)
{
    int n;

    random_bytes(len);
    n = port_send(e->c, bytes, len);
    if (n > 0) stream_put(&e->out, bytes, (size_t)n);
    return n;
}

static int gets(struct end *e, size_t len)
{
    int n = port_recv(e->c, bytes, len);

    if (n > 0) stream_take(&e->in, bytes, (size_t)n);
    return n;
}

static int relays(struct end *from, struct end *to, size_t max)
{
    int n;

    if (port->relay == NULL) {
        /* as the core would; what cannot be sent would be lost here, so ask before */
        size_t room = tcp_sndbuf(((struct miniproxy_lwip_raw_record *)to->c->handle)->pcb);

        if (room > max) room = max;
        n = room > 0 ? port_recv(from->c, bytes, room) : MINIPROXY_AGAIN;
        for (int sent = 0, part; sent < n; sent += part) {
            part = port_send(to->c, bytes + sent, (size_t)(n - sent));
            if (!check(part > 0, "what has room is taken")) return MINIPROXY_EFAIL;
        }
    } else {
        n = port->relay(&raw, from->c, to->c, max);
    }
    if (n <= 0) return n;
    if (!check((size_t)n <= max && (size_t)n <= stream_len(&from->in), "relay takes what has come, max at most"))
        return MINIPROXY_EFAIL;
    stream_put(&to->out, from->in.data + from->in.at, (size_t)n);
    from->in.at += (size_t)n;
    return n;
}

/* The peer reads until the end, which must be `result` after all octets that are due. */
static bool peer_reads_out(struct end *e, int result)
{
    int n = 0;

    for (int i = 0; i < 200000 && (n >= 0 || n == MINIPROXY_AGAIN); i++) {
        n = peer_gets(e, sizeof bytes / 2);
        if (n == MINIPROXY_AGAIN) run_ms(1);
    }
    return check(n == result, "the peer sees how it ends") &&
           check(result != MINIPROXY_EOF || stream_len(&e->out) == 0, "everything is delivered");
}

/* Send more than a peer that does not read can take. */
static void overfill(struct end *e, size_t extra)
{
    size_t left = PEER_WND + extra;

    for (int i = 0; i < 5000 && left > TCP_MSS; i++) {
        int n = e->c->ready & MINIPROXY_WR ? sends(e, left < 1000 ? left : 1000) : 0;

        if (n > 0) left -= (size_t)n;
        run_ms(1);
    }
    check(left <= TCP_MSS, "send takes octets");
}

/* ---- Pbufs ---- */

/* Connections of all records; half of them accepted. */
static unsigned open_many(struct end *ends, unsigned count)
{
    unsigned n = 0;

    while (n < count && open_end(&ends[n], n % 2 == 0 ? CONFORMANCE_ACCEPTED_4 : CONFORMANCE_CONNECTED_4)) n++;
    check(n == count, "connections open");
    return n;
}

static struct end ends[RECORDS];

static bool test_single_octets(void)
{
    unsigned count = open_many(ends, RECORDS);

    for (int round = 0; round < 2 * TCP_WND; round++) {
        for (unsigned i = 0; i < count; i++) peer_sends(&ends[i], 1);
        if (round % 8 == 0) wire_run_us(200);
    }
    run_ms(3000);
    check(wire_counts.no_pbuf == 0 && wire_counts.small_spared == 0, "the pool never runs out");
    if (LIMITED) check(lwip_stats.memp[MEMP_PBUF_POOL]->max <= RECORDS * HOLD_MAX + 2, "octets share pbufs");
    for (unsigned i = 0; i < count; i++) {
        check(stream_len(&ends[i].in) >= TCP_WND, "a window full has been sent");
        for (int idle = 0; idle < 500 && stream_len(&ends[i].in) > 0;) {
            if (gets(&ends[i], 1 + wire_rand(300)) > 0) idle = 0;
            else run_ms(1), idle++;
        }
        if (!check(stream_len(&ends[i].in) == 0, "all of it arrives")) return false;
    }
    return true;
}

/* The same, passed on to sinks that do not read. */
static bool test_single_octets_relayed(void)
{
    unsigned count = open_many(ends, 6);

    if (port->relay == NULL) return true;
    for (unsigned i = 1; i < count; i += 2) overfill(&ends[i], TCP_MSS);
    for (int round = 0; round < 300; round++) {
        for (unsigned i = 0; i + 1 < count; i += 2) {
            peer_sends(&ends[i], 1);
            if (ends[i + 1].c->ready & MINIPROXY_WR) relays(&ends[i], &ends[i + 1], 5000);
        }
        wire_run_us(200);
    }
    for (unsigned i = 1; i < count; i += 2) {
        unsigned kept = 0;

        for (const struct pbuf *p = kept_by(ends[i].c); p != NULL; p = p->next) kept++;
        check(kept <= HOLD_MAX, "no more pbufs are kept than a window fills");
    }
    if (LIMITED) check(lwip_stats.memp[MEMP_PBUF_POOL]->max <= RECORDS * HOLD_MAX + 2, "octets share pbufs");
    return check(wire_counts.no_pbuf == 0 && wire_counts.small_spared == 0, "the pool never runs out");
}

/* Odd sizes, read in odd pieces, so that pbufs are half read when more comes. */
static bool test_odd_sizes(void)
{
    if (!open_end(&ends[0], CONFORMANCE_ACCEPTED_4)) return false;
    for (int round = 0; round < 20000; round++) {
        if (wire_rand(2) == 0) peer_sends(&ends[0], 1 + wire_rand(wire_rand(4) == 0 ? 2000 : 40));
        wire_run_us(100 + wire_rand(500));
        if (wire_rand(3) == 0) gets(&ends[0], 1 + wire_rand(wire_rand(3) == 0 ? 3000 : 50));
    }
    return true;
}

static struct pbuf *take_pool(void)
{
    struct pbuf *all = NULL, *p;

    while ((p = pbuf_alloc(PBUF_RAW, 1, PBUF_POOL)) != NULL) {
        p->next = all;
        all = p;
    }
    return all;
}

static void give_pool(struct pbuf *all)
{
    while (all != NULL) {
        struct pbuf *next = all->next;

        all->next = NULL;
        pbuf_free(all);
        all = next;
    }
}

/* With the pool empty nothing can be received but small frames, by grace of the driver. Sending goes on. */
static bool test_pool_gone(void)
{
    struct pbuf *all;
    size_t total = 0;

    if (!LIMITED) return true;
    if (!open_end(&ends[0], CONFORMANCE_ACCEPTED_4) || !open_end(&ends[1], CONFORMANCE_CONNECTED_4)) return false;
    all = take_pool();
    for (int round = 0; round < 20000 && total < 50000; round++) {
        int n = ends[0].c->ready & MINIPROXY_WR ? sends(&ends[0], 1000) : 0;

        if (n > 0) total += (size_t)n;
        wire_run_us(200);
        peer_gets(&ends[0], 3000);
    }
    check(total >= 50000, "sending goes on without the pool");
    check(wire_counts.small_spared > 0, "the test empties the pool");
    peer_sends(&ends[1], 1000);
    run_ms(500);
    check(gets(&ends[1], 1000) == MINIPROXY_AGAIN, "the test empties the pool");
    give_pool(all);
    for (int i = 0; i < 20000 && stream_len(&ends[1].in) > 0; i++) {
        gets(&ends[1], 1000);
        run_ms(1);
    }
    return check(stream_len(&ends[1].in) == 0, "receiving goes on once there are pbufs again");
}

/* Sinks that do not read: what waits for them must not take the pool from the others. */
static bool test_stalled_sinks(void)
{
    unsigned stalled = RECORDS - 2;
    size_t total = 0;

    if (open_many(ends, RECORDS) < RECORDS) return false;
    for (int round = 0; round < 3000; round++) {
        for (unsigned i = 0; i + 1 < stalled; i += 2) {
            peer_sends(&ends[i], 1000);
            if ((ends[i].c->ready & MINIPROXY_RD) && (ends[i + 1].c->ready & MINIPROXY_WR))
                relays(&ends[i], &ends[i + 1], 5000);
        }
        wire_run_us(100);
    }
    for (unsigned i = 0; i + 1 < stalled; i += 2)
        check(stream_len(&ends[i].in) + stream_len(&ends[i + 1].out) <=
                  2 * (size_t)PEER_WND + TCP_SND_BUF + TCP_WND + 1000,
              "a window opens only as octets are acknowledged");
    for (int round = 0; round < 20000 && total < 100000; round++) {
        int n;

        peer_sends(&ends[stalled], 1000);
        n = relays(&ends[stalled], &ends[stalled + 1], 5000);
        if (n > 0) total += (size_t)n;
        peer_gets(&ends[stalled + 1], 3000);
        wire_run_us(200);
    }
    check(total >= 100000, "one that reads is served beside");
    return check(wire_counts.no_pbuf == 0, "the pool never runs out");
}

/* ---- PCBs ---- */

static unsigned take_pcbs(struct tcp_pcb *taken[MEMP_NUM_TCP_PCB])
{
    unsigned n = 0;

    while (n < MEMP_NUM_TCP_PCB && (taken[n] = tcp_new()) != NULL) n++;
    return n;
}

static bool test_pcbs_gone(void)
{
    const struct miniproxy_addr to = raw_world_peer_at(4, 9);
    struct tcp_pcb *taken[MEMP_NUM_TCP_PCB];
    unsigned n;

    if (!LIMITED) return true;
    n = take_pcbs(taken);
    for (int i = 0; i < 3; i++) {
        struct miniproxy_conn *c = conformance_take();

        check(port->connect(&raw, c, &to) == MINIPROXY_ERESOURCES, "ERESOURCES");
        conformance_give(c, false);
    }
    peer_connect(4, raw_world_port());
    run_ms(1000);
    check(!conformance_accept_woken(), "the test takes all PCBs");
    while (n > 0) tcp_close(taken[--n]);
    run_ms(10000);
    check(conformance_accept_woken(), "a client that repeats its SYN is served");
    return open_end(&ends[0], CONFORMANCE_CONNECTED_4);
}

/* Closed connections whose peers do not read give way to new ones. */
static bool test_closed_give_way(void)
{
    unsigned count = MEMP_NUM_TCP_PCB;

    if (!LIMITED || MEM_SIZE < 30000 || open_many(ends, count) < count) return true;
    for (unsigned i = 0; i < count; i++) {
        overfill(&ends[i], TCP_SND_BUF);
        conformance_give(ends[i].c, false);
    }
    run_ms(20000);
    check(used(MEMP_TCP_PCB) == count, "they are still to be delivered");
    return open_end(&ends[0], CONFORMANCE_CONNECTED_4) && open_end(&ends[1], CONFORMANCE_ACCEPTED_4);
}

/* Nobody keeps a closed connection for ever. */
static bool test_closed_for_long(void)
{
    if (!open_end(&ends[0], CONFORMANCE_ACCEPTED_4)) return false;
    overfill(&ends[0], TCP_SND_BUF);
    conformance_give(ends[0].c, false);
    check(records_used() == 0, "it needs no record");
    run_ms(MINIPROXY_LWIP_RAW_LINGER_S * 1000u - 5000u);
    check(used(MEMP_TCP_PCB) == 1, "it is kept for a while");
    run_ms(10000);
    check(used(MEMP_TCP_PCB) == 0, "but not for ever");
    return peer_reads_out(&ends[0], MINIPROXY_ERESET);
}

/* ---- Heap and segments ---- */

static void *take_heap(void)
{
    void *all = NULL;

    for (mem_size_t size = 4096; size >= 16; size /= 2) {
        void *p;

        while ((p = mem_malloc(size)) != NULL) {
            memcpy(p, &all, sizeof all);
            all = p;
        }
    }
    return all;
}

static void *take_segments(void)
{
    void *all = NULL, *p;

    while ((p = memp_malloc(MEMP_TCP_SEG)) != NULL) {
        memcpy(p, &all, sizeof all);
        all = p;
    }
    return all;
}

static void give(void *all, bool heap)
{
    while (all != NULL) {
        void *next;

        memcpy(&next, all, sizeof next);
        if (heap) mem_free(all);
        else memp_free(MEMP_TCP_SEG, all);
        all = next;
    }
}

static bool without_memory(bool heap)
{
    const struct miniproxy_addr to = raw_world_peer_at(4, 9);
    struct miniproxy_conn *c;
    void *all;

    if (!LIMITED) return true;
    for (int i = 0; i < 3; i++)
        if (!open_end(&ends[i], CONFORMANCE_ACCEPTED_4)) return false;
    if (!open_end(&ends[3], CONFORMANCE_CONNECTED_4)) return false;
    for (int i = 0; i < 3; i++) check(sends(&ends[i], 100) == 100, "sent before");
    peer_sends(&ends[3], 2 * TCP_MSS);
    run_ms(600); /* all of it acknowledged */
    all = heap ? take_heap() : take_segments();
    check(sends(&ends[0], 100) == MINIPROXY_AGAIN, "send says AGAIN without memory");
    if (port->relay != NULL) {
        check(relays(&ends[3], &ends[0], 1000) == MINIPROXY_AGAIN, "relay says AGAIN without memory");
        check((ends[0].c->ready & MINIPROXY_WR) == 0, "and that it waits for the sink");
    }
    ends[0].c->ready = 0;
    run_ms(1200);
    ends[0].c->ready &= (uint8_t)~MINIPROXY_WR;
    check(sends(&ends[0], 100) == MINIPROXY_AGAIN, "AGAIN without memory");
    check(port->finish(&raw, ends[1].c) == MINIPROXY_AGAIN, "finish says AGAIN without memory");
    conformance_give(ends[2].c, false);
    c = conformance_take();
    check(port->connect(&raw, c, &to) == MINIPROXY_ERESOURCES, "ERESOURCES");
    conformance_give(c, false);
    run_ms(500);
    check(peer_gets(&ends[1], 1000) == 100 && peer_gets(&ends[1], 1000) == MINIPROXY_AGAIN, "no FIN without memory");
    give(all, heap);
    check(conformance_await(ends[0].c, MINIPROXY_WR), "a wake when there is memory again");
    check(sends(&ends[0], 100) == 100, "and send takes octets");
    check(conformance_await(ends[1].c, MINIPROXY_WR), "a wake for finish");
    check(port->finish(&raw, ends[1].c) == MINIPROXY_OK, "and finish: OK");
    while (stream_len(&ends[3].in) > 0 && check(relays(&ends[3], &ends[0], 1000) > 0, "relay goes on")) run_ms(1);
    conformance_give(ends[0].c, false);
    return peer_reads_out(&ends[0], MINIPROXY_EOF) && peer_reads_out(&ends[1], MINIPROXY_EOF) &&
           peer_reads_out(&ends[2], MINIPROXY_EOF);
}

static bool test_heap_gone(void)
{
    return without_memory(true);
}

static bool test_segments_gone(void)
{
    return without_memory(false);
}

/* A lost segment is to be repeated and cannot be sent; those behind it have arrived. What is sent next goes behind them. */
static bool test_repeated_without_route(void)
{
    int n;

    if (!open_end(&ends[0], CONFORMANCE_ACCEPTED_4)) return false;
    check(sends(&ends[0], TCP_MSS) == TCP_MSS, "sent");
    run_ms(100); /* so that there is room for all of the next at once */
    wire_faults.loss = 1000;
    check(sends(&ends[0], 60) == 60, "sent, and lost");
    wire_faults.loss = 0;
    for (int i = 0; i < 4; i++) check(sends(&ends[0], 60) == 60, "sent behind it");
    wire_link(false);
    run_ms(20);
    n = sends(&ends[0], 60);
    check(n == 60 || n == MINIPROXY_AGAIN, "sent, or later");
    wire_link(true);
    if (n == MINIPROXY_AGAIN) {
        ends[0].c->ready &= (uint8_t)~MINIPROXY_WR;
        check(conformance_await(ends[0].c, MINIPROXY_WR), "a wake");
        check(sends(&ends[0], 60) == 60, "sent later");
    }
    conformance_give(ends[0].c, false);
    return peer_reads_out(&ends[0], MINIPROXY_EOF);
}

/* What was taken before a soft close gets there, although there was no route for a while. */
static bool test_closed_without_route(void)
{
    if (!open_end(&ends[0], CONFORMANCE_ACCEPTED_4)) return false;
    wire_link(false);
    check(sends(&ends[0], 500) == 500, "sent");
    conformance_give(ends[0].c, false);
    run_ms(12000);
    wire_link(true);
    run_ms(4000);
    check(peer_gets(&ends[0], 1000) == 500, "it is sent as soon as there is one");
    return peer_reads_out(&ends[0], MINIPROXY_EOF);
}

/* All that it can take, and has taken: nothing is under way. */
static void fill_peer(struct end *e)
{
    for (size_t left = PEER_WND; left > 0;) {
        int n = e->c->ready & MINIPROXY_WR ? sends(e, left < 500 ? left : 500) : 0;

        if (n > 0) left -= (size_t)n;
        run_ms(1);
    }
    run_ms(500);
}

/* When the heap is nearly used up, who has little under way still gets a short answer out, if its peer can take it. */
static bool test_short_answers(void)
{
    const mem_size_t left = MINIPROXY_LWIP_RAW_SPARE + 430; /* the answer, and what lwIP puts around it */
    void *all = NULL;

    if (!LIMITED || MINIPROXY_LWIP_RAW_SPARE_FIRST < 600) return true;
    for (unsigned i = 0; i < 3; i++)
        if (!open_end(&ends[i], CONFORMANCE_ACCEPTED_4)) return false;
    fill_peer(&ends[2]);
    check(sends(&ends[0], 500) == 500, "much is under way");
    while (lwip_stats.mem.avail - lwip_stats.mem.used > left + 64) {
        void *p = mem_malloc(32);

        if (p == NULL) break;
        memcpy(p, &all, sizeof all);
        all = p;
    }
    check(sends(&ends[0], 200) == MINIPROXY_AGAIN, "more of it has to wait");
    check(sends(&ends[2], 200) == MINIPROXY_AGAIN, "what a peer does not read has to wait");
    check(sends(&ends[1], 200) == 200, "an answer is sent");
    give(all, true);
    check(conformance_await(ends[0].c, MINIPROXY_WR), "a wake when there is memory again");
    check(conformance_await(ends[2].c, MINIPROXY_WR), "another one");
    for (unsigned i = 0; i < 3; i++) {
        conformance_give(ends[i].c, false);
        if (!peer_reads_out(&ends[i], MINIPROXY_EOF)) return false;
    }
    return true;
}

/* Many send at once, more than the heap can hold: all get on, and acknowledgements always come in. */
static bool test_heap_shared(void)
{
    unsigned count = open_many(ends, RECORDS);
    size_t done = 0, want = (size_t)count * 20000;

    for (int round = 0; round < 200000 && done < want; round++) {
        for (unsigned i = 0; i < count; i++) {
            int n = ends[i].c->ready & MINIPROXY_WR ? sends(&ends[i], 1000) : 0;

            if (n > 0) done += (size_t)n;
            if (wire_rand(4) == 0) peer_gets(&ends[i], 3000);
        }
        wire_run_us(300);
    }
    return check(done >= want, "all get on");
}

/* ---- Relay ---- */

static bool test_relay_much(void)
{
    size_t total = 0;

    if (!open_end(&ends[0], CONFORMANCE_CONNECTED_4) || !open_end(&ends[1], CONFORMANCE_ACCEPTED_4)) return false;
    for (int round = 0; round < 400000 && total < 3000000; round++) {
        int n = 0;

        peer_sends(&ends[0], 1 + wire_rand(4000));
        if ((ends[0].c->ready & MINIPROXY_RD) && (ends[1].c->ready & MINIPROXY_WR))
            n = relays(&ends[0], &ends[1], 1 + wire_rand(wire_rand(2) == 0 ? 100000 : 700));
        else if ((ends[1].c->ready & MINIPROXY_WR) && wire_rand(50) == 0) n = sends(&ends[1], 1 + wire_rand(200));
        if (wire_rand(100) == 0 && gets(&ends[0], 1 + wire_rand(700)) == MINIPROXY_EOF) return false;
        if (n > 0) total += (size_t)n;
        if (wire_rand(3) > 0) peer_gets(&ends[1], 1 + wire_rand(6000));
        wire_run_us(wire_rand(300));
        if (conformance_why() != NULL) return false;
    }
    check(total >= 3000000, "it gets on");
    conformance_give(ends[1].c, false);
    return peer_reads_out(&ends[1], MINIPROXY_EOF);
}

/* A full pbuf is not copied. */
static bool test_relay_keeps(void)
{
    bool kept = false;

    if (port->relay == NULL) return true;
    if (!open_end(&ends[0], CONFORMANCE_CONNECTED_4) || !open_end(&ends[1], CONFORMANCE_ACCEPTED_4)) return false;
    peer_sends(&ends[0], TCP_MSS + 100);
    run_ms(100);
    for (int n = 1; n > 0;) {
        n = relays(&ends[0], &ends[1], 10000);
        kept = kept || kept_by(ends[1].c) != NULL;
        run_ms(1);
    }
    check(kept, "a full pbuf is passed on as it is");
    run_ms(100);
    check(kept_by(ends[1].c) == NULL, "until it has been acknowledged");
    conformance_give(ends[1].c, false);
    return peer_reads_out(&ends[1], MINIPROXY_EOF);
}

/* Full sinks; then one side goes away in each way there is. */
static bool relay_ends(bool source_first, bool hard, bool peer_resets)
{
    struct end *from = &ends[0], *to = &ends[1];

    if (!open_end(from, CONFORMANCE_CONNECTED_4) || !open_end(to, CONFORMANCE_ACCEPTED_4)) return false;
    for (int round = 0; round < 500; round++) {
        peer_sends(from, 1000);
        if (relays(from, to, 5000) < 0) wire_run_us(200);
    }
    if (source_first) {
        if (peer_resets) peer_reset(from->peer);
        else conformance_give(from->c, hard);
        run_ms(50);
        conformance_give(to->c, false);
        return peer_reads_out(to, MINIPROXY_EOF);
    }
    if (peer_resets) peer_reset(to->peer);
    else conformance_give(to->c, hard);
    run_ms(50);
    if (!peer_resets && !peer_reads_out(to, hard ? MINIPROXY_ERESET : MINIPROXY_EOF)) return false;
    if (peer_resets && port->relay != NULL) check(relays(from, to, 1) == MINIPROXY_ESINK, "ESINK");
    /* The window opens again: the source goes on. */
    for (size_t total = 0; total < 20000;) {
        int n;

        peer_sends(from, 1000);
        n = gets(from, 1000);
        if (n > 0) total += (size_t)n;
        if (!check(n > 0 || n == MINIPROXY_AGAIN, "the source goes on")) return false;
        run_ms(1);
    }
    return true;
}

static bool test_relay_ends(void)
{
    for (unsigned i = 0; i < 8; i++) {
        if (!relay_ends((i & 1) != 0, (i & 2) != 0, (i & 4) != 0)) return false;
        if (!conformance_end()) return false;
        conformance_begin(&raw_world);
    }
    return true;
}

/* What a connection keeps of one source is acknowledged before another's is kept. */
static bool test_relay_second_source(void)
{
    if (port->relay == NULL) return true;
    for (unsigned i = 0; i < 3; i++)
        if (!open_end(&ends[i], i == 0 ? CONFORMANCE_ACCEPTED_4 : CONFORMANCE_CONNECTED_4)) return false;
    for (unsigned i = 1; i < 3; i++) {
        unsigned n = 0;

        for (int round = 0; round < 300; round++) {
            peer_sends(&ends[i], 1000);
            relays(&ends[i], &ends[0], 5000);
            wire_run_us(200);
        }
        for (const struct pbuf *p = kept_by(ends[0].c); p != NULL; p = p->next) n++;
        check(n <= HOLD_MAX, "what is kept is bounded by one window");
        conformance_give(ends[i].c, false);
        if (i == 1) peer_gets(&ends[0], 2 * TCP_MSS);
        run_ms(20);
    }
    conformance_give(ends[0].c, false);
    return peer_reads_out(&ends[0], MINIPROXY_EOF);
}

/* ---- Ends ---- */

/* lwIP would reset a connection that is closed while octets are unread. */
static bool test_close_unread(void)
{
    for (unsigned i = 0; i < 2; i++) {
        if (!open_end(&ends[i], CONFORMANCE_ACCEPTED_4)) return false;
        peer_sends(&ends[i], 1500);
        for (int round = 0; round < 50; round++) {
            if (ends[i].c->ready & MINIPROXY_WR) sends(&ends[i], 1000);
            run_ms(1);
        }
        if (i == 1) check(gets(&ends[i], 100) == 100, "something has come");
        conformance_give(ends[i].c, false);
        for (int round = 0; round < 20; round++) {
            peer_sends(&ends[i], 700); /* and goes on sending */
            run_ms(5);
        }
        if (!peer_reads_out(&ends[i], MINIPROXY_EOF)) return false;
    }
    return true;
}

/* lwIP forgets a PCB without a word once both sides have sent their FIN. */
static bool test_both_finish(void)
{
    for (unsigned i = 0; i < 12; i++) {
        struct end *e = &ends[0];
        int n;

        if (!open_end(e, i % 2 == 0 ? CONFORMANCE_ACCEPTED_4 : CONFORMANCE_CONNECTED_4)) return false;
        sends(e, 900);
        peer_sends(e, 800);
        if (i % 3 != 0) run_ms(30);
        if (i % 4 < 2) {
            peer_finish(e->peer);
            if (i % 4 == 0) run_ms(30);
            check(port->finish(&raw, e->c) == MINIPROXY_OK, "finish");
        } else {
            check(port->finish(&raw, e->c) == MINIPROXY_OK, "finish");
            /* what the peer says is lost, until its FIN acknowledges everything at once */
            if (i % 4 == 3) wire_faults.loss = 1000;
            run_ms(30);
            wire_faults.loss = 0;
            peer_finish(e->peer);
        }
        if (!peer_reads_out(e, MINIPROXY_EOF)) return false;
        run_ms(i % 2 == 0 ? 10 : 12000); /* by now it is gone */
        while ((n = gets(e, 300)) > 0) continue;
        check(n == MINIPROXY_EOF && stream_len(&e->in) == 0, "all octets, then EOF");
        check(port_send(e->c, bytes, 10) == MINIPROXY_ERESET, "send after the end is an error");
        conformance_give(e->c, i % 3 == 0);
    }
    return true;
}

static bool test_broken_hint(void)
{
    if (!open_end(&ends[0], CONFORMANCE_ACCEPTED_4)) return false;
    peer_sends(&ends[0], 500);
    run_ms(20);
    peer_reset(ends[0].peer);
    run_ms(20);
    check((ends[0].c->ready & MINIPROXY_BROKEN) != 0, "a reset is told, though octets are unread");
    return check(gets(&ends[0], 1000) == 500, "which are still there") &&
           check(gets(&ends[0], 1000) == MINIPROXY_ERESET, "ERESET");
}

/* ---- accept ---- */

static bool test_pending(void)
{
    struct miniproxy_addr from;
    struct miniproxy_conn *c = conformance_take();
    int peers[MINIPROXY_LWIP_RAW_BACKLOG + 3];
    unsigned waiting = 0;

    for (unsigned i = 0; i < MINIPROXY_LWIP_RAW_BACKLOG + 3u; i++) peers[i] = peer_connect(4, raw_world_port());
    run_ms(50);
    check(records_used() == MINIPROXY_LWIP_RAW_BACKLOG, "no more wait than the backlog allows");
    peer_send(peers[1], "hello", 5);
    peer_finish(peers[1]);
    peer_reset(peers[0]);
    run_ms(50);
    check(records_used() < MINIPROXY_LWIP_RAW_BACKLOG, "one that is reset vanishes");
    check(port->accept(&raw, c, &from) == MINIPROXY_OK && from.port == peer_port(peers[1]), "first come, first served");
    check((c->ready & MINIPROXY_RD) != 0, "what came before is there");
    check(port_recv(c, bytes, 100) == 5 && port_recv(c, bytes, 100) == MINIPROXY_EOF, "what came before is there");
    run_ms(20000); /* the others repeat their SYN */
    while (port->accept(&raw, conformance_take(), &from) == MINIPROXY_OK) waiting++;
    return check(waiting >= MINIPROXY_LWIP_RAW_BACKLOG - 1, "those who waited are served");
}

static bool test_stop_listening(void)
{
    const struct miniproxy_addr any = {.family = 0}, four = {.family = 4},
                                foreign = {.ip = {10, 0, 0, 77}, .family = 4};
    int waiting = peer_connect(4, raw_world_port()), listening;

    if (!open_end(&ends[0], CONFORMANCE_CONNECTED_4)) return false;
    run_ms(50);
    miniproxy_lwip_raw_stop_listening(&raw);
    run_ms(50);
    check(peer_is_reset(waiting), "who waits is reset");
    check(sends(&ends[0], 100) == 100, "what is open stays");
    conformance_give(ends[0].c, false);
    if (!peer_reads_out(&ends[0], MINIPROXY_EOF)) return false;
    for (int i = 0; i < MINIPROXY_LWIP_RAW_LISTENERS; i++)
        check(miniproxy_lwip_raw_listen(&raw, i == 0 ? &any : i == 1 ? &foreign : &four) > 0, "listens");
    check(miniproxy_lwip_raw_listen(&raw, &four) == -1, "no more than there is room for");
    miniproxy_lwip_raw_stop_listening(&raw);
    listening = miniproxy_lwip_raw_listen(&raw, &(struct miniproxy_addr){.family = 0, .port = raw_world_port()});
    return check(listening == raw_world_port(), "listens again at the same port");
}

/* The last of them comes to a listener that took its place after the others had been closed. */
static bool test_which_listener(void)
{
    const struct miniproxy_addr same = {.family = 0, .port = raw_world_port()}, any = {.family = 0};
    int second = miniproxy_lwip_raw_listen(&raw, &any);

    for (int i = 0; i < 3; i++) {
        struct miniproxy_conn *c = conformance_take();
        struct miniproxy_addr from;

        if (i == 2) miniproxy_lwip_raw_stop_listening(&raw);
        if (i == 2) second = miniproxy_lwip_raw_listen(&raw, &any);
        check(second > 0 && peer_connect(4, i == 1 ? raw_world_port() : (uint16_t)second) >= 0, "a peer connects");
        check(conformance_accept(c, &from) == MINIPROXY_OK && c->listener == (i == 0), "its listener is told");
        conformance_give(c, true); /* lwIP does not listen again at a port that is in use */
    }
    miniproxy_lwip_raw_stop_listening(&raw);
    return check(miniproxy_lwip_raw_listen(&raw, &same) == raw_world_port(), "listens again at the same port");
}

#if LWIP_IPV6 && MINIPROXY_WITH_IPV6

/* lwIP knows of which link such an address is; a target does not say it. */
static bool test_link_local(void)
{
    struct miniproxy_addr at = {.ip = {0xfe, 0x80, [15] = 9}, .family = 6}, again = {.family = 0, .port = raw_world_port()};
    struct miniproxy_conn *c = conformance_take();
    ip_addr_t own;
    int listening;

    IP_ADDR6(&own, PP_HTONL(0xfe800000), 0, 0, PP_HTONL(9));
    ip6_addr_assign_zone(ip_2_ip6(&own), IP6_UNICAST, netif_default);
    netif_ip6_addr_set(netif_default, 1, ip_2_ip6(&own));
    netif_ip6_addr_set_state(netif_default, 1, IP6_ADDR_PREFERRED);
    listening = miniproxy_lwip_raw_listen(&raw, &at);
    if (!check(listening > 0, "listens")) return false;
    at.port = (uint16_t)listening;
    check(port->connect(&raw, c, &at) == MINIPROXY_ESELF, "a listener at a link-local address is known: ESELF");
    at.ip[15] = 8;
    check(port->connect(&raw, c, &at) == MINIPROXY_AGAIN, "the same port of another host is not");
    conformance_give(c, true);
    netif_ip6_addr_set_state(netif_default, 1, IP6_ADDR_INVALID);
    miniproxy_lwip_raw_stop_listening(&raw);
    return check(miniproxy_lwip_raw_listen(&raw, &again) == raw_world_port(), "listens again at the same port");
}

#endif

/* ---- Newcomers while others end ---- */

/* Who has been told something and closed holds nothing that a newcomer needs. */
static bool test_closed_need_no_record(void)
{
    enum { MANY = RECORDS / 2 };

    if (open_many(ends, MANY) < MANY) return false;
    wire_faults.loss = 1000; /* nothing is acknowledged */
    for (unsigned i = 0; i < MANY; i++) {
        sends(&ends[i], 300);
        conformance_give(ends[i].c, false);
    }
    check(records_used() == 0, "all records are free for others");
    run_ms(200);
    wire_faults.loss = 0;
    for (unsigned i = 0; i < MANY; i++)
        if (!peer_reads_out(&ends[i], MINIPROXY_EOF)) return false;
    return true;
}

/* A connection that was closed, and keeps what was passed on to it and its peer does not read. */
static bool leave_kept(void)
{
    struct end *from = &ends[0], *to = &ends[1];

    if (!open_end(from, CONFORMANCE_CONNECTED_4) || !open_end(to, CONFORMANCE_ACCEPTED_4)) return false;
    for (int round = 0; round < 100; round++) {
        peer_sends(from, 1000);
        relays(from, to, 5000);
        run_ms(1);
    }
    check(kept_by(to->c) != NULL, "something is kept");
    conformance_give(from->c, true);
    conformance_give(to->c, false);
    return true;
}

static bool test_kept_give_way(void)
{
    if (port->relay == NULL || MEM_SIZE < 30000) return true;
    for (unsigned i = 0; i < RECORDS + 3; i++)
        if (!leave_kept()) return false;
    return check(records_used() > 1, "they are still there");
}

/* A client may use its port again, though lwIP remembers the connection of before. */
static bool test_port_used_again(void)
{
    enum { PORT = 4711, ROUNDS = 4 };
    struct miniproxy_addr from;
    struct miniproxy_conn *c;

    for (unsigned i = 0; i < ROUNDS; i++) {
        int peer = peer_connect_from(4, PORT, raw_world_port()), n;

        for (unsigned ms = 0; ms < 3000 && !conformance_accept_woken(); ms++) run_ms(1);
        c = conformance_take();
        if (!check(port->accept(&raw, c, &from) == MINIPROXY_OK && from.port == PORT, "it is served")) return false;
        if (i == 1 || i == 3) check(port->finish(&raw, c) == MINIPROXY_OK, "finish");
        if (i == 1) run_ms(20);
        if (i == 2) { /* both FINs meet */
            wire_faults.delay_us = 10000;
            peer_finish(peer);
            port_send(c, bytes, 100);
        }
        if (i == 3) {
            run_ms(20);
            peer_finish(peer);
            run_ms(20);
            check(port_recv(c, bytes, 1) == MINIPROXY_EOF, "EOF");
        }
        conformance_give(c, false);
        run_ms(50);
        wire_faults.delay_us = 0;
        if (i < 2) peer_finish(peer);
        while ((n = peer_recv(peer, bytes, sizeof bytes)) > 0) continue;
        check(n == MINIPROXY_EOF, "it ends in order");
        run_ms(1000);
        check(used(MEMP_TCP_PCB) == 1, "lwIP remembers it for a while");
        run_ms(3000); /* less than 2 * TCP_MSL */
    }
    return true;
}

/* ---- Names ---- */

static bool test_names_run_out(void)
{
    enum { NAMES = MINIPROXY_LWIP_RAW_LOOKUPS / (MINIPROXY_LWIP_RAW_BOTH_FAMILIES ? 2 : 1) };
    struct miniproxy_conn *c[NAMES];
    struct miniproxy_addr out;
    bool ok = true;

    peer_hold_names(true);
    for (int i = 0; i < NAMES; i++) {
        c[i] = conformance_take();
        ok = ok && check(port->resolve(&raw, c[i], "slow.test", &out, 1) == MINIPROXY_AGAIN, "AGAIN");
    }
    ok = ok && check(port->resolve(&raw, conformance_take(), "n1.test", &out, 1) == MINIPROXY_ERESOURCES, "ERESOURCES");
    for (int i = 0; i < NAMES; i++) conformance_give(c[i], i % 2 == 0);
    ok = ok && check(port->resolve(&raw, conformance_take(), "n1.test", &out, 1) == MINIPROXY_ERESOURCES,
                     "lwIP still holds them");
    peer_hold_names(false);
    run_ms(50);
    return ok && check(conformance_resolve(conformance_take(), "n1.test", &out, 1) == 1, "they are free again") &&
           check(out.family == 4 && out.ip[3] == 1, "the address of the name that was asked for");
}

static bool test_names(void)
{
    static char name[400];
    struct miniproxy_addr out = {.family = 0};

    memset(name, 'a', sizeof name - 1);
    check(conformance_resolve(conformance_take(), name, &out, 1) == MINIPROXY_ENAME, "too long: ENAME");
    check(conformance_resolve(conformance_take(), "broken.test", &out, 1) == MINIPROXY_ENAME,
          "lwIP does not tell SERVFAIL from NXDOMAIN");
    if (LWIP_IPV6) {
        check(conformance_resolve(conformance_take(), "six.test", &out, 1) == 1 && out.family == 6,
              "IPv6 where there is no IPv4");
    }
    return check(conformance_resolve(conformance_take(), "n7.test", &out, 1) == 1 && out.ip[3] == 7, "answered") &&
           check(conformance_resolve(conformance_take(), "n7.test", &out, 1) == 1 && out.ip[3] == 7, "from the cache");
}

/* The connection is gone, and the port has been told to end, when the answer comes. */
static bool test_names_late(void)
{
    struct miniproxy_conn *c = conformance_take();
    struct miniproxy_addr out;

    peer_hold_names(true);
    check(port->resolve(&raw, c, "slow.test", &out, 1) == MINIPROXY_AGAIN, "AGAIN");
    conformance_give(c, true);
    if (!open_end(&ends[0], CONFORMANCE_ACCEPTED_4)) return false;
    sends(&ends[0], 100);
    conformance_give(ends[0].c, false);
    miniproxy_lwip_raw_end(&raw);
    check(records_used() == 0, "end frees everything");
    peer_hold_names(false);
    run_ms(100);
    check(lookups_used() == 0, "lookups end");
    return check(miniproxy_lwip_raw_listen(&raw, &(struct miniproxy_addr){.family = 0, .port = raw_world_port()}) > 0,
                 "listens again");
}

#if MINIPROXY_LWIP_RAW_BOTH_FAMILIES

enum {
    SECOND_ANSWER_MS = 50,
    AT_ONCE_MS = 25 /* conformance_resolve looks every 10 */,
    NAMES_AT_ONCE = MINIPROXY_LWIP_RAW_LOOKUPS / 2
};

static struct miniproxy_addr found[2];
static uint32_t took_ms;

static int look_up(const char *host)
{
    uint32_t begin_ms = wire_now_ms();
    struct miniproxy_conn *c = conformance_take();
    int n = conformance_resolve(c, host, found, 2);

    took_ms = wire_now_ms() - begin_ms;
    conformance_give(c, true);
    return n;
}

static bool finds_one(const char *host, int family, uint8_t last)
{
    return look_up(host) == 1 && found[0].family == family && found[0].ip[family == 6 ? 15 : 3] == last;
}

static bool test_families(void)
{
    unsigned asked = peer_questions();

    check(look_up("both.test") == 2 && took_ms < AT_ONCE_MS, "both answers, at once");
    check(found[0].family == 6 && found[0].ip[15] == 8, "IPv6 is first");
    check(found[1].family == 4 && found[1].ip[3] == 8, "IPv4 is second");
    check(peer_questions() == asked + 2, "each family has been asked for");
    check(look_up("both.test") == 2 && took_ms < AT_ONCE_MS && peer_questions() == asked + 2, "lwIP remembers both");
    check(finds_one("n9.test", 4, 9) && took_ms < AT_ONCE_MS, "IPv4 alone, at once");
    check(finds_one("six.test", 6, 2) && took_ms < AT_ONCE_MS, "IPv6 alone, at once");
    return check(lookups_used() == 0, "lookups are free");
}

/* An IPv6 address of this device that is link-local does not count. */
static bool test_families_without_ipv6(void)
{
    unsigned asked = peer_questions();
    ip6_addr_t was = *netif_ip6_addr(netif_default, 0), local = was;

    local.addr[0] = PP_HTONL(0xfe800000);
    netif_ip6_addr_set(netif_default, 0, &local);
    check(finds_one("slow6.test", 4, 7) && took_ms < AT_ONCE_MS, "IPv4 is found");
    netif_ip6_addr_set_state(netif_default, 0, IP6_ADDR_INVALID);
    check(finds_one("slow6.test", 4, 7) && took_ms < AT_ONCE_MS, "IPv4 is found");
    check(peer_questions() == asked + 2, "IPv6 is not asked for");
    peer_hold_names(true);
    for (int i = 0; i < MINIPROXY_LWIP_RAW_LOOKUPS; i++) {
        struct miniproxy_conn *c = conformance_take();

        check(port->resolve(&raw, c, "slow.test", found, 2) == MINIPROXY_AGAIN, "AGAIN");
        conformance_give(c, true);
    }
    check(look_up("n4.test") == MINIPROXY_ERESOURCES, "no lookup is free");
    peer_hold_names(false);
    run_ms(50);
    netif_ip6_addr_set(netif_default, 0, &was);
    netif_ip6_addr_set_state(netif_default, 0, IP6_ADDR_PREFERRED);
    return check(look_up("slow6.test") == 2, "both are found again");
}

static bool test_one_family_silent(void)
{
    peer_hold_names(true);
    check(finds_one("slow4.test", 6, 6), "IPv6 without IPv4");
    check(took_ms >= SECOND_ANSWER_MS && took_ms < SECOND_ANSWER_MS + AT_ONCE_MS, "the other is waited for 50 ms");
    check(lookups_used() == 1, "the other is still lwIP's");
    check(finds_one("slow6.test", 4, 7), "IPv4 without IPv6");
    check(took_ms >= SECOND_ANSWER_MS && took_ms < SECOND_ANSWER_MS + AT_ONCE_MS, "the other is waited for 50 ms");
    check(lookups_used() == 2, "the other is still lwIP's");
    run_ms(10000);
    check(lookups_used() == 0, "until it gives up");
    check(look_up("sole6.test") == MINIPROXY_EDNS && took_ms > 1000, "no address and silence: the name may exist");
    return true;
}

/* A name whose first answer is "none" waits for as long as lwIP does. */
static bool test_second_answer(void)
{
    struct miniproxy_conn *c = conformance_take();

    peer_hold_names(true);
    check(port->resolve(&raw, c, "sole6.test", found, 2) == MINIPROXY_AGAIN, "AGAIN");
    run_ms(500);
    check(port->resolve(&raw, c, "sole6.test", found, 2) == MINIPROXY_AGAIN, "AGAIN, still");
    peer_hold_names(false);
    check(conformance_resolve(c, "sole6.test", found, 2) == 1 && found[0].family == 6, "the only address");

    peer_hold_names(true);
    check(port->resolve(&raw, c, "slow4.test", found, 2) == MINIPROXY_AGAIN, "AGAIN");
    run_ms(5);
    check(port->resolve(&raw, c, "slow4.test", found, 2) == MINIPROXY_AGAIN, "AGAIN, with one answer");
    run_ms(SECOND_ANSWER_MS - 10);
    check(port->resolve(&raw, c, "slow4.test", found, 2) == MINIPROXY_AGAIN, "AGAIN, still");
    peer_hold_names(false);
    check(conformance_resolve(c, "slow4.test", found, 2) == 2 && found[0].family == 6, "just in time, IPv6 first");
    check(c->handle == 0 && c->port_flags == 0, "it has ended");
    if (LIMITED) check(used(MEMP_SYS_TIMEOUT) == timers_used, "no timer is left");
    return check(lookups_used() == 0, "lookups are free");
}

/* conformance_end notices a wake of a connection that is not in use. */
static bool test_second_answer_late(void)
{
    struct miniproxy_conn *c = conformance_take();

    peer_hold_names(true);
    check(conformance_resolve(c, "slow6.test", found, 2) == 1 && found[0].family == 4, "one address");
    check(port->resolve(&raw, c, "n3.test", found, 2) == MINIPROXY_AGAIN, "the slot asks for another name");
    peer_hold_names(false);
    check(conformance_resolve(c, "n3.test", found, 2) == 1 && found[0].ip[3] == 3, "and gets that one's address");
    check(lookups_used() == 0, "a late answer frees its lookup");

    peer_hold_names(true);
    check(finds_one("slow4.test", 6, 6), "one address");
    peer_hold_names(false);
    run_ms(100);
    return check(lookups_used() == 0, "a late answer frees its lookup");
}

static bool test_close_between_answers(void)
{
    struct miniproxy_conn *c[NAMES_AT_ONCE];

    peer_hold_names(true);
    for (int i = 0; i < NAMES_AT_ONCE; i++) {
        c[i] = conformance_take();
        check(port->resolve(&raw, c[i], i % 2 == 0 ? "slow4.test" : "slow6.test", found, 2) == MINIPROXY_AGAIN,
              "AGAIN");
    }
    conformance_give(c[0], true); /* before the first answer */
    run_ms(5);
    conformance_give(c[1], false); /* after it, but resolve has not been called again */
    for (int i = 2; i < NAMES_AT_ONCE; i++)
        check(port->resolve(&raw, c[i], i % 2 == 0 ? "slow4.test" : "slow6.test", found, 2) == MINIPROXY_AGAIN,
              "AGAIN");
    if (LIMITED) check(used(MEMP_SYS_TIMEOUT) == timers_used + NAMES_AT_ONCE - 2, "each has a timer");
    for (int i = 2; i < NAMES_AT_ONCE; i++) conformance_give(c[i], i % 3 == 0);
    if (LIMITED) check(used(MEMP_SYS_TIMEOUT) == timers_used, "timers are cancelled");
    check(lookups_used() == NAMES_AT_ONCE, "lwIP still holds one of each");
    run_ms(200);
    peer_hold_names(false);
    run_ms(100);
    return check(lookups_used() == 0, "until they are answered");
}

/* As many timers as there can be. */
static bool test_all_wait_for_second(void)
{
    struct miniproxy_conn *c[NAMES_AT_ONCE];

    peer_hold_names(true);
    for (int i = 0; i < NAMES_AT_ONCE; i++) {
        c[i] = conformance_take();
        check(port->resolve(&raw, c[i], "slow6.test", found, 2) == MINIPROXY_AGAIN, "AGAIN");
    }
    run_ms(5);
    for (int i = 0; i < NAMES_AT_ONCE; i++)
        check(port->resolve(&raw, c[i], "slow6.test", found, 2) == MINIPROXY_AGAIN, "AGAIN");
    if (LIMITED) check(used(MEMP_SYS_TIMEOUT) == timers_used + NAMES_AT_ONCE, "each has a timer");
    for (int i = 0; i < NAMES_AT_ONCE; i++)
        check(conformance_resolve(c[i], "slow6.test", found, 2) == 1 && found[0].family == 4, "one address");
    return true;
}

/* A name server that never answers for IPv6 does not use up the lookups. */
static bool test_silence_leaves_room(void)
{
    struct miniproxy_conn *c[NAMES_AT_ONCE];

    peer_hold_names(true);
    for (int i = 0; i < 3 * MINIPROXY_LWIP_RAW_LOOKUPS; i++) {
        if (!check(finds_one("slow6.test", 4, 7), "IPv4 is found")) return false;
        check(took_ms < SECOND_ANSWER_MS + AT_ONCE_MS, "soon");
    }
    check(look_up("six.test") == MINIPROXY_ERESOURCES, "IPv6 alone could not be asked for: ERESOURCES, not ENAME");
    for (int i = 0; i < NAMES_AT_ONCE; i++) {
        c[i] = conformance_take();
        check(port->resolve(&raw, c[i], "slow.test", found, 2) == MINIPROXY_AGAIN,
              "several names are looked up at once");
    }
    for (int i = 0; i < NAMES_AT_ONCE; i++) conformance_give(c[i], true);
    peer_hold_names(false);
    run_ms(100);
    return check(finds_one("six.test", 6, 2), "now it can");
}

#endif

/* ---- A bad network ---- */

static bool exchange(size_t want)
{
    struct end *a = &ends[0], *b = &ends[1];
    size_t down = 0, up = 0;

    if (!open_end(a, CONFORMANCE_CONNECTED_4) || !open_end(b, CONFORMANCE_ACCEPTED_4)) return false;
    for (int round = 0; round < 2000000 && (down < want || up < want); round++) {
        int n;

        peer_sends(a, 1 + wire_rand(2000));
        peer_sends(b, 1 + wire_rand(2000));
        n = relays(a, b, 1 + wire_rand(5000));
        if (!check(n > 0 || n == MINIPROXY_AGAIN, "relay")) return false;
        if (n > 0) down += (size_t)n;
        n = gets(b, 1 + wire_rand(2000));
        if (!check(n > 0 || n == MINIPROXY_AGAIN, "recv")) return false;
        if (n > 0) up += (size_t)n;
        if (wire_rand(2) == 0) sends(a, 1 + wire_rand(1000));
        if (wire_rand(2) == 0) peer_gets(a, 1 + wire_rand(3000));
        if (wire_rand(2) == 0) peer_gets(b, 1 + wire_rand(3000));
        wire_run_us(2000);
        if (conformance_why() != NULL) return false;
    }
    check(down >= want && up >= want, "it gets on");
    conformance_give(a->c, false);
    conformance_give(b->c, false);
    return peer_reads_out(a, MINIPROXY_EOF) && peer_reads_out(b, MINIPROXY_EOF);
}

static bool test_bad_network(void)
{
    for (uint32_t seed = 1; seed <= 6; seed++) {
        wire_seed(seed);
        wire_faults = (struct wire_faults){.loss = 5 * seed, .copies = 20, .delay_us = 1000, .jitter_us = 1500};
        if (!exchange(120000)) return false;
        wire_faults = (struct wire_faults){0};
        if (!conformance_end()) return false;
        conformance_begin(&raw_world);
    }
    return check(wire_counts.lost > 100, "the wire loses");
}

/* ---- Segments that lwIP cannot bear ---- */

struct segment {
    unsigned flags, window, mss; /* mss 0: no option */
    uint32_t seq, ack;
    size_t len;
};

static struct tcp_pcb *pcb_of(uint16_t remote)
{
    struct tcp_pcb *pcb = tcp_active_pcbs;

    while (pcb != NULL && pcb->remote_port != remote) pcb = pcb->next;
    return pcb;
}

/* From a host that no stack is. */
static void send_segment(uint16_t from, struct segment s)
{
    const struct tcp_pcb *pcb = pcb_of(from);
    const uint32_t ack = lwip_htonl(s.ack), seq = lwip_htonl(s.seq);
    const size_t header = s.mss != 0 ? 24 : 20, len = header + s.len;
    const uint16_t to = pcb != NULL ? pcb->local_port : raw_world_port();
    uint8_t packet[20 + 24 + TCP_WND] = {0x45, 0, (uint8_t)((20 + len) >> 8), (uint8_t)(20 + len), [8] = 64, IP_PROTO_TCP,
                                         [12] = 10, 0, 0, 77, 10, 0, 0, 1};
    uint8_t tcp[20] = {(uint8_t)(from >> 8), (uint8_t)from, (uint8_t)(to >> 8), (uint8_t)to,
                       [12] = (uint8_t)(header << 2), (uint8_t)s.flags, (uint8_t)(s.window >> 8), (uint8_t)s.window};
    const uint8_t option[4] = {2, 4, (uint8_t)(s.mss >> 8), (uint8_t)s.mss};
    struct pbuf *p = pbuf_alloc(PBUF_RAW, (u16_t)len, PBUF_RAM);
    ip4_addr_t source, destination;
    uint16_t sum = inet_chksum(packet, 20);

    IP4_ADDR(&source, 10, 0, 0, 77);
    IP4_ADDR(&destination, 10, 0, 0, 1);
    memcpy(packet + 10, &sum, 2);
    memcpy(tcp + 4, &seq, 4);
    memcpy(tcp + 8, &ack, 4);
    memcpy(packet + 20, tcp, sizeof tcp);
    if (s.mss != 0) memcpy(packet + 40, option, sizeof option);
    pbuf_take(p, packet + 20, (u16_t)len);
    sum = inet_chksum_pseudo(p, IP_PROTO_TCP, (u16_t)len, &source, &destination);
    memcpy(packet + 36, &sum, 2);
    pbuf_free(p);
    wire_inject(packet, 20 + len);
}

/* It acknowledges all. */
static void inject(uint16_t from, struct segment s)
{
    const struct tcp_pcb *pcb = pcb_of(from);

    s.ack = pcb != NULL ? pcb->snd_nxt : 0;
    send_segment(from, s);
    run_ms(2);
}

/* They are dropped, and the connection goes on. Without the guard lwIP fails assertions, or uses sizes that are none. */
static bool test_guard(void)
{
    const uint16_t from = 7000;
    const struct tcp_pcb *pcb;

    inject(from, (struct segment){.flags = TCP_ACK, .window = 8000, .seq = 100}); /* a listener is a shorter struct */
    inject(from, (struct segment){.flags = TCP_SYN, .window = 8000, .mss = 500, .seq = 100});
    inject(from, (struct segment){.flags = TCP_ACK, .window = 8000, .seq = 101});
    pcb = pcb_of(from);
    if (!check(pcb != NULL && pcb->state == ESTABLISHED && pcb->mss == 500, "a connection")) return false;
    inject(from, (struct segment){.flags = TCP_ACK, .window = 8000, .mss = 1, .seq = 101, .len = 10});
    check(pcb->rcv_nxt == 101 && pcb->mss == 500, "no size of segments is taken later");
    inject(from, (struct segment){.flags = TCP_ACK, .window = 8000, .seq = 101, .len = 10});
    check(pcb->rcv_nxt == 111, "the same without it is");
#if TCP_QUEUE_OOSEQ
    inject(from, (struct segment){.flags = TCP_ACK | TCP_FIN, .window = 8000, .seq = 111 + TCP_WND - 12, .len = 1});
    for (uint32_t at = 111; at < 111 + TCP_WND - 10; at += 536)
        inject(from, (struct segment){.flags = TCP_ACK, .window = 8000, .seq = at, .len = 536});
    check(pcb->rcv_nxt <= 111 + TCP_WND - 10, "no octets are taken behind a FIN");
#endif
    tcp_abort(pcb_of(from));
    return true;
}

/* ---- Small windows ---- */

/* A host with a window of any size, which takes what is in it and acknowledges that at once. */
static struct stranger {
    uint16_t at;        /* its port */
    unsigned window;
    uint32_t seq, next; /* its own next octet, the port's */
    unsigned syns, acks;
    struct end e;
} stranger;

enum { STRANGER_SEQ = 100 };

static void stranger_sends(unsigned flags, unsigned window)
{
    send_segment(stranger.at, (struct segment){.flags = flags, .window = window, .seq = stranger.seq, .ack = stranger.next});
}

/* What the port sent to it. What it has taken may come again, and what goes beyond the window is lost. */
static void stranger_gets(const uint8_t *packet, size_t len)
{
    const uint8_t to[4] = {10, 0, 0, 77}, *tcp = packet + 20, *data = tcp + (tcp[12] >> 4) * 4;
    size_t left = (size_t)(packet + len - data), n;
    uint32_t seq;

    if (packet[0] != 0x45 || memcmp(packet + 16, to, 4) != 0 || (tcp[2] << 8 | tcp[3]) != stranger.at) return;
    memcpy(&seq, tcp + 4, 4);
    seq = lwip_ntohl(seq);
    if (tcp[13] & TCP_SYN) {
        stranger.syns++;
        stranger.next = seq + 1;
        return;
    }
    if (left == 0) stranger.acks++;
    if (left == 0) return;
    n = stranger.next - seq; /* taken before; as if much, where it begins behind what is missing */
    if (n < left) {
        size_t fits = left - n < stranger.window ? left - n : stranger.window;

        stream_take(&stranger.e.out, data + n, fits);
        stranger.next += (uint32_t)fits;
    }
    stranger_sends(TCP_ACK, stranger.window);
}

static bool stranger_connects(unsigned window)
{
    stranger.seq = STRANGER_SEQ;
    stranger_sends(TCP_SYN, window);
    stranger.seq++;
    run_ms(2);
    if (!check(stranger.syns == 1, "the SYN is answered")) return false;
    stranger_sends(TCP_ACK, window);
    stranger.e.c = conformance_take();
    return check(conformance_accept(stranger.e.c, &(struct miniproxy_addr){0}) == MINIPROXY_OK, "accept");
}

static bool stranger_accepts(unsigned window)
{
    const struct miniproxy_addr to = {.ip = {10, 0, 0, 77}, .port = stranger.at, .family = 4};

    stranger.e.c = conformance_take();
    check(port->connect(&raw, stranger.e.c, &to) == MINIPROXY_AGAIN, "AGAIN");
    run_ms(2);
    if (!check(stranger.syns == 1, "a SYN is sent")) return false;
    stranger.seq = STRANGER_SEQ;
    stranger_sends(TCP_SYN | TCP_ACK, window);
    stranger.seq++;
    if (!check(conformance_connect(stranger.e.c, &to) == MINIPROXY_OK, "connect")) return false;
    stranger.seq--; /* as if the acknowledgement had been lost */
    stranger.acks = 0;
    stranger_sends(TCP_SYN | TCP_ACK, window);
    stranger.seq++;
    run_ms(2);
    return check(stranger.acks == 1, "a SYN that is repeated is acknowledged again");
}

static bool opens_slowly(bool accepts, unsigned first)
{
    static const unsigned later[] = {50, 51, 300, 8000, 3, 60000};

    stranger = (struct stranger){.at = (uint16_t)(7100 + 10 * first + accepts)};
    wire_tap = stranger_gets;
    if (!(accepts ? stranger_accepts(first) : stranger_connects(first))) return false;
    stranger.window = first;
    /* Nothing but the SYN has told of a window. One of 2 allows segments of one octet, of which not so many are possible. */
    check(sends(&stranger.e, 300) == 300 || first > 1, "send");
    for (unsigned i = 0; i < 24 + sizeof later / sizeof *later; i++) {
        stranger.window = i < 24 ? first + i : later[i - 24];
        stranger_sends(TCP_ACK, stranger.window);
        run_ms(wire_rand(3) == 0 ? 2 : 400);
        if (stranger.e.c->ready & MINIPROXY_WR) sends(&stranger.e, 1 + wire_rand(2 * TCP_MSS));
    }
    for (int i = 0; i < 60 && stream_len(&stranger.e.out) > 0; i++) run_ms(500);
    check(stream_len(&stranger.e.out) == 0, "everything is delivered");
    conformance_give(stranger.e.c, true);
    wire_tap = NULL;
    return conformance_why() == NULL;
}

/* lwIP derives the size of its segments from the window, and without the guard fails an assertion when that of a SYN was 0
 * or 1 and a larger one comes later. */
static bool test_small_windows(void)
{
    for (unsigned first = 0; first < 4; first++)
        if (!opens_slowly(false, first) || !opens_slowly(true, first)) return false;
    return true;
}

/* ---- Everything ---- */

static bool may_open(struct end *e)
{
    static const enum conformance_kind kinds[4] = {CONFORMANCE_ACCEPTED_4, CONFORMANCE_CONNECTED_4,
                                                   CONFORMANCE_ACCEPTED_6, CONFORMANCE_CONNECTED_6};

    struct wire_faults faults = wire_faults;
    bool opened;

    wire_faults = (struct wire_faults){0}; /* a handshake that loses two packets takes longer than tests wait */
    opened = open_end(e, kinds[wire_rand(LWIP_IPV6 ? 4 : 2)]);
    wire_faults = faults;
    return opened;
}

/* An end of e that the port reported. */
static void note(struct end *e, int n)
{
    if (n > 0 || n == MINIPROXY_AGAIN) return;
    if (n == MINIPROXY_EOF) {
        check(e->peer_finished || e->gone, "EOF comes after a FIN");
        check(stream_len(&e->in) == 0 || e->gone, "EOF comes after all octets");
    } else {
        check(e->gone || e->peer_finished || e->finished, "errors have a reason");
        e->gone = true;
    }
}

static void step(struct end *e, struct end *other)
{
    int n;

    switch (wire_rand(12)) {
    case 0:
    case 1:
        if (!e->peer_finished && !e->gone) peer_sends(e, 1 + wire_rand(3000));
        break;
    case 2:
    case 3:
        if (!e->gone) peer_gets(e, 1 + wire_rand(4000));
        break;
    case 4:
        if (e->c->ready & MINIPROXY_RD) note(e, gets(e, 1 + wire_rand(2000)));
        break;
    case 5:
        n = (e->c->ready & MINIPROXY_WR) && !e->finished && stream_len(&e->out) < 8000 ? sends(e, 1 + wire_rand(1500))
                                                                                       : 1;
        if (n < 0) note(e, n);
        break;
    case 6:
    case 7:
    case 8:
        if (other == e || other->finished || stream_len(&other->out) >= 8000) break;
        if (!(e->c->ready & MINIPROXY_RD) || !(other->c->ready & MINIPROXY_WR) || port->relay == NULL) break;
        n = relays(e, other, 1 + wire_rand(4000));
        if (n == MINIPROXY_ESINK) note(other, MINIPROXY_ERESET);
        else note(e, n);
        break;
    case 9:
        if (wire_rand(40) > 0) break;
        if (!e->gone) peer_finish(e->peer);
        e->peer_finished = true;
        break;
    case 10:
        if (wire_rand(60) > 0) break;
        if (!e->finished) {
            n = port->finish(&raw, e->c);
            check(n == MINIPROXY_OK || n == MINIPROXY_AGAIN || e->gone, "finish");
            e->finished = n != MINIPROXY_AGAIN;
        }
        break;
    default:
        if (wire_rand(80) > 0) break;
        peer_reset(e->peer);
        e->gone = true;
    }
}

static bool soak(uint32_t seed)
{
    unsigned count = RECORDS / 3;

    wire_seed(seed);
    if (seed % 3 == 1) wire_faults = (struct wire_faults){.loss = 10, .copies = 5, .jitter_us = 400};
    for (unsigned i = 0; i < count; i++)
        if (!may_open(&ends[i])) return false;
    for (int round = 0; round < 4000; round++) {
        unsigned at = wire_rand(count), beside = wire_rand(10) == 0 ? wire_rand(count) : at ^ 1u;
        struct end *e = &ends[at];

        step(e, &ends[beside < count ? beside : 0]);
        if (wire_rand(2) == 0) wire_run_us(wire_rand(800));
        if (wire_rand(150) == 0) {
            bool hard = wire_rand(2) == 0;

            conformance_give(e->c, hard);
            if (!hard && !e->gone && !peer_reads_out(e, MINIPROXY_EOF)) return false;
            if (!may_open(e)) return false;
        }
        if (conformance_why() != NULL) return false;
    }
    wire_faults = (struct wire_faults){0};
    return true;
}

static bool test_soak(void)
{
    for (uint32_t seed = 1; seed <= 40; seed++) {
        if (!soak(seed)) {
            printf("seed %u\n", seed);
            return false;
        }
        if (!conformance_end() || !all_given_back()) return false;
        conformance_begin(&raw_world);
    }
    return true;
}

/* ---- All of them ---- */

static const struct {
    const char *name, *ids;
    bool (*run)(void);
} tests[] = {
    {"single octets share pbufs", "-", test_single_octets},
    {"single octets are not kept", "-", test_single_octets_relayed},
    {"odd sizes", "-", test_odd_sizes},
    {"an empty pbuf pool", "-", test_pool_gone},
    {"sinks that do not read leave the pool to others", "-", test_stalled_sinks},
    {"no PCB is left", "Z08", test_pcbs_gone},
    {"closed connections give way to new ones", "-", test_closed_give_way},
    {"a closed connection is not kept for ever", "-", test_closed_for_long},
    {"an exhausted heap", "-", test_heap_gone},
    {"exhausted segments", "-", test_segments_gone},
    {"short answers in a heap that others hold", "-", test_short_answers},
    {"a heap too small for all", "-", test_heap_shared},
    {"a segment that cannot be repeated", "-", test_repeated_without_route},
    {"no route for a while, closed", "P11", test_closed_without_route},
    {"segments that lwIP cannot bear", "-", test_guard},
    {"windows that open slowly", "-", test_small_windows},
    {"relay of much, mixed with send and recv", "-", test_relay_much},
    {"relay does not copy full pbufs", "-", test_relay_keeps},
    {"relay, and one side goes away", "-", test_relay_ends},
    {"relay from a second source", "-", test_relay_second_source},
    {"soft close with unread octets delivers", "P11", test_close_unread},
    {"both sides finish", "P12", test_both_finish},
    {"a reset is told before it is read", "-", test_broken_hint},
    {"connections that wait", "-", test_pending},
    {"listeners close and open", "-", test_stop_listening},
    {"a connection knows its listener", "-", test_which_listener},
#if LWIP_IPV6 && MINIPROXY_WITH_IPV6
    {"a listener at a link-local address", "R04", test_link_local},
#endif
    {"closed connections need no records", "-", test_closed_need_no_record},
    {"closed connections that keep octets give way", "-", test_kept_give_way},
    {"a client uses its port again", "-", test_port_used_again},
    {"names: lookups run out", "D01", test_names_run_out},
    {"names: answers and errors", "D01", test_names},
    {"names: answers after the end", "D01", test_names_late},
#if MINIPROXY_LWIP_RAW_BOTH_FAMILIES
    {"both families of a name", "D02,D03", test_families},
    {"both families, but no IPv6 address here", "D02", test_families_without_ipv6},
    {"one family is silent", "D02,D03", test_one_family_silent},
    {"the second answer comes in time", "D02,D03", test_second_answer},
    {"the second answer comes too late", "D02,D03", test_second_answer_late},
    {"close between two answers", "D01", test_close_between_answers},
    {"all names wait for a second answer", "D02", test_all_wait_for_second},
    {"silence about IPv6 leaves room for others", "D02", test_silence_leaves_room},
#endif
    {"loss, copies and disorder", "-", test_bad_network},
    {"everything at random", "-", test_soak},
};

int main(int argc, char **argv)
{
    const char *suite = argc > 1 ? argv[1] : "lwip-raw-own";
    FILE *results = argc > 2 ? fopen(argv[2], "w") : stdout;
    bool all = true;

    if (results == NULL || !raw_world_begin(1)) return 2;
    heap_used = lwip_stats.mem.used;
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        bool ok;

        if (argc > 3 && strcmp(argv[3], tests[i].name) != 0) continue;
        wire_counts = (struct wire_counts){0};
        wire_faults = (struct wire_faults){0};
        lwip_stats.memp[MEMP_PBUF_POOL]->max = lwip_stats.memp[MEMP_PBUF_POOL]->used;
        timers_used = used(MEMP_SYS_TIMEOUT);
        conformance_begin(&raw_world);
        ok = tests[i].run();
        wire_faults = (struct wire_faults){0};
        ok = conformance_end() && all_given_back() && ok;
        printf("%s: %s%s%s\n", ok ? "pass" : "fail", tests[i].name, ok ? "" : ": ", ok ? "" : conformance_why());
        fprintf(results, "%s\t%s\t%s\t%s\n", ok ? "pass" : "fail", suite, tests[i].name, tests[i].ids);
        fflush(results);
        fflush(stdout);
        all = all && ok;
    }
    return all ? 0 : 1;
}
