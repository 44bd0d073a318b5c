/* SPDX-License-Identifier: MIT
 *
 * Passwords by PBKDF2: what a login costs, who waits for whom, what is remembered, and what stays of a password.
 */
#define _GNU_SOURCE
#define MINIPROXY_WITH_AUTH 1
#define MINIPROXY_WITH_PBKDF2 1
#define MINIPROXY_PBKDF2_SLICE 8
#define MINIPROXY_LOGIN_CACHE 3
#define MINIPROXY_SESSIONS 24
#define MINIPROXY_SESSIONS_PER_CLIENT 24
#define MINIPROXY_THROTTLE_FAILURES 5
#include "../../miniproxy.c"
#define wipe wipe_of_sha256 /* two files, one unit here */
#include "../../port/miniproxy_sha256.c"
#undef wipe
#include "unit.h"

enum { MOST = 100, SLICE = MINIPROXY_PBKDF2_SLICE, CLIENTS = 20, ENTRY = MINIPROXY_SALT_LEN + MINIPROXY_DIGEST_LEN };

/* ---- the function table, counted ---- */

static unsigned begun, rounds, slices, longest_slice;

static void counted_begin(struct miniproxy_pbkdf2 *state, const void *password, size_t len, const uint8_t *salt,
                          size_t salt_len)
{
    begun++;
    rounds++;
    miniproxy_sha256_pbkdf2.begin(state, password, len, salt, salt_len);
}

static void counted_go_on(struct miniproxy_pbkdf2 *state, uint32_t n)
{
    slices++;
    rounds += n;
    if (n > longest_slice) longest_slice = n;
    miniproxy_sha256_pbkdf2.go_on(state, n);
}

static void counted_end(struct miniproxy_pbkdf2 *state, uint8_t digest[MINIPROXY_DIGEST_LEN])
{
    miniproxy_sha256_pbkdf2.conclude(state, digest);
}

static const struct miniproxy_pbkdf2_functions counted = {counted_begin, counted_go_on, counted_end};

/* ---- users ---- */

static uint8_t entries[8][ENTRY];
static struct miniproxy_user users[8];
static const struct miniproxy_rule rules[] = {{.verdict = MINIPROXY_ALLOW, .users = MINIPROXY_AUTHENTICATED}};
static struct miniproxy_policy policy;

static void set_password(unsigned i, const char *password, uint32_t n)
{
    struct miniproxy_pbkdf2 state;
    memset(entries[i], 's' + (int)i, MINIPROXY_SALT_LEN);
    miniproxy_sha256_pbkdf2.begin(&state, password, strlen(password), entries[i], MINIPROXY_SALT_LEN);
    miniproxy_sha256_pbkdf2.go_on(&state, n - 1);
    miniproxy_sha256_pbkdf2.conclude(&state, entries[i] + MINIPROXY_SALT_LEN);
    users[i].digest = entries[i];
    users[i].rounds = n;
}

enum { ANNA, BERT, CARL, DORA, QUICK, CLEAR, PROVEN, USERS };

static void set_users(void)
{
    static const char *const names[] = {"anna", "bert", "carl", "dora", "quick", "clear", "proven"};
    memset(users, 0, sizeof users);
    for (unsigned i = 0; i < USERS; i++) users[i].name = names[i];
    set_password(ANNA, "anna's secret", 30);
    set_password(BERT, "bert's secret", 1);
    set_password(CARL, "carl's secret", SLICE);
    set_password(DORA, "dora's secret", MOST);
    memcpy(entries[QUICK], "saltsalt", MINIPROXY_SALT_LEN);
    miniproxy_sha256(entries[QUICK] + MINIPROXY_SALT_LEN, "saltsaltquick:secret", 20);
    users[QUICK].digest = entries[QUICK];
    users[CLEAR].password = "secret";
    policy = (struct miniproxy_policy){.rules = rules, .rule_count = 1, .users = users, .user_count = USERS};
}

/* ---- clients in memory ---- */

static struct miniproxy proxy;
static uint32_t now_ms;
static struct {
    struct miniproxy_conn *c;
    struct miniproxy_addr addr;
    char in[2048], out[2048];
    size_t in_len, in_at, out_len;
    bool pending, closed;
} clients[CLIENTS];
static char last_user[32];
static unsigned last_cause, events;

