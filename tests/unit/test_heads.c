/* SPDX-License-Identifier: MIT
 *
 * Runs the cases in tests/unit/heads: one client, one origin at a time, bytes in memory. heads/README.md says how a
 * case is written. Every case runs with several ways to cut the byte streams into pieces and must always end the same.
 */
#define _GNU_SOURCE
#include <glob.h>

#include "../../miniproxy.c"
#include "unit.h"

/* ---- cases ---- */

enum step_kind {
    FROM_CLIENT_BYTES,
    FROM_ORIGIN_BYTES,
    TO_CLIENT_BYTES,
    TO_ORIGIN_BYTES,
    TO_CLIENT_DECODED,
    TO_ORIGIN_DECODED,
    TO_CLIENT_AT_MOST,
    TO_ORIGIN_AT_MOST,
    DIRECTIVE
};

struct step {
    enum step_kind kind;
    unsigned line;
    char *text; /* decoded bytes, or a directive */
    size_t len;
};

struct head_case {
    const char *file;
    char *name;
    struct step steps[64];
    unsigned count;
};

static struct head_case cases[600];
static unsigned case_count;

static void stop_reading(const char *file, unsigned line, const char *why)
{
    fprintf(stderr, "%s:%u: %s\n", file, line, why);
    exit(2);
}

static void add_bytes(struct step *s, const char *bytes, size_t len)
{
    s->text = realloc(s->text, s->len + len + 1);
    if (s->text == NULL) exit(2);
    memcpy(s->text + s->len, bytes, len);
    s->len += len;
    s->text[s->len] = '\0';
}

/* One line of a block: \r \n \t \0 \\ \xHH \{c*count}; CRLF at its end unless it ends in a lone backslash. */
static void append_line(struct step *s, const char *file, unsigned line, const char *p)
{
    for (; *p != '\0'; p++) {
        char c = *p, out;
        unsigned octet, count;
        int used = 0;
        if (c != '\\') {
            add_bytes(s, p, 1);
            continue;
        }
        c = *++p;
        if (c == '\0') return;
        if (c == 'x' && sscanf(p, "x%2x%n", &octet, &used) == 1 && used == 3) {
            out = (char)octet;
            add_bytes(s, &out, 1);
            p += 2;
        } else if (c == '{' && sscanf(p, "{%c*%u}%n", &out, &count, &used) == 2 && used > 0) {
            while (count-- > 0) add_bytes(s, &out, 1);
            p += used - 1;
        } else if (strchr("rnt0\\", c) != NULL) {
            out = c == 'r' ? '\r' : c == 'n' ? '\n' : c == 't' ? '\t' : c == '0' ? '\0' : '\\';
            add_bytes(s, &out, 1);
        } else {
            stop_reading(file, line, "unknown escape");
        }
    }
    add_bytes(s, "\r\n", 2);
}

static struct step *add_step(enum step_kind kind, const char *file, unsigned line)
{
    if (case_count == 0) stop_reading(file, line, "a step before the first case");
    struct head_case *c = &cases[case_count - 1];
    if (c->count == sizeof c->steps / sizeof c->steps[0]) stop_reading(file, line, "too many steps");
    struct step *s = &c->steps[c->count++];
    *s = (struct step){.kind = kind, .line = line};
    add_bytes(s, "", 0);
    return s;
}

static enum step_kind block_kind(const char *file, unsigned line, const char *info)
{
    static const char *const names[] = {
        "client",             "origin",             "to client",          "to origin",
        "to client, decoded", "to origin, decoded", "to client, at most", "to origin, at most"};
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(info, names[i]) == 0) return (enum step_kind)i;
    stop_reading(file, line, "unknown kind of block");
    return DIRECTIVE;
}

