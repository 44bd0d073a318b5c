/* SPDX-License-Identifier: MIT
 *
 * The command line: one table for parsing and for --help.
 */
#include "desktop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_OF(value) #value
#define NUMBER(macro) TEXT_OF(macro)

#define DEFAULT_PORT 3128
#define REALM_MAX 64   /* of the core */
#define WORDS_MAX 1000 /* as in policies */
#define NUMBER_MAX (UINT64_MAX / 16)
#define DIGITS "0123456789"
#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

enum { DRAIN_MAX_S = 86400, TIMEOUT_MAX_S = (1 << 30) / 1000 };

/* ---- Pieces of values */

/* max: at most NUMBER_MAX. */
static bool parse_number(const char *text, size_t len, uint64_t max, uint64_t *value)
{
    uint64_t v = 0;
    if (len == 0) return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        v = v * 10 + (unsigned)(text[i] - '0');
        if (v > max) return false;
    }
    *value = v;
    return true;
}

static bool parse_u16(const char *text, size_t len, uint16_t *value)
{
    uint64_t v;
    if (!parse_number(text, len, UINT16_MAX, &v)) return false;
    *value = (uint16_t)v;
    return true;
}

/* Seconds with up to three decimals. */
static bool parse_seconds(const char *text, uint64_t max_s, uint32_t *ms)
{
    size_t whole = strspn(text, DIGITS);
    uint64_t v;
    if (!parse_number(text, whole, max_s, &v)) return false;
    v *= 1000;
    text += whole;
    if (*text == '.') {
        if (*++text == '\0') return false;
        for (unsigned unit = 100; unit > 0 && *text >= '0' && *text <= '9'; unit /= 10)
            v += unit * (unsigned)(*text++ - '0');
    }
    *ms = (uint32_t)v;
    return *text == '\0';
}

/* ADDRESS, or ADDRESS/BITS. */
static bool parse_net(struct net_list *list, const char *text, size_t len)
{
    const char *slash = memchr(text, '/', len);
    size_t address_len = slash != NULL ? (size_t)(slash - text) : len;
    struct miniproxy_addr a;
    uint64_t bits;
    if (!miniproxy_addr_parse(&a, text, address_len)) return false;
    bits = a.family == 4 ? 32 : 128;
    if (slash != NULL && !parse_number(slash + 1, len - address_len - 1, bits, &bits)) return false;
    if (a.family == 4 && list->nets.v4_count < NETS_MAX) {
        struct miniproxy_net4 *net = &list->v4[list->nets.v4_count++];
        memcpy(net->ip, a.ip, sizeof net->ip);
        net->bits = (uint8_t)bits;
        return true;
    }
    if (a.family == 6 && list->nets.v6_count < NETS_MAX) {
        struct miniproxy_net6 *net = &list->v6[list->nets.v6_count++];
        memcpy(net->ip, a.ip, sizeof a.ip);
        net->bits = (uint8_t)bits;
        return true;
    }
    return false;
}

static const char *set_nets(struct net_list *list, const char *text)
{
    if (list->text != NULL) return "expected once only: separate networks by commas";
    list->text = text;
    list->nets.v4 = list->v4;
    list->nets.v6 = list->v6;
    for (size_t len; ; text += len + 1) {
        len = strcspn(text, ",");
        if (!parse_net(list, text, len))
            return "expected networks as 192.168.1.0/24,10.0.0.7,fd00::/8, at most " NUMBER(NETS_MAX) " of a family";
        if (text[len] == '\0') break;
    }
    list->nets.v4_count = (uint16_t)nets_tidy4(list->v4, list->nets.v4_count);
    list->nets.v6_count = (uint16_t)nets_tidy6(list->v6, list->nets.v6_count);
    return NULL;
}

static bool is_loopback(const struct miniproxy_addr *a)
{
    static const uint8_t loopback6[16] = {[15] = 1};
    return a->family == 4 ? a->ip[0] == 127 : memcmp(a->ip, loopback6, sizeof a->ip) == 0;
}

static bool is_wildcard(const struct miniproxy_addr *a)
{
    static const uint8_t zero[16] = {0};
    return memcmp(a->ip, zero, a->family == 4 ? 4 : sizeof a->ip) == 0;
}

void address_text(const struct miniproxy_addr *a, char out[TEXT_MAX])
{
    char ip[MINIPROXY_ADDR_TEXT];
    miniproxy_addr_format(a, ip);
    snprintf(out, TEXT_MAX, a->family == 6 ? "[%s]:%u" : "%s:%u", ip, a->port);
}

void options_reachable_text(const struct miniproxy_addr *a, char out[TEXT_MAX])
{
    struct miniproxy_addr at = *a;
    if (is_wildcard(a)) {
        const char *loopback = a->family == 4 ? "127.0.0.1" : "::1";
        miniproxy_addr_parse(&at, loopback, strlen(loopback));
    }
    address_text(&at, out);
}

/* ---- One function an option: NULL, or what was expected */

/* ADDR:PORT with brackets around IPv6. */
static bool parse_server(const char *value, struct miniproxy_addr *a)
{
    const char *colon = strrchr(value, ':');
    bool brackets = value[0] == '[';
    memset(a, 0, sizeof *a);
    if (colon == NULL || !parse_u16(colon + 1, strlen(colon + 1), &a->port)) return false;
    if (brackets && colon[-1] != ']') return false;
    value += brackets ? 1 : 0;
    colon -= brackets ? 1 : 0;
    return miniproxy_addr_parse(a, value, (size_t)(colon - value)) && brackets == (a->family == 6);
}

