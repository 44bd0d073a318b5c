/* SPDX-License-Identifier: MIT
 *
 * Read from below: text · time · escapes · targets · fields · what is told · formats.
 */
#include "miniproxy_log.h"

#include <string.h>

/* ---- Text: what has no room is counted and not written */

struct text {
    char *out;
    size_t room, len;
    size_t elastic;     /* octets of the part that may be cut, */
    size_t elastic_max; /* and how many it may have */
    bool json;
};

/* What a line is made of. */
struct line {
    const struct miniproxy_log *log;
    const struct miniproxy_log_time *now;
    const struct miniproxy_event *event;
    const void *what; /* if it is no transaction: */
    void (*fields)(struct text *t, const struct line *l);
    const char *kind; /* one word */
    const char *text; /* of a head */
    size_t text_len;
    uint8_t side;
    uint8_t severity; /* of syslog */
};

static void put(struct text *t, const char *s, size_t len)
{
    if (t->len <= t->room && len <= t->room - t->len) memcpy(t->out + t->len, s, len);
    t->len += len;
}

static void put_word(struct text *t, const char *s)
{
    put(t, s, strlen(s));
}

/* At least `width` places, filled with `fill`. */
static void put_number(struct text *t, uint64_t value, unsigned width, char fill)
{
    char digits[20], *at = digits + sizeof digits;
    do *--at = (char)('0' + value % 10);
    while ((value /= 10) > 0);
    while (at > digits && (size_t)(digits + sizeof digits - at) < width) *--at = fill;
    put(t, at, (size_t)(digits + sizeof digits - at));
}

static void put_count(struct text *t, uint64_t value)
{
    put_number(t, value, 1, '0');
}

static void put_rule(struct text *t, int rule)
{
    if (rule < 0) put_word(t, "-");
    put_count(t, rule < 0 ? 0 - (unsigned)rule : (unsigned)rule);
}

/* ---- Time */

struct date {
    unsigned year, month, day, hour, minute, second;
};

static bool is_leap(unsigned year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static unsigned days_of_year(unsigned year)
{
    return is_leap(year) ? 366 : 365;
}

/* From 1970 to 9999; what is outside becomes the next that is inside. */
static struct date date_of(int64_t unix_s)
{
    enum { DAY_S = 86400, DAYS_400 = 146097 };
    static const uint8_t lengths[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const int64_t last = 253402300799;
    struct date d = {.year = 1970, .month = 1};
    uint32_t days, rest, len;
    if (unix_s < 0) unix_s = 0;
    if (unix_s > last) unix_s = last;
    days = (uint32_t)(unix_s / DAY_S);
    rest = (uint32_t)(unix_s % DAY_S);
    d.year += days / DAYS_400 * 400;
    for (days %= DAYS_400; days >= days_of_year(d.year); d.year++) days -= days_of_year(d.year);
    while (len = lengths[d.month - 1] + (d.month == 2 && is_leap(d.year) ? 1u : 0u), days >= len) {
        days -= len;
        d.month++;
    }
    d.day = days + 1;
    d.hour = rest / 3600;
    d.minute = rest / 60 % 60;
    d.second = rest % 60;
    return d;
}

static void put_clock(struct text *t, const struct date *d)
{
    put_number(t, d->hour, 2, '0');
    put_word(t, ":");
    put_number(t, d->minute, 2, '0');
    put_word(t, ":");
    put_number(t, d->second, 2, '0');
}

/* "+0100" or, with `between`, "+01:00". */
static void put_zone(struct text *t, int zone_min, const char *between)
{
    unsigned min = zone_min < 0 ? 0 - (unsigned)zone_min : (unsigned)zone_min;
    put_word(t, zone_min < 0 ? "-" : "+");
    put_number(t, min / 60, 2, '0');
    put_word(t, between);
    put_number(t, min % 60, 2, '0');
}

/* "[29/Nov/2026:14:45:45 +0100]" */
static void put_clf_time(struct text *t, const struct miniproxy_log_time *now)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct date d = date_of(now->unix_s + now->zone_min * 60);
    put_word(t, "[");
    put_number(t, d.day, 2, '0');
    put_word(t, "/");
    put(t, months + 3 * (d.month - 1), 3);
    put_word(t, "/");
    put_number(t, d.year, 4, '0');
    put_word(t, ":");
    put_clock(t, &d);
    put_word(t, " ");
    put_zone(t, now->zone_min, "");
    put_word(t, "]");
}

/* RFC 3339, "2026-11-29T14:45:45.123+01:00", or with Z. */
static void put_iso_time(struct text *t, const struct miniproxy_log_time *now, int zone_min)
{
    struct date d = date_of(now->unix_s + zone_min * 60);
    put_number(t, d.year, 4, '0');
    put_word(t, "-");
    put_number(t, d.month, 2, '0');
    put_word(t, "-");
    put_number(t, d.day, 2, '0');
    put_word(t, "T");
    put_clock(t, &d);
    put_word(t, ".");
    put_number(t, now->ms, 3, '0');
    if (zone_min == 0) put_word(t, "Z");
    else put_zone(t, zone_min, ":");
}

/* ---- Escapes: an octet, or a character of UTF-8, in a form in which nothing ends before its end */

/* Length of the well-formed UTF-8 character at s (RFC 3629), 0 if there is none. */
static size_t utf8_len(const char *s, size_t len)
{
    const unsigned char *p = (const unsigned char *)s;
    size_t n;
    if (p[0] < 0x80) return 1;
    n = p[0] >= 0xc2 && p[0] <= 0xdf ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 : p[0] >= 0xf0 && p[0] <= 0xf4 ? 4 : 0;
    if (n == 0 || n > len) return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f)) return 0; /* overlong; surrogates */
    if ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f)) return 0; /* overlong; above U+10FFFF */
    return n;
}

