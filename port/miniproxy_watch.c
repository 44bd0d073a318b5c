/* SPDX-License-Identifier: MIT */
#include "miniproxy_watch.h"

#include <string.h>

#if MINIPROXY_WATCH_CLIENTS < 1 || MINIPROXY_WATCH_CLIENTS > 10000
#error "MINIPROXY_WATCH_CLIENTS must be 1..10000"
#endif
#if MINIPROXY_WATCH_HOPS < 1 || MINIPROXY_WATCH_HOPS > 1000
#error "MINIPROXY_WATCH_HOPS must be 1..1000"
#endif

enum { SLICES = MINIPROXY_WATCH_SLICES, WINDOW_MS = 60000, LESS = 10 };

const char *miniproxy_alert_token(enum miniproxy_alert_kind kind)
{
    static const char *const tokens[] = {"server_errors", "client_errors", "sessions",
                                         "buffers",       "failed_logins", "hop_down"};
    return tokens[kind];
}

void miniproxy_watch_init(struct miniproxy_watch *w, const struct miniproxy_watch_config *config)
{
    w->config = *config;
    if (w->config.window_ms < SLICES) w->config.window_ms = WINDOW_MS;
}

/* A loop may have asked for the time before an event did: what is later than now is as of now. */
static uint32_t age_of(uint32_t then_ms, uint32_t now_ms)
{
    return (int32_t)(now_ms - then_ms) > 0 ? now_ms - then_ms : 0;
}

/* One of those without a table. */
static void tell(struct miniproxy_watch *w, enum miniproxy_alert_kind kind, bool over, uint32_t value, uint32_t limit)
{
    const struct miniproxy_alert alert = {.kind = (uint8_t)kind, .over = over, .value = value, .limit = limit};
    w->raised[kind] = !over;
    w->config.alert(w->config.app, &alert);
}

/* ---- Shares of errors */

static uint32_t slice_len(const struct miniproxy_watch *w)
{
    return w->config.window_ms / SLICES;
}

static void next_slice(struct miniproxy_watch *w)
{
    struct miniproxy_watch_slice *oldest;
    w->slice = (uint8_t)((w->slice + 1) % SLICES);
    oldest = &w->slices[w->slice];
    w->sum.all -= oldest->all;
    for (unsigned i = 0; i < 2; i++) w->sum.errors[i] -= oldest->errors[i];
    *oldest = (struct miniproxy_watch_slice){.all = 0};
}

static void move_window(struct miniproxy_watch *w, uint32_t now_ms)
{
    uint32_t steps = age_of(w->slice_ms, now_ms) / slice_len(w);
    if (!w->begun || steps > SLICES) {
        w->slice_ms = now_ms;
        steps = w->begun ? SLICES : 0;
        w->begun = true;
    } else {
        w->slice_ms += steps * slice_len(w);
    }
    while (steps-- > 0) next_slice(w);
}

static void judge_errors(struct miniproxy_watch *w, enum miniproxy_alert_kind kind, uint32_t limit)
{
    uint64_t part = 100ull * w->sum.errors[kind];
    uint32_t all = w->sum.all, percent = all > 0 ? (uint32_t)(part / all) : 0;
    if (limit == 0) return;
    if (!w->raised[kind] && part > 0 && all >= w->config.least && part >= (uint64_t)limit * all)
        tell(w, kind, false, percent, limit);
    else if (w->raised[kind] && (part == 0 || (all >= w->config.least && 4 * part < 3ull * limit * all)))
        tell(w, kind, true, percent, limit);
}

static void judge_all_errors(struct miniproxy_watch *w)
{
    judge_errors(w, MINIPROXY_ALERT_SERVER_ERRORS, w->config.server_errors);
    judge_errors(w, MINIPROXY_ALERT_CLIENT_ERRORS, w->config.client_errors);
}

#if MINIPROXY_WITH_PAGES
static bool is_page(const struct miniproxy_event *e)
{
    return e->page;
}
#else
static bool is_page(const struct miniproxy_event *e)
{
    (void)e;
    return false;
}
#endif