static bool is_same(const struct miniproxy_addr *a, const struct miniproxy_addr *b)
{
    return a->family == b->family && a->port == b->port && memcmp(a->ip, b->ip, a->family == 4 ? 4 : sizeof a->ip) == 0;
}

static const char *add_listener(struct options *o, char *value)
{
    struct miniproxy_addr a;
    if (!parse_server(value, &a))
        return "expected ADDR:PORT with a numeric address, as 127.0.0.1:3128 or [::1]:3128";
    if (o->listen_count == MINIPROXY_POSIX_LISTENERS) return "expected fewer: no more listeners are possible";
    for (unsigned i = 0; i < o->listen_count; i++)
        if (a.port != 0 && is_same(&o->listen[i], &a)) return "expected another address: it listens there already";
    o->listen[o->listen_count++] = a;
    return NULL;
}

static const char *set_listen(struct options *o, char *value)
{
    return add_listener(o, value);
}

/* … of a kind. */
static const char *add_listener_to(struct options *o, char *value, uint32_t *listeners)
{
    const char *problem = add_listener(o, value);
    if (problem == NULL) *listeners |= 1u << (o->listen_count - 1);
    return problem;
}

#if MINIPROXY_WITH_PROXY_PROTOCOL
#define PROXY_PROTOCOL_MISSING NULL
#else
#define PROXY_PROTOCOL_MISSING "expected a build with MINIPROXY_WITH_PROXY_PROTOCOL"
#endif
static const char *set_proxy_protocol(struct options *o, char *value)
{
    const char *problem = add_listener_to(o, value, &o->balanced_listeners);
    return problem != NULL ? problem : PROXY_PROTOCOL_MISSING;
}

#if MINIPROXY_WITH_INTERCEPTION
#define INTERCEPTION_MISSING NULL
#else
#define INTERCEPTION_MISSING "expected a build with MINIPROXY_WITH_INTERCEPTION"
#endif
static const char *set_intercept(struct options *o, char *value)
{
    const char *problem = add_listener_to(o, value, &o->intercepting_listeners);
    return problem != NULL ? problem : INTERCEPTION_MISSING;
}

static const char *set_forwarded(struct options *o, char *value)
{
#if MINIPROXY_WITH_FORWARDED
    if (strcmp(value, "x-forwarded-for") == 0) o->forwarded = MINIPROXY_X_FORWARDED_FOR;
    else if (strcmp(value, "forwarded") == 0) o->forwarded = MINIPROXY_FORWARDED;
    else return "expected x-forwarded-for or forwarded";
    return NULL;
#else
    (void)o, (void)value;
    return "expected a build with MINIPROXY_WITH_FORWARDED";
#endif
}

static const char *set_tls_listen(struct options *o, char *value)
{
    const char *problem = add_listener_to(o, value, &o->tls_listeners);
    if (problem != NULL) return problem;
    return TLS_MISSING;
}

static const char *set_file(const char **file, char *value)
{
    *file = value;
    return value[0] != '\0' ? TLS_MISSING : "expected the name of a file";
}

static const char *set_tls_cert(struct options *o, char *value)
{
    return set_file(&o->tls_cert, value);
}

static const char *set_tls_key(struct options *o, char *value)
{
    return set_file(&o->tls_key, value);
}

static const char *set_tls_client_ca(struct options *o, char *value)
{
    return set_file(&o->tls_client_ca, value);
}

static const char *set_ca(struct options *o, char *value)
{
    return set_file(&o->ca, value);
}

static const char *set_tls_handshake(struct options *o, char *value)
{
    if (!parse_seconds(value, TIMEOUT_MAX_S, &o->tls_handshake_ms) || o->tls_handshake_ms == 0)
        return "expected seconds from 0.001 to 1073741";
    return TLS_MISSING;
}

/* The password is blotted out in the list of processes. */
static const char *set_user(struct options *o, char *value)
{
    char *password = strchr(value, ':');
    const char *problem;
    if (password == NULL) return "expected NAME:PASSWORD";
    *password++ = '\0';
    problem = users_add_password(&o->users, value, password);
    memset(password, '*', strlen(password));
    return problem;
}

static const char *set_users(struct options *o, char *value)
{
    if (o->users_file != NULL) return "expected once only: one file has all users";
    o->users_file = value;
    return value[0] != '\0' ? NULL : "expected the name of a file";
}

static const char *set_clients(struct options *o, char *value)
{
    return set_nets(&o->clients, value);
}

static const char *set_policy(struct options *o, char *value)
{
    if (o->policy_file != NULL) return "expected once only: one file can include others";
    o->policy_file = value;
    return value[0] != '\0' ? NULL : "expected the name of a file";
}

static const char *set_insecure_auth(struct options *o, char *value)
{
    (void)value;
    o->insecure_auth = true;
    return NULL;
}

