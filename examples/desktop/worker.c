/* SPDX-License-Identifier: MIT
 *
 * A worker: one instance of the core, its port, and the thread that runs both.
 */
#define _GNU_SOURCE
#include "desktop.h"
#include "port/miniproxy_sha256.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

/* Not everywhere. */
#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif

enum { HELD_CHECK_MS = 1000, PUBLISH_MS = 100, IN_USE_MS = 1000 };

/* Only what does not fit into the session is kept here: an idle tunnel costs nothing. */
static void on_begin(void *app, const struct miniproxy_event *e)
{
    struct worker *w = app;
    if (e->method_len + 1 + e->target_len <= MINIPROXY_LINE_KEEP) return;
    w->target[e->session] = strndup(e->target, e->target_len);
}

static void on_event(void *app, const struct miniproxy_event *e)
{
    struct worker *w = app;
    struct miniproxy_event whole = *e;
    char *target = w->target[e->session];
    if (target != NULL) {
        whole.target = target;
        whole.target_len = (uint16_t)strlen(target);
    }
    log_event(&w->shared->log, w->line, &whole);
    alerts_event(w, &whole);
    if (target == NULL) return; /* a page of zeros stays untouched */
    free(target);
    w->target[e->session] = NULL;
}

#if MINIPROXY_WITH_HEADS
static void on_head(void *app, const struct miniproxy_event *e, enum miniproxy_side side, const char *line, size_t len)
{
    struct worker *w = app;
    log_head(&w->shared->log, w->line, e, side, line, len);
}
#endif

static uint32_t unix_time(void *app)
{
    (void)app;
    return (uint32_t)time(NULL);
}

#if MINIPROXY_WITH_CONDITIONS
static int minute_of_week(void *app)
{
    time_t now = time(NULL);
    struct tm tm;
    (void)app;
    if (localtime_r(&now, &tm) == NULL) return -1;
    return ((tm.tm_wday + 6) % 7 * 24 + tm.tm_hour) * 60 + tm.tm_min;
}
#endif

/* ---- What all workers have counted */

#if MINIPROXY_WITH_METRICS

static void add_took(struct miniproxy_took *sum, const struct miniproxy_took *t)
{
    sum->ms += t->ms;
    sum->count += t->count;
}

/* Gauges of many workers may be more than their member can say. */
static uint16_t add_gauges(uint16_t a, uint16_t b)
{
    return (uint16_t)(a + b < UINT16_MAX ? a + b : UINT16_MAX);
}

/* Of the peaks it is the most that they can have been together. */
static void add_counters(struct miniproxy_counters *sum, const struct miniproxy_counters *c)
{
    sum->accepted += c->accepted;
    sum->requests += c->requests;
    sum->tunnels += c->tunnels;
    sum->reused += c->reused;
    sum->retried += c->retried;
    sum->evicted += c->evicted;
    sum->accept_paused += c->accept_paused;
    sum->buffer_waits += c->buffer_waits;
    sum->active = add_gauges(sum->active, c->active);
    sum->active_peak = add_gauges(sum->active_peak, c->active_peak);
    sum->buffers = add_gauges(sum->buffers, c->buffers);
    sum->buffers_peak = add_gauges(sum->buffers_peak, c->buffers_peak);
    sum->bytes_up += c->bytes_up;
    sum->bytes_down += c->bytes_down;
    for (unsigned i = 0; i < sizeof c->status / sizeof c->status[0]; i++) sum->status[i] += c->status[i];
#if MINIPROXY_WITH_CAUSE_COUNTERS
    for (unsigned i = 0; i < MINIPROXY_CAUSE_COUNT; i++) sum->cause[i] += c->cause[i];
#endif
    for (unsigned i = 0; i < MINIPROXY_CODE_COUNT; i++) sum->code[i] += c->code[i];
    add_took(&sum->dns, &c->dns);
    add_took(&sum->connect, &c->connect);
    add_took(&sum->first_byte, &c->first_byte);
    add_took(&sum->total, &c->total);
#if MINIPROXY_WITH_PAGES
    sum->pages += c->pages;
    sum->page_bytes_up += c->page_bytes_up;
    sum->page_bytes_down += c->page_bytes_down;
#endif
}

