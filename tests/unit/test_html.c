/* SPDX-License-Identifier: MIT
 *
 * Refusals as HTML: who gets them, what is in them, that nothing of a request becomes markup, and that all of it arrives
 * whatever the pieces are in which it leaves.
 */
#include <stdlib.h>
#define MINIPROXY_ASSERT(condition) ((condition) ? (void)0 : abort())
#define MINIPROXY_WITH_HTML 1
#define MINIPROXY_WITH_TLS 1
#define MINIPROXY_WITH_ROUTES 1
#define MINIPROXY_WITH_LIMITS 1
#define MINIPROXY_WITH_PAGES 1
#define MINIPROXY_WITH_MAINTENANCE 1
#define MINIPROXY_SESSIONS 2
#define MINIPROXY_BUFFER_SIZE 512
#define MINIPROXY_NAME_MAX 64
#define MINIPROXY_LINE_KEEP 60
#define WIRE_MAX 80000
#include "../../miniproxy.c"
#include "unit.h"
#include "wire.h"

#define HEAD_OF(method, target) method " " target " HTTP/1.1\r\nHost: h.example\r\n"
#define GET_PART HEAD_OF("GET", "http://h.example/x?secret=1")
#define ASKS_HTML "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"

static uint32_t clock_s;
static bool clock_runs;

static uint32_t ticking(void *app)
{
    (void)app;
    return clock_runs ? clock_s++ : clock_s;
}

/* ---- one page, looked at strictly ---- */

static struct {
    const char *stack[16];
    size_t stack_len[16];
    unsigned depth, elements;
} tree;

static size_t name_len(const char *p)
{
    size_t n = 0;
    while ((p[n] >= 'a' && p[n] <= 'z') || (n > 0 && p[n] >= '0' && p[n] <= '9')) n++;
    return n;
}

/* The pages use these, and every one is closed but <meta>. */
static bool is_known(const char *name, size_t len)
{
    static const char *const known[] = {"html", "head", "meta", "title", "style", "body", "h1", "p", "dl", "dt", "dd"};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strlen(known[i]) == len && memcmp(known[i], name, len) == 0) return true;
    return false;
}

static bool is_at(const char *p, const char *text)
{
    return strncmp(p, text, strlen(text)) == 0;
}

static const char *check_attributes(const char *p)
{
    while (*p == ' ') {
        size_t len = name_len(++p);
        if (len == 0 || p[len] != '=' || p[len + 1] != '"') fail_msg("an attribute: %.40s", p);
        for (p += len + 2; *p != '"'; p++)
            if (*p == '\0' || strchr("<>&", *p) != NULL) fail_msg("the value of an attribute: %.40s", p);
        p++;
    }
    return p;
}

static const char *check_tag(const char *p)
{
    bool closes = p[1] == '/';
    const char *name = p + (closes ? 2 : 1);
    size_t len = name_len(name);
    if (!is_known(name, len)) fail_msg("an element: %.40s", p);
    p = closes ? name + len : check_attributes(name + len);
    if (*p != '>') fail_msg("the end of a tag: %.40s", p);
    p++;
    if (closes) {
        if (tree.depth == 0) fail_msg("an end without a beginning: %.40s", name);
        tree.depth--;
        if (tree.stack_len[tree.depth] != len || memcmp(tree.stack[tree.depth], name, len) != 0)
            fail_msg("<%.*s> ends as %.40s", (int)tree.stack_len[tree.depth], tree.stack[tree.depth], name);
        return p;
    }
    tree.elements++;
    if (is_at(name, "meta")) return p;
    assert_true(tree.depth < 16);
    tree.stack[tree.depth] = name;
    tree.stack_len[tree.depth++] = len;
    if (!is_at(name, "style")) return p;
    while (!is_at(p, "</style>")) {
        if (*p == '\0' || *p == '<') fail_msg("in style: %.40s", p);
        p++;
    }
    return p;
}

static const char *check_reference(const char *p)
{
    size_t n = 2;
    if (is_at(p, "&hellip;")) return p + 8;
    if (p[1] != '#') fail_msg("a reference: %.40s", p);
    while (is_digit((unsigned char)p[n])) n++;
    if (n == 2 || p[n] != ';' || atoi(p + 2) < 32) fail_msg("a reference: %.40s", p);
    return p + n + 1;
}