static const char *set_connect_ports(struct options *o, char *value)
{
    static const char expected[] = "expected ports and ranges as 443,8443,9000-9100, at most " NUMBER(PORTS_MAX)
                                   " of them, or any";
    const char *text = strcmp(value, "any") == 0 ? "1-65535" : value;
    o->port_count = 0;
    for (size_t len, first_len; ; text += len + 1) {
        struct port_range r;
        len = strcspn(text, ",");
        first_len = strspn(text, DIGITS);
        if (o->port_count == PORTS_MAX || !parse_u16(text, first_len, &r.first)) return expected;
        r.last = r.first;
        if (first_len < len && text[first_len] != '-') return expected;
        if (first_len < len && !parse_u16(text + first_len + 1, len - first_len - 1, &r.last)) return expected;
        if (r.first == 0 || r.last < r.first) return expected;
        o->ports[o->port_count++] = r;
        if (text[len] == '\0') return NULL;
    }
}

static const char *set_allow_private(struct options *o, char *value)
{
    if (value != NULL) return set_nets(&o->private_nets, value);
    o->allow_private = true;
    return NULL;
}

static const char *set_body_max(struct options *o, char *value)
{
    return parse_number(value, strlen(value), NUMBER_MAX, &o->body_max) ? NULL : "expected a number of octets";
}

static const char *set_per_client(struct options *o, char *value)
{
    bool ok = parse_u16(value, strlen(value), &o->per_client) && o->per_client > 0;
    return ok ? NULL : "expected a number of connections, 1 to 65535";
}

static const char *set_timeout(struct options *o, char *value)
{
    static const char *const names[] = {
#define X(NAME, name, ms, meaning) #name,
        MINIPROXY_TIMEOUTS(X)
#undef X
    };
    char *equals = strchr(value, '=');
    if (equals == NULL) return "expected NAME=SECONDS, as tunnel=3600 or attempt=0.25";
    for (unsigned i = 0; i < MINIPROXY_TIMEOUT_COUNT; i++) {
        bool may_be_0 = i == MINIPROXY_TIMEOUT_TOTAL || i == MINIPROXY_TIMEOUT_TUNNEL_TOTAL;
        if (strlen(names[i]) != (size_t)(equals - value) || strncmp(value, names[i], strlen(names[i])) != 0) continue;
        if (!parse_seconds(equals + 1, TIMEOUT_MAX_S, &o->timeout_ms[i]) || (o->timeout_ms[i] == 0 && !may_be_0))
            return "expected seconds from 0.001 to 1073741; 0 only for total and tunnel_total";
        return NULL;
    }
    return "expected one of these names:"
#define X(NAME, name, ms, meaning) " " #name
        MINIPROXY_TIMEOUTS(X)
#undef X
        ;
}

static const char *set_drain(struct options *o, char *value)
{
    return parse_seconds(value, DRAIN_MAX_S, &o->drain_ms) ? NULL : "expected seconds, at most 86400";
}

static const char *set_workers(struct options *o, char *value)
{
    uint64_t n;
    if (!parse_number(value, strlen(value), WORKERS_MAX, &n) || n == 0) return "expected a number, 1 to 64";
    o->workers = (unsigned)n;
    return NULL;
}

static const char *set_log(struct options *o, char *value)
{
    o->log_file = value;
    return value[0] != '\0' ? NULL : "expected the name of a file, or - for standard output";
}

static const char *set_log_format(struct options *o, char *value)
{
    o->log_format = strcmp(value, "clf") == 0     ? &miniproxy_log_clf
                    : strcmp(value, "squid") == 0 ? &miniproxy_log_squid
                    : strcmp(value, "json") == 0  ? &miniproxy_log_json
                                                  : NULL;
    return o->log_format != NULL ? NULL : "expected clf, squid or json";
}

static const char *set_syslog(struct options *o, char *value)
{
    return parse_server(value, &o->syslog) && o->syslog.port > 0
               ? NULL
               : "expected ADDR:PORT with a numeric address, as 127.0.0.1:514 or [::1]:514";
}

#if MINIPROXY_WITH_HEADS
static const char *set_log_heads(struct options *o, char *value)
{
    (void)value;
    o->log_heads = true;
    return NULL;
}
#else
static const char *set_log_heads(struct options *o, char *value)
{
    (void)o, (void)value;
    return "expected a build with MINIPROXY_WITH_HEADS";
}
#endif

static bool set_threshold(struct miniproxy_watch_config *w, const char *name, size_t name_len, uint64_t value)
{
    struct {
        const char *name;
        uint64_t most;
        uint8_t *percent;
    } shares[] = {{"server-errors", 100, &w->server_errors},
                  {"client-errors", 100, &w->client_errors},
                  {"sessions", 100, &w->sessions},
                  {"buffers", 100, &w->buffers}};
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        if (strlen(shares[i].name) != name_len || memcmp(name, shares[i].name, name_len) != 0) continue;
        *shares[i].percent = (uint8_t)value;
        return value <= shares[i].most;
    }
    if (name_len == 6 && memcmp(name, "logins", 6) == 0 && value <= UINT16_MAX) w->logins = (uint16_t)value;
    else if (name_len == 5 && memcmp(name, "least", 5) == 0 && value <= UINT32_MAX) w->least = (uint32_t)value;
    else if (name_len == 6 && memcmp(name, "window", 6) == 0 && value > 0 && value <= TIMEOUT_MAX_S)
        w->window_ms = (uint32_t)value * 1000;
    else if (name_len == 7 && memcmp(name, "parents", 7) == 0 && value <= 1) w->hops = value == 1;
    else return false;
    return true;
}