static void read_file(const char *file)
{
    FILE *in = fopen(file, "r");
    char *text = NULL;
    size_t room = 0;
    ssize_t len;
    struct step *block = NULL;
    if (in == NULL) stop_reading(file, 0, "cannot be read");
    for (unsigned line = 1; (len = getline(&text, &room, in)) >= 0; line++) {
        if (len > 0 && text[len - 1] == '\n') text[--len] = '\0';
        if (block != NULL && strcmp(text, "```") == 0) {
            block = NULL;
        } else if (block != NULL) {
            append_line(block, file, line, text);
        } else if (strncmp(text, "```", 3) == 0) {
            block = add_step(block_kind(file, line, text + 3), file, line);
        } else if (strncmp(text, "> ", 2) == 0) {
            struct step *s = add_step(DIRECTIVE, file, line);
            add_bytes(s, text + 2, (size_t)len - 2);
        } else if (strncmp(text, "## ", 3) == 0) {
            if (case_count == sizeof cases / sizeof cases[0]) stop_reading(file, line, "too many cases");
            cases[case_count].file = strdup(file);
            cases[case_count++].name = strdup(text + 3);
        }
    }
    if (block != NULL) stop_reading(file, 0, "a block does not end");
    free(text);
    fclose(in);
}

/* ---- the world: one client, one origin after the other ---- */

struct bytes {
    char data[200000];
    size_t len, used; /* used: delivered, or compared */
};

struct peer {
    struct miniproxy_conn *conn; /* NULL: not connected (any more) */
    struct bytes sends, got;
    bool eof, reset, finished, closed;
    size_t may_recv, may_send; /* in this round */
};

static struct {
    struct miniproxy proxy;
    struct peer client, origin[8];
    unsigned origins;
    bool waiting; /* the client stands before accept */
    int resolve_result, connect_result;
    size_t recv_piece, send_piece;
    unsigned long progress;
    uint32_t now_ms;
    unsigned events;
    struct miniproxy_event event;
    bool event_of_head;
    char reply[4000]; /* the last refusal */
} world;

static struct peer *peer_of(const struct miniproxy_conn *c)
{
    struct peer *p = c->handle == 1 ? &world.client : &world.origin[c->handle - 2];
    assert_ptr_equal(p->conn, c);
    return p;
}

static int world_accept(void *port, struct miniproxy_conn *c, struct miniproxy_addr *peer)
{
    (void)port;
    if (!world.waiting) return MINIPROXY_AGAIN;
    world.waiting = false;
    world.progress++;
    assert_int_equal(c->handle, 0);
    c->handle = 1;
    world.client.conn = c;
    *peer = (struct miniproxy_addr){.ip = {192, 0, 2, 99}, .port = 40000, .family = 4};
    return MINIPROXY_OK;
}

static int world_resolve(void *port, struct miniproxy_conn *c, const char *host, struct miniproxy_addr *out, int max)
{
    (void)port, (void)c, (void)host;
    assert_true(max >= 1);
    if (world.resolve_result < 0) return world.resolve_result;
    out[0] = (struct miniproxy_addr){.ip = {192, 0, 2, 1}, .family = 4};
    return 1;
}

static int world_connect(void *port, struct miniproxy_conn *c, const struct miniproxy_addr *to)
{
    (void)port, (void)to;
    world.progress++;
    if (world.connect_result < 0) return world.connect_result;
    assert_int_equal(c->handle, 0);
    assert_true(world.origins < sizeof world.origin / sizeof world.origin[0]);
    world.origin[world.origins].conn = c;
    c->handle = 2 + (intptr_t)world.origins++;
    return MINIPROXY_OK;
}

static int world_recv(void *port, struct miniproxy_conn *c, void *buf, size_t len)
{
    struct peer *p = peer_of(c);
    size_t n = p->sends.len - p->sends.used;
    (void)port;
    assert_true(len > 0);
    if (n == 0 && p->reset) return MINIPROXY_ERESET;
    if (n == 0 && p->eof) return MINIPROXY_EOF;
    if (n > len) n = len;
    if (n > p->may_recv) n = p->may_recv;
    if (n == 0) return MINIPROXY_AGAIN;
    memcpy(buf, p->sends.data + p->sends.used, n);
    p->sends.used += n;
    p->may_recv -= n;
    world.progress += n;
    return (int)n;
}

static int world_send(void *port, struct miniproxy_conn *c, const void *buf, size_t len)
{
    struct peer *p = peer_of(c);
    (void)port;
    assert_true(len > 0);
    assert_false(p->finished);
    if (p->reset) return MINIPROXY_ERESET;
    if (len > p->may_send) len = p->may_send;
    if (len == 0) return MINIPROXY_AGAIN;
    assert_true(p->got.len + len <= sizeof p->got.data);
    memcpy(p->got.data + p->got.len, buf, len);
    p->got.len += len;
    p->may_send -= len;
    world.progress += len;
    return (int)len;
}

