/* SPDX-License-Identifier: MIT
 *
 * Limits: bandwidth to the octet, the rate of requests, transactions at once; in virtual time, with as many clients as
 * there are places. Origins send without end, or as much as a test says, clients as well.
 */
#define MINIPROXY_SESSIONS 56
#define MINIPROXY_SESSIONS_PER_CLIENT 56
#define MINIPROXY_WITH_LIMITS 1
#define MINIPROXY_LIMIT_BUCKETS 55
#define MINIPROXY_ASSERT(condition) ((condition) ? (void)0 : __builtin_trap())
#include "../../miniproxy.c"
#include "unit.h"

enum { MANY = 50, ENDLESS = INT32_MAX };

/* One connection, of a client or an origin: its end outside the proxy. */
struct end {
    struct miniproxy_conn *c; /* NULL: none, or closed */
    struct end *other;        /* the client of an origin */
    char text[2000];          /* what it sends first */
    size_t len, read;
    size_t more;              /* octets behind that */
    uint64_t sent, got;       /* octets that the proxy took from it and gave to it */
    char begins[1200];        /* what it got first */
    bool eof;
};

static struct {
    struct miniproxy proxy;
    uint32_t now_ms;
    struct end clients[MINIPROXY_SESSIONS], origins[MINIPROXY_SESSIONS];
    struct miniproxy_addr addresses[MINIPROXY_SESSIONS];
    unsigned arrived, accepted, connected, polls;
    const char *answer; /* head that an origin sends when it has a request; NULL: nothing */
    size_t body;        /* octets that follow */
    uint64_t down, up;  /* all octets taken from origins and from clients */
    unsigned events, causes[MINIPROXY_CAUSE_COUNT];
} world;

/* ---- the port ---- */

static struct end *end_of(const struct miniproxy_conn *c)
{
    for (unsigned i = 0; i < MINIPROXY_SESSIONS; i++) {
        if (world.clients[i].c == c) return &world.clients[i];
        if (world.origins[i].c == c) return &world.origins[i];
    }
    fail_msg("a connection that is not open");
    return NULL;
}

static bool is_client(const struct end *e)
{
    return e->other == NULL;
}

static int port_accept(void *port, struct miniproxy_conn *c, struct miniproxy_addr *peer)
{
    (void)port;
    if (world.accepted == world.arrived) return MINIPROXY_AGAIN;
    world.clients[world.accepted].c = c;
    *peer = world.addresses[world.accepted++];
    return MINIPROXY_OK;
}

static int port_resolve(void *port, struct miniproxy_conn *c, const char *host, struct miniproxy_addr *out, int max)
{
    (void)port, (void)c, (void)host, (void)max;
    memset(out, 0, sizeof *out);
    memcpy(out->ip, (const uint8_t[]){198, 50, 0, 1}, 4);
    out->family = 4;
    return 1;
}

static int port_connect(void *port, struct miniproxy_conn *c, const struct miniproxy_addr *to)
{
    struct end *e = &world.origins[world.connected++ % MINIPROXY_SESSIONS];
    (void)port, (void)to;
    memset(e, 0, sizeof *e);
    e->c = c;
    for (unsigned i = 0; i < MINIPROXY_SESSIONS; i++)
        if (world.clients[i].c != NULL && world.clients[i].c->id / 3 == c->id / 3) e->other = &world.clients[i];
    assert_non_null(e->other);
    return MINIPROXY_OK;
}

static size_t take(struct end *e, void *to, size_t max)
{
    size_t n = e->len - e->read < max ? e->len - e->read : max, more;
    if (to != NULL) memcpy(to, e->text + e->read, n);
    e->read += n;
    more = e->more < max - n ? e->more : max - n;
    if (to != NULL) memset((char *)to + n, 'x', more);
    if (e->more != ENDLESS) e->more -= more;
    e->sent += n + more;
    if (is_client(e)) world.up += n + more;
    else world.down += n + more;
    return n + more;
}

static int port_recv(void *port, struct miniproxy_conn *c, void *buf, size_t len)
{
    struct end *e = end_of(c);
    size_t n = take(e, buf, len);
    (void)port;
    if (n == 0) return e->eof ? MINIPROXY_EOF : MINIPROXY_AGAIN;
    return (int)n;
}

static void give(struct end *e, const char *from, size_t len)
{
    for (size_t i = 0; i < len && e->got + i < sizeof e->begins - 1; i++) e->begins[e->got + i] = from[i];
    e->got += len;
    if (is_client(e) || world.answer == NULL || len < 4 || memcmp(from + len - 4, "\r\n\r\n", 4) != 0) return;
    strcpy(e->text, world.answer);
    e->len = strlen(e->text);
    e->read = 0;
    e->more = world.body;
    miniproxy_wake(e->c, MINIPROXY_RD);
}

static int port_send(void *port, struct miniproxy_conn *c, const void *buf, size_t len)
{
    (void)port;
    give(end_of(c), buf, len);
    return (int)len;
}

static int port_relay(void *port, struct miniproxy_conn *from, struct miniproxy_conn *to, size_t max)
{
    static char data[RELAY_MAX];
    int n = port_recv(port, from, data, max);
    if (n == MINIPROXY_AGAIN) from->ready &= (uint8_t)~MINIPROXY_RD;
    if (n > 0) give(end_of(to), data, (size_t)n);
    return n;
}

static int port_finish(void *port, struct miniproxy_conn *c)
{
    (void)port, (void)c;
    return MINIPROXY_OK;
}

static void port_close(void *port, struct miniproxy_conn *c, bool hard)
{
    (void)port, (void)hard;
    end_of(c)->c = NULL;
}

static const struct miniproxy_port copying = {.accept = port_accept,
                                              .resolve = port_resolve,
                                              .connect = port_connect,
                                              .recv = port_recv,
                                              .send = port_send,
                                              .finish = port_finish,
                                              .close = port_close};
static struct miniproxy_port relaying;

/* ---- the world around it ---- */