/* One that has to be: many clients log in only when they are asked to, and maintenance was ordered. */
#if MINIPROXY_WITH_MAINTENANCE
static bool is_expected(const struct miniproxy_event *e)
{
    return e->cause == MINIPROXY_CAUSE_LOGIN_MISSING || e->cause == MINIPROXY_CAUSE_MAINTENANCE;
}
#else
static bool is_expected(const struct miniproxy_event *e)
{
    return e->cause == MINIPROXY_CAUSE_LOGIN_MISSING;
}
#endif

/* Pages of the proxy's own are left out: who watches the proxy does not change what he sees. */
static void count(struct miniproxy_watch *w, const struct miniproxy_event *e)
{
    struct miniproxy_watch_slice *slice = &w->slices[w->slice];
    unsigned kind = e->status < 500;
    if (is_page(e)) return;
    slice->all++;
    w->sum.all++;
    if (e->status < 400 || e->status > 599 || is_expected(e)) return;
    slice->errors[kind]++;
    w->sum.errors[kind]++;
}

/* ---- Sessions and buffers */

static void judge_use(struct miniproxy_watch *w, enum miniproxy_alert_kind kind, uint32_t limit, unsigned used,
                      unsigned of)
{
    uint32_t percent = used >= of ? 100 : (uint32_t)(100ull * used / of);
    if (limit == 0) return;
    if (!w->raised[kind] && percent >= limit) tell(w, kind, false, percent, limit);
    else if (w->raised[kind] && percent + LESS <= (limit > LESS ? limit : LESS)) tell(w, kind, true, percent, limit);
}

void miniproxy_watch_usage(struct miniproxy_watch *w, unsigned sessions, unsigned of_sessions, unsigned buffers,
                           unsigned of_buffers)
{
    judge_use(w, MINIPROXY_ALERT_SESSIONS, w->config.sessions, sessions, of_sessions);
    judge_use(w, MINIPROXY_ALERT_BUFFERS, w->config.buffers, buffers, of_buffers);
}

/* ---- Failed logins */

static bool is_failed_login(const struct miniproxy_event *e)
{
#if MINIPROXY_WITH_PAGES
    if (e->cause == MINIPROXY_CAUSE_PAGE_LOGIN_FAILED) return true;
#endif
    return e->cause == MINIPROXY_CAUSE_LOGIN_FAILED || e->cause == MINIPROXY_CAUSE_LOGIN_THROTTLED;
}

static void tell_client(struct miniproxy_watch *w, struct miniproxy_watch_client *c, bool over)
{
    const struct miniproxy_alert alert = {.kind = MINIPROXY_ALERT_LOGINS,
                                          .over = over,
                                          .value = c->count,
                                          .limit = w->config.logins,
                                          .client = &c->client};
    c->raised = !over;
    w->config.alert(w->config.app, &alert);
}

/* As the throttle has it: who has an address of IPv6 mostly has all of its /64. */
static bool is_client(const struct miniproxy_watch_client *c, const struct miniproxy_addr *a)
{
    return c->client.family == a->family && memcmp(c->client.ip, a->ip, a->family == 4 ? 4 : MINIPROXY_IP_LEN / 2) == 0;
}

/* Its record, or the free or quietest one. */
static struct miniproxy_watch_client *client_of(struct miniproxy_watch *w, const struct miniproxy_addr *a,
                                                uint32_t now_ms)
{
    struct miniproxy_watch_client *best = w->clients;
    for (struct miniproxy_watch_client *c = w->clients; c < w->clients + MINIPROXY_WATCH_CLIENTS; c++) {
        if (is_client(c, a)) return c;
        if (best->client.family == 0) continue;
        if (c->client.family == 0 || age_of(c->last_ms, now_ms) > age_of(best->last_ms, now_ms)) best = c;
    }
    if (best->raised) tell_client(w, best, true);
    *best = (struct miniproxy_watch_client){.client = *a, .since_ms = now_ms};
    best->client.port = 0;
    return best;
}

