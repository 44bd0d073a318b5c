/* SPDX-License-Identifier: MIT */
/* The loop that plays events and polls the core. */
#include "sim.h"

#include <string.h>

struct actor *actor_of(uint32_t number)
{
    if (number < CLIENTS_MAX) return &world.clients[number].actor;
    return world.connected == origin_new ? origin_actor(number - CLIENTS_MAX) : split_actor(number - CLIENTS_MAX);
}

static void swap_policy(void)
{
    const struct miniproxy_policy *p = policies[below(policy_count)];
    struct exchange *ex;
    if (world.ended) return;
    trace("policy %u", (unsigned)(p == NULL));
    world.swaps += p != world.policy;
    world.policy = p;
    routes_policy();
    miniproxy_set_policy(&world.proxy, p);
    if (MINIPROXY_WITH_ROUTES) world.woken = true;
    for (unsigned i = 0; i < world.exchange_count; i++) {
        ex = &world.exchanges[i];
        if (ex->policy_count > 0 && ex->policy_count < 8) ex->policies[ex->policy_count++] = p;
    }
}

static void stop_core(void)
{
    trace("stop");
    world.stopped = true;
    miniproxy_stop(&world.proxy);
    world.woken = true;
    REQUIRE(PROPERTY_DRAIN, miniproxy_active(&world.proxy) == 0, "sessions are left after stop");
}

static void play(const struct event *e)
{
    struct actor *a;
    switch (e->kind) {
    case EVENT_STEP:
        a = actor_of(e->who);
        if (a->step_at != e->value) return;
        a->step_at = a->later_at;
        a->later_at = 0;
        a->step(a);
        return;
    case EVENT_START:
        client_start(&world.clients[e->who]);
        return;
    case EVENT_POLICY:
        swap_policy();
        return;
    case EVENT_DRAIN:
        trace("drain");
        world.drained = true;
        miniproxy_drain(&world.proxy);
        world.woken = true;
        return;
    case EVENT_STOP:
        stop_core();
        return;
    case EVENT_HOP: routes_event(parent_at(e->who)); return;
    case EVENT_END: routes_stop(); return;
    default:
        play_network(e);
        return;
    }
}

/* ---- The loop ---- */

void start_core(void (*begin)(void *, const struct miniproxy_event *),
                void (*event)(void *, const struct miniproxy_event *))
{
    world.config.port = world.mood.relays ? &sim_port_relay : &sim_port;
    world.config.port_data = NULL;
    secure_start_port();
    world.config.policy = world.policy;
    world.config.name = "sim";
    world.config.event = event;
    world.config.begin = begin;
    world.config.app = &world;
    if (begin != NULL) heads_start();
#if MINIPROXY_WITH_ROUTES
    world.config.hop = routes_told;
#endif
    memcpy(world.config.timeout_ms, world.timeout_ms, sizeof world.timeout_ms);
    make_users();
#if MINIPROXY_WITH_PBKDF2
    world.config.pbkdf2 = &sim_pbkdf2;
    world.config.sha256 = sim_sha256;
    world.config.secret = (const uint8_t *)"thirty-two octets of some secret";
#endif
    REQUIRE(PROPERTY_CONTRACT, miniproxy_init(&world.proxy, &world.config), "miniproxy_init refuses the configuration");
    world.woken = true;
}

void clear_world(uint64_t seed)
{
    clear_network(seed);
    origin_reset();
}

enum { POLLS_AT_ONCE = 400000, POLLS_IDLE = 2000 };

/* Poll once; returns the time of the next poll that the core asks for. */
static uint64_t poll_core(void)
{
    uint32_t wait_ms;
    world.woken = false;
    world.calls_in_poll = world.slices = 0;
    world.in_poll = true;
    wait_ms = miniproxy_poll(&world.proxy, world.base_ms + (uint32_t)world.now_ms);
    world.in_poll = false;
    wait_ms = secure_poll(wait_ms);
    routes_poll(wait_ms == MINIPROXY_FOREVER ? UINT64_MAX : world.now_ms + wait_ms);
    trace("poll -> %d, %u calls, %u active, %u buffers", (int)wait_ms, world.calls_in_poll,
          miniproxy_active(&world.proxy), miniproxy_counters(&world.proxy)->buffers);
    REQUIRE(PROPERTY_TIME, world.slices <= 1, "%u slices of a login in one poll", world.slices);
    check_step();
    /* A login takes its time, but not from those who have something to do. */
    if (wait_ms == 0 && world.calls_in_poll == 0) return world.now_ms + world.slices * world.mood.slice_ms;
    return wait_ms == MINIPROXY_FOREVER ? UINT64_MAX : world.now_ms + wait_ms;
}

/* The longest that anything can take: every deadline once for each exchange, and what the slowest peers need. */
static uint64_t time_limit(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < MINIPROXY_TIMEOUT_COUNT; i++) sum += world.timeout_ms[i];
    return world.now_ms + 4 * (sum + 60000) * (EXCHANGES_EACH + 2) + 200u * 3600000u;
}

void settle(void)
{
    uint64_t due = world.now_ms, limit = time_limit(), instant = 0, next_ms;
    unsigned polls_here = 0, idle_polls = 0;
    struct event e;
    for (;;) {
        if (world.woken || due <= world.now_ms) {
            polls_here = instant == world.now_ms ? polls_here + 1 : 0;
            instant = world.now_ms;
            REQUIRE(PROPERTY_TIME, polls_here < POLLS_AT_ONCE, "%u polls at one instant", polls_here);
            idle_polls = world.woken ? 0 : idle_polls + 1;
            due = poll_core();
            if (world.calls_in_poll > 0) idle_polls = 0;
            if (MINIPROXY_WITH_ROUTES && due >= world.now_ms + 100) idle_polls = 0; /* a check waits for a buffer */
            REQUIRE(PROPERTY_TIME, idle_polls < POLLS_IDLE, "%u polls in a row did nothing", idle_polls);
        }
        world.step++;
        if (MINIPROXY_WITH_ROUTES && !world.ended && routes_over()) {
            world.ended = true;
            after(one_in(2) ? below(300) : below(100000), EVENT_END, 0, 0);
        }
        next_ms = next_event_ms();
        if (next_ms != UINT64_MAX && next_ms <= due && !(due <= world.now_ms && next_ms > world.now_ms)) {
            e = pop_event();
            if (e.when_ms > world.now_ms) world.now_ms = e.when_ms;
            play(&e);
        } else if (due != UINT64_MAX) {
            if (due > world.now_ms) world.now_ms = due;
        } else if (!world.woken) {
            return;
        }
        REQUIRE(PROPERTY_LIVENESS, world.now_ms < limit, "the world does not come to rest: %u sessions",
                miniproxy_active(&world.proxy));
    }
}

void run_world(uint64_t seed)
{
    clear_world(seed);
    make_plan();
    start_core(on_begin, on_event);
    settle();
    check_rest();
}
