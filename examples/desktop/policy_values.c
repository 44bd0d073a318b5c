/* SPDX-License-Identifier: MIT
 *
 * The policy language: the values of sets and clauses, of each kind.
 */
#define _GNU_SOURCE
#include "desktop.h"
#include "policy_source.h"

#include <stdlib.h>
#include <string.h>

bool is_word(const struct token *t, const char *word)
{
    return t->type == TOKEN_WORD && strcmp(t->text, word) == 0;
}

/* [a-z][a-z0-9_-]* */
bool is_set_name(const char *text)
{
    size_t len = strlen(text);
    return text[0] >= 'a' && text[0] <= 'z' && len <= NAME_MAX_OCTETS &&
           strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_-") == len;
}

const char *token_shown(struct source *s, const struct token *t)
{
    enum { SHOWN_MAX = 60 };
    char *text;
    size_t len = strlen(t->text);
    if (t->type == TOKEN_END) return "the end of the line";
    text = arena_take(s->arena, len + 8);
    if (len <= SHOWN_MAX) {
        sprintf(text, "\"%s\"", t->text);
        return text;
    }
    for (len = SHOWN_MAX; len > 0 && ((unsigned char)t->text[len] & 0xc0) == 0x80; len--) {
    }
    sprintf(text, "\"%.*s…\"", (int)len, t->text);
    return text;
}

/* ---- Words that are nearly right */

/* How many letters must be inserted, deleted, changed or swapped with the next. Words longer than the row: many. */
static unsigned distance(const char *a, const char *b)
{
    enum { ROW = 66 };
    unsigned rows[3][ROW] = {{0}};
    size_t n = strlen(a), m = strlen(b);
    if (n >= ROW || m >= ROW) return ROW;
    for (unsigned j = 0; j <= m; j++) rows[0][j] = j;
    for (unsigned i = 1; i <= n; i++) {
        unsigned *row = rows[i % 3], *above = rows[(i + 2) % 3], *before = rows[(i + 1) % 3];
        row[0] = i;
        for (unsigned j = 1; j <= m; j++) {
            unsigned best = above[j - 1] + (a[i - 1] != b[j - 1]);
            if (above[j] + 1 < best) best = above[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            row[j] = best;
        }
    }
    return rows[n % 3][m];
}

const char *nearest(const char *word, const char *const *list)
{
    const char *found = NULL;
    unsigned best = strlen(word) > 5 ? 3 : strlen(word) > 2 ? 2 : 1;
    for (; *list != NULL; list++) {
        unsigned d = strcasecmp(word, *list) == 0 ? 0 : distance(word, *list);
        if (d >= best) continue;
        best = d;
        found = *list;
    }
    return found;
}

/* ---- Numbers */

bool number(const char *text, size_t len, unsigned max, unsigned *value)
{
    unsigned v = 0;
    if (len == 0) return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        v = v * 10 + (unsigned)(text[i] - '0');
        if (v > max) return false;
    }
    *value = v;
    return true;
}

/* ---- Networks */

static bool has_host_bits(const struct net *net)
{
    unsigned len = net->family == 4 ? 4 : 16;
    for (unsigned i = 0; i < len; i++) {
        unsigned kept = net->bits <= 8 * i ? 0 : net->bits >= 8 * i + 8 ? 8 : net->bits - 8 * i;
        if ((net->ip[i] & (0xffu >> kept)) != 0) return true;
    }
    return false;
}

/* Addresses ::ffff:a.b.c.d are IPv4 everywhere. */
static void unmap(struct net *net)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (net->family != 6 || net->bits < 96 || memcmp(net->ip, mapped, sizeof mapped) != 0) return;
    memmove(net->ip, net->ip + 12, 4);
    memset(net->ip + 4, 0, 12);
    net->bits = (uint8_t)(net->bits - 96);
    net->family = 4;
}