static void count_login(struct miniproxy_watch *w, const struct miniproxy_event *e, uint32_t now_ms)
{
    struct miniproxy_watch_client *c;
    if (w->config.logins == 0 || e->client->family == 0 || !is_failed_login(e)) return;
    c = client_of(w, e->client, now_ms);
    if (!c->raised && age_of(c->since_ms, now_ms) >= w->config.window_ms) {
        c->since_ms = now_ms;
        c->count = 0;
    }
    if (c->count < UINT16_MAX) c->count++;
    c->last_ms = now_ms;
    if (!c->raised && c->count >= w->config.logins) tell_client(w, c, false);
}

/* Those that were quiet for a window are forgotten. When the next one will be that has to be told. */
static uint32_t forget_clients(struct miniproxy_watch *w, uint32_t now_ms)
{
    uint32_t wait_ms = MINIPROXY_FOREVER;
    for (struct miniproxy_watch_client *c = w->clients; c < w->clients + MINIPROXY_WATCH_CLIENTS; c++) {
        uint32_t quiet_ms = age_of(c->last_ms, now_ms);
        if (c->client.family == 0) continue;
        if (quiet_ms >= w->config.window_ms) {
            if (c->raised) tell_client(w, c, true);
            c->client.family = 0;
        } else if (c->raised && w->config.window_ms - quiet_ms < wait_ms) {
            wait_ms = w->config.window_ms - quiet_ms;
        }
    }
    return wait_ms;
}

/* ---- Hops */

#if MINIPROXY_WITH_ROUTES

static uint32_t mix(uint32_t key, unsigned octet)
{
    return (key ^ octet) * 16777619u;
}

/* Texts may be others after a reload of the policy: what they say counts. */
static uint32_t key_of(const struct miniproxy_hop *hop)
{
    uint32_t key = mix(mix(mix(2166136261u, hop->kind), hop->port >> 8), hop->port & 255);
    for (const char *c = hop->host; *c != '\0'; c++)
        key = mix(key, (unsigned char)(*c >= 'A' && *c <= 'Z' ? *c | 0x20 : *c));
    return key;
}

static void tell_hop(struct miniproxy_watch *w, const struct miniproxy_hop *hop, bool down)
{
    const struct miniproxy_alert alert = {
        .kind = MINIPROXY_ALERT_HOP, .over = !down, .value = down, .limit = 1, .hop = hop};
    w->config.alert(w->config.app, &alert);
}

static struct miniproxy_watch_hop *record_of(struct miniproxy_watch *w, uint32_t key)
{
    struct miniproxy_watch_hop *unused = NULL;
    for (struct miniproxy_watch_hop *h = w->hops; h < w->hops + MINIPROXY_WATCH_HOPS; h++) {
        if (h->downs > 0 && h->key == key) return h;
        if (h->downs == 0) unused = h;
    }
    return unused;
}

void miniproxy_watch_hop(struct miniproxy_watch *w, const struct miniproxy_hop *hop, bool down)
{
    uint32_t key = key_of(hop);
    struct miniproxy_watch_hop *h = record_of(w, key);
    if (!w->config.hops || h == NULL || (h->downs == 0 && !down)) return;
    h->key = key;
    if (down) h->downs++;
    else h->downs--;
    if (h->downs == (down ? 1 : 0)) tell_hop(w, hop, down);
}

#endif

/* ---- All */

void miniproxy_watch_event(struct miniproxy_watch *w, const struct miniproxy_event *e, uint32_t now_ms)
{
    move_window(w, now_ms);
    count(w, e);
    judge_all_errors(w);
    count_login(w, e, now_ms);
}

uint32_t miniproxy_watch_poll(struct miniproxy_watch *w, uint32_t now_ms)
{
    uint32_t wait_ms = forget_clients(w, now_ms), slice_ms;
    move_window(w, now_ms);
    judge_all_errors(w);
    slice_ms = slice_len(w) - age_of(w->slice_ms, now_ms);
    if ((w->raised[MINIPROXY_ALERT_SERVER_ERRORS] || w->raised[MINIPROXY_ALERT_CLIENT_ERRORS]) && slice_ms < wait_ms)
        wait_ms = slice_ms;
    return wait_ms;
}