/* What stands for the first octets of a text. */
struct piece {
    char out[8];
    size_t made, taken;
};
typedef void escape(struct piece *p, const char *s, size_t len);

static void as_it_is(struct piece *p, const char *s, size_t n)
{
    memcpy(p->out, s, n);
    p->made = p->taken = n;
}

/* Some characters, then the octet in hexadecimal digits. */
static void as_hex(struct piece *p, const char *before, unsigned char c, const char *digits)
{
    size_t n = strlen(before);
    memcpy(p->out, before, n);
    p->out[n] = digits[c >> 4];
    p->out[n + 1] = digits[c & 15];
    p->made = n + 2;
    p->taken = 1;
}

static const char small_digits[] = "0123456789abcdef", large_digits[] = "0123456789ABCDEF";

static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

/* Between quotes of CLF. */
static void escape_quoted(struct piece *p, const char *s, size_t len)
{
    (void)len;
    if (is_plain((unsigned char)*s)) as_it_is(p, s, 1);
    else as_hex(p, "\\x", (unsigned char)*s, small_digits);
}

/* Between blanks. */
static void escape_word(struct piece *p, const char *s, size_t len)
{
    if (*s == ' ') as_hex(p, "\\x", ' ', small_digits);
    else escape_quoted(p, s, len);
}

/* A target between blanks, in Squid's format. */
static void escape_target(struct piece *p, const char *s, size_t len)
{
    (void)len;
    if (is_plain((unsigned char)*s) && *s != ' ') as_it_is(p, s, 1);
    else as_hex(p, "%", (unsigned char)*s, large_digits);
}

/* A name there, in which % stands for nothing yet. */
static void escape_name(struct piece *p, const char *s, size_t len)
{
    if (*s == '%') as_hex(p, "%", '%', large_digits);
    else escape_target(p, s, len);
}

/* The inside of a JSON string (RFC 8259). */
static void escape_json(struct piece *p, const char *s, size_t len)
{
    unsigned char c = (unsigned char)*s;
    size_t n = utf8_len(s, len);
    if (n == 0) {
        as_hex(p, "\\\\x", c, small_digits);
    } else if (c == '"' || c == '\\') {
        memcpy(p->out, c == '"' ? "\\\"" : "\\\\", p->made = 2);
        p->taken = 1;
    } else if (c < 0x20 || c == 0x7f || (c == 0xc2 && (unsigned char)s[1] < 0xa0)) {
        as_hex(p, "\\u00", (unsigned char)s[n - 1], small_digits);
        p->taken = n;
    } else {
        as_it_is(p, s, n);
    }
}

static void put_escaped(struct text *t, const char *s, size_t len, escape *how)
{
    struct piece p = {.taken = 0};
    for (size_t i = 0; i < len; i += p.taken) {
        how(&p, s + i, len - i);
        put(t, p.out, p.made);
    }
}

