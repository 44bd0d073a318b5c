/* SPDX-License-Identifier: MIT
 *
 * One request, rule by rule, as the core takes it: before its name is resolved, with an address, with the response.
 *
 * What is not given (the address of a name, the type, the time) is tried with all that the rules can tell apart: a case
 * each. A rule that matches in some cases decides those, and the rules behind it the others.
 */
#include "policy_words.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { CASES_MAX = 20000, RULES_SHOWN = 60, HOST_MAX = 253, WEEK = 7 * 1440 };

/* What the client gets. */
struct answer {
    enum miniproxy_cause cause; /* NONE: allowed */
    int rule;                   /* that decided, -1: none */
};

struct trial {
    unsigned address, type, time; /* atoms */
    struct miniproxy_question q;
    struct answer answer;
    int route;    /* -1: none */
    bool decided; /* by a rule that was shown */
};

struct explanation {
    const struct compiled *c;
    struct space *space;
    const struct request_text *text;
    FILE *out;
    struct miniproxy_question q; /* what is known */
    struct miniproxy_addr client, address;
    char host[HOST_MAX + 2];
    bool brackets; /* around an IPv6 literal */
    bool https;    /* the proxy itself takes an https:// URL */
    bool open_address, open_type, open_time;
    struct trial *trials;
    size_t count;
};

/* ---- Reading the request */

static bool expected(struct explanation *e, const char *what, const char *found)
{
    tell(e->out, "", 2, "expected %s, found \"%s\"", what, found);
    return false;
}

static bool is_token(const char *text)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~";
    return *text != '\0' && strspn(text, letters) == strlen(text);
}

static bool same_word(const char *a, const char *b)
{
    for (; *a != '\0' && (*a | 0x20) == (*b | 0x20); a++, b++) {
    }
    return *a == *b;
}

static bool read_method(struct explanation *e)
{
    const char *method = e->text->method;
    if (!is_token(method)) return expected(e, "a method, as GET or CONNECT", method);
    e->q.method = MINIPROXY_OTHER;
    for (unsigned bit = 1; bit < MINIPROXY_OTHER; bit <<= 1) {
        if (strcmp(method, method_name(bit)) == 0) e->q.method = (uint16_t)bit;
        else if (same_word(method, method_name(bit))) return expected(e, "the method in capitals", method);
    }
    return true;
}

static bool read_port(struct explanation *e, const char *text, size_t len, unsigned standard)
{
    unsigned port = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9' || port > 65535) port = 65536;
        else port = port * 10 + (unsigned)(text[i] - '0');
    }
    if (len > 5) port = 65536; /* leading zeros, too: as parse_port in miniproxy.c */
    if (len == 0) port = standard;
    if (port == 0 || port > 65535) return expected(e, "a port from 1 to 65535", text);
    e->q.port = (uint16_t)port;
    return true;
}

/* As parse_name in miniproxy.c. */
static bool is_name(const char *name, size_t len)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    size_t label = 0, last;
    if (len > 0 && name[len - 1] == '.') len--;
    if (len == 0 || len > HOST_MAX) return false;
    for (size_t i = 0; i < len; i++) {
        if (strchr(letters, name[i]) == NULL) return false;
        if (name[i] == '.' && label == 0) return false;
        label = name[i] == '.' ? 0 : label + 1;
        if (label > 63) return false;
    }
    for (last = len; last > 0 && name[last - 1] != '.'; last--) {
    }
    if (len - last >= 2 && name[last] == '0' && (name[last + 1] | 0x20) == 'x') return false;
    return strspn(name + last, "0123456789") < len - last;
}

/* host[:port], up to `len`. standard 0: the port must be there. */
static bool read_authority(struct explanation *e, const char *text, size_t len, unsigned standard)
{
    const char *colon = memchr(text, ':', len), *end = text + len, *shut;
    if (len > 0 && *text == '[') {
        shut = memchr(text, ']', len);
        if (shut == NULL || !miniproxy_addr_parse(&e->address, text + 1, (size_t)(shut - text - 1)) ||
            e->address.family != 6)
            return expected(e, "an IPv6 address in brackets, as [2001:db8::1]", text);
        e->q.literal = e->brackets = true;
        colon = shut + 1 < end ? shut + 1 : NULL;
        if (colon != NULL && *colon != ':')
            return expected(e, "a port behind the brackets, as [2001:db8::1]:443", text);
        memcpy(e->host, text + 1, (size_t)(shut - text - 1));
    } else {
        size_t host = colon != NULL ? (size_t)(colon - text) : len;
        if (host > HOST_MAX + 1) return expected(e, "a host name of at most 253 octets", text);
        memcpy(e->host, text, host);
        e->q.literal = miniproxy_addr_parse(&e->address, e->host, host);
        if (!e->q.literal && !is_name(e->host, host))
            return expected(e,
                            "a host name of letters, digits and hyphens (others as A-labels, xn--...), or an IP "
                            "address as four numbers",
                            e->host);
    }
    e->q.host = e->host;
    if (e->q.literal) e->q.address = &e->address;
    if (colon == NULL && standard == 0) return expected(e, "host:port for CONNECT", text);
    return read_port(e, colon != NULL ? colon + 1 : "", colon != NULL ? (size_t)(end - colon - 1) : 0, standard);
}