static void note(void *app, const struct miniproxy_event *e)
{
    (void)app;
    world.events++;
    world.causes[e->cause]++;
}

static const struct miniproxy_rule rules[] = {{.verdict = MINIPROXY_ALLOW, .port = {1, 65535}}};
static const struct miniproxy_user users[] = {{.name = "a", .password = "a", .groups = 1},
                                              {.name = "b", .password = "b", .groups = 2}};
#define AS_A "Proxy-Authorization: Basic YTph\r\n"
#define AS_B "Proxy-Authorization: Basic Yjpi\r\n"
#define GET "GET http://h.example/ HTTP/1.1\r\nHost: h.example\r\n"
#define CONNECT "CONNECT h.example:443 HTTP/1.1\r\nHost: h.example:443\r\n"
#define POST "POST http://h.example/ HTTP/1.1\r\nHost: h.example\r\nContent-Length: 1000000000\r\n"
#define OK "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#define LONG "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n"

static struct miniproxy_policy policy_of(const struct miniproxy_limit *limits, unsigned count)
{
    return (struct miniproxy_policy){.rules = rules,
                                     .rule_count = 1,
                                     .users = users,
                                     .user_count = 2,
                                     .limits = limits,
                                     .limit_count = (uint16_t)count};
}

static void start(const struct miniproxy_policy *policy, struct miniproxy_config config)
{
    memset(&world, 0, sizeof world);
    if (config.port == NULL) config.port = &copying;
    config.policy = policy;
    config.event = note;
    world.now_ms = UINT32_MAX - 700; /* the clock wraps */
    assert_true(miniproxy_init(&world.proxy, &config));
}

/* Until so many milliseconds have gone. */
static void run(uint32_t ms)
{
    for (uint32_t end_ms = world.now_ms + ms;;) {
        unsigned at_once = 0;
        uint32_t wait_ms;
        while ((wait_ms = miniproxy_poll(&world.proxy, world.now_ms)) == 0) {
            world.polls++;
            if (++at_once > 100000) fail_msg("poll has always something to do");
        }
        world.polls++;
        if (wait_ms > end_ms - world.now_ms) wait_ms = end_ms - world.now_ms;
        if (wait_ms == 0) return;
        world.now_ms += wait_ms;
    }
}

static struct end *say(struct end *client, const char *text, size_t more)
{
    client->read = 0;
    client->len = strlen(text);
    strcpy(client->text, text);
    client->more = more;
    client->got = 0;
    memset(client->begins, 0, sizeof client->begins);
    if (client->c != NULL) miniproxy_wake(client->c, MINIPROXY_RD);
    return client;
}

/* A client of 10.0.0.`last` connects, and says this and `more` octets behind it. */
static struct end *come(unsigned last, const char *text, size_t more)
{
    struct miniproxy_addr *a = &world.addresses[world.arrived];
    memcpy(a->ip, (const uint8_t[]){10, 0, 0, (uint8_t)last}, 4);
    a->family = 4;
    miniproxy_wake_accept(&world.proxy);
    return say(&world.clients[world.arrived++], text, more);
}

static void send_on(struct end *e)
{
    e->more = ENDLESS;
    miniproxy_wake(e->c, MINIPROXY_RD);
}

static void go_away(struct end *client)
{
    client->eof = true;
    client->more = 0;
    miniproxy_wake(client->c, MINIPROXY_RD);
    for (unsigned i = 0; i < MINIPROXY_SESSIONS; i++) {
        struct end *e = &world.origins[i];
        if (e->other != client || e->c == NULL) continue;
        e->eof = true;
        e->more = 0;
        miniproxy_wake(e->c, MINIPROXY_RD);
    }
}

static bool answered(const struct end *client, const char *status)
{
    return strncmp(client->begins + 9, status, 3) == 0;
}

/* Nobody holds a bucket any more, nothing is left of those who waited, and what is not free can be found. */
static void assert_quiet(void)
{
    struct miniproxy_limits *l = &world.proxy.limits;
    unsigned quiet = 0, spare = 0, found = 0;
    miniproxy_stop(&world.proxy);
    assert_int_equal(l->waiting, 0);
    for (uint16_t n = l->quiet.head; n != 0; n = l->buckets[n - 1].u.quiet.newer) {
        const struct miniproxy_bucket *b = &l->buckets[n - 1];
        assert_int_equal(b->holders, 0);
        for (unsigned way = WAY_DOWN; way <= WAY_UP; way++)
            assert_true(b->tokens[way] <= tokens_for(burst_of(b->limit, way)));
        quiet++;
    }
    for (uint16_t n = l->free; n != 0; n = l->buckets[n - 1].next) spare++;
    assert_int_equal(quiet + spare, l->used);
    for (unsigned i = 0; i < MINIPROXY_LIMIT_BUCKETS; i++)
        for (uint16_t n = l->chains[i]; n != 0; n = l->buckets[n - 1].next) found++;
    assert_int_equal(found, quiet);
}

static const struct miniproxy_bucket *only_bucket(void)
{
    assert_int_equal(world.proxy.limits.used, 1);
    return &world.proxy.limits.buckets[0];
}

/* ---- bandwidth ---- */

struct flow {
    uint32_t rate, burst;
    uint8_t share;
    bool up, tunnel, relay;
    unsigned clients, owners; /* who share so many buckets */
};

static uint64_t octets_of(const struct flow *f, unsigned owner)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < f->clients; i++) {
        if (i % f->owners != owner) continue;
        if (f->up) sum += world.clients[i].sent;
        for (unsigned j = 0; !f->up && j < f->clients; j++)
            if (world.origins[j].other == &world.clients[i]) sum += world.origins[j].sent;
    }
    return sum;
}

