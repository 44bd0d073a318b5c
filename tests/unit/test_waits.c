/* SPDX-License-Identifier: MIT
 *
 * What sessions wait for, and who is to blame when it does not come: buffers, 100 from an origin, the next request.
 */
#define MINIPROXY_SESSIONS 4
#define MINIPROXY_BUFFERS 5
#include "../../miniproxy.c"
#include "unit.h"
#include "wire.h"

static const char get[] = "GET http://h.example/ HTTP/1.1\r\nHost: h.example\r\n\r\n";
static const char expecting[] = "POST http://h.example/ HTTP/1.1\r\nHost: h.example\r\nExpect: 100-continue\r\n"
                                "Content-Length: 3\r\n\r\n";

/* Every timeout but these is longer than a test. */
static void start(enum miniproxy_timeout a, uint32_t a_ms, enum miniproxy_timeout b, uint32_t b_ms)
{
    struct miniproxy_config config = {.port = NULL};
    for (unsigned i = 0; i < MINIPROXY_TIMEOUT_COUNT; i++) config.timeout_ms[i] = 1000000;
    config.timeout_ms[a] = a_ms;
    config.timeout_ms[b] = b_ms;
    wire_start(config);
}

static void pass(uint32_t ms)
{
    wire.now_ms += ms;
    wire_run();
}

static void origin_says(const char *text)
{
    wire_put(&wire.from_origin, text, strlen(text));
    miniproxy_wake(wire.server, MINIPROXY_RD);
    wire_run();
}

/* ---- Buffers ---- */

/* Four of five are held by what flows up and down, the last by what flows down. */
static struct miniproxy_session *fill_pool(struct miniproxy_session **last)
{
    struct miniproxy *p = &wire.proxy;
    struct miniproxy_session *s = p->sessions;
    start(MINIPROXY_TIMEOUT_HEAD, 1000, MINIPROXY_TIMEOUT_HEAD, 1000);
    for (unsigned i = 1; i <= 2; i++) {
        assert_true(borrow(p, &s[i], &s[i].up));
        assert_true(borrow(p, &s[i], &s[i].down));
    }
    assert_false(borrow(p, &s[3], &s[3].up));
    leave_wait(p, &s[3]);
    assert_true(borrow(p, &s[3], &s[3].down));
    *last = &s[3];
    return &s[0];
}

static void response_after_upload(const void *data)
{
    struct miniproxy *p = &wire.proxy;
    struct miniproxy_session *last, *s = fill_pool(&last);
    (void)data;
    assert_false(borrow(p, s, &s->up));
    assert_false(borrow(p, s, &s->down));
    give_back(p, &last->down);
    assert_int_equal(s->lane, 1); /* it is visited */
    assert_false(borrow(p, s, &s->up)); /* which is not what it was given for */
    assert_true(borrow(p, s, &s->down));
    assert_int_equal(p->granted, 0);
    assert_false(borrow(p, s, &s->up));
    give_back(p, &s->down); /* four are in use, and the fifth is not for what flows up */
    assert_false(borrow(p, s, &s->up));
    give_back(p, &s[1].down);
    assert_true(borrow(p, s, &s->up));
    assert_int_equal(p->counters.buffers, 4);
    assert_int_equal(p->granted, 0);
}

static void response_before_upload(const void *data)
{
    struct miniproxy *p = &wire.proxy;
    struct miniproxy_session *last, *s = fill_pool(&last);
    (void)data;
    assert_false(borrow(p, s, &s->down));
    give_back(p, &last->down);
    assert_false(borrow(p, s, &s->up));
    assert_true(borrow(p, s, &s->down));
    assert_int_equal(p->granted, 0);
}

/* First come, first served: whoever was promised one keeps it, though a response has taken the last that was free. */
static void upload_keeps_its_turn(const void *data)
{
    struct miniproxy *p = &wire.proxy;
    struct miniproxy_session *last, *s = fill_pool(&last);
    (void)data;
    assert_false(borrow(p, s, &s->up));
    give_back(p, &last->down);
    give_back(p, &p->sessions[2].down); /* three are in use, one is promised */
    assert_true(borrow(p, last, &last->down));
    assert_true(borrow(p, s, &s->up));
    assert_int_equal(p->counters.buffers, 5);
    assert_int_equal(p->granted, 0);
}