static bool parse_net(struct source *s, const struct token *t, struct value *v)
{
    const char *slash = strchr(t->text, '/');
    size_t len = slash != NULL ? (size_t)(slash - t->text) : strlen(t->text);
    struct net *net = &v->u.net;
    struct miniproxy_addr a = {0};
    unsigned bits;
    if (!miniproxy_addr_parse(&a, t->text, len)) {
        complain(s, t->place, token_shown(s, t), "expected a network as 192.168.1.0/24, fd00::/8 or 10.0.0.7");
        return false;
    }
    memcpy(net->ip, a.ip, a.family == 4 ? 4 : sizeof a.ip);
    net->family = a.family;
    bits = a.family == 4 ? 32 : 128;
    if (slash != NULL && !number(slash + 1, strlen(slash + 1), bits, &bits)) {
        complain(s, t->place, token_shown(s, t), "expected a prefix length of 0 to %u after the /", bits);
        return false;
    }
    net->bits = (uint8_t)bits;
    if (has_host_bits(net)) {
        char text[MINIPROXY_ADDR_TEXT];
        for (unsigned i = 0; i < sizeof a.ip; i++)
            a.ip[i] &= (uint8_t)(0xff00u >> (bits <= 8 * i ? 0 : bits >= 8 * i + 8 ? 8 : bits - 8 * i));
        miniproxy_addr_format(&a, text);
        complain(s, t->place, token_shown(s, t), "expected %s/%u, the network, or %.*s, the one address", text, bits,
                 (int)len, t->text);
        return false;
    }
    unmap(net);
    return true;
}

/* ---- Host names */

/* file "NAME" [with subdomains] [exact | hashed [checked against "NAME"]], from behind `file` on. */
static bool parse_file(struct source *s, struct words *w, struct value *v)
{
    struct host_source *file = arena_take(s->arena, sizeof *file);
    const struct token *name = &w->list[w->at], *t = name + 1;
    bool with_subdomains = false;
    if (name->type != TOKEN_TEXT || name->text[0] == '\0') {
        complain(s, name->place, token_shown(s, name), "expected the name of a file in quotes after file");
        return false;
    }
    w->at++;
    if (is_word(t, "with")) {
        if (!is_word(++t, "subdomains")) {
            complain(s, t->place, token_shown(s, t), "expected \"subdomains\" after with");
            return false;
        }
        with_subdomains = true;
        t++;
    }
    if (is_word(t, "hashed")) file->hashed = true;
    if (is_word(t, "hashed") || is_word(t, "exact")) t++;
    if (file->hashed && is_word(t, "checked")) {
        if (!is_word(++t, "against") || (++t)->type != TOKEN_TEXT) {
            complain(s, t->place, token_shown(s, t), "expected \"checked against\" and the name of a file in quotes");
            return false;
        }
        if (!read_host_list(s, path_beside(s, t->text, t->place), t->place, false, &file->good)) return false;
        t++;
    }
    w->at = (size_t)(t - w->list);
    v->u.file = file;
    v->is_file = true;
    return read_host_list(s, path_beside(s, name->text, name->place), name->place, with_subdomains, &file->names);
}

static bool parse_host(struct source *s, const struct token *t, struct value *v)
{
    char *name = arena_text(s->arena, t->text, strlen(t->text));
    struct miniproxy_addr a;
    const char *problem = tidy_host(name);
    if (miniproxy_addr_parse(&a, t->text, strlen(t->text)))
        problem = "a host name: addresses stand behind to, or are meant by literals";
    v->u.text = name;
    if (problem == NULL) return true;
    complain(s, t->place, token_shown(s, t), "expected %s", problem);
    return false;
}

/* ---- Ports and methods */

static bool parse_ports(struct source *s, const struct token *t, struct value *v)
{
    const char *dash = strchr(t->text, '-');
    size_t len = dash != NULL ? (size_t)(dash - t->text) : strlen(t->text);
    unsigned first, last;
    bool ok = number(t->text, len, UINT16_MAX, &first);
    last = first;
    if (ok && dash != NULL) ok = number(dash + 1, strlen(dash + 1), UINT16_MAX, &last);
    if (!ok || first == 0 || last < first) {
        complain(s, t->place, token_shown(s, t), "expected a port of 1 to 65535, or a range as 8000-8099");
        return false;
    }
    v->u.ports = (struct miniproxy_range){(uint16_t)first, (uint16_t)last};
    return true;
}