/* What comes is the burst, and rate times time; not an octet more, and only what is too little for a turn less. */
static void flows(const void *data)
{
    const struct flow *f = data;
    enum { MS = 30000 };
    struct miniproxy_limit limit = {
        .share = f->share, .burst = f->burst, .down_per_s = f->up ? 0 : f->rate, .up_per_s = f->up ? f->rate : 0};
    struct miniproxy_policy policy = policy_of(&limit, 1);
    uint64_t burst = f->burst != 0 ? f->burst : f->rate / 10, most = burst + (uint64_t)f->rate * MS / 1000;
    uint64_t turn = f->rate / 20 < burst ? f->rate / 20 : burst;
    start(&policy, (struct miniproxy_config){.port = f->relay ? &relaying : NULL});
    world.answer = f->tunnel ? "x" : LONG;
    world.body = f->up && !f->tunnel ? 0 : ENDLESS;
    for (unsigned i = 0; i < f->clients; i++) {
        const char *login = f->share != MINIPROXY_EACH_USER ? "" : i % f->owners == 0 ? AS_A : AS_B;
        char text[300];
        snprintf(text, sizeof text, "%s%s\r\n", f->tunnel ? CONNECT : f->up ? POST : GET, login);
        come(f->share == MINIPROXY_EACH_CLIENT ? i % f->owners : i, text, f->up ? ENDLESS : 0);
    }
    if (f->tunnel && !f->up) { /* they send without being asked */
        run(0);
        for (unsigned i = 0; i < f->clients; i++) send_on(&world.origins[i]);
    }
    run(MS);
    assert_int_equal(world.proxy.limits.used, f->owners);
    for (unsigned i = 0; i < f->owners; i++) {
        uint64_t octets = octets_of(f, i);
        if (octets > most || octets + turn < most)
            fail_msg("owner %u: %llu octets, %llu are allowed", i, (unsigned long long)octets, (unsigned long long)most);
    }
    for (unsigned i = 0; i < f->owners; i++) { /* what is missing is there */
        struct miniproxy_bucket *b = &world.proxy.limits.buckets[i];
        refill(&world.proxy, b);
        assert_in_range(b->tokens[f->up], 0, turn * 1000);
    }
    if (f->rate % 1000 == 0 && f->owners == 1)
        assert_int_equal(octets_of(f, 0) * 1000 + (uint64_t)only_bucket()->tokens[f->up], most * 1000);
    /* every client has its turn, and nothing is done in between */
    assert_int_equal(world.events, 0);
    if (f->rate / 20 < MINIPROXY_BUFFER_SIZE && turn == f->rate / 20)
        assert_in_range(world.polls, 0, f->owners * 20 * 4 * MS / 1000 + 300);
    assert_quiet();
}

/* Who shares a bucket has the same of it. */
static void fairness(const void *data)
{
    const bool relay = data != NULL;
    static const struct miniproxy_limit limit = {.share = MINIPROXY_ALL_TOGETHER, .down_per_s = 10000};
    struct miniproxy_policy policy = policy_of(&limit, 1);
    uint64_t least = UINT64_MAX, most = 0;
    start(&policy, (struct miniproxy_config){.port = relay ? &relaying : NULL});
    world.answer = LONG;
    world.body = ENDLESS;
    for (unsigned i = 0; i < MANY; i++) {
        come(i, GET "\r\n", 0);
        if (i % 10 == 9) run(7);
    }
    run(60000);
    for (unsigned i = 0; i < MANY; i++) {
        uint64_t sent = world.origins[i].sent;
        if (sent < least) least = sent;
        if (sent > most) most = sent;
    }
    assert_in_range(least, 60000 * 10 / MANY - 1500, 60000 * 10 / MANY);
    assert_in_range(most - least, 0, 1000 + 500); /* the first ones had the burst */
    assert_quiet();
}

/* One limit for each, one for all: both hold, and the one for all is used up. */
static void two_limits(const void *data)
{
    static const struct miniproxy_limit limits[] = {
        {.share = MINIPROXY_EACH_CLIENT, .down_per_s = 2000, .up_per_s = 1000},
        {.share = MINIPROXY_ALL_TOGETHER, .down_per_s = 10000},
        {.share = MINIPROXY_ALL_TOGETHER, .down_per_s = 1}, /* one too many: it does not hold */
    };
    struct miniproxy_policy policy = policy_of(limits, 3);
    (void)data;
    start(&policy, (struct miniproxy_config){.port = &relaying});
    world.answer = LONG;
    world.body = ENDLESS;
    for (unsigned i = 0; i < 20; i++) come(i < 17 ? 1 : i, GET "\r\n", 0); /* one greedy client, and three others */
    run(0);
    assert_int_equal(world.proxy.limits.used, 5);
    run(30000);
    for (unsigned i = 0; i < 3; i++) {
        uint64_t sent = world.origins[17 + i].sent;
        assert_in_range(sent, 2000 * 30 - 200, 2000 * 30 + 200);
    }
    {
        uint64_t greedy = 0;
        for (unsigned i = 0; i < 17; i++) greedy += world.origins[i].sent;
        assert_in_range(greedy, 2000 * 30 - 200, 2000 * 30 + 200);
    }
    for (unsigned i = 0; i < 20; i++) come(100 + i, GET "\r\n", 0); /* now it is the limit for all that counts */
    world.down = 0;
    run(30000);
    assert_in_range(world.down, 10000 * 30 - 500, 10000 * 30 + 1000);
    assert_quiet();
}