/* Does it begin with this, in any case? */
static bool begins_with(const char *text, const char *word)
{
    return strncasecmp(text, word, strlen(word)) == 0;
}

static bool read_url(struct explanation *e)
{
    const char *url = e->text->url, *rest = strstr(url, "://");
    size_t host;
    for (const char *p = url; *p != '\0'; p++)
        if ((unsigned char)*p <= ' ' || *p == 0x7f || *p == '#')
            return expected(e, "a URL without blanks, control characters and #fragment, which clients do not send",
                            url);
    if (rest == NULL) {
        if (e->q.method != MINIPROXY_CONNECT)
            return expected(e, "a URL as http://host/path or https://host/ (host:port with CONNECT only)", url);
        return read_authority(e, url, strlen(url), 0);
    }
    rest += 3;
    host = strcspn(rest, "/?");
    if (begins_with(url, "https://") && MINIPROXY_WITH_TLS && e->q.method != MINIPROXY_CONNECT) {
        tell(e->out, "", 0,
             "This is a client that leaves TLS to the proxy. A browser would send CONNECT instead: ask for that, too.");
        e->https = true;
    } else if (begins_with(url, "https://")) {
        tell(e->out, "", 0,
             "For an https:// URL the client sends CONNECT. The method (%s) and the path are inside the "
             "tunnel, where no rule sees them.",
             e->text->method);
        e->q.method = MINIPROXY_CONNECT;
        return read_authority(e, rest, host, 443);
    }
    if (!e->https && !begins_with(url, "http://"))
        return expected(e, "a URL that begins with http:// or https://", url);
    if (e->q.method == MINIPROXY_CONNECT) return expected(e, "host:port for CONNECT", url);
    e->q.path = rest + host;
    e->q.path_len = strlen(e->q.path);
    return read_authority(e, rest, host, e->https ? 443 : 80);
}

/* A page of the proxy's own: its path, or a URL at its name, as see_page in miniproxy.c. NULL: it is none. */
static const char *page_of(const char *url)
{
    static const char begin[] = "http://" MINIPROXY_PAGES_HOST;
    const char *path = url + sizeof begin - 1, *port;
    if (*url == '/') return url;
    if (!begins_with(url, begin)) return NULL;
    if (*path == ':') {
        port = ++path;
        path += strspn(path, "0123456789");
        if (path != port && (path - port > 5 || strtoul(port, NULL, 10) != 80)) return NULL;
    }
    return *path == '\0' || *path == '/' || *path == '?' ? path : NULL;
}

/* As is_path in miniproxy.c. */
static bool is_path(const char *path, const char *known)
{
    size_t len = strcspn(path, "?");
    if (len == 0) return known[1] == '\0';
    return len == strlen(known) && memcmp(path, known, len) == 0;
}

/* A path that is none of the core's pages is said to be so; what the application has is not known here. */
static void show_unknown_page(const struct explanation *e)
{
    static const char *const pages[] = {"/", "/health", "/metrics", "/log", "/proxy.pac", "/wpad.dat"};
    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++)
        if (is_path(e->q.path, pages[i])) return;
    tell(e->out, "", 0,
         "%.60s is none of the proxy's pages (/, /health, /metrics, /log, /proxy.pac, /wpad.dat): unless the "
         "application has such a page, %s %u %s.",
         e->q.path, *e->text->url == '/' ? "the answer is" : "who may see it gets",
         miniproxy_cause_status(*e->text->url == '/' ? MINIPROXY_CAUSE_ORIGIN_FORM : MINIPROXY_CAUSE_PAGE),
         miniproxy_cause_token(*e->text->url == '/' ? MINIPROXY_CAUSE_ORIGIN_FORM : MINIPROXY_CAUSE_PAGE));
}

static bool read_target(struct explanation *e)
{
    e->q.path = page_of(e->text->url);
    if (e->q.path == NULL) return read_url(e);
    if ((e->q.method & (MINIPROXY_GET | MINIPROXY_HEAD)) == 0)
        return expected(e, "GET or HEAD for a page of the proxy itself", e->text->method);
    e->q.method = MINIPROXY_PAGES;
    e->q.path_len = strlen(e->q.path);
    e->q.host = "";
    show_unknown_page(e);
    return true;
}

static bool is_page(const struct explanation *e)
{
    return e->q.method == MINIPROXY_PAGES;
}

static bool read_user(struct explanation *e)
{
    const struct miniproxy_policy *policy = &e->c->policy;
    const char *name = e->text->user;
    if (strcmp(name, "-") == 0) return true;
    for (unsigned i = 0; i < policy->user_count; i++)
        if (strcmp(policy->users[i].name, name) == 0) e->q.user = &policy->users[i];
    return e->q.user != NULL ||
           expected(e, "a user of the policy (others get 407 login_failed), or - for nobody", name);
}

