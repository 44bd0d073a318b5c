/* SPDX-License-Identifier: MIT
 *
 * Basic credentials (RFC 7617) and the throttle behind them.
 */
#include "../../miniproxy.c"
#define wipe wipe_of_sha256 /* two files, one unit here */
#include "../../port/miniproxy_sha256.c"
#undef wipe
#include "unit.h"

#include <strings.h>

#if !MINIPROXY_WITH_AUTH
#error "this test needs MINIPROXY_WITH_AUTH"
#endif

static unsigned hashes; /* calls of counted_sha256 */

static void counted_sha256(uint8_t digest[32], const void *data, size_t len)
{
    hashes++;
    miniproxy_sha256(digest, data, len);
}

static uint8_t eve_digest[40] = "saltsalt"; /* the rest is computed by start() */
static const struct miniproxy_user users[] = {
    {.name = "Aladdin", .password = "open sesame", .groups = 1},
    {.name = "test", .password = "123\xc2\xa3"},
    {.name = "colon", .password = "a:b:c"},
    {.name = "empty", .password = ""},
    {.name = "eve", .digest = eve_digest},
    {.name = "both", .password = "clear", .digest = eve_digest},
    {.name = "none"},
};
static const struct miniproxy_policy policy = {.users = users, .user_count = sizeof users / sizeof users[0]};
static struct miniproxy_config config;

static void start(void)
{
    miniproxy_sha256(eve_digest + MINIPROXY_SALT_LEN, "saltsalteve:secret", 18);
    config.sha256 = counted_sha256;
    hashes = 0;
}

/* A value as it stands in a line: something in front of it, and nothing of a secret afterwards. */
static const struct miniproxy_user *check(const struct miniproxy_config *with, const struct miniproxy_policy *whose,
                                          const void *value, size_t len)
{
    unsigned char *line = malloc(2 + len + 1);
    const struct miniproxy_user *user;
    assert_non_null(line);
    memcpy(line, "n:", 2);
    memcpy(line + 2, value, len);
    line[2 + len] = '\r';
    user = check_login(with, whose, line + 2, len);
    assert_int_equal(line[2 + len], '\r');
    if (len >= 6 && strncasecmp(value, "basic ", 6) == 0)
        for (size_t i = 8; i < 2 + len; i++) assert_true(line[i] == 0 || line[i] == ' ');
    free(line);
    return user;
}

static const struct miniproxy_user *value_login(const char *value)
{
    return check(&config, &policy, value, strlen(value));
}

/* An own encoder, so that the decoder is not tested against itself. */
static void base64(char *out, const unsigned char *in, size_t len)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < len; i += 3) {
        unsigned left = (unsigned)(len - i), bits = (unsigned)in[i] << 16;
        if (left > 1) bits |= (unsigned)in[i + 1] << 8;
        if (left > 2) bits |= in[i + 2];
        *out++ = letters[bits >> 18];
        *out++ = letters[bits >> 12 & 63];
        *out++ = left > 1 ? letters[bits >> 6 & 63] : '=';
        *out++ = left > 2 ? letters[bits & 63] : '=';
    }
    *out = '\0';
}

static const struct miniproxy_user *login(const char *credentials)
{
    char value[600] = "Basic ";
    base64(value + 6, (const unsigned char *)credentials, strlen(credentials));
    return value_login(value);
}

static void expect_user(const struct miniproxy_user *user, const char *name)
{
    if (name == NULL && user != NULL) fail_msg("%s is logged in", user->name);
    if (name != NULL && user == NULL) fail_msg("%s is not logged in", name);
    if (name != NULL) assert_string_equal(user->name, name);
}

static void vectors(const void *data)
{
    (void)data;
    start();
    expect_user(value_login("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), "Aladdin"); /* RFC 7617 section 2 */
    expect_user(value_login("Basic dGVzdDoxMjPCow=="), "test");                /* section 2.1 */
}

static void scheme(const void *data)
{
    static const char *const good[] = {"basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "BASIC QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
                                       "Basic   QWxhZGRpbjpvcGVuIHNlc2FtZQ=="};
    static const char *const bad[] = {"",       "Basic",       "Basic ", "BasicQWxhZGRpbjpvcGVuIHNlc2FtZQ==",
                                      "Basi QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Basics QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
                                      "Basic\tQWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
                                      "QWxhZGRpbjpvcGVuIHNlc2FtZQ==",        "Digest username=\"Aladdin\""};
    (void)data;
    start();
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) expect_user(value_login(good[i]), "Aladdin");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) expect_user(value_login(bad[i]), NULL);
}