/* Limits of many rates at once: each bucket is due at its own time. */
static void many_rates(const void *data)
{
    enum { KINDS = 9 };
    struct miniproxy_net4 nets[KINDS];
    struct miniproxy_nets sets[KINDS];
    struct miniproxy_limit limits[KINDS];
    struct miniproxy_policy policy = policy_of(limits, KINDS);
    (void)data;
    memset(limits, 0, sizeof limits);
    memset(sets, 0, sizeof sets);
    for (unsigned i = 0; i < KINDS; i++) {
        nets[i] = (struct miniproxy_net4){{10, 0, 0, (uint8_t)(16 * i)}, 28};
        sets[i].v4 = &nets[i];
        sets[i].v4_count = 1;
        limits[i].clients = &sets[i];
        limits[i].down_per_s = 7 + 9973 * i * i;
    }
    start(&policy, (struct miniproxy_config){0});
    world.answer = LONG;
    world.body = ENDLESS;
    for (unsigned i = 0; i < 5 * KINDS; i++) come(16 * (i % KINDS) + i / KINDS, GET "\r\n", 0);
    run(30000);
    for (unsigned i = 0; i < 5 * KINDS; i++) {
        uint64_t rate = limits[(world.origins[i].other - world.clients) % KINDS].down_per_s;
        uint64_t burst = rate < 10 ? 1 : rate / 10, all = burst + rate * 30;
        assert_in_range(world.origins[i].sent, all - (rate < 20 ? 1 : rate / 20), all);
    }
    assert_quiet();
}

/* A head that was longer than what is left makes a debt; the body waits until it is paid. */
static void debt(const void *data)
{
    static const struct miniproxy_limit limit = {.up_per_s = 100, .burst = 50};
    struct miniproxy_policy policy = policy_of(&limit, 1);
    struct end *client;
    (void)data;
    start(&policy, (struct miniproxy_config){0});
    client = come(1, POST "\r\n", 0);
    run(0);
    assert_int_equal(only_bucket()->tokens[WAY_UP], (50 - (int)strlen(POST "\r\n")) * 1000);
    say(client, "", ENDLESS);
    run(10 * (uint32_t)(strlen(POST "\r\n") - 50) + 49);
    assert_int_equal(client->sent, strlen(POST "\r\n"));
    run(1);
    assert_int_equal(client->sent, strlen(POST "\r\n") + 5);
    run(20000);
    assert_int_equal(client->sent, strlen(POST "\r\n") + 2005);
    assert_quiet();
}

/* Requests that come in one piece are each paid for once. */
static void pipelined(const void *data)
{
    static const struct miniproxy_limit limit = {.up_per_s = 10000, .burst = 5000};
    struct miniproxy_policy policy = policy_of(&limit, 1);
    (void)data;
    start(&policy, (struct miniproxy_config){0});
    world.answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    come(1, GET "\r\n" GET "\r\n" GET "\r\n", 0);
    run(0);
    assert_int_equal(world.events, 3);
    assert_int_equal(only_bucket()->tokens[WAY_UP], (5000 - 3 * (int)strlen(GET "\r\n")) * 1000);
    assert_quiet();
}

/* ---- turns ---- */

static struct miniproxy_session *session_of(const struct end *client)
{
    return &world.proxy.sessions[client->c->id / 3];
}

/* Two who share what one alone would use up, each with an endless response; the first one waits, the other behind it. */
static void start_two(const struct miniproxy_policy *policy)
{
    start(policy, (struct miniproxy_config){.port = &relaying});
    world.answer = LONG;
    world.body = ENDLESS;
    come(1, GET "\r\n", 0);
    come(1, GET "\r\n", 0);
    run(1000);
    while (only_bucket()->u.queue[WAY_DOWN].head != number_of(&world.proxy, session_of(&world.clients[0])) ||
           session_of(&world.clients[1])->turn[WAY_DOWN].stage == 0)
        run(1);
}

static const struct miniproxy_limit thousand = {.down_per_s = 1000, .burst = 100};

/* Who has his turn and nothing to take leaves it to the next one, at once. */
static void turn_is_left(const void *data)
{
    struct miniproxy_policy policy = policy_of(&thousand, 1);
    bool stuck = data != NULL;
    uint64_t first, second;
    start_two(&policy);
    if (stuck) session_of(&world.clients[0])->client.ready = 0; /* it does not read */
    else world.origins[0].more = 0;
    first = world.origins[0].sent;
    second = world.origins[1].sent;
    while (only_bucket()->u.queue[WAY_DOWN].head == number_of(&world.proxy, session_of(&world.clients[0]))) run(1);
    assert_int_equal(world.origins[0].sent, first);
    assert_int_equal(world.origins[1].sent, second + 50);
    assert_int_equal(session_of(&world.clients[0])->turn[WAY_DOWN].octets, 0);
    run(10000);
    assert_int_equal(world.origins[0].sent, first);
    assert_in_range(world.origins[1].sent - second, 10000, 10050);
    assert_quiet();
}

/* Who wants little does not overtake who wants much. */
static void no_overtaking(const void *data)
{
    struct miniproxy_policy policy = policy_of(&thousand, 1);
    uint64_t sent;
    (void)data;
    start_two(&policy);
    world.answer = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
    world.body = 0;
    come(1, GET "\r\n", 0);
    run(500);
    while (only_bucket()->tokens[WAY_DOWN] / 1000 != 10 || only_bucket()->u.queue[WAY_DOWN].head == 0) {
        run(1);
        refill(&world.proxy, &world.proxy.limits.buckets[0]);
    }
    sent = world.origins[2].sent;
    world.origins[2].more = 3;
    miniproxy_wake(world.origins[2].c, MINIPROXY_RD);
    run(20);
    assert_int_equal(world.origins[2].sent, sent);
    run(100);
    assert_int_equal(world.origins[2].sent, sent + 3);
    assert_quiet();
}

/* What was paid to one bucket and turns out to be too much for another is not lost. */
static void not_lost(const void *data)
{
    static const struct miniproxy_limit limits[] = {{.share = MINIPROXY_EACH_CLIENT, .down_per_s = 1, .burst = 100000},
                                                    {.share = MINIPROXY_ALL_TOGETHER, .down_per_s = 1000}};
    struct miniproxy_policy policy = policy_of(limits, 2);
    struct miniproxy_bucket *b = &world.proxy.limits.buckets[0];
    (void)data;
    start(&policy, (struct miniproxy_config){0});
    world.answer = LONG;
    world.body = ENDLESS;
    come(1, GET "\r\n", 0);
    run(10010);
    assert_int_equal(session_of(&world.clients[0])->turn[WAY_DOWN].stage, 2); /* it waits for the second one */
    assert_in_range(world.down, 10050, 10110);
    miniproxy_stop(&world.proxy);
    assert_int_equal(b->who[1], 10u << 24 | 1);
    assert_in_range(b->tokens[WAY_DOWN], (100000 - (int)world.down) * 1000, (100000 - (int)world.down) * 1000 + 10010);
    refill(&world.proxy, b + 1);
    assert_int_equal(b[1].tokens[WAY_DOWN], (100 + 10010 - (int)world.down) * 1000);
    assert_quiet();
}