static bool read_time(struct explanation *e)
{
    static const char days[] = "montuewedthufrisatsun";
    const char *text = e->text->time, *hour;
    size_t day = 0;
    e->q.minute_of_week = -1;
    if (text == NULL || strcmp(text, "-") == 0) return true;
    while (day < 7 && strncmp(text, days + 3 * day, 3) != 0) day++;
    hour = text + strcspn(text, " ");
    if (day < 7 && hour == text + 3) {
        unsigned h = 99, m = 99;
        char after;
        if (strlen(hour) >= 5 && strlen(hour) <= 6 && sscanf(hour, " %2u:%2u%c", &h, &m, &after) == 2 && h < 24 &&
            m < 60) {
            e->q.minute_of_week = (int)(day * 1440 + h * 60 + m);
            return true;
        }
    }
    return expected(e, "a time as \"mon 14:30\", or - for a clock that is not set", text);
}

/* A name that its route leaves to a parent is not resolved; an address that was given for it means nothing. */
static void find_way(struct explanation *e)
{
    struct miniproxy_question q = e->q;
    int route;
    if (q.literal || is_page(e)) return;
    q.address = NULL;
    route = miniproxy_find_route(&e->c->policy, &q);
    if (route < 0 || !route_hides_address(&e->c->policy, e->c->policy.routes + route)) return;
    e->q.remote = true;
    e->q.address = NULL;
}

static bool read_request(struct explanation *e)
{
    const struct request_text *text = e->text;
    if (!miniproxy_addr_parse(&e->client, text->client, strlen(text->client)))
        return expected(e, "the client's IP address, as 192.168.1.20", text->client);
    e->q.client = &e->client;
    if (!read_user(e) || !read_method(e) || !read_target(e) || !read_time(e)) return false;
    if (text->address != NULL) {
        if (e->q.literal) return expected(e, "no address: the URL has one", text->address);
        if (is_page(e)) return expected(e, "no address: a page of the proxy itself has none", text->address);
        if (!miniproxy_addr_parse(&e->address, text->address, strlen(text->address)))
            return expected(e, "the IP address that the name resolves to", text->address);
        e->q.address = &e->address;
    }
    e->q.agent = text->agent;
    e->q.agent_len = text->agent != NULL ? strlen(text->agent) : 0;
    e->q.type = text->type != NULL && strcmp(text->type, "-") != 0 ? text->type : NULL;
    e->q.type_len = e->q.type != NULL ? strlen(e->q.type) : 0;
    if ((e->q.method & (MINIPROXY_CONNECT | MINIPROXY_HEAD | MINIPROXY_PAGES)) != 0) {
        if (e->q.type != NULL) return expected(e, "no type: a response to this method has no content", text->type);
    } else {
        e->open_type = text->type == NULL;
    }
    find_way(e);
    e->open_address = e->q.address == NULL && !e->q.remote && !is_page(e);
    e->open_time = text->time == NULL;
    return true;
}

/* ---- What the core answers: see judge, choose_addresses and allows_content in miniproxy.c */

#if MINIPROXY_WITH_TLS

/* Users without a password can be asked for as those with one are, if they get one: then the core says whether one of
 * them might be allowed it. */
static enum miniproxy_cause denial(const struct compiled *c, const struct miniproxy_question *q,
                                   enum miniproxy_cause cause)
{
    struct miniproxy_policy policy = c->policy;
    struct miniproxy_user *users = calloc(policy.user_count + 1u, sizeof *users);
    if (users == NULL) return cause;
    for (unsigned i = 0; i < policy.user_count; i++) {
        users[i] = policy.users[i];
        users[i].password = "any";
    }
    policy.users = users;
    if (miniproxy_decide(&policy, q, NULL) == MINIPROXY_NEEDS_USER) cause = MINIPROXY_CAUSE_CERTIFICATE;
    free(users);
    return cause;
}

#else

static enum miniproxy_cause denial(const struct compiled *c, const struct miniproxy_question *q,
                                   enum miniproxy_cause cause)
{
    (void)c, (void)q;
    return cause;
}

#endif

/* A browser that fetches its configuration is not asked for a login: it could not answer. */
static bool is_pac(const struct miniproxy_question *q)
{
    static const char *const paths[] = {"/proxy.pac", "/wpad.dat"};
    for (unsigned i = 0; i < 2; i++) {
        const size_t len = strlen(paths[i]);
        if (q->path_len < len || memcmp(q->path, paths[i], len) != 0) continue;
        if (q->path_len == len || q->path[len] == '?') return true;
    }
    return false;
}