static void junk(const void *data)
{
    static const char *const bad[] = {
        "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ",    /* padding missing */
        "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=",
        "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ===",
        "Basic QWxhZGRpbjpvcGVuIHNlc2FtZR==",  /* stray bits behind the last octet */
        "Basic dGVzdDoxMjPCoz==",
        "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ== x", /* more behind it */
        "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==,",
        "Basic QWxhZGRp bjpvcGVuIHNlc2FtZQ==",
        "Basic QWxhZGRpbjpvcGVuIHNlc2FtZ===",
        "Basic =WxhZGRpbjpvcGVuIHNlc2FtZQ==",
        "Basic QWxh=GRpbjpvcGVuIHNlc2FtZQ==",
        "Basic QWxhZGRpbjpvcGVuIHNlc2Ft*Q==",
        "Basic ====", "Basic A===", "Basic =", "Basic ==", "Basic ***", "Basic ****", "Basic \xff\xff\xff\xff",
        "Basic QWxhZGRpbg==", /* "Aladdin", no colon */
        "Basic Og==",         /* ":" */
    };
    (void)data;
    start();
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) expect_user(value_login(bad[i]), NULL);
}

static void names_and_passwords(const void *data)
{
    (void)data;
    start();
    expect_user(login("colon:a:b:c"), "colon");
    expect_user(login("colon:a:b"), NULL);
    expect_user(login("colon:a"), NULL);
    expect_user(login("empty:"), "empty");
    expect_user(login("empty:x"), NULL);
    expect_user(login("none:"), NULL); /* neither password nor digest */
    expect_user(login("none:x"), NULL);
    expect_user(login("aladdin:open sesame"), NULL);
    expect_user(login("Aladdin:Open sesame"), NULL);
    expect_user(login("Aladdin:open sesam"), NULL);
    expect_user(login("Aladdin:open sesame "), NULL);
    expect_user(login("Aladdin:"), NULL);
    expect_user(login("Aladdi:open sesame"), NULL);
    expect_user(login("Aladdin :open sesame"), NULL);
    expect_user(login(":open sesame"), NULL);
    expect_user(login("test:123\xc2\xa3"), "test");
    expect_user(login("test:123\xa3"), NULL); /* Latin-1 is another password */
}

static void control_characters(const void *data)
{
    char credentials[] = "colon:a:b:c", value[64];
    static const struct miniproxy_user odd = {.name = "x", .password = "a\tb"};
    const struct miniproxy_policy with_odd = {.users = &odd, .user_count = 1};
    (void)data;
    start();
    expect_user(login("Aladdin:open sesame\n"), NULL);
    expect_user(login("Aladdin\x7f:open sesame"), NULL);
    for (unsigned c = 1; c < 0x20; c++) {
        credentials[7] = (char)c;
        expect_user(login(credentials), NULL);
    }
    snprintf(value, sizeof value, "Basic ");
    base64(value + 6, (const unsigned char *)"x:a\tb", 5);
    expect_user(check(&config, &with_odd, value, strlen(value)), NULL);
    base64(value + 6, (const unsigned char *)"empty:\0", 7); /* a NUL does not end it early */
    expect_user(value_login(value), NULL);
    base64(value + 6, (const unsigned char *)"empty\0:", 7);
    expect_user(value_login(value), NULL);
}

static void digests(const void *data)
{
    (void)data;
    start();
    expect_user(login("eve:secret"), "eve");
    expect_user(login("eve:secre"), NULL);
    expect_user(login("eve:secrets"), NULL);
    expect_user(login("eve:"), NULL);
    expect_user(login("both:clear"), NULL); /* the digest wins, and the name is part of it */
    expect_user(login("both:secret"), NULL);
    config.sha256 = NULL;
    expect_user(login("eve:secret"), NULL);
    expect_user(login("Aladdin:open sesame"), "Aladdin");
}

static void no_users(const void *data)
{
    static const char value[] = "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";
    const struct miniproxy_policy empty = {.user_count = 0};
    (void)data;
    start();
    expect_user(check(&config, NULL, value, strlen(value)), NULL);
    expect_user(check(&config, &empty, value, strlen(value)), NULL);
}