static unsigned index_of(const struct miniproxy_conn *c)
{
    for (unsigned i = 0; i < CLIENTS; i++)
        if (clients[i].c == c) return i;
    fail_msg("not a client");
    return 0;
}

static int mem_accept(void *port, struct miniproxy_conn *c, struct miniproxy_addr *peer)
{
    (void)port;
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (!clients[i].pending) continue;
        clients[i].pending = false;
        clients[i].c = c;
        *peer = clients[i].addr;
        return MINIPROXY_OK;
    }
    return MINIPROXY_AGAIN;
}

static int mem_recv(void *port, struct miniproxy_conn *c, void *buf, size_t len)
{
    unsigned i = index_of(c);
    size_t n = clients[i].in_len - clients[i].in_at;
    (void)port;
    if (n > len) n = len;
    if (n == 0) return MINIPROXY_AGAIN;
    memcpy(buf, clients[i].in + clients[i].in_at, n);
    clients[i].in_at += n;
    return (int)n;
}

static int mem_send(void *port, struct miniproxy_conn *c, const void *buf, size_t len)
{
    unsigned i = index_of(c);
    (void)port;
    assert_true(clients[i].out_len + len < sizeof clients[i].out);
    memcpy(clients[i].out + clients[i].out_len, buf, len);
    clients[i].out_len += len;
    clients[i].out[clients[i].out_len] = '\0';
    return (int)len;
}

static int mem_finish(void *port, struct miniproxy_conn *c)
{
    (void)port, (void)c;
    return MINIPROXY_OK;
}

static void mem_close(void *port, struct miniproxy_conn *c, bool hard)
{
    (void)port, (void)hard;
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (clients[i].c != c) continue;
        clients[i].closed = true;
        clients[i].c = NULL;
    }
}

static int mem_never(void *port, struct miniproxy_conn *c, const char *host, struct miniproxy_addr *out, int max)
{
    (void)port, (void)c, (void)host, (void)out, (void)max;
    return MINIPROXY_ENAME;
}

static int mem_refused(void *port, struct miniproxy_conn *c, const struct miniproxy_addr *to)
{
    (void)port, (void)c, (void)to;
    return MINIPROXY_EREFUSED;
}

static const struct miniproxy_port port = {.accept = mem_accept, .resolve = mem_never, .connect = mem_refused,
                                           .recv = mem_recv, .send = mem_send, .finish = mem_finish,
                                           .close = mem_close};

static void on_event(void *app, const struct miniproxy_event *e)
{
    (void)app;
    snprintf(last_user, sizeof last_user, "%s", e->user != NULL ? e->user : "");
    last_cause = e->cause;
    events++;
}

static const uint8_t secret[MINIPROXY_SECRET_LEN] = "random, made at each start ....";

static struct miniproxy_config usual(void)
{
    return (struct miniproxy_config){.port = &port,
                                     .policy = &policy,
                                     .event = on_event,
                                     .pbkdf2 = &counted,
                                     .secret = secret,
                                     .sha256 = miniproxy_sha256};
}

static void start_with(struct miniproxy_config config)
{
    memset(&proxy, 0, sizeof proxy);
    memset(clients, 0, sizeof clients);
    set_users();
    begun = rounds = slices = longest_slice = events = 0;
    now_ms = 1000;
    assert_true(miniproxy_init(&proxy, &config));
    for (unsigned i = 0; i < CLIENTS; i++) {
        clients[i].addr.family = 4;
        clients[i].addr.ip[0] = 10;
        clients[i].addr.ip[3] = (uint8_t)(i + 1);
    }
}

static void start(void)
{
    start_with(usual());
}

static void base64(char *out, const char *in)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t left = strlen(in); left > 0; in += left < 3 ? left : 3, left -= left < 3 ? left : 3) {
        unsigned bits = (unsigned)(unsigned char)in[0] << 16;
        if (left > 1) bits |= (unsigned)(unsigned char)in[1] << 8;
        if (left > 2) bits |= (unsigned char)in[2];
        *out++ = letters[bits >> 18];
        *out++ = letters[bits >> 12 & 63];
        *out++ = left > 1 ? letters[bits >> 6 & 63] : '=';
        *out++ = left > 2 ? letters[bits & 63] : '=';
    }
    *out = '\0';
}