/* What may be cut, between two characters of it: then nothing of it follows. */
static void put_elastic(struct text *t, const char *s, size_t len, escape *how)
{
    struct piece p = {.taken = 0};
    for (size_t i = 0; i < len; i += p.taken) {
        how(&p, s + i, len - i);
        if (p.made > t->elastic_max - t->elastic) t->elastic_max = t->elastic;
        if (t->elastic_max == t->elastic) return;
        t->elastic += p.made;
        put(t, p.out, p.made);
    }
}

/* ---- Targets */

/* In two parts: before and behind userinfo, which may be a password. */
struct target {
    const char *before, *behind;
    size_t before_len, behind_len;
};

static bool ends_authority(char c)
{
    return c == '/' || c == '?' || c == '#';
}

/* Behind "scheme://", or the beginning. */
static const char *authority_of(const char *s, size_t len)
{
    const char *colon = memchr(s, ':', len);
    bool has_scheme = colon != NULL && s + len - colon >= 3 && memcmp(colon, "://", 3) == 0;
    return has_scheme ? colon + 3 : s;
}

static struct target target_of(const struct miniproxy_event *e, bool query)
{
    const char *s = e->target, *authority, *end, *at, *mark;
    struct target t = {s, s, 0, e->target_len};
    if (e->target_len == 0) return (struct target){"", "-", 0, 1};
    authority = authority_of(s, e->target_len);
    for (end = authority; end < s + e->target_len && !ends_authority(*end); end++) {
    }
    for (at = end; at > authority && at[-1] != '@'; at--) {
    }
    /* Cut within its authority: the @ behind a password may be among what is missing. */
    if (at == authority && authority > s && end == s + e->target_len &&
        e->method_len + 1u + e->target_len >= MINIPROXY_LINE_KEEP)
        at = end;
    if (at > authority) {
        t.before_len = (size_t)(authority - s);
        t.behind = at;
        t.behind_len = e->target_len - (size_t)(at - s);
    }
    mark = query ? NULL : memchr(t.behind, '?', t.behind_len);
    if (mark != NULL) t.behind_len = (size_t)(mark - t.behind);
    return t;
}

static void put_target(struct text *t, const struct line *l, escape *how)
{
    struct target target = target_of(l->event, l->log->query);
    put_elastic(t, target.before, target.before_len, how);
    put_elastic(t, target.behind, target.behind_len, how);
}

/* ---- What events tell in words */

#define SERVER_MAX (MINIPROXY_ADDR_TEXT + 8)

static void put_ip(struct text *t, const struct miniproxy_addr *a)
{
    char ip[MINIPROXY_ADDR_TEXT] = "-";
    if (a != NULL && a->family != 0) miniproxy_addr_format(a, ip);
    put_word(t, ip);
}

/* "address:port", with brackets around IPv6, or "". */
static const char *server_text(const struct miniproxy_addr *a, char out[SERVER_MAX])
{
    struct text t = {.out = out, .room = SERVER_MAX - 1};
    out[0] = '\0';
    if (a == NULL || a->family == 0) return out;
    if (a->family == 6) put_word(&t, "[");
    put_ip(&t, a);
    put_word(&t, a->family == 6 ? "]:" : ":");
    put_count(&t, a->port);
    out[t.len] = '\0';
    return out;
}

static const char *source_word(const struct miniproxy_event *e)
{
    return e->source == MINIPROXY_BY_PROXY ? "proxy" : e->source == MINIPROXY_BY_ORIGIN ? "origin" : "-";
}

static enum miniproxy_cause cause_of(const struct miniproxy_event *e)
{
    return (enum miniproxy_cause)e->cause;
}

static bool is_login_cause(const struct miniproxy_event *e)
{
#if MINIPROXY_WITH_PAGES
    if (e->cause == MINIPROXY_CAUSE_PAGE_LOGIN_MISSING || e->cause == MINIPROXY_CAUSE_PAGE_LOGIN_FAILED) return true;
#endif
    return e->cause == MINIPROXY_CAUSE_LOGIN_MISSING || e->cause == MINIPROXY_CAUSE_LOGIN_FAILED ||
           e->cause == MINIPROXY_CAUSE_LOGIN_THROTTLED;
}

