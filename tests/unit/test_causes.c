/* SPDX-License-Identifier: MIT
 *
 * The table of causes: one row binds status, Proxy-Status type, log token and text (RFC 9209 section 2.3).
 */
#define MINIPROXY_WITH_TLS 1 /* all causes that there can be */
#include "../../miniproxy.c"
#include "unit.h"

static const struct {
    const char *name;
    unsigned status;
    const char *type, *token, *text;
} table[] = {
#define X(NAME, status, type, token, text) {#NAME, status, TYPE_##type == TYPE_none ? "" : #type, token, text},
    MINIPROXY_CAUSES(X)
#undef X
};

enum { CAUSES = sizeof table / sizeof table[0], ANY_4XX = 4, ANY = 1 };

/* The error types of RFC 9209 section 2.3 with the status that each recommends. */
static const struct {
    const char *type;
    unsigned status[2];
} types[] = {
    {"dns_timeout", {504, 0}},
    {"dns_error", {502, 0}},
    {"destination_not_found", {500, 0}},
    {"destination_unavailable", {503, 0}},
    {"destination_ip_prohibited", {502, 403}}, /* 403 says better that it is the policy's doing */
    {"destination_ip_unroutable", {502, 0}},
    {"connection_refused", {502, 0}},
    {"connection_terminated", {502, 0}},
    {"connection_timeout", {504, 0}},
    {"connection_read_timeout", {504, 0}},
    {"connection_write_timeout", {504, 0}},
    {"connection_limit_reached", {503, 0}},
    {"tls_protocol_error", {502, 0}},
    {"tls_certificate_error", {502, 0}},
    {"tls_alert_received", {502, 0}},
    {"http_request_error", {ANY_4XX, 0}},
    {"http_request_denied", {403, 0}},
    {"http_response_incomplete", {502, 0}},
    {"http_response_header_section_size", {502, 0}},
    {"http_response_header_size", {502, 0}},
    {"http_response_body_size", {502, 0}},
    {"http_response_trailer_section_size", {502, 0}},
    {"http_response_trailer_size", {502, 0}},
    {"http_response_transfer_coding", {502, 0}},
    {"http_response_content_coding", {502, 0}},
    {"http_response_timeout", {504, 0}},
    {"http_upgrade_failed", {502, 0}},
    {"http_protocol_error", {502, 0}},
    {"proxy_internal_response", {ANY, 0}},
    {"proxy_internal_error", {500, 0}},
    {"proxy_configuration_error", {500, 0}},
    {"proxy_loop_detected", {502, 0}},
};

static void accessors(const void *data)
{
    (void)data;
    assert_int_equal(CAUSES, MINIPROXY_CAUSE_COUNT);
    assert_int_equal(MINIPROXY_CAUSE_NONE, 0);
    for (unsigned i = 0; i < CAUSES; i++) {
        assert_string_equal(miniproxy_cause_token((enum miniproxy_cause)i), table[i].token);
        assert_string_equal(miniproxy_cause_type((enum miniproxy_cause)i), table[i].type);
        assert_int_equal(miniproxy_cause_status((enum miniproxy_cause)i), table[i].status);
    }
}

static void log_tokens(const void *data)
{
    (void)data;
    assert_string_equal(table[0].token, "-");
    for (unsigned i = 1; i < CAUSES; i++) {
        const char *token = table[i].token;
        if (strlen(token) == 0 || strspn(token, "abcdefghijklmnopqrstuvwxyz0123456789_") != strlen(token))
            fail_msg("%s: token \"%s\"", table[i].name, token);
        for (unsigned k = 0; k < i; k++)
            if (strcmp(token, table[k].token) == 0) fail_msg("%s and %s: %s", table[i].name, table[k].name, token);
    }
}

static bool may_have(unsigned allowed, unsigned status)
{
    if (allowed == ANY_4XX) return status >= 400 && status < 500;
    return status != 0 && (allowed == ANY || allowed == status);
}

static void types_and_statuses(const void *data)
{
    unsigned wrong = 0;
    (void)data;
    for (unsigned i = 0; i < CAUSES; i++) {
        size_t t = 0;
        if (table[i].status == 0) {
            assert_string_equal(table[i].type, "");
            assert_string_equal(table[i].text, "");
            continue;
        }
        while (t < sizeof types / sizeof types[0] && strcmp(types[t].type, table[i].type) != 0) t++;
        if (t == sizeof types / sizeof types[0]) fail_msg("%s: no such type: %s", table[i].name, table[i].type);
        if (may_have(types[t].status[0], table[i].status) || may_have(types[t].status[1], table[i].status)) continue;
        print_error("%s: %u with %s\n", table[i].name, table[i].status, table[i].type);
        wrong++;
    }
    assert_int_equal(wrong, 0);
}

static void texts(const void *data)
{
    (void)data;
    for (unsigned i = 0; i < CAUSES; i++) {
        const char *text = table[i].text;
        if (table[i].status == 0) continue;
        for (const char *p = text; *p != '\0'; p++)
            if (*p < 0x20 || *p > 0x7e || strchr("<>&", *p) != NULL)
                fail_msg("%s: octet %u", table[i].name, (unsigned)*p);
        if (strlen(text) < 20 || text[strlen(text) - 1] != '.') fail_msg("%s: not a sentence", table[i].name);
    }
}

int main(void)
{
    struct unit_test tests[] = {
        {.name = "accessors agree with the table [Q06]", .run = accessors},
        {.name = "every cause has a log token of its own [Q06,G01]", .run = log_tokens},
        {.name = "types are those of RFC 9209, with the status they recommend [Q03]", .run = types_and_statuses},
        {.name = "texts are plain sentences [S11,S13]", .run = texts},
    };
    return unit_run("causes", tests, sizeof tests / sizeof tests[0]);
}