/* To a question about a page, which has no address and no type. See judge_page in miniproxy.c. */
static struct answer answer_of_page(const struct compiled *c, const struct miniproxy_question *q)
{
    struct answer a = {MINIPROXY_CAUSE_NONE, -1};
    enum miniproxy_verdict verdict = miniproxy_decide(&c->policy, q, &a.rule);
    if (verdict == MINIPROXY_ALLOWED) return a;
    a.cause = verdict == MINIPROXY_NEEDS_USER && !is_pac(q) ? MINIPROXY_CAUSE_PAGE_LOGIN_MISSING : MINIPROXY_CAUSE_POLICY;
    return a;
}

static bool matches(const struct miniproxy_rule *r, const struct miniproxy_question *q, const struct compiled *c)
{
    struct phrase ignored = {.len = 0};
    if (q->type == NULL && !rule_covers(r, PROPERTY_TYPE, q)) return false;
    return !phrase_mismatch(&ignored, c, r, q);
}

/* -1: none. */
static int first_match(const struct compiled *c, const struct miniproxy_question *q)
{
    for (int i = 0; i < c->policy.rule_count; i++)
        if (matches(c->policy.rules + i, q, c)) return i;
    return -1;
}

static struct answer answer_of(const struct compiled *c, const struct miniproxy_question *all)
{
    struct miniproxy_question q = *all, any_port, unresolved;
    struct answer a = {MINIPROXY_CAUSE_NONE, -1};
    enum miniproxy_verdict verdict;
    if (all->method == MINIPROXY_PAGES) return answer_of_page(c, all);
    q.type = NULL;
    q.type_len = 0;
    if (!q.literal) q.address = NULL;
    q.remote = false;
    verdict = miniproxy_decide(&c->policy, &q, &a.rule);
    if (verdict != MINIPROXY_DENIED && verdict != MINIPROXY_NEEDS_USER && all->remote) {
        q.remote = true;
        verdict = miniproxy_decide(&c->policy, &q, &a.rule);
    }
    if (verdict == MINIPROXY_DENIED) {
        any_port = unresolved = q;
        any_port.port = 0;
        any_port.remote = false;
        unresolved.address = NULL;
        a.cause = MINIPROXY_CAUSE_POLICY;
        if (q.literal && miniproxy_decide(&c->policy, &unresolved, NULL) != MINIPROXY_DENIED)
            a.cause = MINIPROXY_CAUSE_ADDRESS;
        if (q.method == MINIPROXY_CONNECT && miniproxy_decide(&c->policy, &any_port, NULL) != MINIPROXY_DENIED)
            a.cause = MINIPROXY_CAUSE_CONNECT_PORT;
        a.cause = denial(c, &q, a.cause);
        return a;
    }
    if (verdict != MINIPROXY_NEEDS_USER && !q.literal && !all->remote) {
        q.address = all->address;
        verdict = miniproxy_decide(&c->policy, &q, &a.rule);
        if (verdict == MINIPROXY_DENIED) a.cause = denial(c, &q, MINIPROXY_CAUSE_ADDRESS);
    }
    if (verdict == MINIPROXY_NEEDS_USER) a.cause = MINIPROXY_CAUSE_LOGIN_MISSING;
    if (a.cause != MINIPROXY_CAUSE_NONE || all->type == NULL) return a;
    verdict = miniproxy_decide(&c->policy, all, &a.rule);
    if (verdict == MINIPROXY_ALLOWED) return a;
    a.cause = MINIPROXY_CAUSE_CONTENT_TYPE;
    if (verdict != MINIPROXY_DENIED) a.rule = first_match(c, all); /* nobody is asked for a login any more */
    return a;
}

/* ---- Cases */

static bool make_trials(struct explanation *e)
{
    unsigned counts[3] = {e->open_address ? space_atoms(e->space, PROPERTY_ADDRESS) : 1,
                          e->open_type ? space_atoms(e->space, PROPERTY_TYPE) : 1,
                          e->open_time ? space_atoms(e->space, PROPERTY_TIME) : 1};
    size_t all = (size_t)counts[0] * counts[1] * counts[2];
    if (all > CASES_MAX) return false;
    e->trials = calloc(all, sizeof *e->trials);
    if (e->trials == NULL) return false;
    for (size_t i = 0; i < all; i++) {
        struct trial *t = &e->trials[e->count++];
        t->address = (unsigned)(i % counts[0]);
        t->type = (unsigned)(i / counts[0] % counts[1]);
        t->time = (unsigned)(i / counts[0] / counts[1]);
        t->q = e->q;
        if (e->open_address) t->q.address = &space_value(e->space, PROPERTY_ADDRESS, t->address)->addr;
        if (e->open_type) t->q.type = space_value(e->space, PROPERTY_TYPE, t->type)->text;
        if (e->open_type) t->q.type_len = t->q.type != NULL ? strlen(t->q.type) : 0;
        if (e->open_time) t->q.minute_of_week = space_value(e->space, PROPERTY_TIME, t->time)->number;
        t->answer = answer_of(e->c, &t->q);
        t->route = miniproxy_find_route(&e->c->policy, &t->q);
    }
    return true;
}

/* ---- The rules in their order */