#if MINIPROXY_WITH_SOCKS5
static bool is_socks(const struct miniproxy_event *e)
{
    return e->socks;
}
#else
static bool is_socks(const struct miniproxy_event *e)
{
    (void)e;
    return false;
}
#endif

#if MINIPROXY_WITH_IDS
static uint32_t id_of(const struct miniproxy_event *e)
{
    return e->id;
}
#else
static uint32_t id_of(const struct miniproxy_event *e)
{
    (void)e;
    return 0;
}
#endif

#if MINIPROXY_WITH_ROUTES

/* "host:port" of a parent, or "". A host of 255 octets and more is none. */
enum { HOP_MAX = 264 };

static const char *hop_text(const struct miniproxy_hop *hop, char out[HOP_MAX])
{
    struct text t = {.out = out, .room = HOP_MAX - 1};
    bool brackets = strchr(hop->host, ':') != NULL;
    if (brackets) put_word(&t, "[");
    put_word(&t, hop->host);
    put_word(&t, brackets ? "]:" : ":");
    put_count(&t, hop->port);
    out[t.len < HOP_MAX ? t.len : 0] = '\0';
    return out;
}

static const char *hop_kind(const struct miniproxy_hop *hop)
{
    return hop->kind == MINIPROXY_HOP_ORIGIN ? "member" : "parent";
}

static const char *via_of(const struct miniproxy_event *e, char out[HOP_MAX])
{
    out[0] = '\0';
    return e->hop != NULL ? hop_text(e->hop, out) : out;
}

static const char *peer_host(const struct miniproxy_event *e)
{
    return e->hop != NULL ? e->hop->host : "";
}

#else

enum { HOP_MAX = 1 };

static const char *via_of(const struct miniproxy_event *e, char out[HOP_MAX])
{
    (void)e;
    out[0] = '\0';
    return out;
}

static const char *peer_host(const struct miniproxy_event *e)
{
    (void)e;
    return "";
}

#endif

/* ---- Fields: in JSON ,"key":value with null where there is none, else " key=value" or nothing */

static void put_key(struct text *t, const char *key)
{
    put_word(t, t->json ? ",\"" : " ");
    put_word(t, key);
    put_word(t, t->json ? "\":" : "=");
}

static void field(struct text *t, const char *key, const char *value, size_t len)
{
    if (len == 0 && !t->json) return;
    put_key(t, key);
    if (len == 0) {
        put_word(t, "null");
        return;
    }
    if (t->json) put_word(t, "\"");
    put_escaped(t, value, len, t->json ? escape_json : escape_word);
    if (t->json) put_word(t, "\"");
}

static void field_word(struct text *t, const char *key, const char *value)
{
    field(t, key, value, value != NULL ? strlen(value) : 0);
}

static void field_count(struct text *t, const char *key, uint64_t value)
{
    put_key(t, key);
    put_count(t, value);
}

static void field_true(struct text *t, const char *key, bool value)
{
    put_key(t, key);
    put_word(t, value ? "true" : "false");
}

static void field_ip(struct text *t, const char *key, const struct miniproxy_addr *a)
{
    char ip[MINIPROXY_ADDR_TEXT] = "";
    if (a != NULL) miniproxy_addr_format(a, ip);
    field_word(t, key, ip);
}

/* Which kind of line it is: in words it begins with that. */
static void field_kind(struct text *t, const char *kind)
{
    if (t->json) field_word(t, "by", kind);
}

/* ---- Transactions */

static void field_target(struct text *t, const struct line *l)
{
    if (l->event->method_len == 0) {
        field(t, "method", NULL, 0);
        field(t, "target", NULL, 0);
        return;
    }
    field(t, "method", l->event->method, l->event->method_len);
    put_key(t, "target");
    if (t->json) put_word(t, "\"");
    put_target(t, l, t->json ? escape_json : escape_word);
    if (t->json) put_word(t, "\"");
}

static void event_times(struct text *t, const struct miniproxy_event *e)
{
    field_count(t, "bytes_up", e->bytes_up);
    field_count(t, "bytes_down", e->bytes_down);
    field_count(t, "dns_ms", e->dns_ms);
    field_count(t, "connect_ms", e->connect_ms);
    field_count(t, "first_byte_ms", e->first_byte_ms);
    field_count(t, "total_ms", e->total_ms);
}