static const struct miniproxy_counters *totals(void *app)
{
    struct worker *w = app;
    w->totals = *miniproxy_counters(&w->proxy);
    for (unsigned i = 0; i < w->shared->options->workers; i++) {
        struct worker *other = w->shared->workers[i];
        if (other == w) continue;
        pthread_mutex_lock(&other->published.lock);
        add_counters(&w->totals, &other->published.counters);
        pthread_mutex_unlock(&other->published.lock);
    }
    return &w->totals;
}

static void start_publishing(struct worker *w)
{
    pthread_mutex_init(&w->published.lock, NULL);
}

/* After miniproxy_poll, with what that returned; returns the like: a worker that falls asleep has published all. */
static uint32_t publish(struct worker *w, uint32_t now_ms, uint32_t wait_ms)
{
    struct published *p = &w->published;
    uint32_t age_ms = now_ms - p->at_ms;
    if (w->shared->options->workers == 1) return wait_ms;
    if (age_ms < PUBLISH_MS) return wait_ms < PUBLISH_MS - age_ms ? wait_ms : PUBLISH_MS - age_ms;
    pthread_mutex_lock(&p->lock);
    p->counters = *miniproxy_counters(&w->proxy);
    pthread_mutex_unlock(&p->lock);
    p->at_ms = now_ms;
    return wait_ms;
}

#if MINIPROXY_WITH_TLS
static int print_handshakes(const struct worker *w, char *out, size_t room)
{
    unsigned long long done = 0, failed = 0;
    for (unsigned i = 0; i < w->shared->options->workers; i++) {
        done += atomic_load(&w->shared->workers[i]->tls_done);
        failed += atomic_load(&w->shared->workers[i]->tls_failed);
    }
    return snprintf(out, room, "# TYPE miniproxy_tls_handshakes counter\n"
                               "# HELP miniproxy_tls_handshakes TLS handshakes with clients, origins and parents.\n"
                               "miniproxy_tls_handshakes_total{result=\"done\"} %llu\n"
                               "miniproxy_tls_handshakes_total{result=\"failed\"} %llu\n", done, failed);
}
#else
static int print_handshakes(const struct worker *w, char *out, size_t room)
{
    (void)w, (void)out, (void)room;
    return 0;
}
#endif

static size_t metrics(void *app, unsigned at, char *out, size_t room)
{
    struct worker *w = app;
    int len = 0;
    if (at == 0)
        len = snprintf(out, room, "# TYPE miniproxy_log_lost_lines counter\n"
                                  "# HELP miniproxy_log_lost_lines Lines of the access log that could not be written.\n"
                                  "miniproxy_log_lost_lines_total %llu\n", atomic_load(&w->shared->log.lost));
    if (at == 1)
        len = snprintf(out, room, "# TYPE miniproxy_workers gauge\n"
                                  "# HELP miniproxy_workers Threads, each with its own sessions and buffers.\n"
                                  "miniproxy_workers %u\n", w->shared->options->workers);
    if (at == 2) len = print_handshakes(w, out, room);
    return len > 0 && (size_t)len < room ? (size_t)len : 0;
}

#else

static void start_publishing(struct worker *w)
{
    (void)w;
}

static uint32_t publish(struct worker *w, uint32_t now_ms, uint32_t wait_ms)
{
    (void)w, (void)now_ms;
    return wait_ms;
}

#endif

/* ---- Maintenance */

#if MINIPROXY_WITH_MAINTENANCE

static void take_maintenance(struct worker *w)
{
    static const char message[] = "This proxy is under maintenance. Please try again later.";
    const char *own = w->shared->options->maintenance;
    const bool ordered = atomic_load(&w->shared->maintenance);
    if (ordered == w->maintained) return;
    w->maintained = ordered;
    miniproxy_maintain(&w->proxy, !ordered ? NULL : own != NULL ? own : message);
}

#else

static void take_maintenance(struct worker *w)
{
    (void)w;
}

#endif

/* ---- Tables */