/* The proxy answers this itself, if the policy lets it. */
static void ask_as(unsigned i, const char *credentials)
{
    char text[400] = "";
    if (credentials != NULL) base64(text, credentials);
    clients[i].in_at = clients[i].out_len = 0;
    clients[i].out[0] = '\0';
    clients[i].in_len = (size_t)snprintf(
        clients[i].in, sizeof clients[i].in,
        "OPTIONS http://a.example/ HTTP/1.1\r\nHost: a.example\r\nMax-Forwards: 0\r\n%s%s%s\r\n",
        credentials != NULL ? "Proxy-Authorization: Basic " : "", text, credentials != NULL ? "\r\n" : "");
    if (clients[i].c != NULL) {
        miniproxy_wake(clients[i].c, MINIPROXY_RD);
    } else {
        clients[i].pending = true;
        miniproxy_wake_accept(&proxy);
    }
}

static bool poll_once(void)
{
    unsigned before = rounds;
    bool more = miniproxy_poll(&proxy, now_ms) == 0;
    assert_true(rounds - before <= SLICE); /* never more than a slice a poll */
    if (proxy.logins.head != 0) assert_true(more);
    return more;
}

static void settle_down(void)
{
    for (unsigned i = 0; i < 20000; i++)
        if (!poll_once()) return;
    fail_msg("it goes on for ever");
}

static unsigned status_of(unsigned i)
{
    return strncmp(clients[i].out, "HTTP/1.1 ", 9) == 0 ? (unsigned)atoi(clients[i].out + 9) : 0;
}

/* Ask and wait: the status. */
static unsigned status_as(unsigned i, const char *credentials)
{
    ask_as(i, credentials);
    settle_down();
    return status_of(i);
}

/* Rounds that this login costs. */
static unsigned cost(unsigned i, const char *credentials, unsigned status)
{
    unsigned before = rounds;
    assert_int_equal(status_as(i, credentials), status);
    return rounds - before;
}

static bool holds(const char *text)
{
    return memmem(&proxy, sizeof proxy, text, strlen(text)) != NULL;
}

/* ---- tests ---- */

static void right_passwords(const void *data)
{
    (void)data;
    start();
    assert_int_equal(cost(0, "anna:anna's secret", 200), 30);
    assert_string_equal(last_user, "anna");
    assert_int_equal(cost(1, "bert:bert's secret", 200), 1);
    assert_int_equal(cost(2, "carl:carl's secret", 200), SLICE);
    assert_int_equal(cost(3, "dora:dora's secret", 200), MOST);
    assert_string_equal(last_user, "dora");
    assert_int_equal(cost(4, "quick:secret", 200), 0);
    assert_int_equal(cost(5, "clear:secret", 200), 0);
    assert_string_equal(last_user, "clear");
    assert_int_equal(proxy.logins.head, 0);
}

static void failures_cost_the_same(const void *data)
{
    static const char *const wrong[] = {
        "anna:x", "bert:x", "carl:x", "dora:x", "quick:x", "clear:x", "nobody:x", "dora:anna's secret", ":x", "dora:",
        "proven:x", "proven:", /* comes by a certificate: has no password, an empty one neither */};
    (void)data;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        start();
        assert_int_equal(cost(0, wrong[i], 407), MOST);
        assert_int_equal(begun, 1);
        assert_int_equal(last_cause, MINIPROXY_CAUSE_LOGIN_FAILED);
        assert_string_equal(last_user, "");
        assert_true(slices >= (MOST - 1) / SLICE && slices <= (MOST - 1) / SLICE + 2);
    }
    start();
    assert_int_equal(longest_slice, 0);
    assert_int_equal(cost(0, "anna", 407), 0); /* no credentials at all: there is nothing to tell */
}