/* off, or NAME=NUMBER,... */
static const char *set_alerts(struct options *o, char *value)
{
    struct miniproxy_watch_config *w = &o->alerts;
    if (strcmp(value, "off") == 0) {
        *w = (struct miniproxy_watch_config){.window_ms = w->window_ms, .least = w->least};
        return NULL;
    }
    for (size_t len; ; value += len + 1) {
        size_t name_len = strcspn(value, "=,");
        uint64_t number;
        len = strcspn(value, ",");
        if (name_len >= len || !parse_number(value + name_len + 1, len - name_len - 1, UINT32_MAX, &number) ||
            !set_threshold(w, value, name_len, number))
            return "expected off, or of server-errors, client-errors, sessions, buffers (percent, 0 for none), logins, "
                   "parents (0 or 1), window (seconds) and least some as server-errors=20,logins=5";
        if (value[len] == '\0') return NULL;
    }
}

static const char *set_log_query(struct options *o, char *value)
{
    o->log_query = strcmp(value, "yes") == 0;
    return o->log_query || strcmp(value, "no") == 0 ? NULL : "expected yes or no";
}

static const char *set_name(struct options *o, char *value)
{
    size_t len = strlen(value);
    o->name = value;
    if (len == 0 || len > MINIPROXY_NAME_MAX || strchr(LETTERS, value[0]) == NULL ||
        strspn(value, LETTERS DIGITS "!#$%&'*+-.^_`|~") != len)
        return "expected at most " NUMBER(MINIPROXY_NAME_MAX) " letters, digits, - . or _, a letter first";
    return NULL;
}

static const char *set_realm(struct options *o, char *value)
{
    o->realm = value;
    if (strlen(value) > REALM_MAX) return "expected at most " NUMBER(REALM_MAX) " characters";
    for (; *value != '\0'; value++)
        if (*value < 0x20 || *value == 0x7f || *value == '"' || *value == '\\')
            return "expected printable ASCII without \" and \\";
    return NULL;
}

#if MINIPROXY_WITH_ROUTES

/* The login is blotted out in the list of processes. */
static const char *set_parent(struct options *o, char *value)
{
    struct miniproxy_hop *hop = &o->parents[o->parent_count];
    char *room = malloc(strlen(value) + 8), *login = strstr(value, "://"), *at = strrchr(value, '@');
    const char *problem = room == NULL ? "expected more memory" : NULL;
    if (o->parent_count == PARENTS_MAX) problem = "expected at most " NUMBER(MINIPROXY_ROUTE_HOPS) " parents";
    if (problem == NULL) problem = parent_parse(hop, value, room);
    if (at != NULL) {
        login = login != NULL && login < at ? login + 3 : value;
        memset(login, '*', (size_t)(at - login));
    }
    if (problem == NULL) o->parent_count++;
    else free(room);
    return problem;
}

/* URL, SECONDS or URL,SECONDS. */
static const char *set_check(struct options *o, char *value)
{
    char *comma = strrchr(value, ','), *seconds = comma != NULL ? comma + 1 : value;
    o->check_s = CHECK_S_DEFAULT;
    if (strspn(seconds, DIGITS) == strlen(seconds)) {
        if (!parse_u16(seconds, strlen(seconds), &o->check_s) || o->check_s == 0)
            return "expected seconds from 1 to 65535 from one check to the next";
        if (comma == NULL) return NULL;
        *comma = '\0';
    }
    o->check = value;
    return check_problem(value);
}

#endif

#if MINIPROXY_WITH_PAGES

/* Host names with commas between, in lower case; each may stand for all below it. False: one is none, or too many. */
static bool add_names(const char **list, unsigned most, struct miniproxy_texts *names, char *value)
{
    for (char *name = strtok(value, ","); name != NULL; name = strtok(NULL, ",")) {
        if (names->count == most || tidy_host(name) != NULL) return false;
        list[names->count++] = name[0] == '.' ? name + 1 : name;
    }
    names->list = list;
    return names->count > 0;
}

static const char *set_page_names(struct options *o, char *value)
{
    if (add_names(o->page_names, PAGE_NAMES_MAX, &o->page_name_texts, value)) return NULL;
    return "expected names as proxy.corp.example,router.example, at most " NUMBER(PAGE_NAMES_MAX);
}

static const char *set_pages(struct options *o, char *value)
{
    const bool none = strcmp(value, "none") == 0;
    if (none ? o->pages.text != NULL : o->no_pages) return "expected none, or networks, not both";
    if (!none) return set_nets(&o->pages, value);
    o->no_pages = true;
    return NULL;
}

#endif

#if MINIPROXY_WITH_HTML || MINIPROXY_WITH_MAINTENANCE
/* Words for people, on one line. */
static const char *set_words(const char **words, char *value)
{
    *words = value;
    if (strlen(value) > WORDS_MAX) return "expected at most " NUMBER(WORDS_MAX) " octets";
    for (const char *p = value; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f) return "expected text without control characters";
    return *value != '\0' ? NULL : "expected some text";
}
#endif

#if MINIPROXY_WITH_HTML
static const char *set_contact(struct options *o, char *value)
{
    return set_words(&o->contact, value);
}
#endif

#if MINIPROXY_WITH_MAINTENANCE
static const char *set_maintenance(struct options *o, char *value)
{
    return set_words(&o->maintenance, value);
}
#endif