#if MINIPROXY_WITH_ROUTES

/* The health of hops that are in force already, so that a reload does not forget which are down. */
static void keep_health(struct held *held, const struct held *old)
{
    for (unsigned i = 0; i < held->policy.hop_count; i++)
        for (unsigned j = 0; j < old->policy.hop_count; j++) {
            struct miniproxy_health *to = &held->health[i];
            const struct miniproxy_health *from = &old->health[j];
            if (!same_hop(&held->policy.hops[i], &old->policy.hops[j])) continue;
            *to = (struct miniproxy_health){.due_ms = from->due_ms,
                                            .used = from->used,
                                            .failed = from->failed,
                                            .down = from->down,
                                            .streak = from->streak,
                                            .waits = from->waits,
                                            .cause = from->cause};
            break;
        }
}

static bool hold_health(struct held *held, const struct held *old)
{
    held->health = calloc(held->policy.hop_count + 1u, sizeof *held->health);
    if (held->health == NULL) return false;
    held->policy.health = held->health;
    if (old != NULL) keep_health(held, old);
    return true;
}

static void free_held(struct held *held)
{
    free(held->health);
    free(held);
}

static void on_hop(void *app, const struct miniproxy_policy *policy, unsigned hop)
{
    struct worker *w = app;
    log_hop(&w->shared->log, w->line, &policy->hops[hop], &policy->health[hop]);
    /* Transactions that keep an older policy have nothing to say any more. */
    if (policy == &w->held->policy) alerts_hop(w, &policy->hops[hop], policy->health[hop].down != 0);
}

static void watch_hops(struct worker *w)
{
    alerts_hops(w, &w->held->next->policy, &w->held->policy);
}

#else

static void watch_hops(struct worker *w)
{
    (void)w;
}

static bool hold_health(struct held *held, const struct held *old)
{
    (void)held, (void)old;
    return true;
}

static void free_held(struct held *held)
{
    free(held);
}

#endif

static bool hold(struct worker *w, struct tables *tables)
{
    struct held *held = calloc(1, sizeof *held + (tables->policy.rule_count + 1u) * sizeof held->hits[0]);
    if (held == NULL) return false;
    held->tables = tables;
    held->policy = tables->policy;
#if MINIPROXY_WITH_HITS
    held->policy.hits = held->hits;
#endif
    if (!hold_health(held, w->held)) {
        free_held(held);
        return false;
    }
    held->next = w->held;
    w->held = held;
    tables_hold(tables);
    return true;
}

/* Let go of tables that no transaction uses any more; the current ones count as used. */
static void release_unused(struct worker *w)
{
    for (struct held **at = &w->held; *at != NULL;) {
        struct held *held = *at;
        if (miniproxy_policy_in_use(&w->proxy, &held->policy)) {
            at = &held->next;
            continue;
        }
        *at = held->next;
        tables_release(held->tables);
        free_held(held);
    }
}

static void take_mail(struct worker *w, uint32_t now_ms)
{
    struct tables *tables = atomic_exchange(&w->mail, NULL);
    if (tables != NULL) {
        if (hold(w, tables)) {
            miniproxy_set_policy(&w->proxy, &w->held->policy);
            watch_hops(w);
        } else {
            say("no memory for the new policy; the old one stays");
        }
        tables_release(tables); /* the hold of the mail */
    }
    if (w->held->next != NULL && now_ms - w->held_checked_ms >= HELD_CHECK_MS) {
        w->held_checked_ms = now_ms;
        release_unused(w);
    }
}

/* ---- The thread */

#if MINIPROXY_WITH_HITS
static void report_hits(struct worker *w)
{
    const struct held *held = w->held;
    size_t size = (held->policy.rule_count + 1u) * sizeof held->hits[0];
    free(w->hits);
    w->hits = malloc(size);
    w->hits_of = held->tables;
    if (w->hits != NULL) memcpy(w->hits, held->hits, size);
}
#else
static void report_hits(struct worker *w)
{
    (void)w;
}
#endif

