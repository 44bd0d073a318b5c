/* SPDX-License-Identifier: MIT
 *
 * Texts of a product's own, compiled in: for the causes that it has words for, whatever the client accepts. And its own
 * Retry-After.
 */
#include <stdlib.h>
#define MINIPROXY_ASSERT(condition) ((condition) ? (void)0 : abort())
#define MINIPROXY_WITH_HTML 1
#define MINIPROXY_BUFFER_SIZE 512
#define WIRE_MAX 80000
#define MINIPROXY_BODY(cause, standard) own_body((int)(cause), standard)
#define MINIPROXY_NAME_MAX 64
#define MINIPROXY_RETRY_AFTER_S (60 * 20u)
/* As long as it may be. */
#define MINIPROXY_BODY_TYPE "text/html; charset=us-ascii; profile=\"of-products-of-somebody's\""
static const char *own_body(int cause, const char *standard);
#include "../../miniproxy.c"
#include "unit.h"
#include "wire.h"

static char words[70001];

static const char *own_body(int cause, const char *standard)
{
    return cause == MINIPROXY_CAUSE_REFUSED ? words : standard;
}

#define GET(fields) "GET http://h.example/ HTTP/1.1\r\nHost: h.example\r\n" fields "\r\n"

static void request(const char *head, int error, size_t at_most)
{
    wire_start((struct miniproxy_config){.name = "box"});
    wire.connect_error = error;
    wire.at_most = at_most;
    say(head);
    for (unsigned i = 0; i < 6000 && miniproxy_poll(&wire.proxy, 1) == 0; i++) {}
}

static const char *body(void)
{
    const char *end = strstr(wire.to_client.data, "\r\n\r\n"), *field = strstr(wire.to_client.data, "Content-Length: ");
    assert_true(end != NULL && field != NULL);
    assert_int_equal(atoi(field + 16), strlen(end + 4));
    return end + 4;
}

static bool is_of_type(const char *type)
{
    const char *field = strstr(wire.to_client.data, "\r\nContent-Type: ");
    return field != NULL && strncmp(field + 16, type, strlen(type)) == 0 && field[16 + strlen(type)] == '\r';
}

static uint32_t the_time(void *app)
{
    (void)app;
    return 784111777;
}

static void own_words(const void *data)
{
    static const char *const heads[] = {GET(""), GET("Accept: text/html\r\n"), GET("Accept: */*\r\n")};
    (void)data;
    memset(words, 0, sizeof words);
    memset(words, 'w', 3000);
    for (size_t i = 0; i < 3; i++) {
        for (size_t at_most = 0; at_most < 3; at_most++) {
            request(heads[i], MINIPROXY_EREFUSED, at_most);
            assert_string_equal(body(), words);
            assert_true(is_of_type(MINIPROXY_BODY_TYPE));
            assert_null(strstr(wire.to_client.data, "Content-Security-Policy"));
        }
    }
}

static void longest_head(const void *data)
{
    static char name[MINIPROXY_NAME_MAX + 1], realm[REALM_MAX + 1];
    static unsigned char out[2048];
    struct miniproxy_session *s = &wire.proxy.sessions[0];
    (void)data;
    assert_int_equal(strlen(MINIPROXY_BODY_TYPE), MINIPROXY_PAGE_TYPE_MAX);
    memset(name, 'n', sizeof name - 1);
    memset(realm, 'r', sizeof realm - 1);
    wire_start((struct miniproxy_config){.name = name, .realm = realm, .unix_time = the_time});
    for (unsigned cause = 1; cause < MINIPROXY_CAUSE_COUNT; cause++) {
        s->cause = (uint8_t)cause;
        s->status = (uint16_t)miniproxy_cause_status((enum miniproxy_cause)cause);
        if (s->status == 0) continue;
        choose_body(&wire.proxy, s);
        assert_in_range(put_reply_head(out, &wire.proxy, s, false, 4000000000u) - out, 200, MINIPROXY_BUFFER_SIZE);
    }
}

/* It may be of any length. */
static void long_words(const void *data)
{
    static const size_t lengths[] = {65533, 65534, 65535, 65536, 70000};
    (void)data;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        memset(words, 0, sizeof words);
        memset(words, 'w', lengths[i]);
        request(GET(""), MINIPROXY_EREFUSED, 0);
        assert_string_equal(body(), words);
    }
}

static void standard_words(const void *data)
{
    (void)data;
    request(GET("Accept: text/html\r\n"), MINIPROXY_EUNREACHABLE, 0);
    assert_true(is_of_type("text/html; charset=utf-8"));
    assert_non_null(strstr(body(), "<dt>Code</dt><dd>unreachable</dd>"));
    request(GET(""), MINIPROXY_EUNREACHABLE, 0);
    assert_string_equal(body(), "There is no route to the origin. (unreachable)\n");
}

/* Whatever expression it is; with a body and without. */
static void own_retry_after(const void *data)
{
    (void)data;
    request(GET(""), MINIPROXY_ERESOURCES, 0);
    assert_non_null(strstr(wire.to_client.data, "HTTP/1.1 503 "));
    assert_non_null(strstr(wire.to_client.data, "\r\nRetry-After: 1200\r\n"));
    for (size_t at_most = 0; at_most < 3; at_most++) {
        wire_start((struct miniproxy_config){.name = "box"});
        say("G");
        wire.at_most = at_most;
        refuse_bare(&wire.proxy, &wire.proxy.sessions[0], MINIPROXY_CAUSE_SESSIONS_FULL);
        for (unsigned i = 0; i < 200; i++) {
            miniproxy_wake(wire.client, MINIPROXY_WR);
            wire_run();
        }
        assert_string_equal(wire.to_client.data,
                            "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nCache-Control: no-store\r\n"
                            "Connection: close\r\nRetry-After: 1200\r\n"
                            "Proxy-Status: box; error=connection_limit_reached\r\n\r\n");
    }
}

int main(void)
{
    static struct unit_test tests[] = {
        {.name = "own words replace text and page [S17]", .run = own_words},
        {.name = "the longest head of own words fits into the smallest buffer", .run = longest_head},
        {.name = "own words of any length [S17]", .run = long_words},
        {.name = "Retry-After is a number [S07]", .run = own_retry_after},
        {.name = "where there are none the standard ones stay [S17]", .run = standard_words},
    };
    return unit_run("own_body", tests, sizeof tests / sizeof tests[0]);
}