/* Nor does a bucket that is full again become fuller by it. */
static void not_won(const void *data)
{
    static const struct miniproxy_limit limits[] = {{.share = MINIPROXY_EACH_CLIENT, .down_per_s = 1000000},
                                                    {.share = MINIPROXY_ALL_TOGETHER, .down_per_s = 10}};
    struct miniproxy_policy policy = policy_of(limits, 2);
    (void)data;
    start(&policy, (struct miniproxy_config){0});
    world.answer = LONG;
    world.body = ENDLESS;
    come(1, GET "\r\n", 0);
    run(10020);
    refill(&world.proxy, &world.proxy.limits.buckets[0]);
    assert_int_equal(world.proxy.limits.buckets[0].tokens[WAY_DOWN], 100000 * 1000);
    assert_quiet();
}

/* A bucket that was quiet among others is waited for like a new one, and remembers. */
static void quiet_again(const void *data)
{
    struct miniproxy_policy policy = policy_of(&thousand, 1);
    (void)data;
    start(&policy, (struct miniproxy_config){0});
    world.answer = LONG;
    world.body = ENDLESS;
    for (unsigned i = 0; i < 3; i++) come(i, GET "\r\n", 0);
    run(1000);
    for (unsigned i = 0; i < 3; i++) go_away(&world.clients[i]);
    run(70);
    assert_int_equal(world.proxy.counters.active, 0);
    for (unsigned i = 0; i < 3; i++) {
        struct end *client = come(i, GET "\r\n", 0);
        world.down = 0;
        run(10000);
        assert_in_range(world.down, 10000, 10100);
        go_away(client);
        run(70);
    }
    assert_int_equal(world.proxy.limits.used, 3);
    assert_quiet();
}

/* ---- requests, transactions ---- */

static void request_rate(const void *data)
{
    static const struct miniproxy_limit limit = {.requests_a_minute = 20, .request_burst = 2};
    struct miniproxy_policy policy = policy_of(&limit, 1);
    struct end *client, *other;
    (void)data;
    start(&policy, (struct miniproxy_config){0});
    world.answer = OK;
    client = come(1, GET "\r\n", 0);
    run(0);
    assert_true(answered(client, "200"));
    say(client, GET "\r\n", 0);
    run(500);
    assert_true(answered(client, "200"));
    say(client, GET "\r\n", 0);
    run(0);
    assert_true(answered(client, "429"));
    assert_non_null(strstr(client->begins, "\r\nRetry-After: 3\r\n"));
    assert_non_null(strstr(client->begins, "(request_rate)\n"));
    assert_non_null(strstr(client->begins, "; error=http_request_denied\r\n"));
    assert_null(strstr(client->begins, "Connection: close"));
    assert_non_null(client->c);
    other = come(2, GET "\r\n", 0);
    run(1600);
    assert_true(answered(other, "200"));
    say(client, GET "\r\n", 0);
    run(0);
    assert_true(answered(client, "429"));
    assert_non_null(strstr(client->begins, "\r\nRetry-After: 1\r\n"));
    run(899);
    say(client, GET "\r\n", 0);
    run(0);
    assert_true(answered(client, "429"));
    run(1);
    say(client, GET "\r\n", 0);
    run(0);
    assert_true(answered(client, "200"));
    run(200000); /* a pause does not save more than the burst; but its connection idles out */
    for (unsigned i = 0; i < 3; i++) {
        client = come(1, GET "\r\n", 0);
        run(0);
        assert_true(answered(client, i < 2 ? "200" : "429"));
    }
    assert_int_equal(world.causes[MINIPROXY_CAUSE_REQUEST_RATE], 4);
    assert_quiet();
}

static void at_once(const void *data)
{
    static const struct miniproxy_limit limits[] = {{.share = MINIPROXY_EACH_USER, .at_once = 2},
                                                    {.at_once = 3, .requests_a_minute = 600}};
    struct miniproxy_policy policy = policy_of(limits, 2);
    struct end *tunnels[2], *client;
    (void)data;
    start(&policy, (struct miniproxy_config){0});
    for (unsigned i = 0; i < 2; i++) tunnels[i] = come(i, CONNECT AS_A "\r\n", 0);
    run(100000); /* for the life of a tunnel */
    for (unsigned i = 0; i < 2; i++) assert_true(answered(tunnels[i], "200"));
    world.answer = OK;
    client = come(3, GET AS_A "\r\n", 0);
    run(0);
    assert_true(answered(client, "503"));
    assert_non_null(strstr(client->begins, "\r\nRetry-After: 5\r\n"));
    assert_non_null(strstr(client->begins, "(at_once)\n"));
    assert_non_null(strstr(client->begins, "; error=connection_limit_reached\r\n"));
    assert_non_null(client->c);
    say(client, GET AS_B "\r\n", 0);
    run(0);
    assert_true(answered(client, "200"));
    say(client, GET "\r\n", 0); /* nobody has no limit of users */
    run(0);
    assert_true(answered(client, "200"));
    go_away(tunnels[0]);
    run(0);
    say(client, GET AS_A "\r\n", 0);
    run(0);
    assert_true(answered(client, "200"));
    say(client, CONNECT AS_B "\r\n", 0); /* two tunnels more, then three of this address */
    world.answer = NULL;
    come(3, CONNECT "\r\n", 0);
    come(3, CONNECT "\r\n", 0);
    client = come(3, CONNECT "\r\n", 0);
    run(0);
    assert_true(answered(client, "503"));
    assert_int_equal(world.causes[MINIPROXY_CAUSE_AT_ONCE], 2);
    assert_quiet();
}