#if MINIPROXY_WITH_ROUTES
static void report_health(struct worker *w)
{
    const struct held *held = w->held;
    free(w->health);
    w->health = calloc(held->policy.hop_count + 1u, sizeof *w->health);
    w->hits_of = held->tables;
    if (w->health != NULL) memcpy(w->health, held->health, held->policy.hop_count * sizeof *w->health);
}
#else
static void report_health(struct worker *w)
{
    (void)w;
}
#endif

static void report(struct worker *w)
{
    if (!atomic_load(&w->report_asked)) return;
    w->snapshot = *miniproxy_counters(&w->proxy);
    report_hits(w);
    report_health(w);
    atomic_store(&w->report_asked, false);
    pthread_kill(w->shared->main, SIGNAL_OF_WORKERS);
}

static void end(struct worker *w)
{
    miniproxy_stop(&w->proxy);
    atomic_store(&w->ended, true);
    pthread_kill(w->shared->main, SIGNAL_OF_WORKERS);
}

void *worker_run(void *worker)
{
    struct worker *w = worker;
    bool draining = false;
    uint32_t drain_start_ms = 0;
    for (;;) {
        uint32_t now_ms = miniproxy_posix_now_ms(), wait_ms, drain_ms = w->shared->options->drain_ms;
        int stage = atomic_load(&w->shared->stage);
        take_mail(w, now_ms);
        tls_take_mail(w);
        take_maintenance(w);
        report(w);
        if (stage != STAGE_RUN && !draining) {
            draining = true;
            drain_start_ms = now_ms;
            miniproxy_posix_stop_listening(&w->posix);
            miniproxy_drain(&w->proxy);
        }
        wait_ms = miniproxy_poll(&w->proxy, now_ms);
        wait_ms = tls_poll(w, now_ms, wait_ms);
        wait_ms = alerts_poll(w, now_ms, wait_ms);
        wait_ms = publish(w, now_ms, wait_ms);
        wait_ms = log_poll(&w->shared->log, wait_ms);
        if (draining) {
            uint32_t waited_ms = now_ms - drain_start_ms;
            if (stage == STAGE_STOP || waited_ms >= drain_ms || miniproxy_active(&w->proxy) == 0) break;
            if (wait_ms > drain_ms - waited_ms) wait_ms = drain_ms - waited_ms;
        }
        miniproxy_posix_wait(&w->posix, wait_ms);
    }
    end(w);
    return NULL;
}

/* ---- Start */

/* How many addresses it got; errno says why not all. Ports that were 0 become those that were bound. */
static unsigned listen_on(struct worker *w, struct miniproxy_addr *at, unsigned count, bool share)
{
    for (unsigned i = 0; i < count; i++) {
        int port = miniproxy_posix_listen(&w->posix, &at[i], share);
        if (port < 0) return i;
        at[i].port = (uint16_t)port;
    }
    return count;
}

/* What workers share they would share with any other miniproxy, and with a listener of their own that wants the same, and
 * clients would reach the one or the other by chance. So the first of them tries whether it could have all for itself. One
 * that is about to drain may have its listeners open for a moment yet. The result is as above. */
static unsigned try_to_listen(struct worker *w, const struct miniproxy_addr *at, unsigned count)
{
    const uint32_t start_ms = miniproxy_posix_now_ms();
    for (;;) {
        struct miniproxy_addr tried[MINIPROXY_POSIX_LISTENERS];
        unsigned done;
        int error;
        memcpy(tried, at, sizeof tried);
        done = listen_on(w, tried, count, false);
        error = errno;
        miniproxy_posix_stop_listening(&w->posix);
        errno = error;
        if (done == count || error != EADDRINUSE || miniproxy_posix_now_ms() - start_ms >= IN_USE_MS) return done;
        miniproxy_posix_wait(&w->posix, IN_USE_MS / 50);
    }
}

/* The other workers need the ports that were bound. */
static bool listen_all(struct worker *w, struct miniproxy_addr *at)
{
    const unsigned count = w->shared->options->listen_count;
    const bool share = w->shared->options->workers > 1;
    unsigned done = share && w->index == 0 ? try_to_listen(w, at, count) : count;
    char text[TEXT_MAX];
    int reason;
    if (done == count) done = listen_on(w, at, count, share);
    if (done == count) return true;
    reason = errno;
    address_text(&at[done], text);
    say("cannot listen on %s: %s", text, strerror(reason));
    return false;
}