static void check_html(const char *p)
{
    static const char doctype[] = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">";
    memset(&tree, 0, sizeof tree);
    if (!is_at(p, doctype)) fail_msg("the beginning: %.80s", p);
    for (p += strlen("<!DOCTYPE html>\n"); *p != '\0';) {
        if (*p == '<') {
            if (tree.depth == 0 && tree.elements > 0) fail_msg("behind the end: %.40s", p);
            p = check_tag(p);
        } else if (*p == '&') {
            p = check_reference(p);
        } else {
            unsigned char c = (unsigned char)*p;
            if (c == '>' || c == '"' || (c < ' ' && c != '\n') || c == 0x7f) fail_msg("text: %.40s", p);
            p++;
        }
    }
    assert_int_equal(tree.depth, 0);
}

static const char *body_of_reply(void)
{
    const char *end = strstr(wire.to_client.data, "\r\n\r\n");
    if (end == NULL) fail_msg("no head: %s", wire.to_client.data);
    return end + 4;
}

static void check_length(void)
{
    const char *field = strstr(wire.to_client.data, "\r\nContent-Length: ");
    assert_non_null(field);
    assert_int_equal(atoi(field + 18), strlen(body_of_reply()));
}

static void contains(const char *text)
{
    if (strstr(wire.to_client.data, text) == NULL) fail_msg("not in it: %s\n%s", text, wire.to_client.data);
}

static void lacks(const char *text)
{
    if (strstr(wire.to_client.data, text) != NULL) fail_msg("in it: %s\n%s", text, wire.to_client.data);
}

static void check_page(void)
{
    contains("\r\nContent-Type: text/html; charset=utf-8\r\n");
    contains("\r\nContent-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\n");
    contains("\r\nCache-Control: no-store\r\n");
    check_length();
    check_html(body_of_reply());
}

static void check_text(void)
{
    contains("\r\nContent-Type: text/plain; charset=utf-8\r\n");
    lacks("Content-Security-Policy");
    lacks("<");
    check_length();
}

static struct miniproxy_session *session(void)
{
    return &wire.proxy.sessions[wire.client->id / (1 + MINIPROXY_ATTEMPTS)];
}

static void run_long(void)
{
    for (unsigned i = 0; i < 6000 && miniproxy_poll(&wire.proxy, 1 + wire.now_ms) == 0; i++) {}
}

static void start(void)
{
    clock_s = 784111777; /* Sun, 06 Nov 1994 08:49:37 GMT */
    clock_runs = false;
    wire_start((struct miniproxy_config){
        .name = "box", .contact = "Ask <b>'B\xc3\xbcro' & co</b> \"12\"", .unix_time = ticking});
}

/* ---- every cause ---- */

static const struct {
    const char *token, *text;
} table[] = {
#define X(NAME, status, type, token, text) {token, text},
    MINIPROXY_CAUSES(X)
#undef X
};

static bool can_be_said(unsigned cause)
{
    return miniproxy_cause_status((enum miniproxy_cause)cause) != 0;
}

static struct miniproxy_session *refuse_by(unsigned cause, const char *head, size_t at_most)
{
    struct miniproxy_session *s;
    say(head);
    wire.at_most = at_most;
    s = session();
    if (cause == MINIPROXY_CAUSE_HOP_REFUSED) s->status = 403;
    refuse(&wire.proxy, s, (enum miniproxy_cause)cause);
    run_soon(&wire.proxy, s, 0);
    run_long();
    return s;
}

static void check_words(unsigned cause)
{
    char row[200];
    unsigned status = wire.event.status;
    snprintf(row, sizeof row, "<h1>%u %s</h1>", status, status_phrase(status));
    contains(row);
    snprintf(row, sizeof row, "<dt>Code</dt><dd>%s</dd>", table[cause].token);
    contains(row);
    snprintf(row, sizeof row, "<dt>Number</dt><dd>%u</dd>", wire.event.id);
    contains(row);
    contains("<dt>Request</dt><dd>GET http://h.example/x</dd>");
    contains("<dt>Proxy</dt><dd>box</dd>");
    contains("<dt>Contact of this proxy</dt><dd>Ask &#60;b&#62;&#39;B\xc3\xbcro&#39; &#38; co&#60;/b&#62; &#34;12&#34;</dd>");
    contains("<dt>Time</dt><dd>Sun, 06 Nov 1994 08:49:37 GMT</dd>");
    lacks("secret");
    lacks("<dd></dd>");
    lacks("<p></p>");
    lacks("$");
}

