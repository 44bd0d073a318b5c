/* SPDX-License-Identifier: MIT
 *
 * What the audit says, in words.
 */
#include "desktop.h"
#include "policy_words.h"

#include <stdarg.h>
#include <string.h>

enum { SHOWN_MAX = 3 /* members of a set */ };

void phrase_add(struct phrase *p, const char *format, ...)
{
    va_list args;
    int n;
    va_start(args, format);
    n = vsnprintf(p->text + p->len, sizeof p->text - p->len, format, args);
    va_end(args);
    if (n < 0) return;
    p->len += (size_t)n;
    if (p->len < sizeof p->text) return;
    p->len = sizeof p->text - 1;
    memcpy(p->text + p->len - 3, "...", 3);
}

void tell(FILE *out, const char *first, unsigned indent, const char *format, ...)
{
    char text[4 * PHRASE_MAX];
    const char *word = text;
    size_t column = strlen(first), len;
    bool begun = false;
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fputs(first, out);
    while (*word != '\0') {
        len = strcspn(word, " ");
        if (begun && column + 1 + len > WIDTH) {
            fprintf(out, "\n%*s", (int)indent, "");
            column = indent;
            begun = false;
        }
        fprintf(out, "%s%.*s", begun ? " " : "", (int)len, word);
        column += len + begun;
        begun = true;
        word += len + strspn(word + len, " ");
    }
    fputc('\n', out);
}

/* ---- Rules and sets */

void phrase_rule(struct phrase *p, const struct compiled *c, int rule)
{
    if (rule < 0) phrase_add(p, "no rule");
    else phrase_add(p, "rule %d (%s:%u)", rule, c->origins[rule].place.file, c->origins[rule].place.line);
}

void phrase_rule_text(struct phrase *p, const struct compiled *c, int rule)
{
    if (rule < 0) phrase_add(p, "no rule (what no rule allows is denied)");
    else
        phrase_add(p, "rule %d (%s:%u: %s)", rule, c->origins[rule].place.file, c->origins[rule].place.line,
                   c->origins[rule].text);
}

static void phrase_hop(struct phrase *p, const struct miniproxy_hop *hop)
{
    char text[HOP_TEXT_MAX];
    hop_text(hop, text);
    phrase_add(p, "%s%s",
               hop->kind == MINIPROXY_HOP_ORIGIN   ? ""
               : hop->kind == MINIPROXY_HOP_SOCKS5 ? "socks5://"
               : hop->secure                       ? "https://"
                                                   : "http://",
               text);
}

void phrase_way(struct phrase *p, const struct compiled *c, int route)
{
    const struct miniproxy_route *r = route >= 0 ? &c->policy.routes[route] : NULL;
    const char *between = r != NULL && r->order == MINIPROXY_IN_TURN ? " and " : ", then ";
    if (r == NULL || r->count == 0) {
        phrase_add(p, "directly");
        return;
    }
    for (unsigned i = 0; i < r->count; i++) {
        const struct hop_origin *origin = &c->hop_origins[r->first + i];
        const bool same = i > 0 && origin[-1].name == origin->name;
        if (!same) phrase_add(p, "%s%s (", i == 0 ? "via " : between, origin->name);
        else phrase_add(p, "%s", between);
        phrase_hop(p, &c->policy.hops[r->first + i]);
        if (i + 1 == r->count || origin[1].name != origin->name) phrase_add(p, ")");
    }
    if (r->order == MINIPROXY_IN_TURN) phrase_add(p, ", in turn");
}

void phrase_origin(struct phrase *p, const char *what, int number, const struct rule_origin *origin)
{
    phrase_add(p, "%s %d (%s:%u: %s)", what, number, origin->place.file, origin->place.line, origin->text);
}

/* A set written within a rule has its text for a name. */
static bool is_set_name(const char *name)
{
    return *name >= 'a' && *name <= 'z' && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") == strlen(name);
}

/* Its name, and a bracket to be closed. False: it has none. */
static bool begin_named(struct phrase *p, const struct compiled *c, const void *set)
{
    for (size_t i = 0; i < c->set_count; i++)
        if (c->sets[i].set == set && c->sets[i].name != NULL && is_set_name(c->sets[i].name)) {
            phrase_add(p, "%s (", c->sets[i].name);
            return true;
        }
    return false;
}

