/* SPDX-License-Identifier: MIT
 *
 * Alerts: each is raised once, and told once more when it is over.
 */
#define _GNU_SOURCE
#include "port/miniproxy_watch.h"
#include "unit.h"

enum { TOLD_MAX = 64 };

static struct miniproxy_watch watch;
static char told[TOLD_MAX][80];
static unsigned told_count;
static uint32_t now_ms;

static void on_alert(void *app, const struct miniproxy_alert *a)
{
    char who[32] = "";
    assert_ptr_equal(app, &watch);
    assert_true(told_count < TOLD_MAX);
    if (a->client != NULL) snprintf(who, sizeof who, " .%u", a->client->ip[3]);
    if (a->hop != NULL) snprintf(who, sizeof who, " %s:%u", a->hop->host, a->hop->port);
    snprintf(told[told_count++], sizeof told[0], "%s%s %s %u/%u",
             miniproxy_alert_token((enum miniproxy_alert_kind)a->kind), who, a->over ? "over" : "raised", a->value, a->limit);
}

static void begin(uint32_t at_ms)
{
    const struct miniproxy_watch_config config = {.server_errors = 20,
                                                  .client_errors = 50,
                                                  .window_ms = 6000,
                                                  .least = 10,
                                                  .sessions = 90,
                                                  .buffers = 80,
                                                  .logins = 3,
                                                  .hops = true,
                                                  .alert = on_alert,
                                                  .app = &watch};
    memset(&watch, 0, sizeof watch);
    told_count = 0;
    now_ms = at_ms;
    miniproxy_watch_init(&watch, &config);
}

static void event_of(unsigned status, enum miniproxy_cause cause, unsigned client)
{
    const struct miniproxy_addr addr = {.family = 4, .ip = {192, 0, 2, (uint8_t)client}, .port = (uint16_t)unit_random(65536)};
    const struct miniproxy_event e = {.client = &addr, .status = (uint16_t)status, .cause = (uint8_t)cause};
    miniproxy_watch_event(&watch, &e, now_ms);
}

static void events(unsigned count, unsigned status)
{
    while (count-- > 0) event_of(status, MINIPROXY_CAUSE_NONE, 1);
}

static void failed_login(unsigned client)
{
    event_of(407, MINIPROXY_CAUSE_LOGIN_FAILED, client);
}

/* All that was told since the last time. */
static void expect(const char *first, const char *second)
{
    unsigned count = first == NULL ? 0 : second == NULL ? 1 : 2;
    if (told_count != count) fail_msg("%u alerts, not %u: %s", told_count, count, told[0]);
    if (count > 0) assert_string_equal(told[0], first);
    if (count > 1) assert_string_equal(told[1], second);
    told_count = 0;
}

static void poll(void)
{
    miniproxy_watch_poll(&watch, now_ms);
}

static void shares_of_errors(const void *data)
{
    (void)data;
    begin(5);
    events(9, 500);
    expect(NULL, NULL);
    events(1, 200);
    expect("server_errors raised 90/20", NULL);
    events(20, 599);
    expect(NULL, NULL);
    now_ms += 3000;
    events(150, 200); /* 29 of 180: less than 20, not less than 15 */
    expect(NULL, NULL);
    events(14, 200);
    expect("server_errors over 14/20", NULL);
    events(100, 499);
    expect(NULL, NULL);
    events(65, 400); /* 165 of 359 */
    expect(NULL, NULL);
    events(30, 404);
    expect("client_errors raised 50/50", NULL);
}

static void page_event(unsigned status, enum miniproxy_cause cause)
{
    const struct miniproxy_addr addr = {.family = 4, .ip = {192, 0, 2, 1}};
    const struct miniproxy_event e = {.client = &addr, .status = (uint16_t)status, .cause = (uint8_t)cause, .page = true};
    miniproxy_watch_event(&watch, &e, now_ms);
}