static int world_finish(void *port, struct miniproxy_conn *c)
{
    (void)port;
    world.progress++;
    peer_of(c)->finished = true;
    return MINIPROXY_OK;
}

static void world_close(void *port, struct miniproxy_conn *c, bool hard)
{
    (void)port, (void)hard;
    world.progress++;
    if (c->handle == 0) return; /* a resolution or an attempt */
    peer_of(c)->closed = true;
    peer_of(c)->conn = NULL;
}

static const struct miniproxy_port world_port = {.accept = world_accept, .resolve = world_resolve,
                                                 .connect = world_connect, .recv = world_recv, .send = world_send,
                                                 .finish = world_finish, .close = world_close};

static void on_event(void *app, const struct miniproxy_event *event)
{
    (void)app;
    world.event = *event;
    world.event_of_head = event->method_len == 4 && memcmp(event->method, "HEAD", 4) == 0;
    world.events++;
}

static uint32_t fixed_time(void *app)
{
    (void)app;
    return 784111777u; /* Sun, 06 Nov 1994 08:49:37 GMT */
}

static const struct miniproxy_rule anything[] = {
    {.verdict = MINIPROXY_ALLOW, .special_purpose = 1, .port = {1, 65535}}};
static const struct miniproxy_rule standard[] = {{.verdict = MINIPROXY_ALLOW}};
static const struct miniproxy_rule users_only[] = {
    {.verdict = MINIPROXY_ALLOW, .special_purpose = 1, .users = MINIPROXY_AUTHENTICATED, .port = {1, 65535}}};
static const struct miniproxy_user user = {.name = "Aladdin", .password = "open sesame"};
static const struct miniproxy_policy policy_anything = {.rules = anything, .rule_count = 1};
static const struct miniproxy_policy policy_standard = {.rules = standard, .rule_count = 1};
static const struct miniproxy_policy policy_users = {
    .rules = users_only, .rule_count = 1, .users = &user, .user_count = 1};

/* What a case says before its first bytes. */
static bool configure(struct miniproxy_config *config, const char *what)
{
    unsigned long number;
    if (strcmp(what, "clock") == 0) config->unix_time = fixed_time;
    else if (strcmp(what, "policy: standard") == 0) config->policy = &policy_standard;
    else if (strcmp(what, "policy: users") == 0) config->policy = &policy_users;
    else if (strcmp(what, "policy: none") == 0) config->policy = NULL;
    else if (sscanf(what, "body limit: %lu", &number) == 1) config->body_max = number;
    else if (strcmp(what, "no such host") == 0) world.resolve_result = MINIPROXY_ENAME;
    else if (strcmp(what, "resolver fails") == 0) world.resolve_result = MINIPROXY_EDNS;
    else if (strcmp(what, "origin refuses") == 0) world.connect_result = MINIPROXY_EREFUSED;
    else if (strcmp(what, "origin is unreachable") == 0) world.connect_result = MINIPROXY_EUNREACHABLE;
    else if (strcmp(what, "origin is this proxy") == 0) world.connect_result = MINIPROXY_ESELF;
    else if (strcmp(what, "port fails") == 0) world.connect_result = MINIPROXY_EFAIL;
    else if (strcmp(what, "resolver of the port fails") == 0) world.resolve_result = MINIPROXY_EFAIL;
    else return false;
    return true;
}

static void start_world(const struct head_case *c, size_t recv_piece, size_t send_piece)
{
    struct miniproxy_config config = {.port = &world_port, .policy = &policy_anything, .event = on_event};
    memset(&world, 0, sizeof world);
    world.now_ms = UINT32_MAX - 2000; /* the clock wraps in cases that wait */
    world.recv_piece = recv_piece;
    world.send_piece = send_piece;
    for (unsigned i = 0; i < c->count && c->steps[i].kind == DIRECTIVE; i++) configure(&config, c->steps[i].text);
    assert_true(miniproxy_init(&world.proxy, &config));
    world.waiting = true;
    miniproxy_wake_accept(&world.proxy);
}

static void grant_peer(struct peer *p)
{
    p->may_recv = world.recv_piece;
    p->may_send = world.send_piece;
    if (p->conn != NULL) miniproxy_wake(p->conn, MINIPROXY_RD | MINIPROXY_WR);
}