/* Between members. False: enough of them. */
static bool next_member(struct phrase *p, size_t i, size_t count)
{
    if (i == SHOWN_MAX && count > SHOWN_MAX + 1) {
        phrase_add(p, ", and %zu more", count - i);
        return false;
    }
    if (i > 0) phrase_add(p, ", ");
    return true;
}

void phrase_nets(struct phrase *p, const struct compiled *c, const struct miniproxy_nets *nets)
{
    bool named = begin_named(p, c, nets);
    size_t count = (size_t)nets->v4_count + nets->v6_count;
    for (size_t i = 0; i < count && next_member(p, i, count); i++) {
        struct miniproxy_addr a = {.family = i < nets->v4_count ? 4 : 6};
        char text[MINIPROXY_ADDR_TEXT];
        unsigned bits;
        if (a.family == 4) memcpy(a.ip, nets->v4[i].ip, 4), bits = nets->v4[i].bits;
        else memcpy(a.ip, nets->v6[i - nets->v4_count].ip, 16), bits = nets->v6[i - nets->v4_count].bits;
        miniproxy_addr_format(&a, text);
        if (bits == (a.family == 4 ? 32 : 128)) phrase_add(p, "%s", text);
        else phrase_add(p, "%s/%u", text, bits);
    }
    if (count == 0) phrase_add(p, "nothing");
    if (named) phrase_add(p, ")");
}

void phrase_hosts(struct phrase *p, const struct compiled *c, const struct miniproxy_hosts *hosts)
{
    bool named = begin_named(p, c, hosts);
    const struct host_names *behind = NULL;
    size_t count = hosts->count;
    for (size_t i = 0; i < c->host_count; i++)
        if (c->hosts[i].set == hosts) behind = &c->hosts[i];
    if (behind != NULL) count = behind->count;
    if (count > SHOWN_MAX + 1 && named) phrase_add(p, "%zu names", count);
    else if (count == 0 && hosts->blob != NULL) phrase_add(p, "a list of names");
    else if (count == 0) phrase_add(p, "no name");
    else
        for (size_t i = 0; i < count && next_member(p, i, count); i++)
            phrase_add(p, "%s", behind != NULL ? behind->names[i] : hosts->names[i]);
    if (named) phrase_add(p, ")");
}

void phrase_texts(struct phrase *p, const struct compiled *c, const struct miniproxy_texts *texts)
{
    bool named = begin_named(p, c, texts);
    for (size_t i = 0; i < texts->count && next_member(p, i, texts->count); i++)
        phrase_add(p, "\"%s\"", texts->list[i]);
    if (texts->count == 0) phrase_add(p, "nothing");
    if (named) phrase_add(p, ")");
}

void phrase_types(struct phrase *p, const struct compiled *c, const struct miniproxy_texts *types)
{
    bool named = begin_named(p, c, types);
    for (size_t i = 0; i < types->count && next_member(p, i, types->count); i++) {
        size_t len = strlen(types->list[i]);
        phrase_add(p, "%s%s", types->list[i], len > 0 && types->list[i][len - 1] == '/' ? "*" : "");
    }
    if (types->count == 0) phrase_add(p, "nothing");
    if (named) phrase_add(p, ")");
}

static const char day_names[7][4] = {"mon", "tue", "wed", "thu", "fri", "sat", "sun"};

void phrase_days(struct phrase *p, unsigned days)
{
    bool any = false;
    if (days == 0x7f) {
        phrase_add(p, "daily");
        return;
    }
    for (int day = 0; day < 7; day++) {
        int last = day;
        if ((days >> day & 1) == 0) continue;
        while (last < 6 && (days >> (last + 1) & 1) != 0) last++;
        phrase_add(p, "%s%s", any ? "," : "", day_names[day]);
        if (last > day) phrase_add(p, "-%s", day_names[last]);
        any = true;
        day = last;
    }
    if (!any) phrase_add(p, "no day");
}