/* At once, and octet by octet: the same. */
static void every_cause(const void *data)
{
    static char whole[4096];
    (void)data;
    for (unsigned cause = 1; cause < MINIPROXY_CAUSE_COUNT; cause++) {
        if (!can_be_said(cause)) continue;
        start();
        refuse_by(cause, GET_PART ASKS_HTML, 0);
        assert_int_equal(wire.event.cause, cause);
        check_page();
        check_words(cause);
        strcpy(whole, wire.to_client.data);
        start();
        refuse_by(cause, GET_PART ASKS_HTML, 1);
        assert_string_equal(wire.to_client.data, whole);
        start();
        refuse_by(cause, GET_PART, 7);
        check_text();
        contains(table[cause].text);
    }
}

static void every_remedy(const void *data)
{
    (void)data;
    for (unsigned cause = 0; cause < MINIPROXY_CAUSE_COUNT; cause++) {
        enum remedy remedy = remedy_of((enum miniproxy_cause)cause);
        const char *text = remedy_text(remedy);
        if (can_be_said(cause) == (remedy == TRY_NOTHING)) fail_msg("%s", table[cause].token);
        if (remedy == TRY_NOTHING) continue;
        if (strlen(text) < 10 || text[strlen(text) - 1] != '.') fail_msg("not a sentence: %s", text);
        for (const char *p = text; *p != '\0'; p++)
            if (*p < ' ' || *p > '~' || strchr("<>&$", *p) != NULL) fail_msg("%s", text);
    }
    assert_string_equal(who_can(remedy_of(MINIPROXY_CAUSE_POLICY)), "The people who run this proxy");
    assert_string_equal(who_can(remedy_of(MINIPROXY_CAUSE_LOGIN_FAILED)), "You");
    assert_string_equal(who_can(remedy_of(MINIPROXY_CAUSE_REFUSED)), "The people who run the site");
    assert_string_equal(who_can(remedy_of(MINIPROXY_CAUSE_DNS_TIMEOUT)), "The people who run the network");
}

/* Of a contact nobody has said how long it may be. */
static void long_contact(const void *data)
{
    static char contact[66001];
    const char *body, *field;
    (void)data;
    memset(contact, 'c', sizeof contact - 1);
    wire_start((struct miniproxy_config){.contact = contact});
    wire.connect_error = MINIPROXY_EREFUSED;
    say(GET_PART ASKS_HTML "\r\n");
    body = strstr(wire.to_client.data, "\r\n\r\n");
    field = strstr(wire.to_client.data, "Content-Length: ");
    assert_true(body != NULL && field != NULL);
    assert_int_equal(atoi(field + 16), strlen(body + 4));
    assert_true(strlen(body) > sizeof contact);
    assert_string_equal(body + strlen(body) - 8, "</html>\n");
}

/* From every offset on, into every room. */
static void every_piece(const void *data)
{
    static unsigned char whole[8192], piece[700];
    static const char line[] = "http://h.example/<&>?x";
    struct miniproxy_config config = {.name = "box", .contact = "help@example"};
    struct miniproxy_event e = {.method = "GET", .method_len = 3, .target = line, .target_len = sizeof line - 1,
                                .status = 502, .cause = MINIPROXY_CAUSE_DNS_NAME, .id = 4294967295u};
    size_t len = page_body(&config, &e, "Why.", 1000000000, 0, NULL, SIZE_MAX);
    (void)data;
    assert_in_range(len, 800, 4000);
    assert_int_equal(page_body(&config, &e, "Why.", 1000000000, 0, whole, sizeof whole), len);
    for (size_t at = 0; at <= len; at++) {
        for (size_t room = 1; room < 600; room += room < 5 ? 1 : 59) {
            size_t n = page_body(&config, &e, "Why.", 1000000000, at, piece, room);
            piece[room] = 0xee;
            assert_int_equal(n, len - at < room ? len - at : room);
            assert_memory_equal(piece, whole + at, n);
            assert_int_equal(page_body(&config, &e, "Why.", 1000000000, at, NULL, room), n);
        }
    }
}