static void event_fields(struct text *t, const struct line *l)
{
    const struct miniproxy_event *e = l->event;
    char via[HOP_MAX], address[SERVER_MAX];
    field_ip(t, "client", e->client);
    field_count(t, "client_port", e->client->port);
    field_word(t, "user", e->user);
    field_target(t, l);
    field_count(t, "status", e->status);
    field_word(t, "by", e->source == MINIPROXY_BY_NOBODY ? NULL : source_word(e));
    field_word(t, "cause", e->cause == MINIPROXY_CAUSE_NONE ? NULL : miniproxy_cause_token(cause_of(e)));
    field_word(t, "proxy_status", miniproxy_cause_type(cause_of(e)));
    event_times(t, e);
    field_word(t, "address", server_text(e->address, address));
    if (via_of(e, via)[0] != '\0') field_word(t, "via", via);
    if (e->rule >= 0) field_count(t, "rule", (unsigned)e->rule);
    else field(t, "rule", NULL, 0);
    if (is_socks(e)) field_true(t, "socks", true);
    field_true(t, "reused", e->reused);
    field_count(t, "session", e->session);
    if (id_of(e) != 0) field_count(t, "id", id_of(e));
}

/* As syslog has it: 3 error, 4 warning, 5 notice, 6 information. */
static uint8_t severity_of(const struct miniproxy_event *e)
{
    bool own = e->source == MINIPROXY_BY_PROXY;
    if (own && e->status == 500) return 3;
    if (own && (e->status > 500 || (is_login_cause(e) && e->cause != MINIPROXY_CAUSE_LOGIN_MISSING))) return 4;
    return own && e->status >= 400 && e->cause != MINIPROXY_CAUSE_LOGIN_MISSING ? 5 : 6;
}

/* ---- What is told besides */

static void alert_fields(struct text *t, const struct line *l)
{
    const struct miniproxy_alert *a = l->what;
    field_kind(t, l->kind);
    field_word(t, "threshold", miniproxy_alert_token((enum miniproxy_alert_kind)a->kind));
    field_word(t, "state", a->over ? "over" : "raised");
    if (a->client != NULL) field_ip(t, "client", a->client);
#if MINIPROXY_WITH_ROUTES
    if (a->hop != NULL) field_word(t, hop_kind(a->hop), hop_text(a->hop, (char[HOP_MAX]){0}));
#endif
    field_count(t, "value", a->value);
    field_count(t, "limit", a->limit);
}

static void tls_fields(struct text *t, const struct line *l)
{
    const struct miniproxy_log_tls *tls = l->what;
    char address[SERVER_MAX];
    field_ip(t, "client", tls->client);
    field_count(t, "client_port", tls->client != NULL ? tls->client->port : 0);
    field_kind(t, l->kind);
    field_word(t, "cause", tls->cause);
    field_word(t, "address", server_text(tls->address, address));
    field_word(t, "host", tls->host);
    field_word(t, "error", tls->error);
}

#if MINIPROXY_WITH_ROUTES

struct hop_news {
    const struct miniproxy_hop *hop;
    const struct miniproxy_health *health;
};

static const char *hop_cause(const struct hop_news *news)
{
    return news->health->down != 0 ? miniproxy_cause_token((enum miniproxy_cause)news->health->cause) : "-";
}

static const char *hop_state(const struct hop_news *news)
{
    return news->health->down != 0 ? "down" : "up";
}

static void hop_fields(struct text *t, const struct line *l)
{
    const struct hop_news *news = l->what;
    const char *cause = hop_cause(news);
    char via[HOP_MAX];
    field_kind(t, l->kind);
    field_word(t, "cause", strcmp(cause, "-") == 0 ? NULL : cause);
    field_word(t, "via", hop_text(news->hop, via));
    field_word(t, "state", hop_state(news));
}

static void clf_hop(struct text *t, const struct line *l)
{
    const struct hop_news *news = l->what;
    char via[HOP_MAX];
    put_word(t, "- - - ");
    put_clf_time(t, l->now);
    put_word(t, " \"-\" 000 0 ");
    put_word(t, hop_cause(news));
    put_word(t, " ");
    put_word(t, l->kind);
    put_word(t, " 0 - -1 state=");
    put_word(t, hop_state(news));
    put_word(t, " via=");
    put_word(t, hop_text(news->hop, via));
}

#endif

#if MINIPROXY_WITH_HEADS

