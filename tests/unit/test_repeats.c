/* SPDX-License-Identifier: MIT
 *
 * What a port was offered it is offered again, or nothing (struct miniproxy_port, rule 3): it may have made a record of it.
 */
#include "../../miniproxy.c"
#include "unit.h"
#include "wire.h"

static void total_timeout(const void *data)
{
    struct miniproxy_config config = {.timeout_ms = {[MINIPROXY_TIMEOUT_TOTAL] = 100}};
    (void)data;
    wire_start(config);
    wire.answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    wire.is_full = true;
    say("GET http://h.example/ HTTP/1.1\r\nHost: h.example\r\n\r\n");
    assert_true(wire.offered > 0);
    wire.is_full = false;
    wire.offered = 0;
    for (unsigned i = 0; i < 3; i++) miniproxy_poll(&wire.proxy, 200);
    assert_int_equal(wire.offered, 0);
    assert_true(wire.closed);
    assert_int_equal(wire.event.cause, MINIPROXY_CAUSE_TOTAL_TIMEOUT);
}

int main(void)
{
    static struct unit_test tests[] = {
        {"a response that nothing was taken of is not replaced by another when its time is over", total_timeout, NULL,
         false},
    };
    return unit_run("repeats", tests, sizeof tests / sizeof tests[0]);
}