static const char *source_of(const struct compiled *c, int rule)
{
    return c->origins[rule].text;
}

static void show_rule(struct explanation *e, int rule, const char *format, const char *text)
{
    struct phrase first = {.len = 0};
    phrase_add(&first, "  rule %d, %s:%u: ", rule, e->c->origins[rule].place.file, e->c->origins[rule].place.line);
    tell(e->out, first.text, 9, "%s", source_of(e->c, rule));
    tell(e->out, "      ", 6, format, text);
}

/* When a rule matches that does not always. */
static void phrase_open_conditions(struct phrase *p, const struct explanation *e, const struct miniproxy_rule *r)
{
    size_t begin = p->len;
    if (e->open_address && r->to != NULL) {
        phrase_add(p, "the name resolves to an address in ");
        phrase_nets(p, e->c, r->to);
    } else if (e->open_address && r->verdict == MINIPROXY_ALLOW && !r->special_purpose) {
        phrase_add(p, "the name resolves to a public address");
    }
    if (e->open_type && r->also != NULL && r->also->types != NULL) {
        phrase_add(p, "%sthe response is ", p->len > begin ? " and " : "");
        phrase_types(p, e->c, r->also->types);
        phrase_add(p, r->verdict == MINIPROXY_ALLOW ? " or has no content" : ", or several types or byte ranges");
    }
    if (e->open_time && r->also != NULL && r->also->times != NULL) {
        phrase_add(p, "%sthe time is ", p->len > begin ? " and " : "");
        phrase_times(p, e->c, r->also->times);
        if (r->verdict == MINIPROXY_DENY) phrase_add(p, " or not known");
    }
}

/* The trial whose reason is least about what is not given. */
static void phrase_reason(struct phrase *p, const struct explanation *e, const struct miniproxy_rule *r)
{
    struct miniproxy_question q = e->q;
    if (e->open_address) q.address = NULL;
    if (e->open_time && r->also != NULL && r->also->times != NULL) {
        struct miniproxy_rule timeless = *r;
        struct miniproxy_also also = *r->also;
        also.times = NULL;
        timeless.also = &also;
        if (phrase_mismatch(p, e->c, &timeless, &q)) return;
    } else if (phrase_mismatch(p, e->c, r, &q)) {
        return;
    }
    for (size_t i = 0; i < e->count; i++)
        if (e->trials[i].decided && matches(r, &e->trials[i].q, e->c)) {
            phrase_add(p, "it would if ");
            phrase_open_conditions(p, e, r);
            phrase_add(p, ", but that has been decided by then");
            return;
        }
    for (size_t i = 0; i < e->count; i++)
        if (!e->trials[i].decided && phrase_mismatch(p, e->c, r, &e->trials[i].q)) return;
    phrase_add(p, "it cannot match such a request");
}

/* Whether some of the undecided cases would do for another user. */
static bool wants_user(const struct explanation *e, const struct miniproxy_rule *r)
{
    struct miniproxy_rule without = *r;
    if (r->verdict == MINIPROXY_DENY || e->q.user != NULL || r->users == 0) return false;
    without.users = 0;
    if (r->either) without.clients = NULL;
    for (size_t i = 0; i < e->count; i++)
        if (!e->trials[i].decided && matches(&without, &e->trials[i].q, e->c) && !matches(r, &e->trials[i].q, e->c))
            return true;
    return false;
}

/* How many cases are still open behind this rule. */
static size_t walk_rule(struct explanation *e, int rule, bool show)
{
    const struct miniproxy_rule *r = e->c->policy.rules + rule;
    const char *verdict = r->verdict == MINIPROXY_ALLOW ? "allows" : "denies";
    struct phrase p = {.len = 0};
    size_t open = 0, matched = 0;
    for (size_t i = 0; i < e->count; i++)
        if (!e->trials[i].decided) open++, matched += matches(r, &e->trials[i].q, e->c);
    if (matched == 0) {
        phrase_reason(&p, e, r);
        if (show)
            show_rule(e, rule,
                      !wants_user(e, r) ? "does not match: %s."
                      : policy_has_passwords(&e->c->policy, r->users)
                          ? "does not match: %s. With a login it could: the client is asked for one."
                          : "does not match: %s. With a certificate it could; no login is asked for, for none would help.",
                      p.text);
        return open;
    }
    phrase_open_conditions(&p, e, r);
    if (matched < open && p.len > 0) {
        phrase_add(&p, ", and %s", r->verdict == MINIPROXY_ALLOW ? "allows then" : "denies then");
        show_rule(e, rule, "matches if %s.", p.text);
    } else {
        show_rule(e, rule, matched < open ? "matches in some cases, and %s." : "matches, and %s.", verdict);
    }
    for (size_t i = 0; i < e->count; i++)
        if (!e->trials[i].decided && matches(r, &e->trials[i].q, e->c)) e->trials[i].decided = true;
    return open - matched;
}