#if MINIPROXY_WITH_PAC

/* HOST:PORT, as it stands in a script. */
static const char *set_pac(struct options *o, char *value)
{
    static const char expected[] = "expected HOST:PORT by which clients reach the proxy, IPv6 in brackets";
    char host[256] = "", *colon = value != NULL ? strrchr(value, ':') : NULL;
    size_t len = colon != NULL ? (size_t)(colon - value) : 0;
    struct miniproxy_addr a;
    o->serves_pac = true;
    o->pac.proxy = value;
    if (value == NULL) return NULL;
    if (len == 0 || len >= sizeof host || !parse_u16(colon + 1, strlen(colon + 1), &a.port) || a.port == 0) return expected;
    memcpy(host, value, len);
    if (host[0] == '[')
        return host[len - 1] == ']' && miniproxy_addr_parse(&a, host + 1, len - 2) && a.family == 6 ? NULL : expected;
    if (miniproxy_addr_parse(&a, host, len)) return a.family == 4 ? NULL : expected;
    return host[0] != '.' && tidy_host(host) == NULL ? NULL : expected;
}

static const char *set_pac_direct(struct options *o, char *value)
{
    if (!add_names(o->pac_direct, PAC_DIRECT_MAX, &o->pac_domains, value))
        return "expected domains as corp.example,example.org, at most " NUMBER(PAC_DIRECT_MAX);
    o->pac.direct = &o->pac_domains;
    return NULL;
}

static const char *set_pac_fallback(struct options *o, char *value)
{
    (void)value;
    o->pac.falls_back = true;
    return NULL;
}

#endif

/* ---- The table */

struct option {
    const char *name;  /* NULL: a heading */
    const char *value; /* NULL: none. In brackets: may be left out, else follows a = */
    const char *(*set)(struct options *o, char *value);
    const char *help;
};