/* It has the one for its response, stands in the queue for another, and that is free before the first is taken. */
static void promised_twice(const void *data)
{
    struct miniproxy *p = &wire.proxy;
    struct miniproxy_session *last, *s = fill_pool(&last);
    (void)data;
    assert_false(borrow(p, s, &s->down));
    give_back(p, &last->down);
    assert_false(borrow(p, s, &s->up));
    for (unsigned i = 1; i <= 2; i++) give_back(p, &p->sessions[i].down);
    assert_int_equal(p->granted, 1);
    assert_true(borrow(p, s, &s->down));
    assert_int_equal(p->granted, 0);
    assert_true(borrow(p, s, &s->up));
    assert_int_equal(p->counters.buffers, 4);
}

/* ---- 100 ---- */

static void late_100(const void *data)
{
    (void)data;
    start(MINIPROXY_TIMEOUT_BODY, 1000, MINIPROXY_TIMEOUT_FIRST_BYTE, 3000);
    say(expecting);
    pass(2000);
    assert_int_equal(wire.events, 0);
    origin_says("HTTP/1.1 100 Continue\r\n\r\n");
    assert_non_null(strstr(wire.to_client.data, "HTTP/1.1 100 Continue\r\n"));
    pass(999); /* from here on the body is due */
    say("abc");
    origin_says("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_int_equal(wire.events, 1);
    assert_int_equal(wire.event.status, 200);
}

static void no_100(const void *data)
{
    (void)data;
    start(MINIPROXY_TIMEOUT_BODY, 1000, MINIPROXY_TIMEOUT_FIRST_BYTE, 3000);
    say(expecting);
    pass(2999);
    assert_int_equal(wire.events, 0);
    pass(1);
    assert_int_equal(wire.event.status, 504);
    assert_int_equal(wire.event.cause, MINIPROXY_CAUSE_FIRST_BYTE_TIMEOUT);
}

static void no_body_after_100(const void *data)
{
    (void)data;
    start(MINIPROXY_TIMEOUT_BODY, 1000, MINIPROXY_TIMEOUT_FIRST_BYTE, 3000);
    say(expecting);
    origin_says("HTTP/1.1 103 Early Hints\r\n\r\n");
    pass(1500); /* which is not what the client waits for */
    assert_int_equal(wire.events, 0);
    origin_says("HTTP/1.1 100 Continue\r\n\r\n");
    pass(1000);
    assert_int_equal(wire.event.status, 408);
    assert_int_equal(wire.event.cause, MINIPROXY_CAUSE_BODY_TIMEOUT);
}

/* A client that has begun does not wait. */
static void part_of_a_body(const void *data)
{
    (void)data;
    for (unsigned i = 0; i < 2; i++) {
        char text[sizeof expecting + 1];
        start(MINIPROXY_TIMEOUT_BODY, 1000, MINIPROXY_TIMEOUT_FIRST_BYTE, 3000);
        snprintf(text, sizeof text, "%s%s", expecting, i == 0 ? "a" : "");
        say(text);
        if (i == 1) say("a");
        pass(1000);
        assert_int_equal(wire.event.status, 408);
        assert_int_equal(wire.event.cause, MINIPROXY_CAUSE_BODY_TIMEOUT);
    }
}

/* ---- The next request ---- */

static void empty_lines_behind_a_request(const void *data)
{
    (void)data;
    start(MINIPROXY_TIMEOUT_HEAD, 1000, MINIPROXY_TIMEOUT_IDLE, 5000);
    wire.answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    say(get);
    for (unsigned i = 0; i < 3; i++) {
        say("\r\n");
        assert_int_equal(miniproxy_counters(&wire.proxy)->buffers, 0);
    }
    pass(4000); /* no head is late */
    assert_int_equal(wire.events, 1);
    say(get);
    assert_int_equal(wire.events, 2);
    assert_int_equal(wire.event.status, 200);
    say("\r\n");
    pass(4999);
    assert_false(wire.closed);
    pass(1);
    assert_true(wire.closed);
    assert_int_equal(wire.events, 2);
    assert_int_equal(wire.to_client.len, 0);
}

static void end_behind_an_empty_line(const void *data)
{
    (void)data;
    start(MINIPROXY_TIMEOUT_HEAD, 1000, MINIPROXY_TIMEOUT_IDLE, 5000);
    wire.answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    say(get);
    wire.at_end = true;
    say("\r\n");
    assert_true(wire.closed);
    assert_int_equal(wire.events, 1);
    assert_int_equal(wire.to_client.len, 0);
}

static void endless_empty_lines(const void *data)
{
    (void)data;
    start(MINIPROXY_TIMEOUT_HEAD, 1000, MINIPROXY_TIMEOUT_IDLE, 5000);
    wire.answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    say(get);
    for (unsigned i = 0; i < 2 * BLANK_LINES_MAX + 2 && !wire.closed; i++) say("\r\n");
    assert_int_equal(wire.event.status, 400);
    assert_int_equal(wire.events, 2);
}

/* ---- Durations of what was in vain [G01] ---- */

static void spent_in_vain(const void *data)
{
    (void)data;
    start(MINIPROXY_TIMEOUT_DNS, 700, MINIPROXY_TIMEOUT_CONNECT, 900);
    wire.resolve_error = MINIPROXY_AGAIN;
    say(get);
    pass(700);
    assert_int_equal(wire.event.cause, MINIPROXY_CAUSE_DNS_TIMEOUT);
    assert_int_equal(wire.event.dns_ms, 700);
    assert_int_equal(wire.event.connect_ms, 0);
    start(MINIPROXY_TIMEOUT_DNS, 700, MINIPROXY_TIMEOUT_CONNECT, 900);
    wire.connect_error = MINIPROXY_AGAIN;
    say(get);
    pass(900);
    assert_int_equal(wire.event.cause, MINIPROXY_CAUSE_CONNECT_TIMEOUT);
    assert_int_equal(wire.event.dns_ms, 0);
    assert_int_equal(wire.event.connect_ms, 900);
}

/* ---- Connection ---- */

/* What each of several nominates leaves, however often and in whatever order. */
static void nominated_fields(const void *data)
{
    (void)data;
    start(MINIPROXY_TIMEOUT_HEAD, 1000, MINIPROXY_TIMEOUT_HEAD, 1000);
    wire.answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-D: 4\r\nConnection: x-d, ,x-d,connection\r\n\r\nok";
    say("GET http://h.example/ HTTP/1.1\r\nX-A: 1\r\nX-B: 2\r\nHost: h.example\r\nConnection: ,x-b,,x-c, x-b\r\nX-C: 3\r\n"
        "X-AB: 5\r\nconnection: X-A\r\nX-B: 6\r\nX: 7\r\n\r\n");
    assert_int_equal(wire.event.status, 200);
    assert_null(strstr(wire.to_origin.data, "X-A: "));
    assert_null(strstr(wire.to_origin.data, "X-B: "));
    assert_null(strstr(wire.to_origin.data, "X-C: "));
    assert_null(strstr(wire.to_origin.data, "onnection: x"));
    assert_null(strstr(wire.to_origin.data, "onnection: X"));
    assert_non_null(strstr(wire.to_origin.data, "\r\nX-AB: 5\r\n"));
    assert_non_null(strstr(wire.to_origin.data, "\r\nX: 7\r\n"));
    assert_null(strstr(wire.to_client.data, "X-D"));
    assert_null(strstr(wire.to_client.data, "x-d"));
}

int main(void)
{
    static struct unit_test tests[] = {
        {"a response gets the buffer that an upload must not have [E05,Z07]", response_after_upload, NULL, false},
        {"a buffer for a response is not taken for an upload [E05,Z07]", response_before_upload, NULL, false},
        {"an upload keeps the buffer that it was promised [Z07]", upload_keeps_its_turn, NULL, false},
        {"two promised buffers are one [Z07]", promised_twice, NULL, false},
        {"an origin may think before it says 100 [E01]", late_100, NULL, false},
        {"an origin that does not say 100 is late [E02]", no_100, NULL, false},
        {"a client that was told 100 is late [E02]", no_body_after_100, NULL, false},
        {"a client that has begun its body is late [E02]", part_of_a_body, NULL, false},
        {"empty lines behind a request begin no other [M02]", empty_lines_behind_a_request, NULL, false},
        {"the end behind an empty line is no request [M02]", end_behind_an_empty_line, NULL, false},
        {"empty lines come to an end [M02]", endless_empty_lines, NULL, false},
        {"what was spent in vain is told [G01]", spent_in_vain, NULL, false},
        {"what several Connection fields nominate leaves [H01,H02,H04]", nominated_fields, NULL, false},
    };
    return unit_run("waits", tests, sizeof tests / sizeof tests[0]);
}