/* To the end of the line. */
static void escape_rest(struct piece *p, const char *s, size_t len)
{
    if (*s == '"') as_it_is(p, s, 1);
    else escape_quoted(p, s, len);
}

static void head_fields(struct text *t, const struct line *l)
{
    field_kind(t, l->kind);
    field_ip(t, "client", l->event->client);
    if (t->json) field_count(t, "client_port", l->event->client->port);
    field_count(t, "id", id_of(l->event));
    field_word(t, "side", l->side == MINIPROXY_OF_CLIENT ? "client" : "origin");
    if (t->json) put_key(t, "line");
    put_word(t, t->json ? "\"" : " ");
    put_elastic(t, l->text, l->text_len, t->json ? escape_json : escape_rest);
    if (t->json) put_word(t, "\"");
}

#endif

/* ---- Common Log Format */

static void clf_event(struct text *t, const struct line *l)
{
    const struct miniproxy_event *e = l->event;
    char via[HOP_MAX], address[SERVER_MAX];
    put_ip(t, e->client);
    put_word(t, " - ");
    if (e->user != NULL) put_escaped(t, e->user, strlen(e->user), escape_word);
    else put_word(t, "-");
    put_word(t, " ");
    put_clf_time(t, l->now);
    put_word(t, " \"");
    if (e->method_len > 0) {
        put_escaped(t, e->method, e->method_len, escape_quoted);
        put_word(t, " ");
        put_target(t, l, escape_quoted);
        put_word(t, is_socks(e) ? " SOCKS5" : " HTTP/1.1");
    } else {
        put_word(t, "-");
    }
    put_word(t, "\" ");
    put_number(t, e->status, 3, '0');
    put_word(t, " ");
    put_count(t, e->bytes_down);
    put_word(t, " ");
    put_word(t, miniproxy_cause_token(cause_of(e)));
    put_word(t, " ");
    put_word(t, source_word(e));
    put_word(t, " ");
    put_count(t, e->total_ms);
    put_word(t, " ");
    put_word(t, server_text(e->address, address)[0] != '\0' ? address : "-");
    put_word(t, " ");
    put_rule(t, e->rule);
    if (via_of(e, via)[0] != '\0') field_word(t, "via", via);
    if (id_of(e) != 0) field_count(t, "id", id_of(e));
}

static void clf_tls(struct text *t, const struct line *l)
{
    const struct miniproxy_log_tls *tls = l->what;
    char address[SERVER_MAX];
    put_ip(t, tls->client);
    put_word(t, " - - ");
    put_clf_time(t, l->now);
    put_word(t, " \"-\" 000 0 ");
    put_word(t, tls->cause);
    put_word(t, " tls 0 ");
    put_word(t, server_text(tls->address, address)[0] != '\0' ? address : "-");
    put_word(t, " -1 ");
    if (tls->host != NULL) put_escaped(t, tls->host, strlen(tls->host), escape_word);
    else put_word(t, "-");
    put_word(t, " \"");
    put_escaped(t, tls->error, strlen(tls->error), escape_quoted);
    put_word(t, "\"");
}

/* ---- Words */

static void words_line(struct text *t, const struct line *l)
{
    put_word(t, l->kind);
    l->fields(t, l);
}

/* What programs that read CLF or Squid's format take for a comment. */
static void comment(struct text *t, const struct line *l)
{
    put_word(t, "# ");
    put_iso_time(t, l->now, 0);
    put_word(t, " ");
    words_line(t, l);
}

/* ---- Squid's format */

static bool is_any_of(const char *word, const char *const *list)
{
    while (*list != NULL && strcmp(word, *list) != 0) list++;
    return *list != NULL;
}

enum squid_fate { SQUID_DENIED, SQUID_NONE, SQUID_TUNNEL, SQUID_MISS };

static enum squid_fate squid_fate(const struct miniproxy_event *e)
{
    static const char *const denied[] = {"http_request_denied", "destination_ip_prohibited", NULL};
    static const char *const at_home[] = {"http_request_error", "proxy_internal_response", "proxy_internal_error",
                                          "connection_limit_reached", "proxy_loop_detected", NULL};
    const char *type = miniproxy_cause_type(cause_of(e));
    bool is_connect = e->method_len == 7 && memcmp(e->method, "CONNECT", 7) == 0;
    if (is_any_of(type, denied) || is_login_cause(e)) return SQUID_DENIED;
    if (is_connect) return e->status >= 200 && e->status < 300 ? SQUID_TUNNEL : SQUID_NONE;
    if (e->method_len == 0 || is_any_of(type, at_home)) return SQUID_NONE;
    return e->source == MINIPROXY_BY_PROXY && e->cause == MINIPROXY_CAUSE_NONE ? SQUID_NONE : SQUID_MISS;
}