void phrase_times(struct phrase *p, const struct compiled *c, const struct miniproxy_times *times)
{
    bool named = begin_named(p, c, times);
    for (size_t i = 0; i < times->count && next_member(p, i, times->count); i++) {
        const struct miniproxy_time *t = &times->list[i];
        phrase_days(p, t->days);
        phrase_add(p, " %02u:%02u-%02u:%02u", t->from / 60u, t->from % 60u, t->to / 60u, t->to % 60u);
    }
    if (times->count == 0) phrase_add(p, "never");
    if (named) phrase_add(p, ")");
}

void phrase_users(struct phrase *p, const struct compiled *c, unsigned users)
{
    bool any = false;
    if ((users & MINIPROXY_AUTHENTICATED) != 0) {
        phrase_add(p, "anybody who logged in");
        return;
    }
    for (unsigned bit = 0; bit < 15; bit++) {
        if ((users >> bit & 1) == 0) continue;
        phrase_add(p, "%s%s", any ? " or " : "", c->group_names[bit] != NULL ? c->group_names[bit] : "a group");
        any = true;
    }
}

void phrase_ports(struct phrase *p, const struct compiled *c, const struct miniproxy_rule *r)
{
    const struct miniproxy_range own = {r->port[0], r->port[1]};
    const struct miniproxy_ranges *set = r->also != NULL ? r->also->ports : NULL;
    const struct miniproxy_ranges ranges = set != NULL ? *set : (struct miniproxy_ranges){&own, 1};
    bool named = set != NULL && begin_named(p, c, set);
    for (size_t i = 0; i < ranges.count && next_member(p, i, ranges.count); i++) {
        phrase_add(p, "%u", ranges.list[i].first);
        if (ranges.list[i].first != ranges.list[i].last) phrase_add(p, "-%u", ranges.list[i].last);
    }
    if (ranges.count == 0) phrase_add(p, "none");
    if (named) phrase_add(p, ")");
}

static const char *const method_names[METHODS] = {"GET",   "HEAD",    "POST",     "PUT",  "DELETE", "OPTIONS",
                                                  "TRACE", "CONNECT", "PROPFIND", "pages"};

const char *method_name(unsigned method)
{
    for (unsigned i = 0; i < METHODS; i++)
        if (method == 1u << i) return method_names[i];
    return "?";
}

void phrase_methods(struct phrase *p, unsigned methods)
{
    bool any = false;
    for (unsigned i = 0; i < METHODS; i++) {
        if ((methods >> i & 1) == 0) continue;
        phrase_add(p, "%s%s", any ? ", " : "", i == METHOD_OTHER ? "other methods" : method_names[i]);
        any = true;
    }
}

/* ---- Requests */

void phrase_minute(struct phrase *p, int minute_of_week)
{
    if (minute_of_week < 0) phrase_add(p, "-");
    else
        phrase_add(p, "%s %02d:%02d", day_names[minute_of_week / 1440 % 7], minute_of_week / 60 % 24,
                   minute_of_week % 60);
}

static void add_word(struct phrase *p, const char *text)
{
    static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@%+=,";
    phrase_add(p, " ");
    if (*text != '\0' && strspn(text, safe) == strlen(text)) {
        phrase_add(p, "%s", text);
        return;
    }
    phrase_add(p, "'");
    for (; *text != '\0'; text++) {
        if (*text == '\'') phrase_add(p, "'\\''");
        else phrase_add(p, "%c", *text);
    }
    phrase_add(p, "'");
}

static void add_url(struct phrase *p, const struct miniproxy_question *q)
{
    struct phrase url = {.len = 0};
    bool brackets = q->literal && strchr(q->host, ':') != NULL, connect = q->method == MINIPROXY_CONNECT;
    if (q->method == MINIPROXY_PAGES) {
        phrase_add(&url, "%s%.*s", q->path_len > 0 && *q->path == '/' ? "" : "http://" MINIPROXY_PAGES_HOST,
                   (int)q->path_len, q->path);
        add_word(p, url.text);
        return;
    }
    phrase_add(&url, "%s%s%s%s", connect ? "" : "http://", brackets ? "[" : "", q->host, brackets ? "]" : "");
    if (connect || q->port != 80) phrase_add(&url, ":%u", q->port);
    if (q->path != NULL) phrase_add(&url, "%.*s", (int)q->path_len, q->path);
    add_word(p, url.text);
}

