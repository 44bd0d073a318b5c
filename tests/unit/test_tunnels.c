/* SPDX-License-Identifier: MIT
 *
 * A proxy that only makes tunnels.
 */
#define MINIPROXY_WITH_FORWARDING 0
#include "../../miniproxy.c"
#include "unit.h"
#include "wire.h"

static void only_tunnels(const void *data)
{
    static const char *const requests[] = {
        "GET http://h.example/ HTTP/1.1\r\nHost: h.example\r\n\r\n",
        "POST http://h.example/ HTTP/1.1\r\nHost: h.example\r\nContent-Length: 3\r\n\r\nabc",
        "POST http://h.example/ HTTP/1.1\r\nHost: h.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET https://h.example/ HTTP/1.1\r\nHost: h.example\r\n\r\n",
        "GET http://h.example/ HTTP/1.0\r\n\r\n",
    };
    (void)data;
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        wire_start((struct miniproxy_config){0});
        say(requests[i]);
        assert_int_equal(strncmp(wire.to_client.data, "HTTP/1.1 501 Not Implemented\r\n", 30), 0);
        assert_non_null(strstr(wire.to_client.data, "(scheme_unsupported)\n"));
        assert_non_null(strstr(wire.to_client.data, "\r\nConnection: close\r\n"));
        assert_int_equal(wire.connects, 0);
        assert_int_equal(wire.events, 1);
    }
}

/* Octets behind the head of CONNECT go into the tunnel, in both directions everything passes as it is. */
static void one_tunnel(const void *data)
{
    (void)data;
    wire_start((struct miniproxy_config){0});
    say("CONNECT h.example:443 HTTP/1.1\r\nHost: h.example:443\r\n\r\nearly");
    assert_string_equal(wire.to_client.data, "HTTP/1.1 200 Connection established\r\n\r\n");
    assert_string_equal(wire.to_origin.data, "early");
    say("0\r\n\r\nGET http://h.example/ HTTP/1.1\r\n\r\n");
    assert_string_equal(wire.to_origin.data, "0\r\n\r\nGET http://h.example/ HTTP/1.1\r\n\r\n");
    wire.answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    say("\r\n\r\n");
    assert_string_equal(wire.to_client.data, wire.answer);
    assert_int_equal(wire.events, 0);
    miniproxy_stop(&wire.proxy);
    assert_int_equal(wire.event.status, 200);
}

static void refusals(const void *data)
{
    static const struct {
        const char *request;
        unsigned status;
    } cases[] = {
        {"CONNECT h.example HTTP/1.1\r\nHost: h.example\r\n\r\n", 400},
        {"CONNECT h.example:80 HTTP/1.1\r\nHost: h.example\r\n\r\n", 403},
        {"CONNECT h.example:443 HTTP/1.1\r\n\r\n", 400},
        {"CONNECT h.example:443 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", 400},
        {"CONNECT h.example:443 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {"CONNECT 127.0.0.1:443 HTTP/1.1\r\nHost: h\r\n\r\n", 403},
        {"CONNECT h.example:443 HTTP/2.0\r\nHost: h\r\n\r\n", 505},
        {"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        {"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", 200},
    };
    (void)data;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char status[32];
        wire_start((struct miniproxy_config){0});
        say(cases[i].request);
        snprintf(status, sizeof status, "HTTP/1.1 %u ", cases[i].status);
        if (strncmp(wire.to_client.data, status, strlen(status)) != 0)
            fail_msg("%s\n%s", cases[i].request, wire.to_client.data);
        assert_int_equal(wire.connects, 0);
    }
}

int main(void)
{
    static struct unit_test tests[] = {
        {"whatever is not CONNECT gets 501 [T20,S09]", only_tunnels, NULL, false},
        {"CONNECT opens a tunnel [K03,K04,K05]", one_tunnel, NULL, false},
        {"what is refused otherwise still is [K01,K02,K09,T19]", refusals, NULL, false},
    };
    return unit_run("tunnels", tests, sizeof tests / sizeof tests[0]);
}