/* The longest head still finds room in the smallest buffer. */
static void longest_head(const void *data)
{
    static char name[MINIPROXY_NAME_MAX + 1], realm[REALM_MAX + 1];
    static unsigned char out[2048];
    struct miniproxy_config config = {.name = name, .realm = realm, .unix_time = ticking};
    (void)data;
    memset(name, 'n', sizeof name - 1);
    memset(realm, 'r', sizeof realm - 1);
    clock_s = 784111777;
    wire_start(config);
    for (unsigned cause = 1; cause < MINIPROXY_CAUSE_COUNT; cause++) {
        struct miniproxy_session *s = &wire.proxy.sessions[0];
        size_t len;
        if (!can_be_said(cause)) continue;
        s->takes_html = true;
        s->cause = (uint8_t)cause;
        s->status = (uint16_t)miniproxy_cause_status((enum miniproxy_cause)cause);
        choose_body(&wire.proxy, s);
        len = (size_t)(put_reply_head(out, &wire.proxy, s, false, 4000000000u) - out);
        if (len > MINIPROXY_BUFFER_SIZE) fail_msg("%s: %zu octets", table[cause].token, len);
    }
}

static void longest_page_head(const void *data)
{
    static char text[MINIPROXY_PAGE_MAX + 1], type[MINIPROXY_PAGE_TYPE_MAX + 1];
    static unsigned char out[2048];
    struct miniproxy_session *s = &wire.proxy.sessions[0];
    (void)data;
    memset(text, 'x', sizeof text - 1);
    memset(type, 't', sizeof type - 1);
    start();
    assert_true(is_text_page(s, text, type));
    s->status = 503;
    assert_in_range(put_page_head(out, &wire.proxy, s) - out, 300, MINIPROXY_BUFFER_SIZE);
}

/* ---- Accept ---- */

static const struct {
    const char *fields;
    bool html;
} accepts[] = {
    {"", false},
    {"Accept: */*\r\n", false},
    {"Accept: text/*\r\n", false},
    {"Accept: text/plain\r\n", false},
    {"Accept:\r\n", false},
    {"Accept: ,,\r\n", false},
    {"Accept: text/html\r\n", true},
    {"aCCEPT:tEXT/Html\r\n", true},
    {"Accept:\t text/html \t\r\n", true},
    {"Accept: application/xhtml+xml\r\n", true},
    {"Accept: application/xhtml+xml;q=0.001\r\n", true},
    {"Accept: text/plain, text/html\r\n", true},
    {"Accept: text/plain , text/html ; q=1\r\n", true},
    {"Accept: ,text/html,\r\n", true},
    {"Accept: text/html;q=0\r\n", false},
    {"Accept: text/html;Q=0\r\n", false},
    {"Accept: text/html;q=0.\r\n", false},
    {"Accept: text/html;q=0.000\r\n", false},
    {"Accept: text/html ;\tq=0.0 ,*/*\r\n", false},
    {"Accept: text/html;q=0.1\r\n", true},
    {"Accept: text/html;q=0.010\r\n", true},
    {"Accept: text/html;q=1.000\r\n", true},
    {"Accept: text/html;q=\r\n", false},
    {"Accept: text/html;q=no\r\n", false},
    {"Accept: text/html;q\r\n", true},
    {"Accept: text/html;qs=0\r\n", true},
    {"Accept: text/html;level=1;q=0\r\n", false},
    {"Accept: text/html;level=1\r\n", true},
    {"Accept: text/html;level=1;q=0, text/html;q=0.4\r\n", true},
    {"Accept: text/html;q=0, application/xhtml+xml\r\n", true},
    {"Accept: text/html;\r\n", true},
    {"Accept: ;text/html\r\n", false},
    {"Accept: text/htmlx\r\n", false},
    {"Accept: xtext/html\r\n", false},
    {"Accept: text/html/\r\n", false},
    {"Accept: text / html\r\n", false},
    {"Accept: text/plain;x=\",text/html,\"\r\n", false},
    {"Accept: text/plain;x=\"a\\\",text/html,\"\r\n", false},
    {"Accept: text/plain;x=\"\\\\\",text/html\r\n", true},
    {"Accept: text/plain;x=\"unterminated,text/html\r\n", false},
    {"Accept: text/html;x=\";q=0\"\r\n", true},
    {"Accept: text/html;x=\"a,b\";q=0\r\n", false},
    {"Accept: image/png\r\nAccept: text/html\r\n", true},
    {"Accept: text/html\r\nAccept: image/png\r\n", true},
    {"Accept: image/png\r\nX: y\r\nAccept: */*\r\n", false},
    {"Accepts: text/html\r\n", false},
    {"X-Accept: text/html\r\n", false},
    {"Accept-Language: text/html\r\n", false},
};