/* Neither do pages hide errors of others, nor are they any. */
static void pages_are_no_part(const void *data)
{
    (void)data;
    begin(1);
    for (unsigned i = 0; i < 60; i++) {
        page_event(200, MINIPROXY_CAUSE_NONE);
        page_event(503, MINIPROXY_CAUSE_NONE);
        page_event(404, MINIPROXY_CAUSE_PAGE);
        page_event(401, MINIPROXY_CAUSE_PAGE_LOGIN_MISSING);
    }
    expect(NULL, NULL);
    assert_int_equal(watch.sum.all, 0);
    events(10, 500);
    expect("server_errors raised 100/20", NULL);
    page_event(401, MINIPROXY_CAUSE_PAGE_LOGIN_FAILED);
    page_event(407, MINIPROXY_CAUSE_LOGIN_FAILED);
    page_event(429, MINIPROXY_CAUSE_LOGIN_THROTTLED);
    expect("failed_logins .1 raised 3/3", NULL);
    assert_int_equal(watch.sum.all, 10);
}

/* Who logs in only when asked to makes as many 407 as anything else; maintenance was ordered. */
static void what_is_expected_is_no_error(const void *data)
{
    (void)data;
    begin(1);
    for (unsigned i = 0; i < 50; i++) {
        event_of(407, MINIPROXY_CAUSE_LOGIN_MISSING, 1);
        event_of(503, MINIPROXY_CAUSE_MAINTENANCE, 1);
    }
    expect(NULL, NULL);
    events(24, 503);
    expect(NULL, NULL);
    events(1, 503); /* of 125 */
    expect("server_errors raised 20/20", NULL);
}

/* Between the limit and three quarters of it nothing is told, however often it is crossed. */
static void no_flapping(const void *data)
{
    (void)data;
    begin(1);
    events(80, 200);
    events(20, 500);
    expect("server_errors raised 20/20", NULL);
    for (unsigned i = 0; i < 50; i++) {
        events(4, 200);
        events(1, 500);
    }
    events(40, 200);
    events(20, 500);
    expect(NULL, NULL);
}

static void time_ends_it(const void *data)
{
    uint32_t wait_ms;
    (void)data;
    for (uint32_t start_ms = UINT32_MAX - 3000;; start_ms = 9000) {
        begin(start_ms);
        assert_int_equal(miniproxy_watch_poll(&watch, now_ms), MINIPROXY_FOREVER);
        events(10, 503);
        expect("server_errors raised 100/20", NULL);
        for (unsigned i = 0; i < 6; i++) {
            wait_ms = miniproxy_watch_poll(&watch, now_ms);
            assert_in_range(wait_ms, 1, 1000);
            expect(NULL, NULL);
            now_ms += wait_ms;
        }
        assert_int_equal(miniproxy_watch_poll(&watch, now_ms), MINIPROXY_FOREVER);
        expect("server_errors over 0/20", NULL);
        now_ms += 100000;
        events(10, 503);
        expect("server_errors raised 100/20", NULL);
        if (start_ms == 9000) break;
    }
}

/* Errors leave the window when their time has come, neither all at once nor never. */
static void the_window_moves(const void *data)
{
    (void)data;
    begin(100);
    for (unsigned i = 0; i < 6; i++) {
        events(2, 500);
        now_ms += 1000;
    }
    expect("server_errors raised 100/20", NULL);
    events(8, 200);
    for (unsigned i = 0; i < 4; i++) {
        now_ms += 1000;
        poll();
        expect(NULL, NULL);
    }
    now_ms += 1000;
    poll();
    expect("server_errors over 0/20", NULL);
}

/* The sums are those of a naive reckoning, whatever comes when. */
static void windows_at_random(const void *data)
{
    enum { EVENTS = 30000 };
    static uint32_t slices[EVENTS];
    static uint16_t status[EVENTS];
    uint32_t slice_start;
    (void)data;
    begin(UINT32_MAX - 1000000);
    poll();
    slice_start = now_ms;
    for (unsigned i = 0, slice = 0; i < EVENTS; i++) {
        unsigned all = 0, errors[2] = {0, 0};
        uint32_t steps;
        now_ms += unit_random(10) == 0 ? unit_random(200) == 0 ? unit_random(20000) : unit_random(800) : 0;
        steps = (now_ms - slice_start) / 1000;
        slice += steps;
        slice_start = steps > 6 ? now_ms : slice_start + steps * 1000;
        slices[i] = slice;
        status[i] = (uint16_t)(100 * (1 + unit_random(6)));
        event_of(status[i], MINIPROXY_CAUSE_NONE, 1);
        for (unsigned k = i + 1; k-- > 0 && slice - slices[k] < 6;) {
            all++;
            if (status[k] >= 400 && status[k] < 600) errors[status[k] < 500]++;
        }
        assert_int_equal(watch.sum.all, all);
        assert_int_equal(watch.sum.errors[0], errors[0]);
        assert_int_equal(watch.sum.errors[1], errors[1]);
        told_count = 0;
    }
}