/* "_ABORTED" or "_TIMEDOUT" of a response that was begun, or never came, and whose cause could not be told any more. */
static const char *squid_end(const struct miniproxy_event *e)
{
    bool late = e->cause == MINIPROXY_CAUSE_CLIENT_WRITE_TIMEOUT || e->cause == MINIPROXY_CAUSE_TUNNEL_TIMEOUT ||
                e->cause == MINIPROXY_CAUSE_TOTAL_TIMEOUT || miniproxy_cause_status(cause_of(e)) == 504;
    bool is_told = e->source == MINIPROXY_BY_PROXY && miniproxy_cause_status(cause_of(e)) == e->status;
    if (e->cause == MINIPROXY_CAUSE_NONE || is_told) return "";
    return late ? "_TIMEDOUT" : "_ABORTED";
}

static void squid_peer(struct text *t, const struct miniproxy_event *e, enum squid_fate fate)
{
    const char *host = peer_host(e);
    bool is_sent = fate != SQUID_DENIED && (e->address->family != 0 || host[0] != '\0');
    put_word(t, !is_sent ? "HIER_NONE/" : host[0] != '\0' ? "FIRSTUP_PARENT/" : "HIER_DIRECT/");
    if (is_sent && e->address->family == 0) put_escaped(t, host, strlen(host), escape_name);
    else put_ip(t, is_sent ? e->address : NULL);
}

static void squid_request(struct text *t, const struct line *l)
{
    const struct miniproxy_event *e = l->event;
    if (e->method_len > 0) {
        put_escaped(t, e->method, e->method_len, escape_name);
        put_word(t, " ");
        put_target(t, l, escape_target);
    } else {
        put_word(t, e->status == 0 ? "- error:transaction-end-before-headers" : "- error:invalid-request");
    }
}

static void squid_event(struct text *t, const struct line *l)
{
    static const char *const words[] = {"TCP_DENIED", "NONE_NONE", "TCP_TUNNEL", "TCP_MISS"};
    const struct miniproxy_event *e = l->event;
    enum squid_fate fate = squid_fate(e);
    put_count(t, l->now->unix_s > 0 ? (uint64_t)l->now->unix_s : 0);
    put_word(t, ".");
    put_number(t, l->now->ms, 3, '0');
    put_word(t, " ");
    put_number(t, e->total_ms, 6, ' ');
    put_word(t, " ");
    put_ip(t, e->client);
    put_word(t, " ");
    put_word(t, words[fate]);
    if (fate == SQUID_TUNNEL || fate == SQUID_MISS) put_word(t, squid_end(e));
    put_word(t, "/");
    put_number(t, e->status, 3, '0');
    put_word(t, " ");
    put_count(t, e->bytes_down);
    put_word(t, " ");
    squid_request(t, l);
    put_word(t, " ");
    if (e->user != NULL) put_escaped(t, e->user, strlen(e->user), escape_name);
    else put_word(t, "-");
    put_word(t, " ");
    squid_peer(t, e, fate);
    put_word(t, " -"); /* the media type, which the core does not tell */
}

/* ---- JSON */

static void json_line(struct text *t, const struct line *l)
{
    t->json = true;
    put_word(t, "{\"time\":\"");
    put_iso_time(t, l->now, 0);
    put_word(t, "\"");
    l->fields(t, l);
    put_word(t, "}");
}

/* ---- Syslog */

/* A name of the header: printable ASCII. */
static void put_name(struct text *t, const char *name, const char *otherwise, size_t max)
{
    if (name == NULL || name[0] == '\0') name = otherwise;
    for (size_t i = 0; i < max && name[i] != '\0'; i++) put(t, name[i] > ' ' && name[i] < 0x7f ? name + i : "?", 1);
    put_word(t, " ");
}