static void longest(const void *data)
{
    static char name[] = "long", value[600];
    static char password[MINIPROXY_CREDENTIALS_MAX + 10], text[MINIPROXY_CREDENTIALS_MAX + 20];
    struct miniproxy_user user = {.name = name, .password = password};
    const struct miniproxy_policy one = {.users = &user, .user_count = 1};
    (void)data;
    start();
    for (unsigned len = MINIPROXY_CREDENTIALS_MAX - 8; len < MINIPROXY_CREDENTIALS_MAX + 8; len++) {
        memset(password, 0, sizeof password);
        memset(password, 'p', len - 5);
        snprintf(text, sizeof text, "long:%s", password);
        snprintf(value, sizeof value, "Basic ");
        base64(value + 6, (const unsigned char *)text, len);
        const struct miniproxy_user *found = check(&config, &one, value, strlen(value));
        expect_user(found, len <= MINIPROXY_CREDENTIALS_MAX ? "long" : NULL);
    }
}

/* Whoever asks, and whatever is wrong, one hash is computed. */
static void unknown_users_cost_the_same(const void *data)
{
    static const char *const asked[] = {"eve:secret",  "eve:wrong", "nobody:secret", "Aladdin:open sesame",
                                        "Aladdin:no",  "none:x",    "both:x"};
    (void)data;
    for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++) {
        start();
        (void)login(asked[i]);
        assert_int_equal(hashes, 1);
    }
}

static void random_values_log_nobody_in(const void *data)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/==  :,";
    unsigned char value[220] = "Basic ";
    (void)data;
    start();
    config.sha256 = NULL;
    for (unsigned i = 0; i < 200000; i++) {
        size_t len = 6 + unit_random(200);
        for (size_t k = 6; k < len; k++)
            value[k] = unit_random(50) == 0 ? (unsigned char)unit_random(256)
                                            : (unsigned char)letters[unit_random(sizeof letters - 1)];
        expect_user(check(&config, &policy, value, len), NULL);
    }
}

/* ---- throttle ---- */

static struct miniproxy proxy;

static struct miniproxy_addr client_at(const char *text)
{
    struct miniproxy_addr a = {.port = (uint16_t)unit_random(65536)}; /* the port does not matter */
    if (!miniproxy_addr_parse(&a, text, strlen(text))) fail_msg("not an address: %s", text);
    return a;
}

static bool is_throttled(const char *client)
{
    struct miniproxy_addr a = client_at(client);
    return throttled(&proxy, &a);
}

static void fail_from(const char *client, unsigned times)
{
    while (times-- > 0) {
        struct miniproxy_addr a = client_at(client);
        note_failure(&proxy, &a);
    }
}

static void start_throttle(uint32_t now_ms)
{
    memset(&proxy, 0, sizeof proxy);
    proxy.now_ms = now_ms;
    proxy.config.timeout_ms[MINIPROXY_TIMEOUT_THROTTLE] = 30000;
}

enum { LIMIT = MINIPROXY_THROTTLE_FAILURES };

static void throttle_begins_and_ends(const void *data)
{
    static const uint32_t starts[] = {0, 1000, UINT32_MAX - 10, UINT32_MAX - 29999, 0x7ffffff0u, 0x80000000u};
    (void)data;
    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++) {
        start_throttle(starts[i]);
        assert_false(is_throttled("10.0.0.1"));
        fail_from("10.0.0.1", LIMIT - 1);
        assert_false(is_throttled("10.0.0.1"));
        proxy.now_ms += 100;
        fail_from("10.0.0.1", 1);
        assert_true(is_throttled("10.0.0.1"));
        assert_false(is_throttled("10.0.0.2"));
        proxy.now_ms += 29999;
        assert_true(is_throttled("10.0.0.1"));
        proxy.now_ms += 1;
        assert_false(is_throttled("10.0.0.1"));
        fail_from("10.0.0.1", LIMIT - 1); /* counted from the beginning */
        assert_false(is_throttled("10.0.0.1"));
    }
}

static void success_forgives(const void *data)
{
    struct miniproxy_addr a = client_at("10.0.0.1"), other = client_at("10.0.0.9");
    (void)data;
    start_throttle(5);
    fail_from("10.0.0.1", LIMIT - 1);
    forget_failures(&proxy, &other);
    forget_failures(&proxy, &a);
    fail_from("10.0.0.1", LIMIT - 1);
    assert_false(is_throttled("10.0.0.1"));
    fail_from("10.0.0.1", 1);
    assert_true(is_throttled("10.0.0.1"));
}