static void verified_logins_are_remembered(const void *data)
{
    (void)data;
    start();
    assert_int_equal(cost(0, "anna:anna's secret", 200), 30);
    assert_int_equal(cost(0, "anna:anna's secret", 200), 0); /* on the same connection */
    assert_int_equal(cost(1, "anna:anna's secret", 200), 0);
    assert_string_equal(last_user, "anna");
    assert_int_equal(cost(2, "anna:anna's secrets", 407), MOST);
    assert_int_equal(cost(2, "anna:anna's secrets", 407), MOST); /* failed ones are not */
    assert_int_equal(cost(2, "dora:anna's secret", 407), MOST);
}

static void the_oldest_login_is_forgotten(const void *data)
{
    (void)data;
    start();
    assert_int_equal(cost(0, "anna:anna's secret", 200), 30);
    assert_int_equal(cost(0, "bert:bert's secret", 200), 1);
    assert_int_equal(cost(0, "carl:carl's secret", 200), SLICE);
    assert_int_equal(cost(0, "anna:anna's secret", 200), 0); /* now the latest */
    assert_int_equal(cost(0, "dora:dora's secret", 200), MOST);
    assert_int_equal(cost(0, "anna:anna's secret", 200), 0);
    assert_int_equal(cost(0, "carl:carl's secret", 200), 0);
    assert_int_equal(cost(0, "bert:bert's secret", 200), 1); /* and dora is the oldest */
    assert_int_equal(cost(0, "carl:carl's secret", 200), 0);
    assert_int_equal(cost(0, "dora:dora's secret", 200), MOST);
}

static void nothing_is_remembered_without_a_secret(const void *data)
{
    struct miniproxy_config config = usual();
    (void)data;
    config.secret = NULL;
    start_with(config);
    assert_int_equal(cost(0, "anna:anna's secret", 200), 30);
    assert_int_equal(cost(0, "anna:anna's secret", 200), 30);
    assert_int_equal(cost(0, "dora:dora's secret", 200), MOST);
    config = usual();
    config.sha256 = NULL;
    start_with(config);
    assert_int_equal(cost(0, "anna:anna's secret", 200), 30);
    assert_int_equal(cost(0, "anna:anna's secret", 200), 30);
    assert_int_equal(cost(0, "quick:secret", 407), MOST);
}

static void without_functions_they_never_match(const void *data)
{
    struct miniproxy_config config = usual();
    (void)data;
    config.pbkdf2 = NULL;
    start_with(config);
    assert_int_equal(status_as(0, "anna:anna's secret"), 407);
    assert_int_equal(status_as(0, "clear:secret"), 200);
    assert_int_equal(begun, 0);
}

static void a_new_password_counts_at_once(const void *data)
{
    static uint8_t same[ENTRY];
    struct miniproxy_user copy[USERS];
    struct miniproxy_policy second;
    (void)data;
    start();
    assert_int_equal(cost(0, "anna:anna's secret", 200), 30);
    memcpy(copy, users, sizeof copy);
    memcpy(same, entries[ANNA], sizeof same);
    copy[ANNA].digest = same; /* the same entry elsewhere */
    second = policy;
    second.users = copy;
    assert_true(miniproxy_set_policy(&proxy, &second));
    assert_int_equal(cost(0, "anna:anna's secret", 200), 0);
    copy[ANNA].rounds = 31;
    assert_int_equal(cost(0, "anna:anna's secret", 407), MOST);
    copy[ANNA].rounds = 30;
    same[MINIPROXY_SALT_LEN]++;
    assert_int_equal(cost(0, "anna:anna's secret", 407), MOST);
    same[MINIPROXY_SALT_LEN]--;
    assert_int_equal(cost(0, "anna:anna's secret", 200), 0);
    second.user_count = 0;
    assert_int_equal(status_as(0, "anna:anna's secret"), 403); /* nobody is known, and so nobody can log in */
}

