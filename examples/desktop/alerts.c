/* SPDX-License-Identifier: MIT
 *
 * Alerts: what the workers tell goes into one watch, so that each is raised once.
 */
#include "desktop.h"

enum { LOOK_MS = 100 }; /* how often a worker tells what it has in use, at most */

static void on_alert(void *app, const struct miniproxy_alert *alert)
{
    struct alerts *a = app;
    log_alert(a->log, a->line, alert);
}

void alerts_start(struct alerts *a, const struct options *o, struct log *log)
{
    struct miniproxy_watch_config config = o->alerts;
    config.alert = on_alert;
    config.app = a;
    a->log = log;
    a->on = config.server_errors > 0 || config.client_errors > 0 || config.sessions > 0 || config.buffers > 0 ||
            config.logins > 0 || config.hops;
    pthread_mutex_init(&a->lock, NULL);
    miniproxy_watch_init(&a->watch, &config);
}

static struct alerts *take(struct worker *w)
{
    struct alerts *a = &w->shared->alerts;
    pthread_mutex_lock(&a->lock);
    a->line = w->line;
    return a;
}

static void leave(struct alerts *a)
{
    pthread_mutex_unlock(&a->lock);
}

/* The clock is read under the lock, so that it never goes back from one call of the watch to the next. */
void alerts_event(struct worker *w, const struct miniproxy_event *e)
{
    struct alerts *a;
    if (!w->shared->alerts.on) return;
    a = take(w);
    miniproxy_watch_event(&a->watch, e, miniproxy_posix_now_ms());
    leave(a);
}

#if MINIPROXY_WITH_ROUTES

void alerts_hop(struct worker *w, const struct miniproxy_hop *hop, bool down)
{
    struct alerts *a = take(w);
    miniproxy_watch_hop(&a->watch, hop, down);
    leave(a);
}

/* The new ones first: what is down before and after is never over in between. */
void alerts_hops(struct worker *w, const struct miniproxy_policy *old, const struct miniproxy_policy *policy)
{
    for (unsigned i = 0; i < policy->hop_count; i++)
        if (policy->health[i].down != 0) alerts_hop(w, &policy->hops[i], true);
    for (unsigned i = 0; i < old->hop_count; i++)
        if (old->health[i].down != 0) alerts_hop(w, &old->hops[i], false);
}

#endif

static unsigned most(const uint16_t *of, unsigned count)
{
    unsigned best = 0;
    for (unsigned i = 0; i < count; i++)
        if (of[i] > best) best = of[i];
    return best;
}

/* The fullest worker counts: clients that the kernel leads to it are refused, whatever the others have. */
static uint32_t look(struct worker *w)
{
    struct alerts *a = take(w);
    const struct miniproxy_counters *c = miniproxy_counters(&w->proxy);
    const unsigned workers = w->shared->options->workers;
    uint32_t wait_ms;
    a->sessions[w->index] = c->active;
    a->buffers[w->index] = c->buffers;
    miniproxy_watch_usage(&a->watch, most(a->sessions, workers), MINIPROXY_SESSIONS, most(a->buffers, workers),
                          MINIPROXY_BUFFERS);
    wait_ms = miniproxy_watch_poll(&a->watch, miniproxy_posix_now_ms());
    leave(a);
    return wait_ms;
}

uint32_t alerts_poll(struct worker *w, uint32_t now_ms, uint32_t wait_ms)
{
    uint32_t since_ms = now_ms - w->alerts_ms, own_ms;
    if (!w->shared->alerts.on) return wait_ms;
    own_ms = LOOK_MS - since_ms;
    if (since_ms >= LOOK_MS) {
        w->alerts_ms = now_ms;
        own_ms = look(w);
    }
    return own_ms < wait_ms ? own_ms : wait_ms;
}