/* Whom a limit holds for. */
static void matches(const void *data)
{
    static const struct miniproxy_net4 ten[] = {{{10, 0, 0, 8}, 29}};
    static const struct miniproxy_nets nets = {.v4 = ten, .v4_count = 1};
    static const struct {
        struct miniproxy_limit limit;
        const char *login;
        unsigned last;
        bool holds;
    } cases[] = {
        {{.clients = &nets}, "", 8, true},
        {{.clients = &nets}, "", 16, false},
        {{.users = 2}, "", 8, false},
        {{.users = 2}, AS_A, 8, false},
        {{.users = 2}, AS_B, 8, true},
        {{.users = MINIPROXY_AUTHENTICATED}, AS_A, 8, true},
        {{.users = MINIPROXY_AUTHENTICATED}, "", 8, false},
        {{.share = MINIPROXY_EACH_USER}, "", 8, false},
        {{.share = MINIPROXY_EACH_USER}, AS_A, 8, true},
        {{.share = MINIPROXY_ALL_TOGETHER}, "", 8, true},
        {{.clients = &nets, .users = 1}, AS_A, 16, false},
    };
    (void)data;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct miniproxy_limit limit = cases[i].limit;
        struct miniproxy_policy policy = policy_of(&limit, 1);
        char text[300];
        limit.requests_a_minute = 1;
        start(&policy, (struct miniproxy_config){0});
        world.answer = OK;
        snprintf(text, sizeof text, GET "%s\r\n", cases[i].login);
        come(cases[i].last, text, 0);
        run(0);
        come(cases[i].last, text, 0);
        run(0);
        if (world.causes[MINIPROXY_CAUSE_REQUEST_RATE] != cases[i].holds) fail_msg("case %zu", i);
        assert_quiet();
    }
}

/* IPv6 addresses of one /64 are one client; a v4-mapped one is the IPv4 address. */
static void owners(const void *data)
{
    static const struct miniproxy_limit limit = {.requests_a_minute = 1};
    static const struct {
        const char *address;
        bool is_new;
    } cases[] = {
        {"2001:db8:1:1::1", true},  {"2001:db8:1:1:ffff::2", false}, {"2001:db8:1:2::1", true},
        {"2001:db8:0:1::1", true},  {"9.9.9.9", true},               {"::ffff:9.9.9.9", false},
        {"::ffff:9.9.9.8", true},   {"9.9.9.8", false},              {"909:909::", true},
    };
    struct miniproxy_policy policy = policy_of(&limit, 1);
    (void)data;
    start(&policy, (struct miniproxy_config){0});
    world.answer = OK;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct end *client;
        assert_true(miniproxy_addr_parse(&world.addresses[world.arrived], cases[i].address, strlen(cases[i].address)));
        miniproxy_wake_accept(&world.proxy);
        client = say(&world.clients[world.arrived++], GET "\r\n", 0);
        run(0);
        if (!answered(client, cases[i].is_new ? "200" : "429")) fail_msg("%s: %s", cases[i].address, client->begins);
    }
    assert_quiet();
}

/* ---- the table, the policy ---- */

static void full_table(const void *data)
{
    static const struct miniproxy_limit limits[] = {{.at_once = 100, .requests_a_minute = 60, .request_burst = 2}};
    struct miniproxy_policy policy = policy_of(limits, 1);
    struct end *client;
    (void)data;
    start(&policy, (struct miniproxy_config){0});
    for (unsigned i = 0; i < MINIPROXY_LIMIT_BUCKETS; i++) come(i, CONNECT "\r\n", 0);
    run(0);
    world.answer = OK;
    client = come(100, GET "\r\n", 0);
    run(0);
    assert_int_equal(world.proxy.limits.used, MINIPROXY_LIMIT_BUCKETS);
    assert_true(answered(client, "503"));
    assert_non_null(strstr(client->begins, "(sessions_full)\n"));
    go_away(&world.clients[7]);
    run(1);
    go_away(&world.clients[5]);
    run(1);
    for (unsigned i = 0; i < 2; i++) { /* the bucket of 10.0.0.7 is the oldest that nobody holds */
        say(client, GET "\r\n", 0);
        run(0);
        assert_true(answered(client, "200"));
    }
    say(client, GET "\r\n", 0);
    run(0);
    assert_true(answered(client, "429"));
    assert_int_equal(world.proxy.limits.buckets[7].who[1], 10u << 24 | 100);
    assert_int_equal(world.proxy.limits.buckets[5].who[1], 10u << 24 | 5);
    assert_quiet();
}

/* What runs goes on as it was, what comes knows nothing of the old policy. */
static void swapped(const void *data)
{
    static const struct miniproxy_limit old[] = {{.at_once = 2, .down_per_s = 1000, .requests_a_minute = 2}};
    static const struct miniproxy_limit new[] = {{.at_once = 2, .down_per_s = 3000, .requests_a_minute = 60}};
    struct miniproxy_policy first = policy_of(old, 1), second = policy_of(new, 1);
    (void)data;
    start(&first, (struct miniproxy_config){0});
    world.answer = LONG;
    world.body = ENDLESS;
    come(1, GET "\r\n", 0);
    run(500);
    come(2, GET "\r\n", 0);
    run(0);
    go_away(&world.clients[1]);
    run(100);
    assert_int_equal(world.proxy.limits.used, 2); /* one of them quiet */
    assert_int_equal(world.proxy.limits.quiet.head, 2);
    assert_true(miniproxy_set_policy(&world.proxy, &second));
    assert_int_equal(world.proxy.limits.quiet.head, 0);
    world.clients[0].got = world.origins[0].sent = 0;
    come(1, GET "\r\n", 0);
    run(2000);
    come(1, GET "\r\n", 0);
    run(8000);
    assert_in_range(world.origins[0].sent, 10000 - 50, 10000 + 50);
    assert_in_range(world.origins[2].sent + world.origins[3].sent, 30300 - 150, 30300);
    come(1, GET "\r\n", 0);
    run(0);
    assert_int_equal(world.causes[MINIPROXY_CAUSE_AT_ONCE], 1);
    assert_true(miniproxy_policy_in_use(&world.proxy, &first));
    go_away(&world.clients[0]);
    run(1000);
    assert_false(miniproxy_policy_in_use(&world.proxy, &first));
    assert_non_null(find_bucket(&world.proxy, new, (const uint32_t[]){0, 10u << 24 | 1}));
    assert_null(find_bucket(&world.proxy, old, (const uint32_t[]){0, 10u << 24 | 1}));
    assert_true(miniproxy_set_policy(&world.proxy, &second)); /* the same again: nothing is forgotten */
    assert_non_null(find_bucket(&world.proxy, new, (const uint32_t[]){0, 10u << 24 | 1}));
    assert_quiet();
}