/* Let everything happen that can happen now. */
static void run_world(void)
{
    unsigned long before;
    uint32_t wait_ms;
    unsigned rounds = 0;
    do {
        before = world.progress;
        grant_peer(&world.client);
        for (unsigned i = 0; i < world.origins; i++) grant_peer(&world.origin[i]);
        wait_ms = miniproxy_poll(&world.proxy, world.now_ms);
        if (++rounds > 400000) fail_msg("the proxy never comes to rest");
    } while (world.progress != before || wait_ms == 0);
}

/* ---- steps ---- */

static void print_bytes(const char *title, const char *p, size_t len)
{
    fprintf(stderr, "%s:\n  ", title);
    for (size_t i = 0; i < len && i < 3000; i++) {
        unsigned char c = (unsigned char)p[i];
        if (c == '\n') fputs(i + 1 < len ? "\\n\n  " : "\\n", stderr);
        else if (c == '\r') fputs("\\r", stderr);
        else if (c < 0x20 || c > 0x7e) fprintf(stderr, "\\x%02x", c);
        else fputc(c, stderr);
    }
    fputc('\n', stderr);
}

static void fail_step(const struct head_case *c, unsigned line, const char *why)
{
    fprintf(stderr, "%s:%u: %s (pieces of %zu in, %zu out)\n", c->file, line, why, world.recv_piece, world.send_piece);
    if (world.events > 0)
        fprintf(stderr, "last event: %s %u\n", miniproxy_cause_token((enum miniproxy_cause)world.event.cause),
                world.event.status);
    fail();
}

static struct peer *origin_now(const struct head_case *c, unsigned line)
{
    if (world.origins == 0) {
        print_bytes("client has got", world.client.got.data, world.client.got.len);
        fail_step(c, line, "no connection to an origin");
    }
    return &world.origin[world.origins - 1];
}

static void feed(struct peer *p, const struct step *s)
{
    assert_true(p->sends.len + s->len <= sizeof p->sends.data);
    memcpy(p->sends.data + p->sends.len, s->text, s->len);
    p->sends.len += s->len;
    run_world();
}

/* A message without its chunked coding: head, data, then "[end]" and CRLF and the trailer lines if the last chunk came.
 * How a body is cut into chunks is the proxy's own affair. Returns the length, or 0 if the coding is malformed. */
static size_t undo_chunks(char *out, const char *p, size_t len)
{
    const char *end = p + len, *body = memmem(p, len, "\r\n\r\n", 4);
    size_t n = body != NULL ? (size_t)(body + 4 - p) : len;
    memcpy(out, p, n);
    for (p += n; p < end;) {
        char *after;
        unsigned long size = strtoul(p, &after, 16);
        if (after == p || end - after < 2 || memcmp(after, "\r\n", 2) != 0) return 0;
        p = after + 2;
        if (size == 0) {
            len = (size_t)(end - p);
            if (len != 2 && (len < 4 || memcmp(end - 4, "\r\n\r\n", 4) != 0)) return n; /* not complete */
            n += (size_t)sprintf(out + n, "[end]\r\n");
            memcpy(out + n, p, len - 2);
            return n + len - 2;
        }
        if ((size_t)(end - p) < size) size = (size_t)(end - p); /* cut */
        memcpy(out + n, p, size);
        n += size;
        p += size;
        if (p < end && (end - p < 2 || memcmp(p, "\r\n", 2) != 0)) return 0;
        p += p < end ? 2 : 0;
    }
    return n;
}

static void compare(const struct head_case *c, const struct step *s, struct peer *p)
{
    static char plain[sizeof p->got.data];
    const char *got = p->got.data + p->got.used;
    size_t len = p->got.len - p->got.used, raw_len = len;
    bool at_most = s->kind == TO_CLIENT_AT_MOST || s->kind == TO_ORIGIN_AT_MOST;
    bool decoded = at_most || s->kind == TO_CLIENT_DECODED || s->kind == TO_ORIGIN_DECODED;
    if (decoded && memmem(got, raw_len, "\r\nTransfer-Encoding: chunked\r\n", 30) != NULL) {
        len = undo_chunks(plain, got, raw_len);
        got = plain;
    }
    if ((at_most ? len > s->len : len != s->len) || memcmp(got, s->text, len) != 0) {
        print_bytes("expected", s->text, s->len);
        print_bytes("got", p->got.data + p->got.used, raw_len);
        fail_step(c, s->line, "other bytes than expected");
    }
    p->got.used = p->got.len;
}