static const struct {
    const char *name;
    unsigned method;
} methods[] = {
    {"GET", MINIPROXY_GET},     {"HEAD", MINIPROXY_HEAD},       {"POST", MINIPROXY_POST},
    {"PUT", MINIPROXY_PUT},     {"DELETE", MINIPROXY_DELETE},   {"OPTIONS", MINIPROXY_OPTIONS},
    {"TRACE", MINIPROXY_TRACE}, {"CONNECT", MINIPROXY_CONNECT}, {"other", MINIPROXY_OTHER},
};

static bool parse_method(struct source *s, const struct token *t, struct value *v)
{
    const char *names[sizeof methods / sizeof methods[0] + 1] = {0}, *meant;
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        names[i] = methods[i].name;
        if (strcmp(t->text, methods[i].name) != 0) continue;
        v->u.method = methods[i].method;
        return true;
    }
    if (t->type == TOKEN_WORD && is_set_name(t->text) &&
        (meant = nearest(t->text, names), meant == NULL || strcasecmp(meant, t->text) != 0)) {
        v->name = t->text;
        return true;
    }
    meant = nearest(t->text, names);
    complain(s, t->place, NULL,
             "expected GET, HEAD, POST, PUT, DELETE, OPTIONS, TRACE, CONNECT, other (all others, as PATCH) or pages (of "
             "the proxy itself), found %s%s%s%s",
             token_shown(s, t), meant != NULL ? " (did you mean \"" : "", meant != NULL ? meant : "",
             meant != NULL ? "\"?)" : "");
    return false;
}

/* ---- Texts */

static bool is_printable(const char *text)
{
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < 0x20 || (unsigned char)*text > 0x7e) return false;
    return true;
}

static char *in_lower_case(struct source *s, const char *text)
{
    char *copy = arena_text(s->arena, text, strlen(text));
    for (char *p = copy; *p != '\0'; p++)
        if (*p >= 'A' && *p <= 'Z') *p = (char)(*p + 'a' - 'A');
    return copy;
}

static bool parse_path(struct source *s, const struct token *t, struct value *v)
{
    v->u.text = t->text;
    if (t->text[0] == '/' && is_printable(t->text) && strchr(t->text, ' ') == NULL && strchr(t->text, '#') == NULL &&
        strlen(t->text) <= TEXT_MAX_OCTETS)
        return true;
    complain(
        s, t->place, token_shown(s, t),
        "expected the beginning of a path as it is sent: / first, printable ASCII without blanks and #, at most %d "
        "octets; other octets as %%C3%%A4",
        TEXT_MAX_OCTETS);
    return false;
}

/* In lower case; of a whole family "video/" only. */
static bool parse_type(struct source *s, const struct token *t, struct value *v)
{
    static const char token_chars[] = "abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~";
    char *text = in_lower_case(s, t->text), *slash = strchr(text, '/');
    v->u.text = text;
    if (slash != NULL && slash > text && strspn(text, token_chars) == (size_t)(slash - text) &&
        memchr(text, '*', (size_t)(slash - text)) == NULL && strlen(text) <= TEXT_MAX_OCTETS) {
        if (strcmp(slash, "/*") == 0) {
            slash[1] = '\0';
            return true;
        }
        if (slash[1] != '\0' && strchr(slash, '*') == NULL && strspn(slash + 1, token_chars) == strlen(slash + 1))
            return true;
    }
    complain(s, t->place, token_shown(s, t), "expected a media type as text/html, or video/* for all of these");
    return false;
}

/* In lower case, as the core compares it. */
static bool parse_agent(struct source *s, const struct token *t, struct value *v)
{
    v->u.text = in_lower_case(s, t->text);
    if (t->text[0] != '\0' && is_printable(t->text) && strlen(t->text) <= TEXT_MAX_OCTETS) return true;
    complain(s, t->place, token_shown(s, t), "expected a part of User-Agent: 1 to %d octets of printable ASCII",
             TEXT_MAX_OCTETS);
    return false;
}