/* The head complete, and broken behind its Accept. */
static void who_gets_html(const void *data)
{
    static const char *const ends[] = {"\r\n", "Bad Field\r\n\r\n"};
    char head[300];
    (void)data;
    for (size_t i = 0; i < sizeof accepts / sizeof accepts[0]; i++) {
        for (size_t k = 0; k < 2; k++) {
            start();
            wire.connect_error = MINIPROXY_EREFUSED;
            snprintf(head, sizeof head, GET_PART "%s%s", accepts[i].fields, ends[k]);
            say(head);
            run_long();
            if (accepts[i].html != (strstr(wire.to_client.data, "<html") != NULL))
                fail_msg("%s: %s", head, wire.to_client.data);
            if (accepts[i].html) check_page();
            else check_text();
            assert_int_equal(wire.event.cause, k == 0 ? MINIPROXY_CAUSE_REFUSED : MINIPROXY_CAUSE_FIELD);
        }
    }
}

/* What is known of a head is what has come of it. */
static void heads_in_pieces(const void *data)
{
    static const char head[] = GET_PART ASKS_HTML "\r\n";
    (void)data;
    for (size_t at = 1; at < sizeof head - 1; at++) {
        start();
        wire.connect_error = MINIPROXY_EREFUSED;
        say_octets(head, at);
        say_octets(head + at, sizeof head - 1 - at);
        run_long();
        check_page();
        start();
        say_octets(head, at);
        wire.at_end = true;
        miniproxy_wake(wire.client, MINIPROXY_RD);
        run_long();
        if (at >= sizeof GET_PART ASKS_HTML - 1) check_page();
        else check_text();
        assert_int_equal(wire.event.cause, MINIPROXY_CAUSE_HEAD_CUT);
    }
}

static void only_where_it_can_be_read(const void *data)
{
    (void)data;
    start();
    wire.connect_error = MINIPROXY_EREFUSED;
    say(HEAD_OF("CONNECT", "h.example:443") ASKS_HTML "\r\n");
    run_long();
    check_text();
    start();
    say("GET http://[/ HTTP/1.1\r\nHost: h\r\n" ASKS_HTML "\r\n"); /* it has not come as far as Accept */
    run_long();
    check_text();
    start();
    say(HEAD_OF("OPTIONS", "*") ASKS_HTML "\r\n"); /* no refusal */
    run_long();
    contains("HTTP/1.1 200 OK\r\n");
    lacks("Content-Type");
    check_length();
}

/* Each request for itself, over one connection. */
static void one_after_the_other(const void *data)
{
    (void)data;
    start();
    wire.connect_error = MINIPROXY_EREFUSED;
    say(GET_PART ASKS_HTML "\r\n");
    run_long();
    check_page();
    contains("<dt>Number</dt><dd>1</dd>");
    say(GET_PART "\r\n");
    run_long();
    check_text();
    say(GET_PART ASKS_HTML "\r\n");
    run_long();
    check_page();
    contains("<dt>Number</dt><dd>3</dd>");
    say("GET http://[/ HTTP/1.1\r\nHost: h\r\n\r\n");
    run_long();
    check_text();
    assert_true(wire.closed == false);
    assert_int_equal(wire.events, 4);
}