static bool is_shut(const struct peer *p)
{
    return p->finished || p->closed;
}

static enum miniproxy_cause cause_by_token(const struct head_case *c, const struct step *s, const char *token)
{
    for (unsigned i = 0; i < MINIPROXY_CAUSE_COUNT; i++)
        if (strcmp(miniproxy_cause_token((enum miniproxy_cause)i), token) == 0) return (enum miniproxy_cause)i;
    fail_step(c, s->line, "no such cause");
    return MINIPROXY_CAUSE_NONE;
}

static bool reply_has(const char *format, ...)
{
    char wanted[300];
    va_list args;
    va_start(args, format);
    vsnprintf(wanted, sizeof wanted, format, args);
    va_end(args);
    return strstr(world.reply, wanted) != NULL;
}

/* What is wrong with world.reply as a refusal for this cause, or NULL. */
static const char *wrong_reply(enum miniproxy_cause cause, bool kept)
{
    static const char *const texts[] = {
#define X(NAME, status, type, token, text) text,
        MINIPROXY_CAUSES(X)
#undef X
    };
    char status[32], text[300];
    const char *body = strstr(world.reply, "\r\n\r\n");
    snprintf(status, sizeof status, "HTTP/1.1 %u ", miniproxy_cause_status(cause));
    if (body == NULL || strncmp(world.reply, status, strlen(status)) != 0) return "not that refusal";
    body += 4;
    if (!reply_has("\r\nProxy-Status: miniproxy; error=%s\r\n", miniproxy_cause_type(cause)))
        return "another Proxy-Status";
    if (!reply_has("\r\nContent-Type: text/plain; charset=utf-8\r\n")) return "another Content-Type";
    if (!reply_has("\r\nCache-Control: no-store\r\n")) return "no Cache-Control";
    if (reply_has("\r\nConnection: close\r\n") == kept) return "close is not said as expected";
    if (world.event_of_head) return *body == '\0' ? NULL : "a body in the answer to HEAD";
    if (!reply_has("\r\nContent-Length: %zu\r\n", strlen(body))) return "another Content-Length";
    snprintf(text, sizeof text, "%s (%s)\n", texts[cause], miniproxy_cause_token(cause));
    return strcmp(body, text) == 0 ? NULL : "another text";
}

/* The client has got one complete reply of the proxy's own, with everything that a refusal must say. */
static void check_refusal(const struct head_case *c, const struct step *s, const char *token, bool kept)
{
    enum miniproxy_cause cause = cause_by_token(c, s, token);
    struct bytes *b = &world.client.got;
    const char *why;
    snprintf(world.reply, sizeof world.reply, "%.*s", (int)(b->len - b->used), b->data + b->used);
    why = wrong_reply(cause, kept);
    if (why == NULL && is_shut(&world.client) == kept) why = kept ? "closed though kept" : "not closed";
    if (why == NULL && (world.events == 0 || world.event.cause != cause)) why = "another event";
    if (why != NULL) {
        print_bytes("got", b->data + b->used, b->len - b->used);
        fail_step(c, s->line, why);
    }
    b->used = b->len;
}

/* What the peers do. */
static bool act(const struct head_case *c, const struct step *s)
{
    unsigned long ms;
    if (strcmp(s->text, "client closes") == 0) world.client.eof = true;
    else if (strcmp(s->text, "client resets") == 0) world.client.reset = true;
    else if (strcmp(s->text, "origin closes") == 0) origin_now(c, s->line)->eof = true;
    else if (strcmp(s->text, "origin resets") == 0) origin_now(c, s->line)->reset = true;
    else if (sscanf(s->text, "wait: %lu", &ms) == 1) world.now_ms += (uint32_t)ms;
    else return false;
    run_world();
    return true;
}