/* ---- Times */

static int day_of(const char *text, size_t len)
{
    static const char days[] = "montuewedthufrisatsun";
    for (int i = 0; len == 3 && i < 7; i++)
        if (memcmp(text, days + 3 * i, 3) == 0) return i;
    return -1;
}

/* "daily", "sat", "mon-fri"; "sat-mon" goes over the end of the week. */
static bool parse_days(const char *text, uint8_t *days)
{
    const char *dash = strchr(text, '-');
    int first, last;
    *days = 0x7f;
    if (strcmp(text, "daily") == 0) return true;
    first = day_of(text, dash != NULL ? (size_t)(dash - text) : strlen(text));
    last = dash != NULL ? day_of(dash + 1, strlen(dash + 1)) : first;
    if (first < 0 || last < 0) return false;
    *days = 0;
    for (int day = first;; day = (day + 1) % 7) {
        *days = (uint8_t)(*days | 1u << day);
        if (day == last) return true;
    }
}

static bool parse_minute(const char *text, size_t len, uint16_t *minute)
{
    unsigned hours, minutes;
    if (len < 4 || text[len - 3] != ':' || len > 5) return false;
    if (!number(text, len - 3, 24, &hours) || !number(text + len - 2, 2, 59, &minutes)) return false;
    *minute = (uint16_t)(hours * 60 + minutes);
    return *minute <= 1440;
}

static bool parse_hours(const char *text, struct miniproxy_time *time)
{
    const char *dash = strchr(text, '-');
    return dash != NULL && parse_minute(text, (size_t)(dash - text), &time->from) && time->from < 1440 &&
           parse_minute(dash + 1, strlen(dash + 1), &time->to) && time->from != time->to;
}

/* DAYS HOURS, or HOURS of every day. */
static bool parse_time(struct source *s, struct words *w, struct value *v)
{
    const struct token *t = &w->list[w->at], *hours = t;
    v->u.time.days = 0x7f;
    if (t->type == TOKEN_WORD && parse_days(t->text, &v->u.time.days)) hours++;
    if (hours->type == TOKEN_WORD && parse_hours(hours->text, &v->u.time)) {
        w->at += (size_t)(hours - t) + 1;
        return true;
    }
    if (hours == t && t->type == TOKEN_WORD && is_set_name(t->text) &&
        (t[1].type != TOKEN_WORD || strchr(t[1].text, ':') == NULL)) {
        v->name = t->text;
        w->at++;
        return true;
    }
    complain(s, hours->place, token_shown(s, hours),
             hours > t ? "expected hours after the days, as 08:00-18:00 (over midnight: 22:00-06:00; all day: "
                         "00:00-24:00)"
                       : "expected days and hours, as mon-fri 08:00-18:00 or daily 22:00-06:00");
    return false;
}

/* ---- One value, and all of a list */

/* Whether a word is the name of a set, and no value: names of sets are chosen so that the two differ. */
static bool names_set(enum kind kind, const struct token *t)
{
    if (t->type != TOKEN_WORD) return false;
    switch (kind) {
    case KIND_NET: return is_set_name(t->text) && strchr(t->text, ':') == NULL;
    case KIND_HOSTS: return strchr(t->text, '.') == NULL && is_set_name(t->text);
    case KIND_GROUP: return true;
    default: return is_set_name(t->text);
    }
}

static bool wants_quotes(enum kind kind)
{
    return kind == KIND_AGENTS;
}

static bool parse_word(struct source *s, enum kind kind, const struct token *t, struct value *v)
{
    if (wants_quotes(kind) && t->type == TOKEN_WORD) {
        complain(s, t->place, token_shown(s, t), "expected a part of User-Agent in quotes, or a set of `agents`");
        return false;
    }
    switch (kind) {
    case KIND_NET: return parse_net(s, t, v);
    case KIND_HOSTS: return parse_host(s, t, v);
    case KIND_PORTS: return parse_ports(s, t, v);
    case KIND_PATHS: return parse_path(s, t, v);
    case KIND_TYPES: return parse_type(s, t, v);
    case KIND_AGENTS: return parse_agent(s, t, v);
    default: break;
    }
    return false;
}