static void pipelined(const void *data)
{
    const char *second;
    (void)data;
    start();
    wire.connect_error = MINIPROXY_EREFUSED;
    say(GET_PART ASKS_HTML "\r\n" GET_PART "\r\n");
    run_long();
    second = strstr(wire.to_client.data + 1, "HTTP/1.1 502 ");
    assert_non_null(second);
    assert_memory_equal(second - 8, "</html>\n", 8);
    assert_int_equal(wire.events, 2);
}

static void head_has_no_body(const void *data)
{
    size_t len;
    (void)data;
    start();
    wire.connect_error = MINIPROXY_EREFUSED;
    say(GET_PART ASKS_HTML "\r\n");
    run_long();
    len = strlen(body_of_reply());
    say(HEAD_OF("HEAD", "http://h.example/x?secret=1") ASKS_HTML "\r\n");
    run_long();
    assert_string_equal(body_of_reply(), "");
    contains("\r\nContent-Type: text/html; charset=utf-8\r\n");
    assert_int_equal(atoi(strstr(wire.to_client.data, "Content-Length: ") + 16), len + 1); /* one letter more */
}

/* ---- what came from outside ---- */

static const struct {
    const char *line, *shown; /* NULL: no target */
} targets[] = {
    {"GET http://h/<script>alert(1)</script>", "GET http://h/&#60;script&#62;alert(1)&#60;/script&#62;"},
    {"GET http://h/\"onload='x'&lt;&amp", "GET http://h/&#34;onload=&#39;x&#39;&#38;lt;&#38;amp"},
    {"GET http://h/%3Cscript%3E%00%ff", "GET http://h/%3Cscript%3E%00%ff"},
    {"GET http://h/$s$e$", "GET http://h/$s$e$"},
    {"GET http://h/</dd></dl></body></html>", "GET http://h/&#60;/dd&#62;&#60;/dl&#62;&#60;/body&#62;&#60;/html&#62;"},
    {"GET http://h/a?token=secret&b", "GET http://h/a"},
    {"GET http://h?secret", "GET http://h"},
    {"'&' http://h/", "&#39;&#38;&#39; http://h/"},
    {"GET http://user:secret@h/", "GET "},
    {"GET ftp://user:secret@h/", "GET "},
    {"GET ftp://h/<", "GET ftp://h/&#60;"},
    {"GET /<", "GET /&#60;"},
    /* cut within something */
    {"GET http://h/0123456789012345678901234567890123456789012<scr>", 
     "GET http://h/0123456789012345678901234567890123456789012&#60;scr&hellip;"},
    {"GET http://h/01234567890123456789012345678901234567890123456%3C",
     "GET http://h/01234567890123456789012345678901234567890123456&hellip;"},
    {"GET http://h/0123456789012345678901234567890123456789012345678901?secret",
     "GET http://h/01234567890123456789012345678901234567890123456&hellip;"},
};

static void hostile_targets(const void *data)
{
    char head[400], row[400];
    (void)data;
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        snprintf(head, sizeof head, "%s HTTP/1.1\r\nHost: h\r\n" ASKS_HTML, targets[i].line);
        start();
        say(head);
        /* some are refused before Accept is read: what could be seen of them all the same */
        session()->takes_html = true;
        wire.to_client.len = 0;
        wire.to_client.data[0] = '\0';
        if (session()->state == STATE_HEAD) {
            refuse(&wire.proxy, session(), MINIPROXY_CAUSE_POLICY);
            run_soon(&wire.proxy, session(), 0);
            run_long();
        } else {
            struct miniproxy_event e;
            describe(&wire.proxy, session(), &e);
            e.cause = MINIPROXY_CAUSE_TARGET;
            wire.to_client.len = page_body(&wire.proxy.config, &e, "Why.", 0, 0, (unsigned char *)wire.to_client.data, 4000);
            wire.to_client.data[wire.to_client.len] = '\0';
            check_html(wire.to_client.data);
        }
        snprintf(row, sizeof row, "<dt>Request</dt><dd>%s</dd>", targets[i].shown);
        contains(row);
        lacks("secret");
        lacks("<script");
    }
}