/* What must be true now. */
static bool check_state(const struct head_case *c, const struct step *s)
{
    const char *t = s->text, *word = NULL;
    unsigned number;
    bool holds = true;
    if (strcmp(t, "client is closed") == 0) holds = is_shut(&world.client);
    else if (strcmp(t, "client is open") == 0) holds = !is_shut(&world.client);
    else if (strcmp(t, "origin is closed") == 0) holds = is_shut(origin_now(c, s->line));
    else if (strcmp(t, "origin is open") == 0) holds = !is_shut(origin_now(c, s->line));
    else if (sscanf(t, "origins: %u", &number) == 1) holds = world.origins == number;
    else if (sscanf(t, "events: %u", &number) == 1) holds = world.events == number;
    else if (strncmp(t, "reply has: ", 11) == 0) holds = strstr(world.reply, word = t + 11) != NULL;
    else if (strncmp(t, "reply lacks: ", 13) == 0) holds = strstr(world.reply, word = t + 13) == NULL;
    else if (strncmp(t, "event: ", 7) == 0)
        holds = world.events > 0 && world.event.cause == cause_by_token(c, s, t + 7);
    else return false;
    if (holds) return true;
    if (word != NULL) print_bytes("reply", world.reply, strlen(world.reply));
    fail_step(c, s->line, t);
    return true;
}

static void do_step(const struct head_case *c, const struct step *s)
{
    struct miniproxy_config ignored = {.port = NULL};
    switch (s->kind) {
    case FROM_CLIENT_BYTES: feed(&world.client, s); return;
    case FROM_ORIGIN_BYTES: feed(origin_now(c, s->line), s); return;
    case TO_CLIENT_BYTES:
    case TO_CLIENT_DECODED:
    case TO_CLIENT_AT_MOST: compare(c, s, &world.client); return;
    case TO_ORIGIN_BYTES:
    case TO_ORIGIN_DECODED:
    case TO_ORIGIN_AT_MOST: compare(c, s, origin_now(c, s->line)); return;
    case DIRECTIVE: break;
    }
    if (strncmp(s->text, "refused: ", 9) == 0) check_refusal(c, s, s->text + 9, false);
    else if (strncmp(s->text, "refused and kept: ", 18) == 0) check_refusal(c, s, s->text + 18, true);
    else if (!act(c, s) && !check_state(c, s) && !configure(&ignored, s->text))
        fail_step(c, s->line, "unknown directive");
}

static void check_peer_end(const struct head_case *c, const struct peer *p, const char *why)
{
    if (p->got.used == p->got.len) return;
    print_bytes("unexpected", p->got.data + p->got.used, p->got.len - p->got.used);
    fail_step(c, 0, why);
}

static void run_case(const void *data)
{
    static const size_t pieces[][2] = {{100000, 100000}, {1, 100000}, {100000, 1}, {1, 1}, {7, 5}};
    const struct head_case *c = data;
    for (size_t way = 0; way < sizeof pieces / sizeof pieces[0]; way++) {
        start_world(c, pieces[way][0], pieces[way][1]);
        run_world();
        for (unsigned i = 0; i < c->count; i++) do_step(c, &c->steps[i]);
        check_peer_end(c, &world.client, "the client has got more");
        for (unsigned i = 0; i < world.origins; i++) check_peer_end(c, &world.origin[i], "an origin has got more");
        miniproxy_stop(&world.proxy);
        run_world();
        assert_int_equal(miniproxy_active(&world.proxy), 0);
        assert_int_equal(miniproxy_counters(&world.proxy)->buffers, 0);
        assert_true(world.client.closed);
        for (unsigned i = 0; i < world.origins; i++) assert_true(world.origin[i].closed);
    }
}

int main(int argc, char **argv)
{
    const char *pattern = argc > 1 ? argv[1] : "tests/unit/heads/*.md";
    static struct unit_test tests[sizeof cases / sizeof cases[0]];
    glob_t files;
    if (glob(pattern, 0, NULL, &files) != 0) stop_reading(pattern, 0, "no such files");
    for (size_t i = 0; i < files.gl_pathc; i++)
        if (strstr(files.gl_pathv[i], "README") == NULL) read_file(files.gl_pathv[i]);
    globfree(&files);
    for (unsigned i = 0; i < case_count; i++)
        tests[i] = (struct unit_test){.name = cases[i].name, .run = run_case, .data = &cases[i]};
    return unit_run("heads", tests, case_count);
}