static void walk_rules(struct explanation *e)
{
    int count = e->c->policy.rule_count, rule = 0;
    size_t open = e->count;
    fprintf(e->out, "\n");
    for (; rule < count && open > 0; rule++) {
        if (rule == RULES_SHOWN) fprintf(e->out, "  ... and from here on only the rules that match:\n");
        open = walk_rule(e, rule, rule < RULES_SHOWN);
    }
    if (open > 0 && open < e->count) fprintf(e->out, "  No further rule matches; what no rule allows is denied.\n");
    if (open == e->count) fprintf(e->out, "  No rule matches; what no rule allows is denied.\n");
}

/* ---- The outcome */

static bool same_answer(const struct answer *a, const struct answer *b)
{
    return a->cause == b->cause && a->rule == b->rule;
}

static void phrase_answer(struct phrase *p, const struct compiled *c, const struct answer *a)
{
    if (a->cause == MINIPROXY_CAUSE_NONE) phrase_add(p, "allowed");
    else if (a->cause == MINIPROXY_CAUSE_LOGIN_MISSING || a->cause == MINIPROXY_CAUSE_PAGE_LOGIN_MISSING)
        phrase_add(p, "asked for a login");
    else phrase_add(p, "denied");
    if (a->rule >= 0) {
        phrase_add(p, " by ");
        phrase_rule(p, c, a->rule);
    } else if (a->cause != MINIPROXY_CAUSE_NONE) {
        phrase_add(p, ", for no rule allows it");
    }
    if (a->cause == MINIPROXY_CAUSE_NONE) return;
    phrase_add(p, ": %u %s", miniproxy_cause_status(a->cause), miniproxy_cause_token(a->cause));
    if (a->cause == MINIPROXY_CAUSE_CONNECT_PORT) phrase_add(p, " (another port could be allowed)");
    if (a->cause == MINIPROXY_CAUSE_CONTENT_TYPE) phrase_add(p, ", when the response has come");
}

/* Which of the three open properties the answer depends on. */
static void find_what_matters(const struct explanation *e, bool matters[3])
{
    for (size_t i = 0; i < e->count; i++)
        for (size_t j = i + 1; j < e->count; j++) {
            const struct trial *a = &e->trials[i], *b = &e->trials[j];
            int others = (a->address != b->address) + (a->type != b->type) + (a->time != b->time);
            if (others != 1 || same_answer(&a->answer, &b->answer)) continue;
            matters[0] |= a->address != b->address;
            matters[1] |= a->type != b->type;
            matters[2] |= a->time != b->time;
        }
}

static void phrase_address_atom(struct phrase *p, const struct explanation *e, unsigned atom)
{
    const struct value *v = space_value(e->space, PROPERTY_ADDRESS, atom);
    struct miniproxy_question q = {.address = &v->addr, .method = MINIPROXY_GET, .port = 80, .host = "", .path = "/"};
    const struct miniproxy_nets *shown[4];
    unsigned count = 0;
    char text[MINIPROXY_ADDR_TEXT];
    q.client = &v->addr;
    for (unsigned i = 0; i < e->c->policy.rule_count && count < 4; i++) {
        const struct miniproxy_rule *r = e->c->policy.rules + i;
        bool known = r->to == NULL || !rule_covers(r, PROPERTY_ADDRESS, &q);
        for (unsigned k = 0; k < count; k++) known |= shown[k] == r->to;
        if (!known) shown[count++] = r->to;
    }
    if (count == 0)
        phrase_add(p, space_is_special(e->space, atom) ? "another private or special-purpose address"
                                                       : "a public address");
    for (unsigned k = 0; k < count; k++) {
        phrase_add(p, k == 0 ? "an address in " : " and in ");
        phrase_nets(p, e->c, shown[k]);
    }
    miniproxy_addr_format(&v->addr, text);
    phrase_add(p, ", such as %s", text);
}

static void phrase_day(struct phrase *p, const bool minutes[1440])
{
    bool any = false;
    for (unsigned from = 0, to; from < 1440; from = to + 1) {
        for (to = from; to < 1440 && minutes[to]; to++) {
        }
        if (to == from) continue;
        phrase_add(p, "%s %02u:%02u-%02u:%02u", any ? " and" : "", from / 60, from % 60, to / 60, to % 60);
        any = true;
    }
}

/* The minutes of an atom, days that are alike together: "mon-fri 08:00-18:00". */
static void phrase_time_atom(struct phrase *p, const struct explanation *e, unsigned atom)
{
    static const bool none[1440];
    bool minutes[7][1440], any = false;
    unsigned said = 0;
    for (unsigned m = 0; m < WEEK; m++)
        minutes[m / 1440][m % 1440] = space_atom_of(e->space, PROPERTY_TIME, &(struct value){.number = (int)m}) == atom;
    for (unsigned day = 0; day < 7; day++) {
        unsigned alike = 0;
        for (unsigned other = day; other < 7; other++)
            if (memcmp(minutes[day], minutes[other], sizeof none) == 0) alike |= 1u << other;
        if ((said >> day & 1) != 0 || memcmp(minutes[day], none, sizeof none) == 0) continue;
        said |= alike;
        if (any) phrase_add(p, ", ");
        phrase_days(p, alike);
        phrase_day(p, minutes[day]);
        any = true;
    }
    if (space_atom_of(e->space, PROPERTY_TIME, &(struct value){.number = -1}) != atom) return;
    phrase_add(p, "%snot known, for the clock is not set", any ? ", or " : "");
}