static const struct option options[] = {
    {NULL, NULL, NULL, "Where it listens"},
    {"listen", "ADDR:PORT", set_listen, "numeric address, IPv6 in brackets; port 0: any free one. Repeat for more"
                                        "\n(default 127.0.0.1:" NUMBER(DEFAULT_PORT) ")"},
    {"proxy-protocol", "ADDR:PORT", set_proxy_protocol, "as --listen, behind a balancer that tells the client's address by"
                                                        "\nthe PROXY protocol: only the balancer may reach it"},
    {"intercept", "ADDR:PORT", set_intercept, "as --listen, for http connections that this machine's packet filter diverts"
                                              "\nfrom their origins (REDIRECT); their clients cannot log in"},
    {"workers", "N", set_workers, "threads, each with its own listener and sessions (default 1)"},

    {NULL, NULL, NULL, "TLS, in a build that has it (make tls): clients' (curl -x https://...), and to https:// targets"},
    {"tls-listen", "ADDR:PORT", set_tls_listen, "as --listen, for clients that speak TLS with the proxy. Repeat for more"},
    {"tls-cert", "FILE", set_tls_cert, "the proxy's certificate, behind it those that lead to a trusted one (PEM)"},
    {"tls-key", "FILE", set_tls_key, "its key (PEM, not encrypted; default: in the file of --tls-cert too)"},
    {"tls-client-ca", "FILE", set_tls_client_ca, "clients there must have a certificate that one of these has issued"},
    {"tls-handshake", "SECONDS", set_tls_handshake, "the longest time that a handshake may take (default 10)"},
    {"ca", "FILE", set_ca, "certificates of who may vouch for https:// origins (default: the system's)"},

    {NULL, NULL, NULL, "Who may go where, all in one file"},
    {"policy", "FILE", set_policy, "rules in the policy language, with networks, hosts and users; in place of"
                                   "\n--clients, --users, --user, --connect-ports and --allow-private"},

    {NULL, NULL, NULL, "Who may use it (without --clients and users: programs on this machine)"},
    {"clients", "NET,...", set_clients, "networks of clients, as 192.168.1.0/24,fd00::/8"},
    {"users", "FILE", set_users, "logins are asked for; FILE has a line of \"miniproxy hash\" for each user,"
                                 "\nempty lines and # comments. Together with --clients both must hold"},
    {"user", "NAME:PASSWORD", set_user, "one user, to try it out. Repeat for more"},
    {"realm", "TEXT", set_realm, "shown where a client asks for the password (default proxy)"},
    {"insecure-auth", NULL, set_insecure_auth, "let passwords cross a public network in the clear"},
    {"per-client", "N", set_per_client, "connections of one client address, for each worker"
                                        "\n(default " NUMBER(MINIPROXY_SESSIONS_PER_CLIENT) ")"},

    {NULL, NULL, NULL, "Where they may go (without these: public addresses only)"},
    {"connect-ports", "LIST", set_connect_ports, "ports for CONNECT, as 443,8443,9000-9100, or any"
                                                 "\n(default " NUMBER(MINIPROXY_CONNECT_PORT) ")"},
    {"allow-private", "[=NET,...]", set_allow_private, "also loopback, private, link-local and other special-purpose"
                                                       "\naddresses; with networks: only those of them"},

    {NULL, NULL, NULL, "What origins are told"},
    {"forwarded", "FIELD", set_forwarded, "the client's address, in x-forwarded-for or forwarded (default: nothing)"},

#if MINIPROXY_WITH_ROUTES
    {NULL, NULL, NULL, "Through which other proxies (with --policy: what none of its routes leads)"},
    {"parent", "URL", set_parent, "http://[NAME:PASSWORD@]HOST[:PORT], https://... or socks5://...; what is odd in a"
                                  "\nlogin is percent-encoded. Repeat for more, which are tried in this order"},
    {"check", "URL,SECONDS", set_check, "ask through each parent for this URL, http://..., or (SECONDS alone) connect,"
                                          "\nso often, and leave out those that fail (default: requests tell)"},

#endif
#if MINIPROXY_WITH_PAGES
    {NULL, NULL, NULL, "Pages of its own: / for people, /metrics, /log, /health"},
    {"pages", "NET,...", set_pages, "clients that may see them, or none (default: programs on this machine; with"
                                    "\n--policy: whom that allows the method pages)"},
    {"page-names", "NAME,...", set_page_names, "names with dots by which they may be asked for, beside miniproxy.internal"},
#endif
#if MINIPROXY_WITH_PAC
    {"pac", "[=HOST:PORT]", set_pac, "serve /proxy.pac and /wpad.dat, by which browsers find the proxy, to all clients"
                                     "\n(with --policy: as above); HOST:PORT if it is not the one they ask"},
    {"pac-direct", "DOMAIN,...", set_pac_direct, "what browsers are told to reach without the proxy, with all below"},
    {"pac-fallback", NULL, set_pac_fallback, "and everything, while the proxy does not answer"},
#endif
#if MINIPROXY_WITH_HTML
    {"contact", "TEXT", set_contact, "whom users may ask: a browser's page says it with every refusal"},
#endif
#if MINIPROXY_WITH_MAINTENANCE
    {"maintenance", "TEXT", set_maintenance, "what clients are told in maintenance, which SIGUSR2 begins and ends"},
#endif

    {NULL, NULL, NULL, "Limits"},
    {"timeout", "NAME=SECONDS", set_timeout, "one of the timeouts below. Repeat for more"},
    {"body-max", "BYTES", set_body_max, "largest request body (default 0: no limit)"},
    {"drain", "SECONDS", set_drain, "how long SIGTERM lets transactions finish (default 30)"},

    {NULL, NULL, NULL, "What it tells"},
    {"log", "FILE", set_log, "access log, - is standard output (default -)"},
    {"log-format", "FORMAT", set_log_format, "clf: Common Log Format, then cause, source, total ms, address, rule,"
                                             "\nand via=HOST:PORT of a parent if one was used;"
                                             "\nsquid: what Squid writes; json: an object a line with all there is to"
                                             "\nknow (default clf)"},
    {"log-query", "yes|no", set_log_query, "log the query of targets (default yes)"},
    {"log-heads", NULL, set_log_heads, "log every line of requests' and responses' heads, to find faults; logins and"
                                       "\ncookies are left out, queries are not"},
    {"syslog", "ADDR:PORT", set_syslog, "send what is logged to this syslog server too, by UDP (RFC 5424)"},
    {"alerts", "LIST", set_alerts, "when to raise an alert, on standard error and in the log, as NAME=NUMBER,...:"
                                   "\nserver-errors, client-errors (percent of 5xx or 4xx among the requests of a"
                                   "\nwindow but for pages, at least so many: least), sessions, buffers (percent in"
                                   "\nuse), logins (failed ones of a client), parents (1: when one goes down); 0: no"
                                   "\nsuch alert; or off (default server-errors=20,client-errors=50,least=50,"
                                   "\nwindow=60,sessions=90,buffers=90,logins=5,parents=1)"},
    {"name", "NAME", set_name, "pseudonym in Via and Proxy-Status, unique to this proxy: loops are"
                               "\nrecognised by it (default mp- and 8 random digits)"},
    {"help", NULL, NULL, "this text"},
    {"version", NULL, NULL, "the version"},
};

static void print_option(const struct option *option)
{
    char left[64];
    const char *help = option->help;
    if (option->name == NULL) {
        printf("\n%s\n", help);
        return;
    }
    snprintf(left, sizeof left, "--%s%s%s", option->name, option->value == NULL || option->value[0] == '[' ? "" : " ",
             option->value == NULL ? "" : option->value);
    for (const char *label = left; *help != '\0'; label = "") {
        size_t len = strcspn(help, "\n");
        printf("  %-26s %.*s\n", label, (int)len, help);
        help += len + (help[len] != '\0');
    }
}

#if MINIPROXY_WITH_ROUTES
#define PARENT_EXAMPLE                                                                                              \
    "  Through the company's proxy, so that programs here need not know its password:\n"                             \
    "      miniproxy --parent http://anna:secret@proxy.example:3128\n"
#else
#define PARENT_EXAMPLE ""
#endif

#if MINIPROXY_WITH_MAINTENANCE
#define MAINTENANCE_HELP \
    "  SIGUSR2           maintenance: answer new requests by 503, but go on with what runs; again: as before\n"
#else
#define MAINTENANCE_HELP ""
#endif

