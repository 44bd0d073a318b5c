/* SPDX-License-Identifier: MIT
 *
 * A proxy without the options that a small device can do without.
 */
#define MINIPROXY_WITH_REUSE 0
#define MINIPROXY_WITH_UPGRADE 0
#define MINIPROXY_WITH_DATE 0
#define MINIPROXY_WITH_TEXTS 0
#include "../../miniproxy.c"
#include "unit.h"
#include "wire.h"

static uint32_t never(void *app)
{
    (void)app;
    fail_msg("the time is asked for");
    return 0;
}

static void start(void)
{
    wire_start((struct miniproxy_config){.unix_time = never});
    wire.answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
}

static void no_reuse(const void *data)
{
    (void)data;
    start();
    for (unsigned i = 1; i <= 3; i++) {
        say("GET http://h.example/ HTTP/1.1\r\nHost: h.example\r\n\r\n");
        assert_int_equal(wire.event.status, 200);
        assert_int_equal(wire.connects, i);
        assert_int_equal(miniproxy_counters(&wire.proxy)->reused, 0);
        assert_non_null(strstr(wire.to_origin.data, "\r\nConnection: close\r\n"));
        assert_null(strstr(wire.to_client.data, "Connection: close"));
        assert_null(strstr(wire.to_client.data, "Date:"));
        assert_false(wire.closed);
    }
}

static void no_upgrade(const void *data)
{
    static const char request[] = "GET http://h.example/ HTTP/1.1\r\nHost: h.example\r\nConnection: upgrade\r\n"
                                  "Upgrade: websocket\r\n\r\n";
    (void)data;
    start();
    say(request);
    assert_int_equal(wire.event.status, 200);
    assert_null(strstr(wire.to_origin.data, "pgrade"));
    wire.answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nframes";
    say(request);
    assert_int_equal(wire.event.status, 502);
    assert_int_equal(wire.event.cause, MINIPROXY_CAUSE_UPGRADE);
}

static void token_alone(const void *data)
{
    (void)data;
    start();
    say("GET http://h.example:0/ HTTP/1.1\r\nHost: h.example\r\n\r\n");
    assert_int_equal(strncmp(wire.to_client.data, "HTTP/1.1 400 Bad Request\r\n", 26), 0);
    assert_non_null(strstr(wire.to_client.data, "\r\nContent-Length: 11\r\n"));
    assert_non_null(strstr(wire.to_client.data, "\r\nProxy-Status: miniproxy; error=http_request_error\r\n"));
    assert_non_null(strstr(wire.to_client.data, "\r\n\r\nbad_target\n"));
    assert_null(strstr(wire.to_client.data, "Date:"));
}

int main(void)
{
    static struct unit_test tests[] = {
        {"every request has a connection of its own [P08]", no_reuse, NULL, false},
        {"Upgrade is taken out and 101 refused [U01,U03]", no_upgrade, NULL, false},
        {"a refusal says its token [S11]", token_alone, NULL, false},
    };
    return unit_run("spare", tests, sizeof tests / sizeof tests[0]);
}