/* Guesses that come together get no more tries than those that come one by one. */
static void guesses_are_throttled_in_the_queue(const void *data)
{
    unsigned failed = 0, throttled_ones = 0;
    (void)data;
    start();
    for (unsigned i = 0; i < 16; i++) {
        clients[i].addr.ip[3] = 77;
        ask_as(i, i % 2 != 0 ? "anna:guess" : "nobody:guess");
    }
    settle_down();
    for (unsigned i = 0; i < 16; i++) {
        failed += status_of(i) == 407;
        throttled_ones += status_of(i) == 429;
    }
    assert_int_equal(failed, MINIPROXY_THROTTLE_FAILURES);
    assert_int_equal(throttled_ones, 16 - MINIPROXY_THROTTLE_FAILURES);
    assert_int_equal(begun, MINIPROXY_THROTTLE_FAILURES);
    assert_int_equal(status_as(17, "anna:anna's secret"), 200); /* another client */
}

static void the_same_login_is_computed_once(const void *data)
{
    (void)data;
    start();
    for (unsigned i = 0; i < 16; i++) ask_as(i, "dora:dora's secret");
    settle_down();
    for (unsigned i = 0; i < 16; i++) assert_int_equal(status_of(i), 200);
    assert_int_equal(rounds, MOST);
}

static void first_come_first_served(const void *data)
{
    (void)data;
    start();
    ask_as(0, "nobody:x");
    poll_once();
    ask_as(1, "bert:bert's secret");
    poll_once();
    ask_as(2, "clear:secret");
    ask_as(3, NULL);
    for (unsigned i = 0; i < 4; i++) poll_once();
    assert_int_equal(status_of(2), 200); /* neither waits for logins */
    assert_int_equal(status_of(3), 407);
    assert_int_equal(status_of(0), 0);
    assert_int_equal(status_of(1), 0);
    while (status_of(0) == 0) assert_true(poll_once());
    assert_int_equal(status_of(0), 407);
    assert_int_equal(status_of(1), 0);
    settle_down();
    assert_int_equal(status_of(1), 200);
}

static void who_goes_away_leaves_the_queue(const void *data)
{
    (void)data;
    start();
    ask_as(0, "dora:x");
    ask_as(1, "anna:y");
    ask_as(2, "bert:bert's secret");
    for (unsigned i = 0; i < 3; i++) poll_once();
    assert_true(holds("dora:x") && holds("anna:y"));
    miniproxy_wake(clients[1].c, MINIPROXY_BROKEN); /* waits */
    poll_once();
    assert_true(clients[1].closed);
    assert_int_equal(last_cause, MINIPROXY_CAUSE_CLIENT_GONE);
    assert_false(holds("anna:y"));
    miniproxy_wake(clients[0].c, MINIPROXY_BROKEN); /* is computed */
    poll_once();
    assert_true(clients[0].closed);
    assert_false(holds("dora:x"));
    settle_down();
    assert_int_equal(status_of(2), 200);
    assert_int_equal(begun, 2);
    assert_int_equal(proxy.logins.head, 0);
}

/* Who breaks logins off keeps others waiting, and gets no more tries for it. */
static void broken_off_is_failed(const void *data)
{
    (void)data;
    start();
    for (unsigned i = 0; i < MINIPROXY_THROTTLE_FAILURES; i++) {
        ask_as(0, "dora:dora's secret");
        for (unsigned k = 0; k < 5; k++) poll_once();
        assert_int_equal(status_of(0), 0);
        miniproxy_wake(clients[0].c, MINIPROXY_BROKEN);
        settle_down();
    }
    assert_int_equal(begun, MINIPROXY_THROTTLE_FAILURES);
    assert_int_equal(status_as(0, "dora:dora's secret"), 429);
    now_ms += 30000;
    assert_int_equal(status_as(1, "dora:dora's secret"), 200);
}

static void too_long_a_queue_is_503(const void *data)
{
    (void)data;
    start();
    ask_as(0, "nobody:x");
    ask_as(1, "anna:anna's secret");
    poll_once();
    poll_once();
    now_ms += 29999;
    poll_once();
    assert_int_equal(status_of(0) + status_of(1), 0);
    now_ms += 1;
    poll_once();
    poll_once();
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(status_of(i), 503);
        assert_non_null(strstr(clients[i].out, "\r\nRetry-After: "));
        assert_non_null(strstr(clients[i].out, "(login_queue)"));
    }
    assert_false(holds("anna's secret"));
    assert_int_equal(status_as(1, "anna:anna's secret"), 200); /* on the same connection */
}