static bool init_proxy(struct worker *w)
{
    const struct options *o = w->shared->options;
    struct miniproxy_config config = {
        .port = &miniproxy_posix_port,
        .port_data = &w->posix,
        .policy = &w->held->policy,
        .name = o->name,
        .realm = o->realm,
        .event = on_event,
        .begin = on_begin,
#if MINIPROXY_WITH_ROUTES
        .hop = on_hop,
#endif
#if MINIPROXY_WITH_HEADS
        .head = o->log_heads ? on_head : NULL,
#endif
        .unix_time = unix_time,
#if MINIPROXY_WITH_FORWARDED
        .forwarded = o->forwarded,
#endif
#if MINIPROXY_WITH_PROXY_PROTOCOL
        .proxy_protocol = (uint8_t)o->balanced_listeners,
#endif
#if MINIPROXY_WITH_INTERCEPTION
        .intercepts = (uint8_t)o->intercepting_listeners,
#endif
#if MINIPROXY_WITH_CONDITIONS
        .minute_of_week = minute_of_week,
#endif
#if MINIPROXY_WITH_PAGES
        .page_names = &o->page_name_texts,
#endif
#if MINIPROXY_WITH_METRICS
        .metrics = metrics,
        .totals = o->workers > 1 ? totals : NULL,
#endif
#if MINIPROXY_WITH_PAC
        .pac = o->serves_pac ? &o->pac : NULL,
#endif
#if MINIPROXY_WITH_HTML
        .contact = o->contact,
#endif
        .sha256 = miniproxy_sha256,
        .pbkdf2 = &miniproxy_sha256_pbkdf2,
        .secret = w->secret,
        .app = w,
        .body_max = o->body_max,
        .sessions_per_client = o->per_client,
    };
    memcpy(config.timeout_ms, o->timeout_ms, sizeof config.timeout_ms);
    if (!tls_start(w, &config)) return false;
    if (miniproxy_init(&w->proxy, &config)) return true;
    say("the core refuses its configuration");
    return false;
}

static bool init_all(struct worker *w, struct tables *tables)
{
    if (!hold(w, tables)) {
        say("no memory");
        return false;
    }
    if (!miniproxy_posix_init(&w->posix, &w->proxy)) {
        say("cannot start: %s", strerror(errno));
        return false;
    }
    if (!random_bytes(w->secret, sizeof w->secret)) {
        say("cannot read /dev/urandom: %s", strerror(errno));
        return false;
    }
    return init_proxy(w);
}

struct worker *worker_new(struct shared *shared, unsigned index, struct tables *tables, struct miniproxy_addr *at)
{
    /* Hundreds of megabytes of which few are ever touched: no swap is set aside, and no huge pages are filled. */
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    struct worker *w = mmap(NULL, sizeof *w, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (w == MAP_FAILED) {
        say("no memory for %d sessions: %s", MINIPROXY_SESSIONS, strerror(errno));
        return NULL;
    }
#ifdef MADV_NOHUGEPAGE
    madvise(w, sizeof *w, MADV_NOHUGEPAGE);
#endif
    w->shared = shared;
    w->index = index;
    start_publishing(w);
    if (init_all(w, tables) && listen_all(w, at)) return w;
    worker_free(w);
    return NULL;
}

void worker_free(struct worker *w)
{
    struct tables *mail = atomic_exchange(&w->mail, NULL);
    tls_end(w);
    if (w->posix.proxy != NULL) miniproxy_posix_end(&w->posix);
    if (mail != NULL) tables_release(mail);
    while (w->held != NULL) {
        struct held *held = w->held;
        w->held = held->next;
        tables_release(held->tables);
        free_held(held);
    }
    free(w->hits);
#if MINIPROXY_WITH_ROUTES
    free(w->health);
#endif
    munmap(w, sizeof *w);
}