void phrase_command(struct phrase *p, const struct compiled *c, const struct space *s, const struct witness *w)
{
    struct miniproxy_question asked = w->question;
    const struct miniproxy_question *q = &asked;
    char text[MINIPROXY_ADDR_TEXT];
    struct phrase minute = {.len = 0};
    if (asked.literal) asked.host = w->literal; /* of this copy */
    phrase_add(p, "miniproxy policy explain");
    add_word(p, c->file);
    miniproxy_addr_format(&w->client, text);
    add_word(p, text);
    add_word(p, w->user != NULL ? w->user : "-");
    add_word(p, q->method == MINIPROXY_PAGES ? "GET" : method_name(q->method));
    add_url(p, q);
    miniproxy_addr_format(&w->address, text);
    if (!q->literal && q->address != NULL) phrase_add(p, " --address %s", text);
    if (q->agent != NULL) {
        phrase_add(p, " --agent");
        add_word(p, q->agent);
    }
    if (space_atoms(s, PROPERTY_TYPE) > 1 &&
        (q->method & (MINIPROXY_CONNECT | MINIPROXY_HEAD | MINIPROXY_PAGES)) == 0) {
        phrase_add(p, " --type");
        add_word(p, q->type != NULL ? q->type : "-");
    }
    if (space_atoms(s, PROPERTY_TIME) > 1) {
        phrase_minute(&minute, q->minute_of_week);
        phrase_add(p, " --time");
        add_word(p, minute.text);
    }
}

/* ---- Why not */

bool rule_covers_user(const struct miniproxy_rule *r, const struct miniproxy_question *q)
{
    unsigned groups = q->user != NULL ? q->user->groups | MINIPROXY_AUTHENTICATED : 0;
    return r->users == 0 || (r->users & groups) != 0 || (r->either && rule_covers(r, PROPERTY_CLIENT, q));
}

static void add_client(struct phrase *p, const struct miniproxy_question *q)
{
    char text[MINIPROXY_ADDR_TEXT];
    miniproxy_addr_format(q->client, text);
    phrase_add(p, "client %s", text);
}

static void add_user(struct phrase *p, const struct miniproxy_question *q)
{
    if (q->user == NULL) phrase_add(p, "nobody is logged in");
    else phrase_add(p, "user %s", q->user->name);
}

/* What a page of the proxy's own does not have. */
static bool misses_page(struct phrase *p, const struct miniproxy_rule *r)
{
    const bool has_ports = r->port[0] != 0 || r->port[1] != 0 || (r->also != NULL && r->also->ports != NULL);
    const char *what = r->hosts != NULL || r->literal                     ? "host"
                       : r->to != NULL                                    ? "address"
                       : has_ports                                        ? "port"
                       : r->also != NULL && r->also->types != NULL        ? "type"
                                                                          : NULL;
    if (r->methods == 0 && r->verdict == MINIPROXY_ALLOW) {
        phrase_add(p, "it does not name pages of the proxy itself (methods pages)");
    } else if (r->methods != 0 && (r->methods & MINIPROXY_PAGES) == 0) {
        phrase_add(p, "this is a page of the proxy itself, and the rule is for ");
        phrase_methods(p, r->methods);
    } else if (what != NULL) {
        phrase_add(p, "a page of the proxy itself has no %s", what);
    } else {
        return false;
    }
    return true;
}

static bool misses_target(struct phrase *p, const struct compiled *c, const struct miniproxy_rule *r,
                          const struct miniproxy_question *q)
{
    if (q->method == MINIPROXY_PAGES && misses_page(p, r)) return true;
    if (r->methods != 0 && (r->methods & q->method) == 0) {
        phrase_add(p, "the method is %s, not ", method_name(q->method));
        phrase_methods(p, r->methods);
    } else if (r->literal && !q->literal) {
        phrase_add(p, "%s is a name, not an IP literal", q->host);
    } else if (!rule_covers(r, PROPERTY_HOST, q)) {
        phrase_add(p, q->literal ? "%s is an IP literal, and so no name in " : "%s is not in ", q->host);
        phrase_hosts(p, c, r->hosts);
    } else if (!rule_covers(r, PROPERTY_PORT, q)) {
        if (r->port[0] == 0 && r->port[1] == 0 && (r->also == NULL || r->also->ports == NULL)) {
            phrase_add(p, "it names no ports, and then CONNECT is allowed to %u only, not to %u",
                       MINIPROXY_CONNECT_PORT, q->port);
            return true;
        }
        phrase_add(p, "port %u is not in the ports ", q->port);
        phrase_ports(p, c, r);
    } else if (!rule_covers(r, PROPERTY_PATH, q)) {
        if (q->path == NULL) phrase_add(p, "CONNECT has no path: it is inside the tunnel");
        else phrase_add(p, "the path does not begin with any of ");
        if (q->path != NULL) phrase_texts(p, c, r->also->paths);
    } else {
        return false;
    }
    return true;
}

