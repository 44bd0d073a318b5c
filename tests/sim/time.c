/* SPDX-License-Identifier: MIT */
/* Virtual time, chance, reports, and what happens on the network. */
#include "sim.h"

#include <stdarg.h>
#include <string.h>

struct world world;

/* ---- Chance: splitmix64 ---- */

uint64_t random_next(void)
{
    uint64_t z = (world.random += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

uint32_t below(uint32_t n)
{
    return n == 0 ? 0 : (uint32_t)((random_next() >> 32) * n >> 32);
}

bool one_in(uint32_t n)
{
    return n != 0 && below(n) == 0;
}

uint32_t between(uint32_t low, uint32_t high)
{
    return low + below(high - low + 1);
}

uint32_t spread(uint32_t max)
{
    switch (below(4)) {
    case 0:
        return below(max < 8 ? max + 1 : 8);
    case 1:
        return below(max / 16 + 1);
    case 2:
        return below(max / 4 + 1);
    default:
        return below(max + 1);
    }
}

/* ---- Reports ---- */

void trace(const char *format, ...)
{
    va_list args;
    if (!world.tracing) return;
    fprintf(world.trace_to, "%9llu ms  #%-6llu ", (unsigned long long)world.now_ms, (unsigned long long)world.step);
    va_start(args, format);
    vfprintf(world.trace_to, format, args);
    va_end(args);
    fputc('\n', world.trace_to);
}

void violation(enum property p, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(world.message, sizeof world.message, format, args);
    va_end(args);
    world.broken = p;
    trace("VIOLATION %s", world.message);
    longjmp(world.escape, 1);
}

void sim_assert_failed(const char *condition, int line)
{
    violation(PROPERTY_ASSERTION, "assertion failed: %s (line %d of the core)", condition, line);
}

/* ---- Events, a binary heap by time; those of one instant in random order ---- */

enum { EVENTS_MAX = 1 << 16 };

static struct event heap[EVENTS_MAX];
static unsigned heap_len;

static bool earlier(const struct event *a, const struct event *b)
{
    return a->when_ms != b->when_ms ? a->when_ms < b->when_ms : a->tie < b->tie;
}

void at(uint64_t when_ms, enum event_kind kind, uint32_t who, uint64_t value)
{
    struct event e = {.when_ms = when_ms, .value = value, .who = who, .kind = (uint8_t)kind};
    unsigned i = heap_len++, up;
    if (heap_len == EVENTS_MAX) violation(PROPERTY_TIME, "the world has too many events");
    e.tie = (uint32_t)random_next();
    while (i > 0 && (up = (i - 1) / 2, earlier(&e, &heap[up]))) {
        heap[i] = heap[up];
        i = up;
    }
    heap[i] = e;
}

void after(uint64_t delay_ms, enum event_kind kind, uint32_t who, uint64_t value)
{
    at(world.now_ms + delay_ms, kind, who, value);
}

uint64_t next_event_ms(void)
{
    return heap_len > 0 ? heap[0].when_ms : UINT64_MAX;
}

struct event pop_event(void)
{
    struct event first = heap[0], last = heap[--heap_len];
    unsigned i = 0, child;
    while ((child = 2 * i + 1) < heap_len) {
        if (child + 1 < heap_len && earlier(&heap[child + 1], &heap[child])) child++;
        if (!earlier(&heap[child], &last)) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    return first;
}

/* A step asks again for what it still waits for, so only the earliest counts; a later one that was asked for before is
 * remembered, for its event is in the heap already. */
void step_after(struct actor *a, uint64_t delay_ms)
{
    uint64_t when_ms = world.now_ms + delay_ms;
    if (a->step_at != 0 && a->step_at <= when_ms) return;
    if (a->step_at != 0) a->later_at = a->step_at;
    a->step_at = when_ms;
    at(when_ms, EVENT_STEP, a->number, when_ms);
}

static void play_arrival(const struct event *e)
{
    struct conn *v = world.conns[e->who];
    struct lane *l =
        e->kind == EVENT_ARRIVE_IN || e->kind == EVENT_FIN_IN || e->kind == EVENT_RESET_IN ? &v->in : &v->out;
    bool news = false;
    if (e->kind == EVENT_ARRIVE_IN || e->kind == EVENT_ARRIVE_OUT) {
        if (l->reset_arrived) return;
        news = e->value > l->arrived;
        if (news) l->arrived = e->value;
    } else if (e->kind == EVENT_FIN_IN || e->kind == EVENT_FIN_OUT) {
        l->fin_arrived = true;
    } else {
        l->reset_arrived = true;
        if (e->value != 0) l->taken = l->arrived; /* what was not read in time is lost */
    }
    if (l == &v->out) {
        if (v->peer_gone && news) peer_reset(v);
        if (v->peer != NULL) step_after(v->peer, 0);
        return;
    }
    if (l->reset_arrived) v->broken = true;
    if (v->state == CONN_CLOSED) {
        if (news && !v->out.reset_arrived) after(0, EVENT_RESET_OUT, v->number, 1);
        return;
    }
    link_wake(v, MINIPROXY_RD | (l->reset_arrived ? MINIPROXY_WR : 0u) |
                     (l->reset_arrived && world.mood.broken_hint ? MINIPROXY_BROKEN : 0u));
}

void play_network(const struct event *e)
{
    struct conn *v;
    switch (e->kind) {
    case EVENT_WAKE:
        v = world.conns[e->who];
        v->wake_due &= (uint8_t)~e->value;
        if (v->c == NULL) return;
        v->wanted &= (uint8_t)~e->value;
        world.woken = true;
        miniproxy_wake(v->c, (unsigned)e->value);
        return;
    case EVENT_WAKE_ACCEPT:
        world.accept_wake_due = world.accept_wanted = false;
        world.woken = true;
        miniproxy_wake_accept(&world.proxy);
        return;
    case EVENT_SLOT:
        port_slot_due(e->who, e->value);
        return;
    default:
        play_arrival(e);
        return;
    }
}

void clear_network(uint64_t seed)
{
    bool tracing = world.tracing;
    FILE *to = world.trace_to;
    jmp_buf escape;
    memcpy(escape, world.escape, sizeof escape);
    conn_free_all();
    /* Exchanges and clients are cleared when they are made. */
    memset(&world, 0, offsetof(struct world, clients));
    memset(&world.queue, 0, sizeof world - offsetof(struct world, queue));
    memcpy(world.escape, escape, sizeof escape);
    world.tracing = tracing;
    world.trace_to = to;
    world.seed = seed;
    world.random = seed * 0xD1342543DE82EF95u + 0x632BE59BD9B4E019u;
    world.now_ms = 1;
    heap_len = 0;
    port_reset();
}