static void slow_failures_are_forgiven(const void *data)
{
    (void)data;
    start_throttle(UINT32_MAX - 40000);
    for (unsigned i = 0; i < 20; i++) {
        fail_from("10.0.0.1", 1);
        assert_false(is_throttled("10.0.0.1"));
        proxy.now_ms += 30000;
    }
}

static void many_failures_do_not_overflow(const void *data)
{
    (void)data;
    start_throttle(5);
    for (unsigned i = 0; i < 1000; i++) {
        fail_from("10.0.0.1", 1);
        assert_int_equal(is_throttled("10.0.0.1"), i + 1 >= LIMIT);
    }
}

static void the_oldest_entry_gives_way(const void *data)
{
    char client[32];
    (void)data;
    start_throttle(UINT32_MAX - 3); /* the clock wraps while the table fills */
    for (unsigned i = 0; i < MINIPROXY_THROTTLE_CLIENTS; i++, proxy.now_ms++) {
        snprintf(client, sizeof client, "10.0.1.%u", i);
        fail_from(client, LIMIT);
    }
    proxy.now_ms++;
    fail_from("10.0.1.0", 1); /* now the youngest */
    proxy.now_ms++;
    fail_from("10.9.9.9", LIMIT);
    assert_true(is_throttled("10.9.9.9"));
    assert_true(is_throttled("10.0.1.0"));
    assert_false(is_throttled("10.0.1.1"));
    assert_true(is_throttled("10.0.1.2"));
}

static void a_turn_of_the_clock_revives_nothing(const void *data)
{
    (void)data;
    start_throttle(1000);
    fail_from("10.0.0.1", LIMIT);
    static const uint32_t ages[] = {30000, 1u << 30, 1u << 31, (1u << 31) + 30000, 3u << 30, UINT32_MAX - 1000};
    for (size_t i = 0; i < sizeof ages / sizeof ages[0]; i++) {
        struct miniproxy before = {.now_ms = 0};
        memcpy(before.failures, proxy.failures, sizeof before.failures);
        proxy.now_ms = 1000 + ages[i];
        assert_false(is_throttled("10.0.0.1"));
        memcpy(proxy.failures, before.failures, sizeof before.failures);
    }
}

#if MINIPROXY_WITH_IPV6
static void ip6_clients_count_by_network(const void *data)
{
    (void)data;
    start_throttle(5);
    fail_from("2001:db8:1:2::1", LIMIT - 1);
    fail_from("2001:db8:1:2:ffff:ffff:ffff:ffff", 1);
    assert_true(is_throttled("2001:db8:1:2::99"));
    assert_false(is_throttled("2001:db8:1:3::1"));
    fail_from("::ffff:10.0.0.1", LIMIT); /* v4-mapped ones are all in one /64 */
    assert_true(is_throttled("::ffff:10.0.0.1"));
    assert_true(is_throttled("10.0.0.1"));
    assert_false(is_throttled("::ffff:10.0.0.2"));
}
#endif

int main(void)
{
    struct unit_test tests[] = {
        {.name = "the examples of RFC 7617 [A03,A05]", .run = vectors},
        {.name = "the scheme in any case, spaces, then token68 [A04]", .run = scheme},
        {.name = "malformed values log nobody in [A06]", .run = junk},
        {.name = "names are exact, passwords may hold colons [A05,A07]", .run = names_and_passwords},
        {.name = "control characters are invalid [A05]", .run = control_characters},
        {.name = "salted digests [A13]", .run = digests},
        {.name = "without users nobody logs in", .run = no_users},
        {.name = "the longest credentials [A06]", .run = longest},
        {.name = "an unknown user costs what a known one costs [A13]", .run = unknown_users_cost_the_same},
        {.name = "random values log nobody in [A06]", .run = random_values_log_nobody_in},
        {.name = "too many failures in a row are throttled for a while [A14]", .run = throttle_begins_and_ends},
        {.name = "a success forgives failures [A14]", .run = success_forgives},
        {.name = "slow failures are forgiven [A14]", .run = slow_failures_are_forgiven},
        {.name = "many failures do not overflow [A14]", .run = many_failures_do_not_overflow},
        {.name = "the oldest entry gives way [A14]", .run = the_oldest_entry_gives_way},
        {.name = "a turn of the clock revives nothing [A14]", .run = a_turn_of_the_clock_revives_nothing},
#if MINIPROXY_WITH_IPV6
        {.name = "IPv6 clients are counted by network [A14]", .run = ip6_clients_count_by_network},
#endif
    };
    return unit_run("login", tests, sizeof tests / sizeof tests[0]);
}