static void print_help(void)
{
    printf("miniproxy " MINIPROXY_VERSION ", an HTTP/1.1 forward proxy\n\n"
           "Usage: miniproxy [OPTION]...\n"
           "       miniproxy hash [--rounds N] [NAME]\n"
           "                             ask for a password, print a line for --users. N rounds of PBKDF2\n"
           "                             (default " NUMBER(USERS_ROUNDS_DEFAULT) "), 0: one SHA-256,\n"
           "                             enough for long random passwords\n"
           "       miniproxy cert [--name NAME]... [--days N] OUT\n"
           "                             make OUT.pem and OUT.key, a certificate for --tls-cert that nobody else\n"
           "                             vouches for, and its key\n"
           "       miniproxy policy COMMAND  check, compile, explain, lint, diff: see miniproxy policy help\n");
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) print_option(&options[i]);
    printf("\nTimeouts, in seconds\n");
#define X(NAME, name, ms, meaning) printf("  %-14s %8.10g  %s\n", #name, (ms) / 1000.0, meaning);
    MINIPROXY_TIMEOUTS(X)
#undef X
    printf("\nExamples\n"
           "  For programs on this machine:\n"
           "      miniproxy\n"
           "      curl -x http://127.0.0.1:3128 http://example.com/\n"
           "  For a home network, its own servers included:\n"
           "      miniproxy --listen 192.168.1.1:3128 --clients 192.168.1.0/24 --allow-private=192.168.1.0/24\n"
           "  With logins:\n"
           "      miniproxy hash anna >> users.txt\n"
           "      miniproxy --listen 192.168.1.1:3128 --users users.txt\n"
           "  With logins that nobody can read on their way:\n"
           "      miniproxy cert --name proxy.example proxy\n"
           "      miniproxy --tls-listen 192.168.1.1:3129 --tls-cert proxy.pem --tls-key proxy.key --users users.txt\n"
           "      curl -x https://proxy.example:3129 --proxy-cacert proxy.pem -U anna http://example.com/\n"
           PARENT_EXAMPLE
           "  Tunnels to SSH too, closed after an hour of silence:\n"
           "      miniproxy --connect-ports 22,443 --timeout tunnel=3600\n"
           "  For many clients, with a log for a program:\n"
           "      miniproxy --workers 4 --log access.json --log-format json --log-query no\n"
           "  Ban guessers of passwords: examples/desktop/fail2ban/miniproxy.conf is a filter of fail2ban\n"
           "\nSignals\n"
           "  SIGTERM, SIGINT   stop listening, end when all is done or after --drain; a second one ends at once\n"
           "  SIGHUP            read the policy or the users again, reopen the log, forget resolved names\n"
           "  SIGUSR1           print counters on standard error\n"
           MAINTENANCE_HELP
           "\nExit status: 0 ended by a signal, 1 failed, 2 wrong usage\n");
}

/* ---- The line */

static const struct option *find_option(const char *name, size_t len)
{
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        const char *known = options[i].name;
        if (known != NULL && strlen(known) == len && strncmp(known, name, len) == 0) return &options[i];
    }
    return NULL;
}

static bool is_secret(const struct option *option)
{
#if MINIPROXY_WITH_ROUTES
    if (option->set == set_parent) return true;
#endif
    return option->set == set_user;
}

/* Consume the option at argv[*i]. */
static int parse_one(struct options *o, int argc, char **argv, int *i)
{
    char *argument = argv[*i], *value = strchr(argument, '='), shown[64];
    size_t len = value != NULL ? (size_t)(value - argument) : strlen(argument);
    const struct option *option = strncmp(argument, "--", 2) == 0 ? find_option(argument + 2, len - 2) : NULL;
    const char *problem;
    if (option == NULL) {
        say("%s: expected an option; \"miniproxy --help\" lists them", argument);
        return EXIT_USAGE;
    }
    if (value != NULL) *value++ = '\0';
    if (option->value == NULL && value != NULL) {
        say("%s: expected no value", argument);
        return EXIT_USAGE;
    }
    if (option->set == NULL) {
        if (strcmp(option->name, "help") == 0) print_help();
        else printf("miniproxy " MINIPROXY_VERSION "\n");
        return stdout_has_all() ? EXIT_DRAINED : EXIT_FAILED;
    }
    if (option->value != NULL && option->value[0] != '[' && value == NULL) {
        if (++*i == argc) {
            say("%s: expected a value: %s %s", argument, argument, option->value);
            return EXIT_USAGE;
        }
        value = argv[*i];
    }
    snprintf(shown, sizeof shown, "%s", value != NULL && !is_secret(option) ? value : "");
    problem = option->set(o, value);
    if (problem == NULL) return -1;
    say("%s%s%s: %s", argument, shown[0] != '\0' ? " " : "", shown, problem);
    return EXIT_USAGE;
}

bool options_have_users(const struct options *o)
{
    return o->users_file != NULL || o->users.count > 0;
}

bool options_speak_tls(const struct options *o, unsigned listener)
{
    return (o->tls_listeners >> listener & 1) != 0;
}

static const char *listen_option(const struct options *o, unsigned listener)
{
    if ((o->balanced_listeners >> listener & 1) != 0) return "--proxy-protocol";
    if ((o->intercepting_listeners >> listener & 1) != 0) return "--intercept";
    return options_speak_tls(o, listener) ? "--tls-listen" : "--listen";
}