/* Octets that no parser lets pass, if one did. */
static void any_octet(const void *data)
{
    static unsigned char page[8192];
    char target[2] = "";
    struct miniproxy_config config = {.name = "box", .contact = target};
    struct miniproxy_event e = {.method = target, .method_len = 1, .target = target, .target_len = 1, .status = 400,
                                .cause = MINIPROXY_CAUSE_TARGET};
    (void)data;
    for (unsigned c = 1; c < 256; c++) {
        char row[80], shown[12];
        *target = (char)c;
        page[page_body(&config, &e, "Why.", 0, 0, page, sizeof page)] = '\0';
        check_html((char *)page);
        if (c < 0x20 || c > 0x7e) snprintf(shown, sizeof shown, "&#65533;");
        else if (strchr("<>&\"'", (int)c) != NULL) snprintf(shown, sizeof shown, "&#%u;", c);
        else snprintf(shown, sizeof shown, "%c", (int)c);
        snprintf(row, sizeof row, "<dt>Request</dt><dd>%s %s</dd>", shown, c == '?' ? "" : shown);
        if (strstr((char *)page, row) == NULL) fail_msg("octet %u: no %s", c, row);
    }
    e.method_len = e.target_len = 0;
    config.contact = NULL;
    page[page_body(&config, &e, "Why.", 0, 0, page, sizeof page)] = '\0';
    check_html((char *)page);
    assert_null(strstr((char *)page, "<dt>Request"));
    assert_null(strstr((char *)page, "Contact"));
    assert_null(strstr((char *)page, "Time"));
}

/* The clock goes on, or is set, while a page leaves octet by octet: what it says stays. */
static void clock_while_it_leaves(const void *data)
{
    (void)data;
    for (unsigned known = 0; known < 2; known++) {
        start();
        clock_s = known ? 784111777 : 0;
        clock_runs = true;
        refuse_by(MINIPROXY_CAUSE_POLICY, GET_PART ASKS_HTML, 1);
        check_page();
        if (known) contains("<dd>Sun, 06 Nov 1994 08:49:37 GMT</dd>");
        else lacks("<dt>Time");
    }
}

/* ---- the product's own ---- */

static const char *own;
static unsigned asked;
static struct miniproxy_event asked_of;
static bool asked_html;

static const char *own_page(void *app, const struct miniproxy_event *e, bool html)
{
    (void)app;
    asked++;
    asked_of = *e;
    asked_html = html;
    return own;
}

static void start_own(void)
{
    wire_start((struct miniproxy_config){.refusal = own_page});
    wire.connect_error = MINIPROXY_EREFUSED;
    asked = 0;
}

static void own_pages(const void *data)
{
    static const char html[] = "<!DOCTYPE html><title>No</title><img src=\"data:,\">";
    (void)data;
    for (unsigned at_most = 0; at_most < 3; at_most++) {
        own = html;
        start_own();
        wire.at_most = at_most;
        say(GET_PART ASKS_HTML "\r\n");
        run_long();
        contains("\r\nContent-Type: text/html; charset=utf-8\r\n");
        lacks("Content-Security-Policy");
        assert_string_equal(body_of_reply(), html);
        check_length();
        assert_int_equal(asked, 1);
        assert_true(asked_html);
        assert_int_equal(asked_of.cause, MINIPROXY_CAUSE_REFUSED);
        assert_int_equal(asked_of.status, 502);
        assert_int_equal(asked_of.id, 1);
        own = "Nein.";
        say(GET_PART "\r\n");
        run_long();
        contains("\r\nContent-Type: text/plain; charset=utf-8\r\n");
        assert_string_equal(body_of_reply(), own);
        check_length();
        assert_int_equal(asked, 2);
        assert_false(asked_html);
        own = NULL;
        say(GET_PART ASKS_HTML "\r\n");
        run_long();
        check_page();
        say(GET_PART "\r\n");
        run_long();
        check_text();
        own = "";
        say(GET_PART ASKS_HTML "\r\n");
        run_long();
        assert_string_equal(body_of_reply(), "");
        check_length();
        own = html;
        say(HEAD_OF("HEAD", "http://h.example/") ASKS_HTML "\r\n");
        run_long();
        assert_string_equal(body_of_reply(), "");
        assert_int_equal(atoi(strstr(wire.to_client.data, "Content-Length: ") + 16), sizeof html - 1);
        assert_int_equal(asked, 6);
        say(HEAD_OF("OPTIONS", "*") ASKS_HTML "\r\n"); /* no refusal */
        run_long();
        contains("HTTP/1.1 200 OK\r\n");
        assert_string_equal(body_of_reply(), "");
        check_length();
        assert_int_equal(asked, 6);
    }
}