static bool parse_value(struct source *s, enum kind kind, struct words *w, struct value *v)
{
    static const char *const wanted[KIND_COUNT] = {
        "a network",    "a host name",          "a port", "a method",       "a path",
        "a media type", "a part of User-Agent", "a time", "a user or group"};
    const struct token *t = &w->list[w->at];
    v->place = t->place;
    if (t->type != TOKEN_WORD && t->type != TOKEN_TEXT) {
        complain(s, t->place, token_shown(s, t), "expected %s", wanted[kind]);
        return false;
    }
    if (kind == KIND_TIMES) return parse_time(s, w, v);
    w->at++;
    if (is_word(t, "any") && (kind == KIND_NET || kind == KIND_PORTS || kind == KIND_GROUP)) {
        v->any = true;
        v->u.ports = (struct miniproxy_range){1, UINT16_MAX};
        return true;
    }
    if (kind == KIND_HOSTS && is_word(t, "file")) return parse_file(s, w, v);
    if (kind == KIND_METHODS) return parse_method(s, t, v);
    if (kind != KIND_GROUP && !names_set(kind, t)) return parse_word(s, kind, t, v);
    v->name = t->text;
    v->quoted = t->type == TOKEN_TEXT;
    return true;
}

struct value *parse_values(struct source *s, enum kind kind, struct words *w)
{
    struct value *first = NULL, **end = &first;
    for (;; w->at++) {
        struct value *v = arena_take(s->arena, sizeof *v);
        if (!parse_value(s, kind, w, v)) return NULL;
        *end = v;
        end = &v->next;
        if (w->list[w->at].type != TOKEN_COMMA) return first;
    }
}

/* ---- Sets that need no statement */

static void add_net(struct source *s, struct named *set, const uint8_t *ip, unsigned bits, unsigned family)
{
    struct value *v = arena_take(s->arena, sizeof *v);
    memcpy(v->u.net.ip, ip, family == 4 ? 4 : 16);
    v->u.net.bits = (uint8_t)bits;
    v->u.net.family = (uint8_t)family;
    v->place = set->place;
    v->next = set->values;
    set->values = v;
}

static void add_builtin(struct source *s, const char *name, const struct miniproxy_nets *nets)
{
    struct named *set = arena_take(s->arena, sizeof *set);
    *set = (struct named){.kind = KIND_NET, .name = name, .place = {"(built in)", 0, 0}, .builtin = true};
    for (unsigned i = 0; i < nets->v4_count; i++) add_net(s, set, nets->v4[i].ip, nets->v4[i].bits, 4);
    for (unsigned i = 0; i < nets->v6_count; i++) add_net(s, set, nets->v6[i].ip, nets->v6[i].bits, 6);
    add_set(s, set);
}

/* `pages` among methods: a set, so that sets of other kinds may have this name. */
static void add_pages(struct source *s)
{
    struct named *set = arena_take(s->arena, sizeof *set);
    struct value *v = arena_take(s->arena, sizeof *v);
    *set = (struct named){.kind = KIND_METHODS, .name = "pages", .place = {"(built in)", 0, 0}, .builtin = true};
    v->u.method = MINIPROXY_PAGES;
    v->place = set->place;
    set->values = v;
    add_set(s, set);
}

void add_builtin_sets(struct source *s)
{
    static const struct miniproxy_net4 private4[] = {{{10}, 8}, {{172, 16}, 12}, {{192, 168}, 16}};
    static const struct miniproxy_net6 private6[] = {{{0xfc}, 7}};
    static const struct miniproxy_net4 loopback4[] = {{{127}, 8}};
    static const struct miniproxy_net6 loopback6[] = {{{[15] = 1}, 128}};
    static const struct miniproxy_nets private = {private4, private6, 3, 1}, loopback = {loopback4, loopback6, 1, 1};
    add_builtin(s, "private", &private);
    add_builtin(s, "loopback", &loopback);
    add_builtin(s, "special", &miniproxy_special_purpose);
    add_pages(s);
}