bool options_allow_logins(const struct options *o)
{
    char text[TEXT_MAX];
    for (unsigned i = 0; i < o->listen_count; i++) {
        const struct miniproxy_addr *a = &o->listen[i];
        if (options_speak_tls(o, i) || (!is_wildcard(a) && miniproxy_addr_is_special(a))) continue;
        address_text(a, text);
        if (!o->insecure_auth) {
            say("%s %s: expected --insecure-auth with it: logins there cross a public network in the clear. "
                "Better listen on a private address, or by --tls-listen", listen_option(o, i), text);
            return false;
        }
        say("warning: logins at %s can be read on their way", text);
    }
    return true;
}

/* What must not happen by accident: a proxy for everybody, and passwords readable for everybody. A policy says itself
 * whom it is for, and whether there are logins is known when it has been read. */
static int check_exposure(const struct options *o)
{
    char text[TEXT_MAX];
    if (o->policy_file != NULL) return -1;
    for (unsigned i = 0; i < o->listen_count; i++) {
        const struct miniproxy_addr *a = &o->listen[i];
        if (is_loopback(a) || o->clients.text != NULL || options_have_users(o)) continue;
        address_text(a, text);
        say("%s %s: expected --clients, --users or --policy with it, for other machines can reach that address",
            listen_option(o, i), text);
        return EXIT_USAGE;
    }
    return !options_have_users(o) || options_allow_logins(o) ? -1 : EXIT_USAGE;
}

static int check_policy_alone(const struct options *o)
{
    const char *other = o->users_file != NULL        ? "--users"
                        : o->users.count > 0         ? "--user"
                        : o->clients.text != NULL    ? "--clients"
                        : o->no_pages || o->pages.text != NULL ? "--pages"
                        : o->port_count > 0          ? "--connect-ports"
                        : o->allow_private || o->private_nets.text != NULL ? "--allow-private"
                                                                           : NULL;
    if (o->policy_file == NULL || other == NULL) return -1;
    say("%s: expected it without --policy, which says all of that", other);
    return EXIT_USAGE;
}

static int check_tls(const struct options *o)
{
    if (o->tls_listeners != 0 && o->tls_cert == NULL) {
        say("--tls-listen: expected --tls-cert with it; \"miniproxy cert\" makes a certificate");
        return EXIT_USAGE;
    }
    if (o->tls_listeners == 0 && (o->tls_cert != NULL || o->tls_key != NULL || o->tls_client_ca != NULL)) {
        say("%s: expected --tls-listen with it", o->tls_cert != NULL ? "--tls-cert" :
                                                 o->tls_key != NULL ? "--tls-key" : "--tls-client-ca");
        return EXIT_USAGE;
    }
    return -1;
}

#if MINIPROXY_WITH_PAC
static int check_pac(struct options *o)
{
    if (!o->serves_pac && (o->pac.direct != NULL || o->pac.falls_back)) {
        say("%s: expected --pac with it", o->pac.falls_back ? "--pac-fallback" : "--pac-direct");
        return EXIT_USAGE;
    }
    o->pac.tls_listeners = o->tls_listeners;
    o->pac.speaks_tls = o->tls_listeners != 0 && o->tls_listeners == (1u << o->listen_count) - 1;
    return -1;
}
#else
static int check_pac(struct options *o)
{
    (void)o;
    return -1;
}
#endif

#if MINIPROXY_WITH_ROUTES
static int check_parents(struct options *o)
{
    if (o->check_s != 0 && o->parent_count == 0) {
        say("--check: expected --parent with it");
        return EXIT_USAGE;
    }
    for (unsigned i = 0; i < o->parent_count; i++) {
        o->parents[i].check = o->check;
        o->parents[i].check_s = o->check_s;
    }
    return -1;
}
#else
static int check_parents(struct options *o)
{
    (void)o;
    return -1;
}
#endif

static bool set_defaults(struct options *o)
{
    uint8_t random[4];
    char listen[] = "127.0.0.1:" NUMBER(DEFAULT_PORT), ports[] = NUMBER(MINIPROXY_CONNECT_PORT);
    if (o->listen_count == 0) set_listen(o, listen);
    if (o->port_count == 0) set_connect_ports(o, ports);
    if (o->name != NULL) return true;
    if (!random_bytes(random, sizeof random)) {
        say("cannot read /dev/urandom: %s", strerror(errno));
        return false;
    }
    snprintf(o->random_name, sizeof o->random_name, "mp-%02x%02x%02x%02x", random[0], random[1], random[2], random[3]);
    o->name = o->random_name;
    return true;
}

int options_parse(struct options *o, int argc, char **argv)
{
    int status = -1;
    o->drain_ms = 30000;
    o->workers = 1;
    o->log_file = "-";
    o->log_query = true;
    o->log_format = &miniproxy_log_clf;
    o->alerts = (struct miniproxy_watch_config){.server_errors = 20,
                                                .client_errors = 50,
                                                .window_ms = 60000,
                                                .least = 50,
                                                .sessions = 90,
                                                .buffers = 90,
                                                .logins = 5,
                                                .hops = true};
    for (int i = 1; i < argc && status < 0; i++) status = parse_one(o, argc, argv, &i);
    if (status < 0) status = check_policy_alone(o);
    if (status < 0) status = check_tls(o);
    if (status < 0) status = check_pac(o);
    if (status < 0) status = check_parents(o);
    if (status >= 0) return status;
    if (!set_defaults(o)) return EXIT_FAILED;
    return check_exposure(o);
}