static void phrase_trial(struct phrase *p, const struct explanation *e, const struct trial *t, const bool matters[3])
{
    const char *type;
    if (matters[0]) {
        phrase_add(p, "the name resolves to ");
        phrase_address_atom(p, e, t->address);
    }
    if (matters[1]) {
        type = space_value(e->space, PROPERTY_TYPE, t->type)->text;
        phrase_add(p, "%sthe response ", matters[0] ? "; " : "");
        if (type == NULL) phrase_add(p, "has no content");
        else if (*type == '\0') phrase_add(p, "has no Content-Type");
        else if (strcmp(type, "application/x-unlisted") == 0) phrase_add(p, "is of another type");
        else if (strchr(type, ',') != NULL) phrase_add(p, "has several types");
        else phrase_add(p, "is of a type like %s", type);
    }
    if (matters[2]) {
        phrase_add(p, "%sthe time is ", matters[0] || matters[1] ? "; " : "");
        phrase_time_atom(p, e, t->time);
    }
}

static bool is_first_of_its_kind(const struct explanation *e, size_t at, const bool matters[3])
{
    const struct trial *t = &e->trials[at];
    for (size_t i = 0; i < at; i++) {
        const struct trial *o = &e->trials[i];
        if ((!matters[0] || o->address == t->address) && (!matters[1] || o->type == t->type) &&
            (!matters[2] || o->time == t->time))
            return false;
    }
    return true;
}

/* All cases with the answer of this one, unless an earlier one has it. */
static void show_answer(struct explanation *e, size_t at, const bool matters[3])
{
    const struct answer *answer = &e->trials[at].answer;
    struct phrase p = {.len = 0};
    for (size_t i = 0; i < at; i++)
        if (same_answer(&e->trials[i].answer, answer)) return;
    phrase_answer(&p, e->c, answer);
    p.text[0] = (char)(p.text[0] & ~0x20);
    tell(e->out, "  ", 4, "%s, if", p.text);
    for (size_t i = at; i < e->count; i++) {
        p = (struct phrase){.len = 0};
        if (!same_answer(&e->trials[i].answer, answer) || !is_first_of_its_kind(e, i, matters)) continue;
        phrase_trial(&p, e, &e->trials[i], matters);
        tell(e->out, "    - ", 6, "%s", p.text);
    }
}

static void show_outcome(struct explanation *e)
{
    bool matters[3] = {false};
    struct phrase p = {.len = 0};
    fprintf(e->out, "\n");
    find_what_matters(e, matters);
    if (!matters[0] && !matters[1] && !matters[2]) {
        phrase_answer(&p, e->c, &e->trials[0].answer);
        p.text[0] = (char)(p.text[0] & ~0x20);
        tell(e->out, "", 2, "%s.", p.text);
        return;
    }
    fprintf(e->out, "It depends:\n");
    for (int allowed = 1; allowed >= 0; allowed--)
        for (size_t i = 0; i < e->count; i++)
            if ((e->trials[i].answer.cause == MINIPROXY_CAUSE_NONE) == allowed) show_answer(e, i, matters);
}

static void show_request(struct explanation *e)
{
    struct phrase p = {.len = 0};
    char text[MINIPROXY_ADDR_TEXT];
    miniproxy_addr_format(&e->client, text);
    phrase_add(&p, "Client %s, %s%s%s: ", text, e->q.user != NULL ? "user " : "not logged in",
               e->q.user != NULL ? e->q.user->name : "",
               e->q.user != NULL && !policy_has_password(e->q.user) ? " (by certificate)" : "");
    if (is_page(e)) {
        tell(e->out, "", 2, "%s%s %s, a page of the proxy itself", p.text, e->text->method, e->text->url);
        return;
    }
    phrase_add(&p, "%s %s%s%s%s",
               e->q.method == MINIPROXY_OTHER ? e->text->method : method_name(e->q.method),
               e->q.path == NULL ? "" : e->https ? "https://" : "http://",
               e->brackets ? "[" : "", e->host, e->brackets ? "]" : "");
    if (e->q.path == NULL || e->q.port != (e->https ? 443 : 80)) phrase_add(&p, ":%u", e->q.port);
    if (e->q.path != NULL) phrase_add(&p, "%s", e->q.path);
    if (e->text->address != NULL && !e->q.remote) phrase_add(&p, ", which resolves to %s", e->text->address);
    tell(e->out, "", 2, "%s", p.text);
}

/* ---- The way, and limits */