static bool misses_conditions(struct phrase *p, const struct compiled *c, const struct miniproxy_rule *r,
                              const struct miniproxy_question *q)
{
    if (!rule_covers(r, PROPERTY_AGENT, q)) {
        phrase_add(p,
                   q->agent == NULL ? "the request has no User-Agent, and so none with " : "User-Agent has none of ");
        phrase_texts(p, c, r->also->agents);
    } else if (!rule_covers(r, PROPERTY_TIME, q)) {
        phrase_add(p, "the time is not ");
        if (q->minute_of_week < 0) phrase_add(p, "known, so it is not taken to be ");
        phrase_times(p, c, r->also->times);
    } else if (r->also != NULL && r->also->types != NULL && q->method == MINIPROXY_CONNECT) {
        phrase_add(p, "a tunnel has no Content-Type that the proxy could see");
    } else if (q->type != NULL && !rule_covers(r, PROPERTY_TYPE, q)) {
        phrase_add(p, *q->type == '\0' ? "the response has no Content-Type, so none of " : "the response is not ");
        phrase_types(p, c, r->also->types);
    } else {
        return false;
    }
    return true;
}

static bool misses_address(struct phrase *p, const struct compiled *c, const struct miniproxy_rule *r,
                           const struct miniproxy_question *q)
{
    char text[MINIPROXY_ADDR_TEXT];
    if (q->remote && r->to != NULL) {
        phrase_add(p, "%s is not resolved here, so that its address could be in ", q->host);
        phrase_nets(p, c, r->to);
        return true;
    }
    if (q->remote && r->verdict == MINIPROXY_ALLOW && !r->special_purpose && name_is_local(q->host)) {
        phrase_add(p, "%s is whoever resolves it, and this rule does not open that", q->host);
        return true;
    }
    if (q->address == NULL) return false;
    miniproxy_addr_format(q->address, text);
    if (!rule_covers(r, PROPERTY_ADDRESS, q)) {
        phrase_add(p, "address %s is not in ", text);
        phrase_nets(p, c, r->to);
    } else if (r->verdict == MINIPROXY_ALLOW && !r->special_purpose && miniproxy_addr_is_special(q->address)) {
        phrase_add(p, "address %s is private or of another special purpose, which this rule does not open", text);
    } else {
        return false;
    }
    return true;
}

static bool misses_who(struct phrase *p, const struct compiled *c, const struct miniproxy_rule *r,
                       const struct miniproxy_question *q)
{
    if (!r->either && !rule_covers(r, PROPERTY_CLIENT, q)) {
        add_client(p, q);
        phrase_add(p, " is not in ");
        phrase_nets(p, c, r->clients);
        return true;
    }
    if (rule_covers_user(r, q)) return false;
    if (r->either) {
        add_client(p, q);
        phrase_add(p, " is not in ");
        phrase_nets(p, c, r->clients);
        phrase_add(p, ", and ");
    }
    add_user(p, q);
    if (q->user == NULL) phrase_add(p, ", and it is for ");
    else phrase_add(p, (r->users & (r->users - 1)) == 0 ? " is not one of " : " is neither ");
    phrase_users(p, c, r->users);
    return true;
}

bool phrase_mismatch(struct phrase *p, const struct compiled *c, const struct miniproxy_rule *r,
                     const struct miniproxy_question *q)
{
    return misses_target(p, c, r, q) || misses_conditions(p, c, r, q) || misses_address(p, c, r, q) ||
           misses_who(p, c, r, q);
}