/* A request that was decided by a policy that has gone meanwhile has a bucket of its own. */
static void decided_before(const void *data)
{
    struct miniproxy_policy first = policy_of(&thousand, 1), second = policy_of(&thousand, 1);
    struct miniproxy_session *s;
    (void)data;
    start(&first, (struct miniproxy_config){0});
    come(1, "G", 0);
    run(0);
    s = session_of(&world.clients[0]);
    s->policy = &first;
    assert_true(miniproxy_set_policy(&world.proxy, &second));
    assert_int_equal(hold_limits(&world.proxy, s), MINIPROXY_CAUSE_NONE);
    assert_true(only_bucket()->is_old);
    assert_null(find_bucket(&world.proxy, &thousand, (const uint32_t[]){0, 10u << 24 | 1}));
    let_go(&world.proxy, s);
    assert_null(only_bucket()->limit);
    assert_quiet();
}

static void unsound(const void *data)
{
    static const struct miniproxy_net4 twice[] = {{{10}, 8}, {{9}, 8}};
    static const struct miniproxy_nets nets = {.v4 = twice, .v4_count = 2};
    struct miniproxy_limit limits[2] = {{.at_once = 1}, {.at_once = 1}};
    struct miniproxy_policy policy = policy_of(limits, 2);
    (void)data;
    assert_int_equal(miniproxy_check_policy(&policy), -1);
    limits[1].share = MINIPROXY_ALL_TOGETHER + 1;
    assert_int_equal(miniproxy_check_policy(&policy), 0);
    limits[1].share = MINIPROXY_ALL_TOGETHER;
    assert_int_equal(miniproxy_check_policy(&policy), -1);
    limits[0].clients = &nets;
    assert_int_equal(miniproxy_check_policy(&policy), 0);
}

/* ---- deadlines ---- */

/* A limit may hold a direction back for longer than any deadline of its peers, but not for longer than the whole may
 * take. */
static void held_back(const void *data)
{
    static const struct miniproxy_limit limit = {
        .share = MINIPROXY_ALL_TOGETHER, .down_per_s = 10, .up_per_s = 10, .burst = 10};
    struct miniproxy_policy policy = policy_of(&limit, 1);
    struct miniproxy_config config = {.port = data != NULL ? &relaying : NULL};
    static const uint8_t peers[] = {MINIPROXY_TIMEOUT_BODY, MINIPROXY_TIMEOUT_FIRST_BYTE, MINIPROXY_TIMEOUT_RESPONSE,
                                    MINIPROXY_TIMEOUT_WRITE, MINIPROXY_TIMEOUT_TUNNEL};
    enum { DOWNLOAD, UPLOAD, TUNNEL_DOWN, TUNNEL_UP, TUNNEL_BOTH, KINDS };
    static const char *const requests[] = {GET "\r\n", POST "\r\n", CONNECT "\r\n", CONNECT "\r\n", CONNECT "\r\n"};
    for (size_t i = 0; i < sizeof peers; i++) config.timeout_ms[peers[i]] = 40;
    config.timeout_ms[MINIPROXY_TIMEOUT_HALF_CLOSED] = 40;
    for (unsigned kind = 0; kind < KINDS; kind++) {
        bool up = kind == UPLOAD || kind >= TUNNEL_UP, down = kind != UPLOAD && kind != TUNNEL_UP;
        start(&policy, config);
        world.answer = kind == DOWNLOAD ? LONG : NULL;
        world.body = ENDLESS;
        for (unsigned i = 0; i < 4; i++) come(i, requests[kind], up ? ENDLESS : 0);
        run(0);
        for (unsigned i = 0; kind >= TUNNEL_DOWN && down && i < 4; i++) send_on(&world.origins[i]);
        run(600000);
        if (down) assert_in_range(world.down, 6009, 6010);
        if (up) assert_in_range(world.up, 6009, 6010);
        assert_int_equal(world.events, 0);
        assert_quiet();
    }
    config.timeout_ms[MINIPROXY_TIMEOUT_TOTAL] = 5000;
    start(&policy, config);
    world.answer = LONG;
    world.body = ENDLESS;
    come(1, GET "\r\n", 0);
    come(2, GET "\r\n", 0);
    run(4999);
    assert_int_equal(world.events, 0);
    run(1);
    assert_int_equal(world.causes[MINIPROXY_CAUSE_TOTAL_TIMEOUT], 2);
    assert_quiet();
}

