/* SPDX-License-Identifier: MIT
 *
 * Alerts: says once when a threshold is crossed, and once when that is over. It is fed what the core tells anyhow and
 * needs neither an operating system nor a heap. One context at a time; it calls nothing but `alert`.
 */
#ifndef MINIPROXY_WATCH_H
#define MINIPROXY_WATCH_H

#include "miniproxy.h"

/* Clients whose failed logins are counted at once, of IPv6 by their /64. Range 1..10000, 32 bytes each with IPv6. A new one
 * takes the place of the one that was quiet for longest. */
#ifndef MINIPROXY_WATCH_CLIENTS
#define MINIPROXY_WATCH_CLIENTS 16
#endif

/* Parents and members of groups that may be down at once. Range 1..1000, 8 bytes each. Of more, nothing is said. */
#ifndef MINIPROXY_WATCH_HOPS
#define MINIPROXY_WATCH_HOPS 16
#endif

/* Parts of a window: how smoothly it moves. */
#define MINIPROXY_WATCH_SLICES 6

enum miniproxy_alert_kind {
    MINIPROXY_ALERT_SERVER_ERRORS, /* value, limit: percent of transactions with a status of 5xx but in maintenance */
    MINIPROXY_ALERT_CLIENT_ERRORS, /* of 4xx but where a login was missing */
    MINIPROXY_ALERT_SESSIONS,      /* percent in use */
    MINIPROXY_ALERT_BUFFERS,
    MINIPROXY_ALERT_LOGINS,        /* failed logins of one client */
    MINIPROXY_ALERT_HOP            /* a parent or a member of a group is down: limit 1, value 1 or 0 */
};

struct miniproxy_alert {
    uint8_t kind; /* enum miniproxy_alert_kind */
    bool over;    /* false: it begins */
    uint32_t value, limit;
    const struct miniproxy_addr *client; /* LOGINS; of a /64 the address that was the first */
#if MINIPROXY_WITH_ROUTES
    const struct miniproxy_hop *hop;     /* HOP */
#endif
};

/* "server_errors", "client_errors", "sessions", "buffers", "failed_logins", "hop_down". */
const char *miniproxy_alert_token(enum miniproxy_alert_kind kind);

/* A threshold of 0 is none. */
struct miniproxy_watch_config {
    /* Percent of the transactions within window_ms, without those for pages of the proxy's own, judged from `least` of them
     * on. Over when it is below three quarters of that, or when no error is left in the window. */
    uint8_t server_errors, client_errors;
    uint32_t window_ms; /* of failed logins too. Range 6..2^30; 0: a minute */
    uint32_t least;
    uint8_t sessions, buffers; /* percent; over when it is ten less */
    uint16_t logins;           /* failed ones of one client within the window. Over when there was none for a window */
    bool hops;
    void (*alert)(void *app, const struct miniproxy_alert *alert);
    void *app;
};

struct miniproxy_watch_slice {
    uint32_t all, errors[2]; /* 5xx, 4xx */
};

struct miniproxy_watch_client {
    struct miniproxy_addr client; /* family 0: free */
    uint32_t since_ms, last_ms;
    uint16_t count;
    bool raised;
};

struct miniproxy_watch_hop {
    uint32_t key;    /* of what and where it is */
    uint16_t downs;  /* how many say so; 0: free */
};

/* Every member is private to miniproxy_watch.c. */
struct miniproxy_watch {
    struct miniproxy_watch_config config;
    uint32_t slice_ms; /* when the current one began */
    uint8_t slice;
    bool begun;
    bool raised[MINIPROXY_ALERT_LOGINS]; /* of those that need no table */
    struct miniproxy_watch_slice slices[MINIPROXY_WATCH_SLICES], sum;
    struct miniproxy_watch_client clients[MINIPROXY_WATCH_CLIENTS];
#if MINIPROXY_WITH_ROUTES
    struct miniproxy_watch_hop hops[MINIPROXY_WATCH_HOPS];
#endif
};

/* *watch must be zeroed; it is the caller's. The configuration is copied. */
void miniproxy_watch_init(struct miniproxy_watch *watch, const struct miniproxy_watch_config *config);

/* From struct miniproxy_config.event. now_ms is of the same clock as in miniproxy_poll. */
void miniproxy_watch_event(struct miniproxy_watch *watch, const struct miniproxy_event *event, uint32_t now_ms);

/* After miniproxy_poll: sessions and buffers in use, and how many there are. */
void miniproxy_watch_usage(struct miniproxy_watch *watch, unsigned sessions, unsigned of_sessions, unsigned buffers,
                           unsigned of_buffers);

#if MINIPROXY_WITH_ROUTES
/* From struct miniproxy_config.hop. Where several instances share a watch, a hop is down while one says so. A hop that is
 * down and leaves the policy must be said to be up. */
void miniproxy_watch_hop(struct miniproxy_watch *watch, const struct miniproxy_hop *hop, bool down);
#endif

/* What time alone ends. Returns after how many milliseconds it must be called again at the latest, MINIPROXY_FOREVER if
 * nothing waits for it. */
uint32_t miniproxy_watch_poll(struct miniproxy_watch *watch, uint32_t now_ms);

#endif