static void syslog_line(struct text *t, const struct line *l)
{
    put_word(t, "<");
    put_count(t, (l->log->facility <= 23 ? l->log->facility : 23) * 8u + l->severity);
    put_word(t, ">1 ");
    if (l->now->unix_s > 0) put_iso_time(t, l->now, l->now->zone_min);
    else put_word(t, "-");
    put_word(t, " ");
    put_name(t, l->log->host, "-", 255);
    put_name(t, l->log->app, "miniproxy", 48);
    if (l->log->process != 0) put_count(t, l->log->process);
    else put_word(t, "-");
    put_word(t, " ");
    put_word(t, l->kind);
    put_word(t, " - ");
    words_line(t, l);
}

/* ---- Formats */

struct miniproxy_log_format {
    void (*event)(struct text *t, const struct line *l);
    void (*tls)(struct text *t, const struct line *l);
    void (*hop)(struct text *t, const struct line *l);
    void (*other)(struct text *t, const struct line *l);
};

#if MINIPROXY_WITH_ROUTES
#define CLF_HOP clf_hop
#else
#define CLF_HOP NULL
#endif
const struct miniproxy_log_format miniproxy_log_clf = {clf_event, clf_tls, CLF_HOP, comment};
const struct miniproxy_log_format miniproxy_log_squid = {squid_event, comment, comment, comment};
const struct miniproxy_log_format miniproxy_log_json = {json_line, json_line, json_line, json_line};
const struct miniproxy_log_format miniproxy_log_words = {words_line, words_line, words_line, words_line};
const struct miniproxy_log_format miniproxy_log_syslog = {syslog_line, syslog_line, syslog_line, syslog_line};

/* Once with all of it; if that is too long, once more with as much as there is room for. */
static size_t lay(void (*write)(struct text *t, const struct line *l), const struct line *l, char *out, size_t room)
{
    struct text t = {.out = out, .room = room, .elastic_max = SIZE_MAX};
    size_t rest;
    write(&t, l);
    if (t.len <= room) return t.len;
    rest = t.len - t.elastic;
    if (rest > room) return 0;
    t = (struct text){.out = out, .room = room, .elastic_max = room - rest};
    write(&t, l);
    return t.len;
}

size_t miniproxy_log_event(const struct miniproxy_log *log, const struct miniproxy_log_time *now,
                           const struct miniproxy_event *event, char *out, size_t room)
{
    struct line l = {.log = log,
                     .now = now,
                     .event = event,
                     .fields = event_fields,
                     .kind = "transaction",
                     .severity = severity_of(event)};
    return lay(log->format->event, &l, out, room);
}

size_t miniproxy_log_alert(const struct miniproxy_log *log, const struct miniproxy_log_time *now,
                           const struct miniproxy_alert *alert, char *out, size_t room)
{
    struct line l = {.log = log,
                     .now = now,
                     .what = alert,
                     .fields = alert_fields,
                     .kind = "alert",
                     .severity = alert->over ? 5 : 4};
    return lay(log->format->other, &l, out, room);
}

size_t miniproxy_log_tls(const struct miniproxy_log *log, const struct miniproxy_log_time *now,
                         const struct miniproxy_log_tls *tls, char *out, size_t room)
{
    struct line l = {.log = log, .now = now, .what = tls, .fields = tls_fields, .kind = "tls", .severity = 5};
    return lay(log->format->tls, &l, out, room);
}

#if MINIPROXY_WITH_ROUTES
size_t miniproxy_log_hop(const struct miniproxy_log *log, const struct miniproxy_log_time *now,
                         const struct miniproxy_hop *hop, const struct miniproxy_health *health, char *out, size_t room)
{
    const struct hop_news news = {hop, health};
    struct line l = {.log = log,
                     .now = now,
                     .what = &news,
                     .fields = hop_fields,
                     .kind = hop_kind(hop),
                     .severity = health->down != 0 ? 4 : 5};
    return lay(log->format->hop, &l, out, room);
}
#endif

#if MINIPROXY_WITH_HEADS
size_t miniproxy_log_head(const struct miniproxy_log *log, const struct miniproxy_log_time *now,
                          const struct miniproxy_event *event, enum miniproxy_side side, const char *text, size_t len,
                          char *out, size_t room)
{
    struct line l = {.log = log,
                     .now = now,
                     .event = event,
                     .fields = head_fields,
                     .kind = "head",
                     .text = text,
                     .text_len = len,
                     .side = (uint8_t)side,
                     .severity = 7};
    return lay(log->format->other, &l, out, room);
}
#endif