static void sessions_and_buffers(const void *data)
{
    (void)data;
    begin(1);
    miniproxy_watch_usage(&watch, 89, 100, 79, 100);
    expect(NULL, NULL);
    miniproxy_watch_usage(&watch, 90, 100, 100, 100);
    expect("sessions raised 90/90", "buffers raised 100/80");
    miniproxy_watch_usage(&watch, 100, 100, 100, 100);
    miniproxy_watch_usage(&watch, 81, 100, 71, 100);
    miniproxy_watch_usage(&watch, 101, 100, 90, 100);
    expect(NULL, NULL);
    miniproxy_watch_usage(&watch, 80, 100, 70, 100);
    expect("sessions over 80/90", "buffers over 70/80");
    miniproxy_watch_usage(&watch, 4, 4, 0, 0);
    expect("sessions raised 100/90", "buffers raised 100/80");
}

static void failed_logins(const void *data)
{
    (void)data;
    begin(1);
    watch.config.client_errors = 0;
    event_of(407, MINIPROXY_CAUSE_LOGIN_MISSING, 7);
    failed_login(7);
    failed_login(7);
    failed_login(8);
    failed_login(8);
    expect(NULL, NULL);
    event_of(429, MINIPROXY_CAUSE_LOGIN_THROTTLED, 7);
    expect("failed_logins .7 raised 3/3", NULL);
    for (unsigned i = 0; i < 100; i++) failed_login(7);
    event_of(200, MINIPROXY_CAUSE_NONE, 7);
    now_ms += 5999;
    poll();
    expect(NULL, NULL);
    failed_login(7);
    now_ms += 1;
    failed_login(8); /* the window of the first two is over */
    failed_login(8);
    expect(NULL, NULL);
    failed_login(8);
    expect("failed_logins .8 raised 3/3", NULL);
    now_ms += 5998;
    assert_int_equal(miniproxy_watch_poll(&watch, now_ms), 1);
    expect(NULL, NULL);
    now_ms += 1;
    poll();
    now_ms += 1;
    assert_int_equal(miniproxy_watch_poll(&watch, now_ms), MINIPROXY_FOREVER);
    expect("failed_logins .7 over 104/3", "failed_logins .8 over 3/3");
}

/* Who has one address of IPv6 has all of its /64. */
static void failed_logins_of_a_network(const void *data)
{
    struct miniproxy_addr addr = {.family = 6, .ip = {0x20, 1, 0xd, 0xb8, 0, 0, 0, 1}};
    const struct miniproxy_event e = {.client = &addr, .cause = MINIPROXY_CAUSE_LOGIN_FAILED};
    (void)data;
    begin(1);
    for (unsigned i = 0; i < 3; i++) {
        expect(NULL, NULL);
        addr.ip[7] = 2;
        addr.ip[15] = (uint8_t)i;
        if (i < 2) miniproxy_watch_event(&watch, &e, now_ms); /* of another one */
        addr.ip[7] = 1;
        addr.ip[8 + i] = 99;
        miniproxy_watch_event(&watch, &e, now_ms);
    }
    expect("failed_logins .184 raised 3/3", NULL);
}

/* A main loop asks for the time once, before the events that come from it. */
static void a_time_of_before(const void *data)
{
    uint32_t starts[] = {10, UINT32_MAX - 1, 0, 5};
    (void)data;
    for (unsigned i = 0; i < 4; i++) {
        begin(starts[i]);
        for (unsigned k = 0; k < 3; k++) {
            now_ms += 5;
            failed_login(7);
            events(4, 500);
            miniproxy_watch_poll(&watch, now_ms - 5);
        }
        expect("server_errors raised 80/20", "failed_logins .7 raised 3/3");
        assert_in_range(miniproxy_watch_poll(&watch, now_ms - 5), 1, 1000);
        assert_int_equal(watch.sum.all, 15);
    }
}