static void nothing_stays_of_a_password(const void *data)
{
    static const char *const asked[] = {"anna:anna's secret", "anna:wrong one", "nobody:wrong one", "clear:secret"};
    char text[64];
    (void)data;
    for (unsigned i = 0; i < 2 * sizeof asked / sizeof asked[0]; i++) {
        const char *credentials = asked[i / 2];
        start();
        base64(text, credentials);
        ask_as(0, credentials);
        poll_once();
        if (i % 2 == 0) settle_down();
        else miniproxy_stop(&proxy);
        assert_true(events > 0);
        assert_false(holds(credentials));
        assert_false(holds(strchr(credentials, ':')));
        assert_false(holds(text + strlen(text) - 5)); /* the end of what was decoded in place */
        assert_int_equal(proxy.logins.head, 0);
        for (size_t k = 0; k < sizeof proxy.login; k++) assert_int_equal(((unsigned char *)&proxy.login)[k], 0);
    }
}

static void a_policy_stays_while_its_login_waits(const void *data)
{
    struct miniproxy_policy second;
    (void)data;
    start();
    second = policy;
    second.user_count = 0;
    ask_as(0, "dora:dora's secret");
    for (unsigned i = 0; i < 4; i++) poll_once();
    assert_true(miniproxy_set_policy(&proxy, &second));
    assert_true(miniproxy_policy_in_use(&proxy, &policy));
    settle_down();
    assert_int_equal(status_of(0), 200); /* decided by the policy it came under */
    assert_false(miniproxy_policy_in_use(&proxy, &policy));
}

static void drain_and_stop(const void *data)
{
    (void)data;
    start();
    ask_as(0, "dora:dora's secret");
    ask_as(1, "anna:x");
    for (unsigned i = 0; i < 3; i++) poll_once();
    miniproxy_drain(&proxy);
    settle_down();
    assert_int_equal(status_of(0), 200);
    assert_int_equal(status_of(1), 407);
    assert_non_null(strstr(clients[0].out, "Connection: close"));
    start();
    for (unsigned i = 0; i < 5; i++) ask_as(i, "dora:x");
    for (unsigned i = 0; i < 3; i++) poll_once();
    miniproxy_stop(&proxy);
    assert_int_equal(miniproxy_active(&proxy), 0);
    assert_int_equal(proxy.logins.head + proxy.logins.tail, 0);
    assert_false(holds("dora:x"));
}

int main(void)
{
    struct unit_test tests[] = {
        {.name = "each kind of entry with its password, and what it costs [A13]", .run = right_passwords},
        {.name = "every failed login costs the rounds of the costliest [A13]", .run = failures_cost_the_same},
        {.name = "verified logins are remembered, failed ones are not", .run = verified_logins_are_remembered},
        {.name = "the login not used for longest is forgotten", .run = the_oldest_login_is_forgotten},
        {.name = "nothing is remembered without a secret", .run = nothing_is_remembered_without_a_secret},
        {.name = "without functions users with rounds never match", .run = without_functions_they_never_match},
        {.name = "a new password counts at once, the same entry is remembered", .run = a_new_password_counts_at_once},
        {.name = "guesses that come together are throttled [A14]", .run = guesses_are_throttled_in_the_queue},
        {.name = "the same login from many connections is computed once", .run = the_same_login_is_computed_once},
        {.name = "first come first served, and others do not wait", .run = first_come_first_served},
        {.name = "a client that goes away leaves the queue of logins", .run = who_goes_away_leaves_the_queue},
        {.name = "a login broken off is a failed one [A14]", .run = broken_off_is_failed},
        {.name = "a login that waits too long is refused with 503", .run = too_long_a_queue_is_503},
        {.name = "nothing stays of a password [A13]", .run = nothing_stays_of_a_password},
        {.name = "a policy is in use while a login under it waits", .run = a_policy_stays_while_its_login_waits},
        {.name = "drain and stop with logins in the queue", .run = drain_and_stop},
    };
    return unit_run("pbkdf2", tests, sizeof tests / sizeof tests[0]);
}
