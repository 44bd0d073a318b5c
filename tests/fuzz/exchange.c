/* SPDX-License-Identifier: MIT */
/* Coverage-guided fuzzing of whole exchanges: the input is what a client and its origins send, and how it is cut into
 * pieces.
 *
 *   octet 0      how many octets one recv gives at most, less one
 *   octet 1      how many octets one send takes at most, less one
 *   octet 2      flags: FUZZ_…
 *   then         what the client sends, an octet 0xff, and what the origins send, each connection up to the next 0xff
 *
 * Whatever comes: no sanitizer report, no failed assert of the core, and in the end nothing is left open or borrowed.
 */
#include "../../miniproxy.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { FUZZ_RESET = 1, FUZZ_REFUSED = 2, FUZZ_STALL = 4, FUZZ_LOGIN = 8, FUZZ_BODY_MAX = 16 };
enum { CALLS_MAX = 200000 };

struct stream {
    const uint8_t *at, *end;
    bool open;
};

static struct {
    struct miniproxy *proxy;
    const uint8_t *rest, *end; /* what further origins will send */
    size_t recv_max, send_max;
    unsigned flags, calls;
    bool accepted;
    struct stream conns[MINIPROXY_CONNS];
} world;

static void require(bool condition)
{
    if (!condition) abort();
}

static struct stream *stream_of(struct miniproxy_conn *c)
{
    require(++world.calls < CALLS_MAX && world.conns[c->id].open);
    return &world.conns[c->id];
}

/* The octets up to the next 0xff, and open the connection with them. */
static void open_stream(struct miniproxy_conn *c)
{
    struct stream *s = &world.conns[c->id];
    const uint8_t *end = world.rest < world.end ? memchr(world.rest, 0xff, (size_t)(world.end - world.rest)) : NULL;
    require(!s->open);
    if (end == NULL) end = world.end;
    *s = (struct stream){.at = world.rest, .end = end, .open = true};
    world.rest = end < world.end ? end + 1 : end;
}

static int fuzz_accept(void *port, struct miniproxy_conn *c, struct miniproxy_addr *peer)
{
    (void)port;
    if (world.accepted) return MINIPROXY_AGAIN;
    world.accepted = true;
    open_stream(c);
    *peer = (struct miniproxy_addr){.ip = {10, 0, 0, 1}, .port = 4000, .family = 4};
    return MINIPROXY_OK;
}

static int fuzz_resolve(void *port, struct miniproxy_conn *c, const char *host, struct miniproxy_addr *out, int max)
{
    (void)port;
    (void)c;
    require(strlen(host) > 0 && strlen(host) <= 254 && max > 0);
    out[0] = (struct miniproxy_addr){.ip = {8, 8, 8, 8}, .family = 4};
    return 1;
}

static int fuzz_connect(void *port, struct miniproxy_conn *c, const struct miniproxy_addr *to)
{
    (void)port;
    require(!miniproxy_addr_is_special(to));
    if ((world.flags & FUZZ_REFUSED) != 0) return MINIPROXY_EREFUSED;
    open_stream(c);
    return MINIPROXY_OK;
}

static int fuzz_recv(void *port, struct miniproxy_conn *c, void *buf, size_t len)
{
    struct stream *s = stream_of(c);
    size_t n = (size_t)(s->end - s->at);
    (void)port;
    require(len > 0);
    if (n == 0 && (world.flags & FUZZ_STALL) != 0) return MINIPROXY_AGAIN;
    if (n == 0) return (world.flags & FUZZ_RESET) != 0 ? MINIPROXY_ERESET : MINIPROXY_EOF;
    if (n > len) n = len;
    if (n > world.recv_max) n = world.recv_max;
    memcpy(buf, s->at, n);
    s->at += n;
    return (int)n;
}

static int fuzz_send(void *port, struct miniproxy_conn *c, const void *buf, size_t len)
{
    volatile uint8_t last;
    (void)port;
    (void)stream_of(c);
    require(len > 0);
    for (size_t i = 0; i < len; i++) last = ((const uint8_t *)buf)[i]; /* every octet can be read */
    (void)last;
    return (int)(len < world.send_max ? len : world.send_max);
}

static int fuzz_finish(void *port, struct miniproxy_conn *c)
{
    (void)port;
    (void)stream_of(c);
    return MINIPROXY_OK;
}

static void fuzz_close(void *port, struct miniproxy_conn *c, bool hard)
{
    (void)port;
    (void)hard;
    world.conns[c->id].open = false;
}

static const struct miniproxy_port port = {fuzz_accept, fuzz_resolve, fuzz_connect, fuzz_recv,
                                           fuzz_send,   fuzz_finish,  fuzz_close};
static const char *const no[] = {"/no"}, *const bot[] = {"bot", "x/"}, *const video[] = {"video/", "a/b"};
static const struct miniproxy_texts paths = {no, 1}, agents = {bot, 2}, types = {video, 2};
static const struct miniproxy_also on_paths = {.paths = &paths}, on_agents = {.agents = &agents},
                                   on_types = {.types = &types};
static const struct miniproxy_rule rules[] = {
    {.verdict = MINIPROXY_DENY, .also = &on_paths},
    {.verdict = MINIPROXY_DENY, .also = &on_agents},
    {.verdict = MINIPROXY_DENY, .also = &on_types},
    {.verdict = MINIPROXY_ALLOW, .port = {1, 65535}},
};
static const struct miniproxy_rule login_rules[] = {
    {.verdict = MINIPROXY_ALLOW, .users = MINIPROXY_AUTHENTICATED, .port = {1, 65535}},
};
static const struct miniproxy_user users[] = {{.name = "a", .password = "b"}};
static const struct miniproxy_policy policy = {.rules = rules, .rule_count = 4};
static const struct miniproxy_policy login_policy = {
    .rules = login_rules, .users = users, .rule_count = 1, .user_count = 1};

static void on_event(void *app, const struct miniproxy_event *e)
{
    (void)app;
    require(e->cause < MINIPROXY_CAUSE_COUNT && (e->method_len > 0 || e->target_len == 0));
    for (size_t i = 0; i < e->target_len; i++) require(e->target[i] > 0x20 && e->target[i] < 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct miniproxy proxy;
    struct miniproxy_config config = {.port = &port, .event = on_event, .name = "fuzz", .contact = "a & b"};
    uint32_t now_ms = 0xfffff000u, wait_ms;
    if (size < 3) return 0;
    memset(&proxy, 0, sizeof proxy);
    memset(&world, 0, sizeof world);
    world.proxy = &proxy;
    world.recv_max = data[0] + 1u;
    world.send_max = data[1] + 1u;
    world.flags = data[2];
    world.rest = data + 3;
    world.end = data + size;
    config.policy = (world.flags & FUZZ_LOGIN) != 0 ? &login_policy : &policy;
    config.body_max = (world.flags & FUZZ_BODY_MAX) != 0 ? 30 : 0;
    require(miniproxy_init(&proxy, &config));
    do {
        require(++world.calls < CALLS_MAX);
        wait_ms = miniproxy_poll(&proxy, now_ms);
        if (wait_ms != MINIPROXY_FOREVER) now_ms += wait_ms;
    } while (wait_ms != MINIPROXY_FOREVER);
    require(miniproxy_active(&proxy) == 0 && miniproxy_counters(&proxy)->buffers == 0);
    for (size_t i = 0; i < MINIPROXY_CONNS; i++) require(!world.conns[i].open);
    return 0;
}