/* The table has four places: newcomers take that of whoever was quiet for longest, and what was raised is over then. */
static void more_clients_than_places(const void *data)
{
    (void)data;
    begin(1);
    watch.config.client_errors = 0;
    for (unsigned i = 0; i < 3; i++) failed_login(1);
    expect("failed_logins .1 raised 3/3", NULL);
    for (unsigned client = 2; client <= 4; client++) {
        now_ms++;
        failed_login(client);
        failed_login(client);
    }
    now_ms++;
    failed_login(5);
    expect("failed_logins .1 over 3/3", NULL);
    failed_login(3);
    failed_login(4);
    expect("failed_logins .3 raised 3/3", "failed_logins .4 raised 3/3");
    failed_login(2);
    expect("failed_logins .2 raised 3/3", NULL);
}

static void parents(const void *data)
{
    const struct miniproxy_hop a = {.host = "a.example", .port = 80}, same = {.host = "A.example", .port = 80},
                               b = {.host = "a.example", .port = 81}, c = {.host = "c", .port = 1}, d = {.host = "d"};
    (void)data;
    begin(1);
    miniproxy_watch_hop(&watch, &a, false);
    expect(NULL, NULL);
    miniproxy_watch_hop(&watch, &a, true);
    miniproxy_watch_hop(&watch, &same, true);
    miniproxy_watch_hop(&watch, &b, true);
    expect("hop_down a.example:80 raised 1/1", "hop_down a.example:81 raised 1/1");
    miniproxy_watch_hop(&watch, &a, false);
    expect(NULL, NULL);
    miniproxy_watch_hop(&watch, &a, false);
    miniproxy_watch_hop(&watch, &a, false);
    expect("hop_down a.example:80 over 0/1", NULL);
    miniproxy_watch_hop(&watch, &c, true);
    miniproxy_watch_hop(&watch, &a, true);
    miniproxy_watch_hop(&watch, &d, true); /* no place for it */
    miniproxy_watch_hop(&watch, &d, false);
    expect("hop_down c:1 raised 1/1", "hop_down a.example:80 raised 1/1");
}

static void nothing_is_watched_that_was_not_asked_for(const void *data)
{
    const struct miniproxy_hop hop = {.host = "a", .port = 1};
    const struct miniproxy_watch_config nothing = {.alert = on_alert, .app = &watch};
    (void)data;
    begin(1);
    memset(&watch, 0, sizeof watch);
    miniproxy_watch_init(&watch, &nothing);
    events(100, 500);
    events(100, 400);
    for (unsigned i = 0; i < 10; i++) failed_login(1);
    miniproxy_watch_usage(&watch, 100, 100, 100, 100);
    miniproxy_watch_hop(&watch, &hop, true);
    assert_int_equal(miniproxy_watch_poll(&watch, now_ms + 1000000), MINIPROXY_FOREVER);
    expect(NULL, NULL);
}

int main(void)
{
    struct unit_test tests[] = {
        {.name = "shares of errors", .run = shares_of_errors},
        {.name = "pages of the proxy's own are no part of them", .run = pages_are_no_part},
        {.name = "answers that are expected are no errors", .run = what_is_expected_is_no_error},
        {.name = "around a threshold nothing is told again", .run = no_flapping},
        {.name = "time ends an alert, also where the clock wraps", .run = time_ends_it},
        {.name = "errors leave the window one part after the other", .run = the_window_moves},
        {.name = "the window counts right at any times", .run = windows_at_random},
        {.name = "sessions and buffers nearly in use", .run = sessions_and_buffers},
        {.name = "failed logins of a client [A14]", .run = failed_logins},
        {.name = "failed logins of a network of IPv6 [A14]", .run = failed_logins_of_a_network},
        {.name = "times of before events", .run = a_time_of_before},
        {.name = "more clients than are remembered", .run = more_clients_than_places},
        {.name = "parents down and up, as many say it [G05]", .run = parents},
        {.name = "no alert without a threshold", .run = nothing_is_watched_that_was_not_asked_for},
    };
    return unit_run("watch", tests, sizeof tests / sizeof tests[0]);
}