static void long_own_pages(const void *data)
{
    static char text[MINIPROXY_PAGE_MAX + 2];
    struct miniproxy_session *s;
    (void)data;
    memset(text, 'x', sizeof text - 1);
    own = text;
    start_own();
    say(GET_PART ASKS_HTML "\r\n"); /* one octet too long: the standard one */
    run_long();
    check_page();
    text[MINIPROXY_PAGE_MAX] = '\0';
    wire.is_full = true;
    say(GET_PART ASKS_HTML "\r\n");
    s = session();
    for (unsigned i = 0; i < 1000 && wire.events < 2; i++) {
        wire.is_full = false;
        wire.at_most = 300;
        wire.to_client.len = 0;
        miniproxy_wake(wire.client, MINIPROXY_WR);
        miniproxy_poll(&wire.proxy, 1);
    }
    assert_int_equal(wire.events, 2);
    assert_in_range(wire.event.bytes_down, MINIPROXY_PAGE_MAX + 100, MINIPROXY_PAGE_MAX + 512);
    assert_int_equal(s->state, STATE_IDLE);
}

/* ---- numbers ---- */

static uint32_t begun;

static void note_begin(void *app, const struct miniproxy_event *e)
{
    (void)app;
    begun = e->id;
}

static void numbers(const void *data)
{
    (void)data;
    wire_start((struct miniproxy_config){.begin = note_begin});
    wire.answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    for (uint32_t i = 1; i < 4; i++) {
        say(GET_PART "\r\n");
        run_long();
        assert_int_equal(wire.events, i);
        assert_int_equal(wire.event.id, i);
        assert_int_equal(begun, i);
    }
    wire.proxy.last_id = UINT32_MAX - 1;
    say(GET_PART "\r\n");
    assert_int_equal(wire.event.id, UINT32_MAX);
    say(GET_PART "\r\n");
    assert_int_equal(wire.event.id, 0);
    say("not a request\r\n\r\n");
    run_long();
    assert_int_equal(wire.event.id, 1);
    assert_int_equal(begun, 1);
    wire.proxy.sessions[1].flags = IS_CHECK; /* a health check takes none */
    open_transaction(&wire.proxy, &wire.proxy.sessions[1]);
    assert_int_equal(wire.proxy.last_id, 1);
}

int main(void)
{
    static struct unit_test tests[] = {
        {.name = "every cause has a page, well-formed, whole, the same octet by octet [S11,S13]", .run = every_cause},
        {.name = "every cause names who can help and what to try [S11]", .run = every_remedy},
        {.name = "a page from every offset on, in pieces of every size", .run = every_piece},
        {.name = "a page with a contact of any length [S11]", .run = long_contact},
        {.name = "the longest head fits into the smallest buffer", .run = longest_head},
        {.name = "so does that of the longest page", .run = longest_page_head},
        {.name = "Accept decides who gets HTML", .run = who_gets_html},
        {.name = "a head in pieces, and one that is cut", .run = heads_in_pieces},
        {.name = "tunnels and what is no refusal get none", .run = only_where_it_can_be_read},
        {.name = "each request decides for itself", .run = one_after_the_other},
        {.name = "a page is followed by the answer to the next request", .run = pipelined},
        {.name = "HEAD gets the length of the page alone [S12]", .run = head_has_no_body},
        {.name = "nothing of a target becomes markup, and no secret is shown [S13]", .run = hostile_targets},
        {.name = "nor does any octet [S13]", .run = any_octet},
        {.name = "the clock may change while a page leaves", .run = clock_while_it_leaves},
        {.name = "pages of the product instead [S17]", .run = own_pages},
        {.name = "pages of the product are bounded [S17]", .run = long_own_pages},
        {.name = "transactions have numbers [G01]", .run = numbers},
    };
    return unit_run("html", tests, sizeof tests / sizeof tests[0]);
}