/* When there is enough of it, a peer that is silent is told from a limit. */
static void deadlines_stay(const void *data)
{
    static const struct miniproxy_limit limit = {.down_per_s = 1000, .up_per_s = 1000};
    struct miniproxy_policy policy = policy_of(&limit, 1);
    struct miniproxy_config config = {.port = data != NULL ? &relaying : NULL};
    config.timeout_ms[MINIPROXY_TIMEOUT_RESPONSE] = 3000;
    config.timeout_ms[MINIPROXY_TIMEOUT_BODY] = 3000;
    config.timeout_ms[MINIPROXY_TIMEOUT_TUNNEL] = 3000;
    config.timeout_ms[MINIPROXY_TIMEOUT_FIRST_BYTE] = 3000;
    start(&policy, config);
    world.answer = LONG;
    world.body = 20000;
    come(1, GET "\r\n", 0);
    run(22900);
    assert_int_equal(world.events, 0);
    run(100);
    assert_int_equal(world.causes[MINIPROXY_CAUSE_READ_TIMEOUT], 1);
    start(&policy, config);
    come(1, POST "\r\n", 20000);
    run(22900);
    assert_int_equal(world.events, 0);
    run(200);
    assert_int_equal(world.causes[MINIPROXY_CAUSE_BODY_TIMEOUT], 1);
    start(&policy, config);
    come(1, CONNECT "\r\n", 20000);
    run(22900);
    assert_int_equal(world.events, 0);
    run(200);
    assert_int_equal(world.causes[MINIPROXY_CAUSE_TUNNEL_TIMEOUT], 1);
    start(&policy, config);
    come(1, GET "\r\n", 0);
    run(3000);
    assert_int_equal(world.causes[MINIPROXY_CAUSE_FIRST_BYTE_TIMEOUT], 1);
    assert_quiet();
}

#define FLOW(...) &(const struct flow){__VA_ARGS__}
enum { EACH_CLIENT = MINIPROXY_EACH_CLIENT, EACH_USER = MINIPROXY_EACH_USER, TOGETHER = MINIPROXY_ALL_TOGETHER };

int main(void)
{
    struct unit_test tests[] = {
        {"one download", flows, FLOW(12000, 0, EACH_CLIENT, .clients = 1, .owners = 1), false},
        {"one download, relayed", flows, FLOW(12000, 0, EACH_CLIENT, .relay = 1, .clients = 1, .owners = 1), false},
        {"fifty downloads of five clients", flows, FLOW(12345, 0, EACH_CLIENT, .clients = MANY, .owners = 5), false},
        {"fifty downloads of fifty clients, relayed", flows,
         FLOW(9999, 0, EACH_CLIENT, .relay = 1, .clients = MANY, .owners = MANY), false},
        {"fifty downloads of two users", flows, FLOW(50000, 0, EACH_USER, .clients = MANY, .owners = 2), false},
        {"fifty downloads together", flows, FLOW(100000, 0, TOGETHER, .clients = MANY, .owners = 1), false},
        {"fifty downloads together, relayed, with a burst", flows,
         FLOW(100000, 200000, TOGETHER, .relay = 1, .clients = MANY, .owners = 1), false},
        {"a download with a rate that a buffer is small for", flows,
         FLOW(10000000, 0, TOGETHER, .clients = 3, .owners = 1), false},
        {"a download with hardly any burst", flows, FLOW(12000, 12, TOGETHER, .clients = 1, .owners = 1), false},
        {"a download of a few octets a second", flows, FLOW(7, 3, TOGETHER, .clients = 1, .owners = 1), false},
        {"one upload", flows, FLOW(12000, 0, EACH_CLIENT, .up = 1, .clients = 1, .owners = 1), false},
        {"fifty uploads together, relayed", flows,
         FLOW(100000, 0, TOGETHER, .up = 1, .relay = 1, .clients = MANY, .owners = 1), false},
        {"fifty uploads of two users", flows, FLOW(50001, 0, EACH_USER, .up = 1, .clients = MANY, .owners = 2), false},
        {"a tunnel, down", flows, FLOW(12000, 0, EACH_CLIENT, .tunnel = 1, .clients = 1, .owners = 1), false},
        {"a tunnel, up", flows, FLOW(12000, 0, EACH_CLIENT, .tunnel = 1, .up = 1, .clients = 1, .owners = 1), false},
        {"fifty tunnels, down, relayed", flows,
         FLOW(100000, 0, TOGETHER, .tunnel = 1, .relay = 1, .clients = MANY, .owners = 1), false},
        {"fifty tunnels of five clients, up, relayed", flows,
         FLOW(20000, 0, EACH_CLIENT, .tunnel = 1, .relay = 1, .up = 1, .clients = MANY, .owners = 5), false},
        {"all have the same of what they share", fairness, NULL, false},
        {"all have the same of what they share, relayed", fairness, "", false},
        {"two limits hold at once, a third does not", two_limits, NULL, false},
        {"limits of many rates at once", many_rates, NULL, false},
        {"a head makes a debt, and the body waits", debt, NULL, false},
        {"pipelined requests are paid for once", pipelined, NULL, false},
        {"a turn without octets is left to the next one", turn_is_left, NULL, false},
        {"a turn without a reader is left to the next one", turn_is_left, "", false},
        {"who wants little does not overtake who wants much", no_overtaking, NULL, false},
        {"what was paid to one of two buckets is not lost", not_lost, NULL, false},
        {"nor does a bucket that is full become fuller by it", not_won, NULL, false},
        {"a bucket that was quiet", quiet_again, NULL, false},
        {"more requests than a limit allows get 429, until they are allowed again [S14]", request_rate, NULL, false},
        {"more transactions than a limit allows get 503, until one ends", at_once, NULL, false},
        {"whom a limit holds for", matches, NULL, false},
        {"who is one client", owners, NULL, false},
        {"a table of buckets that is full", full_table, NULL, false},
        {"another policy", swapped, NULL, false},
        {"another policy while a request was being decided", decided_before, NULL, false},
        {"limits that are not sound", unsound, NULL, false},
        {"no deadline of a peer ends what a limit holds back", held_back, NULL, false},
        {"no deadline of a peer ends what a limit holds back, relayed", held_back, "", false},
        {"a silent peer meets its deadline under a limit", deadlines_stay, NULL, false},
        {"a silent peer meets its deadline under a limit, relayed", deadlines_stay, "", false},
    };
    relaying = copying;
    relaying.relay = port_relay;
    return unit_run("limits", tests, sizeof tests / sizeof tests[0]);
}