/* Why a route does not match, or when it does. */
static void show_route(struct explanation *e, int route, bool matched, bool open)
{
    const struct rule_origin *origin = &e->c->route_origins[route];
    const struct miniproxy_rule rule = route_as_rule(e->c->policy.routes + route);
    struct phrase first = {.len = 0}, p = {.len = 0}, way = {.len = 0};
    phrase_add(&first, "  route %d, %s:%u: ", route, origin->place.file, origin->place.line);
    tell(e->out, first.text, 9, "%s", origin->text);
    if (matched) {
        phrase_way(&way, e->c, route);
        if (open) phrase_add(&p, " if the name resolves to an address in "), phrase_nets(&p, e->c, rule.to);
        tell(e->out, "      ", 6, "matches%s: %s.", p.text, way.text);
        return;
    }
    for (size_t i = 0; i < e->count && p.len == 0; i++) phrase_mismatch(&p, e->c, &rule, &e->trials[i].q);
    tell(e->out, "      ", 6, "does not match: %s.", p.text);
}

/* How many trials are still without a route behind this one. */
static size_t walk_route(struct explanation *e, int route, size_t open)
{
    size_t matched = 0;
    for (size_t i = 0; i < e->count; i++) matched += e->trials[i].route == route;
    show_route(e, route, matched > 0, matched < open);
    return open - matched;
}

static void show_way(struct explanation *e)
{
    const int count = e->c->policy.route_count;
    size_t open = e->count;
    if (count == 0 || is_page(e)) return;
    fputc('\n', e->out);
    for (int route = 0; route < count && open > 0; route++)
        if (route < RULES_SHOWN || e->trials[0].route == route) open = walk_route(e, route, open);
        else if (route == RULES_SHOWN) fprintf(e->out, "  ... and from here on only the route that matches:\n");
    if (open > 0) fprintf(e->out, "  %s, it goes directly.\n", open < e->count ? "Otherwise" : "No route matches");
    if (e->q.remote)
        tell(e->out, "  ", 2,
             "%s is not resolved here: whoever it is led to gets its name, and no rule sees its address.", e->host);
}

static void show_limits(struct explanation *e)
{
    const struct miniproxy_policy *policy = &e->c->policy;
    unsigned matched = 0;
    for (int i = 0; i < policy->limit_count; i++) {
        const struct miniproxy_rule rule = limit_as_rule(policy->limits + i);
        struct phrase p = {.len = 0};
        if (phrase_mismatch(&p, e->c, &rule, &e->q)) continue;
        if (matched == 0) fputc('\n', e->out);
        phrase_origin(&p, "limit", i, e->c->limit_origins + i);
        tell(e->out, "  ", 6,
             matched < MINIPROXY_LIMITS_EACH ? "%s holds." : "%s does not hold: there are enough before it.", p.text);
        matched++;
    }
}

/* True: whatever rules say, this is answered by 503. */
static bool show_maintenance(struct explanation *e)
{
    const struct place *place = &e->c->maintenance_place;
    const char *message = e->c->policy.maintenance;
    if (message == NULL || is_page(e)) return false;
    fputc('\n', e->out);
    tell(e->out, "", 2,
         "But maintenance is ordered (%s:%u): everything but pages of the proxy itself is answered by %u %s, \"%s\".",
         place->file, place->line, miniproxy_cause_status(MINIPROXY_CAUSE_MAINTENANCE),
         miniproxy_cause_token(MINIPROXY_CAUSE_MAINTENANCE), message);
    return true;
}

/* Allowed is what is so in every case with a public address, if there is a choice: what names usually have. */
static bool is_allowed(const struct explanation *e)
{
    bool any_public = false, allowed = true, allowed_public = true;
    for (size_t i = 0; i < e->count; i++) {
        const struct miniproxy_addr *a = e->trials[i].q.address;
        bool is_public = a != NULL && !miniproxy_addr_is_special(a), ok = e->trials[i].answer.cause == 0;
        any_public |= is_public;
        allowed &= ok;
        if (is_public) allowed_public &= ok;
    }
    return any_public && e->open_address ? allowed_public : allowed;
}

bool policy_explain(const struct compiled *c, const struct request_text *request, FILE *out, bool *allowed)
{
    struct explanation e = {.c = c, .text = request, .out = out};
    const char *problem;
    bool ok;
    if (!read_request(&e)) return false;
    e.space = space_new(&c, 1, &problem);
    if (e.space == NULL) {
        fprintf(out, "expected %s: %s\n", problem != NULL ? "a policy that can be told apart" : "more memory",
                problem != NULL ? problem : "there is none");
        return false;
    }
    ok = make_trials(&e);
    if (ok) {
        show_request(&e);
        walk_rules(&e);
        show_outcome(&e);
        show_way(&e);
        show_limits(&e);
        *allowed = !show_maintenance(&e) && is_allowed(&e);
    } else {
        fprintf(out, "expected fewer cases: give --address, --type or --time\n");
    }
    free(e.trials);
    space_free(e.space);
    return ok;
}
