/* SPDX-License-Identifier: MIT
 *
 * The tables of a policy as C, for firmware; and what they take in its flash.
 */
#include "desktop.h"
#include "policy.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum table { NETS, HOSTS, RANGES, TEXTS, TIMES, ALSO, TABLE_COUNT };
static const char *const table_words[TABLE_COUNT] = {"nets", "hosts", "ports", "texts", "times", "also"};

/* The different sets of a policy, in the order in which rules name them. A set's number is part of its name in C. */
struct sets {
    const void **list;
    size_t count, room;
};

struct writer {
    const struct compiled *c;
    const char *name;
    FILE *out;
    struct sets sets[TABLE_COUNT];
    const struct blob_elsewhere *elsewhere;
    size_t elsewhere_count;
    bool failed;
};

static void add_set(struct writer *w, enum table table, const void *set)
{
    struct sets *sets = &w->sets[table];
    if (set == NULL || w->failed) return;
    for (size_t i = sets->count; i > 0; i--)
        if (sets->list[i - 1] == set) return;
    if (sets->count == sets->room) {
        size_t room = 2 * sets->room + 16;
        const void **list = realloc(sets->list, room * sizeof *list);
        w->failed = list == NULL;
        if (w->failed) return;
        sets->list = list;
        sets->room = room;
    }
    sets->list[sets->count++] = set;
}

static void find_sets_of_ways(struct writer *w)
{
    for (unsigned i = 0; i < w->c->policy.route_count; i++) {
        const struct miniproxy_route *r = &w->c->policy.routes[i];
        add_set(w, NETS, r->clients);
        add_set(w, NETS, r->to);
        add_set(w, HOSTS, r->hosts);
    }
    for (unsigned i = 0; i < w->c->policy.limit_count; i++) add_set(w, NETS, w->c->policy.limits[i].clients);
}

static void find_sets(struct writer *w)
{
    for (unsigned i = 0; i < w->c->policy.rule_count; i++) {
        const struct miniproxy_rule *r = &w->c->policy.rules[i];
        add_set(w, NETS, r->clients);
        add_set(w, NETS, r->to);
        add_set(w, HOSTS, r->hosts);
        add_set(w, ALSO, r->also);
        if (r->also == NULL) continue;
        add_set(w, RANGES, r->also->ports);
        add_set(w, TEXTS, r->also->paths);
        add_set(w, TEXTS, r->also->agents);
        add_set(w, TEXTS, r->also->types);
        add_set(w, TIMES, r->also->times);
    }
    find_sets_of_ways(w);
}

static void free_sets(struct writer *w)
{
    for (unsigned i = 0; i < TABLE_COUNT; i++) free(w->sets[i].list);
}

/* ---- Pieces */

/* A comment to the end of the line, cut where it is too long. No backslash may end it. */
static void write_comment(FILE *out, const char *text)
{
    enum { SHOWN_MAX = 200 };
    size_t len = strlen(text), shown = len;
    if (len > SHOWN_MAX) {
        for (shown = SHOWN_MAX; shown > 0 && ((unsigned char)text[shown] & 0xc0) == 0x80; shown--) {
        }
    }
    fprintf(out, "%.*s%s", (int)shown, text, shown < len ? " ..." : "");
    if (len > 0 && text[len - 1] == '\\') fputc('.', out);
    fputc('\n', out);
}

/* Octets that are not printable as three octal digits; ? so that there are no trigraphs. */
static void write_string(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20 || c > 0x7e) fprintf(out, "\\%03o", c);
        else fprintf(out, c == '"' || c == '\\' || c == '?' ? "\\%c" : "%c", c);
    }
    fputc('"', out);
}

static void write_octets(FILE *out, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) fprintf(out, "%s%u", i > 0 ? ", " : "", bytes[i]);
}

static void write_long(FILE *out, const uint8_t *bytes, size_t len)
{
    enum { EACH = 24 };
    for (size_t i = 0; i < len; i++)
        fprintf(out, "%s%u%s", i % EACH == 0 ? "    " : " ", bytes[i],
                (i + 1) % EACH == 0 || i + 1 == len ? ",\n" : ",");
}

/* Where a set comes from. */
static void write_set_names(const struct writer *w, const void *set)
{
    for (size_t i = 0; i < w->c->set_count; i++) {
        const struct set_name *n = &w->c->sets[i];
        if (n->set != set) continue;
        if (n->place.line > 0) fprintf(w->out, "// %s:%u: ", n->place.file, n->place.line);
        else fprintf(w->out, "// %s: ", n->place.file);
        write_comment(w->out, n->name);
    }
}

static size_t number_of(const struct writer *w, enum table table, const void *set)
{
    size_t i = 0;
    while (w->sets[table].list[i] != set) i++;
    return i;
}

static void write_pointer(const struct writer *w, const char *member, enum table table, const void *set)
{
    if (set == NULL) return;
    fprintf(w->out, "%s&%s_%s_%zu", member, w->name, table_words[table], number_of(w, table, set));
}

/* ---- Sets */

static void write_nets(const struct writer *w, size_t number, const struct miniproxy_nets *nets)
{
    write_set_names(w, nets);
    if (nets->v4_count > 0) {
        fprintf(w->out, "static const struct miniproxy_net4 %s_nets4_%zu[] = {\n", w->name, number);
        for (unsigned i = 0; i < nets->v4_count; i++) {
            fputs("    {{", w->out);
            write_octets(w->out, nets->v4[i].ip, 4);
            fprintf(w->out, "}, %u},\n", nets->v4[i].bits);
        }
        fputs("};\n", w->out);
    }
    if (nets->v6_count > 0) {
        fprintf(w->out, "static const struct miniproxy_net6 %s_nets6_%zu[] = {\n", w->name, number);
        for (unsigned i = 0; i < nets->v6_count; i++) {
            fputs("    {{", w->out);
            write_octets(w->out, nets->v6[i].ip, 16);
            fprintf(w->out, "}, %u},\n", nets->v6[i].bits);
        }
        fputs("};\n", w->out);
    }
    fprintf(w->out, "static const struct miniproxy_nets %s_nets_%zu = {", w->name, number);
    if (nets->v4_count > 0)
        fprintf(w->out, ".v4 = %s_nets4_%zu, .v4_count = %u%s", w->name, number, nets->v4_count,
                nets->v6_count > 0 ? ", " : "");
    if (nets->v6_count > 0) fprintf(w->out, ".v6 = %s_nets6_%zu, .v6_count = %u", w->name, number, nets->v6_count);
    fputs("};\n\n", w->out);
}

static void write_strings(const struct writer *w, const char *what, size_t number, const char *const *list,
                          unsigned count)
{
    fprintf(w->out, "static const char *const %s_%s_%zu[] = {\n", w->name, what, number);
    for (unsigned i = 0; i < count; i++) {
        fputs("    ", w->out);
        write_string(w->out, list[i]);
        fputs(",\n", w->out);
    }
    fputs("};\n", w->out);
}

/* NULL: the set is part of the file. */
static const struct blob_elsewhere *find_elsewhere(const struct writer *w, const struct miniproxy_hosts *hosts)
{
    for (size_t i = 0; i < w->elsewhere_count; i++)
        if (w->elsewhere[i].set == hosts) return w->elsewhere + i;
    return NULL;
}

/* The macro that the build gives: the room of a blob that lies elsewhere. */
static void write_room(const struct writer *w, const struct blob_elsewhere *e)
{
    for (const char *p = w->name; *p != '\0'; p++) fputc(toupper((unsigned char)*p), w->out);
    fputc('_', w->out);
    for (const char *p = e->word; *p != '\0'; p++) fputc(toupper((unsigned char)*p), w->out);
    fputs("_ROOM", w->out);
}

static void write_hosts_elsewhere(const struct writer *w, size_t number, const struct blob_elsewhere *e)
{
    fprintf(w->out,
            "// Where the linker's script or the flash layout puts it.\n"
            "extern const uint8_t %s_%s_blob[];\n"
            "static const struct miniproxy_hosts %s_hosts_%zu = {.blob = %s_%s_blob, .blob_len = ",
            w->name, e->word, w->name, number, w->name, e->word);
    write_room(w, e);
    fputs("};\n\n", w->out);
}

static void write_hosts(const struct writer *w, size_t number, const struct miniproxy_hosts *hosts)
{
    const struct blob_elsewhere *elsewhere = find_elsewhere(w, hosts);
    write_set_names(w, hosts);
    if (elsewhere != NULL) {
        write_hosts_elsewhere(w, number, elsewhere);
        return;
    }
    if (hosts->count > 0) write_strings(w, "names", number, hosts->names, hosts->count);
    if (hosts->blob_len > 0) {
        fprintf(w->out, "static const uint8_t %s_blob_%zu[%lu] = {\n", w->name, number, (unsigned long)hosts->blob_len);
        write_long(w->out, hosts->blob, hosts->blob_len);
        fputs("};\n", w->out);
    }
    fprintf(w->out, "static const struct miniproxy_hosts %s_hosts_%zu = {", w->name, number);
    if (hosts->count > 0)
        fprintf(w->out, ".names = %s_names_%zu, .count = %u%s", w->name, number, hosts->count,
                hosts->blob_len > 0 ? ", " : "");
    if (hosts->blob_len > 0)
        fprintf(w->out, ".blob = %s_blob_%zu, .blob_len = %lu", w->name, number, (unsigned long)hosts->blob_len);
    fputs("};\n\n", w->out);
}

static void write_ranges(const struct writer *w, size_t number, const struct miniproxy_ranges *ranges)
{
    write_set_names(w, ranges);
    fprintf(w->out, "static const struct miniproxy_range %s_ranges_%zu[] = {", w->name, number);
    for (unsigned i = 0; i < ranges->count; i++)
        fprintf(w->out, "%s{%u, %u}",
                i % 8 == 0 && i > 0 ? ",\n    "
                : i > 0             ? ", "
                                    : "",
                ranges->list[i].first, ranges->list[i].last);
    fprintf(w->out, "};\nstatic const struct miniproxy_ranges %s_ports_%zu = {%s_ranges_%zu, %u};\n\n", w->name, number,
            w->name, number, ranges->count);
}

static void write_texts(const struct writer *w, size_t number, const struct miniproxy_texts *texts)
{
    write_set_names(w, texts);
    write_strings(w, "list", number, texts->list, texts->count);
    fprintf(w->out, "static const struct miniproxy_texts %s_texts_%zu = {%s_list_%zu, %u};\n\n", w->name, number,
            w->name, number, texts->count);
}

static void write_times(const struct writer *w, size_t number, const struct miniproxy_times *times)
{
    write_set_names(w, times);
    fprintf(w->out, "static const struct miniproxy_time %s_parts_%zu[] = {\n", w->name, number);
    for (unsigned i = 0; i < times->count; i++)
        fprintf(w->out, "    {%u, %u, 0x%02x},\n", times->list[i].from, times->list[i].to, times->list[i].days);
    fprintf(w->out, "};\nstatic const struct miniproxy_times %s_times_%zu = {%s_parts_%zu, %u};\n\n", w->name, number,
            w->name, number, times->count);
}

static void write_also(const struct writer *w, size_t number, const struct miniproxy_also *also)
{
    const char *const first = ".ports = ";
    const char *before = "";
    const struct {
        const char *member;
        enum table table;
        const void *set;
    } members[] = {{first, RANGES, also->ports},
                   {".paths = ", TEXTS, also->paths},
                   {".agents = ", TEXTS, also->agents},
                   {".types = ", TEXTS, also->types},
                   {".times = ", TIMES, also->times}};
    fprintf(w->out, "static const struct miniproxy_also %s_also_%zu = {", w->name, number);
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        if (members[i].set == NULL) continue;
        fputs(before, w->out);
        write_pointer(w, members[i].member, members[i].table, members[i].set);
        before = ", ";
    }
    fputs("};\n\n", w->out);
}

static void write_sets(const struct writer *w)
{
    const struct sets *s = w->sets;
    for (size_t i = 0; i < s[NETS].count; i++) write_nets(w, i, s[NETS].list[i]);
    for (size_t i = 0; i < s[HOSTS].count; i++) write_hosts(w, i, s[HOSTS].list[i]);
    for (size_t i = 0; i < s[RANGES].count; i++) write_ranges(w, i, s[RANGES].list[i]);
    for (size_t i = 0; i < s[TEXTS].count; i++) write_texts(w, i, s[TEXTS].list[i]);
    for (size_t i = 0; i < s[TIMES].count; i++) write_times(w, i, s[TIMES].list[i]);
    for (size_t i = 0; i < s[ALSO].count; i++) write_also(w, i, s[ALSO].list[i]);
}

/* ---- Rules and users */

static void write_methods(FILE *out, unsigned mask)
{
    static const char *const names[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "OTHER",
                                        "PAGES"};
    const char *before = ", .methods = ";
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        if ((mask >> i & 1u) == 0) continue;
        fprintf(out, "%sMINIPROXY_%s", before, names[i]);
        before = " | ";
    }
}

static void write_rule(const struct writer *w, unsigned i)
{
    const struct miniproxy_rule *r = &w->c->policy.rules[i];
    const struct rule_origin *origin = &w->c->origins[i];
    fprintf(w->out, "    // rule %u: %s:%u: ", i, origin->place.file, origin->place.line);
    write_comment(w->out, origin->text);
    fprintf(w->out, "    {.verdict = %s", r->verdict == MINIPROXY_ALLOW ? "MINIPROXY_ALLOW" : "MINIPROXY_DENY");
    if (r->special_purpose) fputs(", .special_purpose = 1", w->out);
    if (r->literal) fputs(", .literal = 1", w->out);
    if (r->either) fputs(", .either = 1", w->out);
    write_methods(w->out, r->methods);
    if (r->users != 0) fprintf(w->out, ", .users = 0x%04x", (unsigned)r->users);
    if (r->port[0] != 0 || r->port[1] != 0) fprintf(w->out, ", .port = {%u, %u}", r->port[0], r->port[1]);
    write_pointer(w, ", .clients = ", NETS, r->clients);
    write_pointer(w, ", .to = ", NETS, r->to);
    write_pointer(w, ", .hosts = ", HOSTS, r->hosts);
    write_pointer(w, ", .also = ", ALSO, r->also);
    fputs("},\n", w->out);
}

static void write_rules(const struct writer *w)
{
    const unsigned count = w->c->policy.rule_count;
    if (count == 0) return;
    fprintf(w->out, "static const struct miniproxy_rule %s_rules[] = {\n", w->name);
    for (unsigned i = 0; i < count; i++) write_rule(w, i);
    fputs("};\n\n", w->out);
}

/* Salts and digests of all users in one array. */
static void write_users(const struct writer *w)
{
    const struct miniproxy_policy *p = &w->c->policy;
    const size_t entry = MINIPROXY_SALT_LEN + MINIPROXY_DIGEST_LEN;
    bool any = false;
    if (p->user_count == 0) return;
    for (unsigned i = 0; i < 15; i++) {
        if (w->c->group_names[i] == NULL) continue;
        fprintf(w->out, "// group bit 0x%04x: ", 1u << i);
        write_comment(w->out, w->c->group_names[i]);
    }
    for (unsigned i = 0; i < p->user_count; i++) any |= p->users[i].digest != NULL;
    if (any) {
        fprintf(w->out, "static const uint8_t %s_digests[][%zu] = {\n", w->name, entry);
        for (unsigned i = 0; i < p->user_count; i++) {
            if (p->users[i].digest == NULL) continue;
            fputs("    {", w->out);
            write_octets(w->out, p->users[i].digest, entry);
            fputs("},\n", w->out);
        }
        fputs("};\n", w->out);
    }
    fprintf(w->out, "static const struct miniproxy_user %s_users[] = {\n", w->name);
    for (unsigned i = 0, digest = 0; i < p->user_count; i++) {
        const struct miniproxy_user *u = &p->users[i];
        fputs("    {.name = ", w->out);
        write_string(w->out, u->name);
        if (u->digest != NULL) {
            fprintf(w->out, ", .digest = %s_digests[%u]", w->name, digest++);
        } else if (u->password != NULL) {
            fputs(", .password = ", w->out);
            write_string(w->out, u->password);
        }
        if (u->rounds != 0) fprintf(w->out, ", .rounds = %lu", (unsigned long)u->rounds);
        fprintf(w->out, ", .groups = 0x%04x},\n", u->groups);
    }
    fputs("};\n\n", w->out);
}

/* ---- Routes and limits */

static void write_hops(const struct writer *w)
{
    static const char *const kinds[] = {"PROXY", "SOCKS5", "ORIGIN"};
    const struct miniproxy_policy *p = &w->c->policy;
    if (p->hop_count == 0) return;
    fprintf(w->out, "static const struct miniproxy_hop %s_hops[] = {\n", w->name);
    for (unsigned i = 0; i < p->hop_count; i++) {
        const struct miniproxy_hop *h = &p->hops[i];
        const struct hop_origin *origin = &w->c->hop_origins[i];
        fprintf(w->out, "    // hop %u: %s:%u: %s\n    {.host = ", i, origin->place.file, origin->place.line,
                origin->name);
        write_string(w->out, h->host);
        if (h->login != NULL) fputs(", .login = ", w->out), write_string(w->out, h->login);
        if (h->check != NULL) fputs(", .check = ", w->out), write_string(w->out, h->check);
        fprintf(w->out, ", .port = %u", h->port);
        if (h->check_s != 0) fprintf(w->out, ", .check_s = %u", h->check_s);
        fprintf(w->out, ", .kind = MINIPROXY_HOP_%s", kinds[h->kind]);
        if (h->secure) fputs(", .secure = 1", w->out);
        if (h->rise != 0) fprintf(w->out, ", .rise = %u", h->rise);
        if (h->fall != 0) fprintf(w->out, ", .fall = %u", h->fall);
        fputs("},\n", w->out);
    }
    fprintf(w->out, "};\nstatic struct miniproxy_health %s_health[%u]; // in RAM\n\n", w->name, p->hop_count);
}

static void write_origin(const struct writer *w, const char *what, unsigned i, const struct rule_origin *origin)
{
    fprintf(w->out, "    // %s %u: %s:%u: ", what, i, origin->place.file, origin->place.line);
    write_comment(w->out, origin->text);
}

/* One member of a route or a limit; the first has no comma in front. */
static void write_number(const struct writer *w, const char **before, const char *member, unsigned long value)
{
    if (value == 0) return;
    fprintf(w->out, "%s.%s = %lu", *before, member, value);
    *before = ", ";
}

static void write_who(const struct writer *w, const char **before, const struct miniproxy_nets *clients, unsigned users)
{
    if (clients != NULL) {
        fputs(*before, w->out);
        write_pointer(w, ".clients = ", NETS, clients);
        *before = ", ";
    }
    if (users != 0) fprintf(w->out, "%s.users = 0x%04x", *before, users), *before = ", ";
}

static void write_routes(const struct writer *w)
{
    const struct miniproxy_policy *p = &w->c->policy;
    if (p->route_count == 0) return;
    fprintf(w->out, "static const struct miniproxy_route %s_routes[] = {\n", w->name);
    for (unsigned i = 0; i < p->route_count; i++) {
        const struct miniproxy_route *r = &p->routes[i];
        const char *before = ", ";
        write_origin(w, "route", i, &w->c->route_origins[i]);
        fprintf(w->out, "    {.count = %u", r->count);
        write_number(w, &before, "first", r->first);
        write_who(w, &before, r->clients, r->users);
        write_pointer(w, ", .to = ", NETS, r->to);
        write_pointer(w, ", .hosts = ", HOSTS, r->hosts);
        if (r->order == MINIPROXY_IN_TURN) fputs(", .order = MINIPROXY_IN_TURN", w->out);
        if (r->resolve) fputs(", .resolve = true", w->out);
        fputs("},\n", w->out);
    }
    fputs("};\n\n", w->out);
}

static void write_limits(const struct writer *w)
{
    static const char *const shares[] = {"EACH_CLIENT", "EACH_USER", "ALL_TOGETHER"};
    const struct miniproxy_policy *p = &w->c->policy;
    if (p->limit_count == 0) return;
    fprintf(w->out, "static const struct miniproxy_limit %s_limits[] = {\n", w->name);
    for (unsigned i = 0; i < p->limit_count; i++) {
        const struct miniproxy_limit *l = &p->limits[i];
        const char *before = ", ";
        write_origin(w, "limit", i, &w->c->limit_origins[i]);
        fprintf(w->out, "    {.share = MINIPROXY_%s", shares[l->share]);
        write_who(w, &before, l->clients, l->users);
        write_number(w, &before, "at_once", l->at_once);
        write_number(w, &before, "requests_a_minute", l->requests_a_minute);
        write_number(w, &before, "request_burst", l->request_burst);
        write_number(w, &before, "down_per_s", l->down_per_s);
        write_number(w, &before, "up_per_s", l->up_per_s);
        write_number(w, &before, "burst", l->burst);
        fputs("},\n", w->out);
    }
    fputs("};\n\n", w->out);
}

/* ---- What the build must be able to do */

static void write_need(const struct writer *w, bool needed, const char *option, const char *why)
{
    if (!needed) return;
    fprintf(w->out, "#if !%s\n#error \"%s is 0: this policy %s; set it to 1 in your config header\"\n#endif\n", option,
            option, why);
}

static void write_rooms(const struct writer *w)
{
    for (size_t i = 0; i < w->elsewhere_count; i++) {
        const struct blob_elsewhere *e = w->elsewhere + i;
        fputs("#ifndef ", w->out);
        write_room(w, e);
        fputs("\n#error \"define ", w->out);
        write_room(w, e);
        fprintf(w->out, ": octets of the flash partition of %s_%s_blob\"\n#elif ", w->name, e->word);
        write_room(w, e);
        fprintf(w->out, " < %lu\n#error \"", (unsigned long)e->len);
        write_room(w, e);
        fprintf(w->out, " < %lu: the blob of this policy does not fit\"\n#endif\n", (unsigned long)e->len);
    }
}

enum { CHECK_HEAD = sizeof "HEAD  HTTP/1.0\r\n\r\n" }; /* is_sound_hop in miniproxy.c */

/* Of routes and limits. */
static void write_needs_of_ways(const struct writer *w)
{
    const struct miniproxy_policy *p = &w->c->policy;
    bool secure = false;
    size_t login = 0, check = 0;
    for (unsigned i = 0; i < p->hop_count; i++) {
        const size_t len = p->hops[i].login != NULL ? strlen(p->hops[i].login) : 0;
        secure |= p->hops[i].secure;
        if (len > login) login = len;
        if (p->hops[i].check != NULL && strlen(p->hops[i].check) > check) check = strlen(p->hops[i].check);
    }
    write_need(w, p->route_count > 0, "MINIPROXY_WITH_ROUTES", "has routes");
    write_need(w, p->limit_count > 0, "MINIPROXY_WITH_LIMITS", "has limits");
    write_need(w, secure, "MINIPROXY_WITH_TLS", "has parents that are spoken to by TLS");
    if (login > 0)
        fprintf(
            w->out,
            "#if MINIPROXY_CREDENTIALS_MAX < %zu\n#error \"MINIPROXY_CREDENTIALS_MAX < %zu: the login for a parent of "
            "this policy is longer; raise it in your config header\"\n#endif\n",
            login, login);
    if (check > 0)
        fprintf(
            w->out,
            "#if MINIPROXY_HEAD_MAX < %zu\n#error \"MINIPROXY_HEAD_MAX < %zu: a check of this policy is longer; raise "
            "MINIPROXY_BUFFER_SIZE in your config header\"\n#endif\n",
            check + CHECK_HEAD, check + CHECK_HEAD);
}

static void write_needs(const struct writer *w)
{
    const struct miniproxy_policy *p = &w->c->policy;
    bool conditions = false, blobs = w->elsewhere_count > 0, rounds = false, certificates = false, pages = false;
    size_t credentials = 0;
    for (size_t i = 0; i < w->sets[ALSO].count; i++) {
        const struct miniproxy_also *also = w->sets[ALSO].list[i];
        conditions |= also->agents != NULL || also->types != NULL || also->times != NULL;
    }
    for (size_t i = 0; i < w->sets[HOSTS].count; i++)
        blobs |= ((const struct miniproxy_hosts *)w->sets[HOSTS].list[i])->blob != NULL;
    for (unsigned i = 0; i < p->rule_count; i++) pages |= (p->rules[i].methods & MINIPROXY_PAGES) != 0;
    for (unsigned i = 0; i < p->user_count; i++) {
        const struct miniproxy_user *u = &p->users[i];
        size_t len = strlen(u->name) + (policy_has_password(u) ? 2 : 0);
        rounds |= u->rounds != 0;
        certificates |= !policy_has_password(u);
        if (u->password != NULL) len += strlen(u->password) - 1;
        if (len > credentials) credentials = len;
    }
    write_need(w, p->user_count > 0, "MINIPROXY_WITH_AUTH", "has users");
    write_need(w, rounds, "MINIPROXY_WITH_PBKDF2", "has users whose hashes have rounds");
    write_need(w, certificates, "MINIPROXY_WITH_TLS", "has users who come by a certificate");
    write_need(w, conditions, "MINIPROXY_WITH_CONDITIONS", "has rules with agents, types or times");
    write_need(w, blobs, "MINIPROXY_WITH_HOST_BLOBS", "has a large set of hosts");
    write_need(w, pages, "MINIPROXY_WITH_PAGES", "has rules about pages of the proxy's own");
    write_need(w, p->maintenance != NULL, "MINIPROXY_WITH_MAINTENANCE", "orders maintenance");
    if (credentials > 0)
        fprintf(w->out,
                "#if MINIPROXY_WITH_AUTH && MINIPROXY_CREDENTIALS_MAX < %zu\n"
                "#error \"MINIPROXY_CREDENTIALS_MAX < %zu: users of this policy could never log in; raise it in "
                "your config header\"\n#endif\n",
                credentials, credentials);
    write_needs_of_ways(w);
    write_rooms(w);
    fputc('\n', w->out);
}

static void write_policy(const struct writer *w, bool hits)
{
    const struct miniproxy_policy *p = &w->c->policy;
    if (hits)
        fprintf(w->out, "#if MINIPROXY_WITH_HITS\nstatic uint32_t %s_hits[%u];\n#endif\n\n", w->name,
                p->rule_count + 1u);
    fprintf(w->out, "extern const struct miniproxy_policy %s;\nconst struct miniproxy_policy %s = {\n", w->name,
            w->name);
    if (p->rule_count > 0) fprintf(w->out, "    .rules = %s_rules,\n", w->name);
    fprintf(w->out, "    .rule_count = %u,\n", p->rule_count);
    if (p->user_count > 0) fprintf(w->out, "    .users = %s_users,\n", w->name);
    fprintf(w->out, "    .user_count = %u,\n", p->user_count);
    if (p->route_count > 0)
        fprintf(w->out, "    .routes = %s_routes,\n    .route_count = %u,\n", w->name, p->route_count);
    if (p->hop_count > 0)
        fprintf(w->out, "    .hops = %s_hops,\n    .health = %s_health,\n    .hop_count = %u,\n", w->name, w->name,
                p->hop_count);
    if (p->limit_count > 0)
        fprintf(w->out, "    .limits = %s_limits,\n    .limit_count = %u,\n", w->name, p->limit_count);
    if (p->maintenance != NULL) {
        fputs("    .maintenance = ", w->out);
        write_string(w->out, p->maintenance);
        fputs(",\n", w->out);
    }
    if (hits) fprintf(w->out, "#if MINIPROXY_WITH_HITS\n    .hits = %s_hits,\n#endif\n", w->name);
    fputs("};\n", w->out);
}

bool policy_write_c(const struct compiled *c, const char *name, bool hits, const struct blob_elsewhere *elsewhere,
                    size_t elsewhere_count, FILE *out)
{
    struct writer w = {.c = c, .name = name, .out = out, .elsewhere = elsewhere, .elsewhere_count = elsewhere_count};
    bool ok;
    find_sets(&w);
    if (!w.failed) {
        fputs("// Made by \"miniproxy policy compile\"; change the policy and make it again rather than this file.\n"
              "#include \"miniproxy.h\"\n\n",
              out);
        write_needs(&w);
        write_sets(&w);
        write_rules(&w);
        write_users(&w);
        write_hops(&w);
        write_routes(&w);
        write_limits(&w);
        write_policy(&w, hits);
    }
    ok = !w.failed && fflush(out) == 0 && !ferror(out);
    free_sets(&w);
    return ok;
}

/* ---- Size: of each struct where a pointer has 4 octets */

enum {
    SIZE_POINTER = 4,
    SIZE_RULE = 24,
    SIZE_NETS = 12,
    SIZE_HOSTS = 16,
    SIZE_LIST = 8, /* of ranges, texts, times */
    SIZE_ALSO = 20,
    SIZE_USER = 20,
    SIZE_POLICY = 12,
    SIZE_ROUTE = 20,
    SIZE_HOP = 20,
    SIZE_HEALTH = 20, /* in RAM */
    SIZE_ROUTES = 16, /* of the policy */
    SIZE_LIMIT = 28,
    SIZE_LIMITS = 8
};

static size_t size_of_strings(const char *const *list, unsigned count)
{
    size_t size = 0;
    for (unsigned i = 0; i < count; i++) size += SIZE_POINTER + strlen(list[i]) + 1;
    return size;
}

static size_t size_of_set(enum table table, const void *set)
{
    const struct miniproxy_nets *nets = set;
    const struct miniproxy_hosts *hosts = set;
    const struct miniproxy_ranges *ranges = set;
    const struct miniproxy_texts *texts = set;
    const struct miniproxy_times *times = set;
    switch (table) {
    case NETS:
        return SIZE_NETS + nets->v4_count * sizeof(struct miniproxy_net4) +
               nets->v6_count * sizeof(struct miniproxy_net6);
    case HOSTS: return SIZE_HOSTS + size_of_strings(hosts->names, hosts->count) + hosts->blob_len;
    case RANGES: return SIZE_LIST + ranges->count * sizeof(struct miniproxy_range);
    case TEXTS: return SIZE_LIST + size_of_strings(texts->list, texts->count);
    case TIMES: return SIZE_LIST + times->count * sizeof(struct miniproxy_time);
    default: return SIZE_ALSO;
    }
}

static size_t size_of_users(const struct miniproxy_policy *p)
{
    size_t size = 0;
    for (unsigned i = 0; i < p->user_count; i++) {
        const struct miniproxy_user *u = &p->users[i];
        size += SIZE_USER + strlen(u->name) + 1;
        if (u->digest != NULL) size += MINIPROXY_SALT_LEN + MINIPROXY_DIGEST_LEN;
        else if (u->password != NULL) size += strlen(u->password) + 1;
    }
    return size;
}

static size_t size_of_hops(const struct miniproxy_policy *p)
{
    size_t size = 0;
    for (unsigned i = 0; i < p->hop_count; i++) {
        const struct miniproxy_hop *h = &p->hops[i];
        size += SIZE_HOP + strlen(h->host) + 1;
        if (h->login != NULL) size += strlen(h->login) + 1;
        if (h->check != NULL) size += strlen(h->check) + 1;
    }
    return size;
}

static size_t print_size(FILE *out, const char *what, size_t count, size_t size)
{
    if (count > 0) fprintf(out, "  %-10s %7zu %9zu bytes\n", what, count, size);
    return size;
}

size_t policy_print_size(const struct compiled *c, FILE *out)
{
    static const char *const words[TABLE_COUNT] = {"nets", "hosts", "ports", "texts", "times", "conditions"};
    struct writer w = {.c = c};
    const struct miniproxy_policy *p = &c->policy;
    size_t sum = SIZE_POLICY;
    find_sets(&w);
    sum += print_size(out, "rules", p->rule_count, (size_t)p->rule_count * SIZE_RULE);
    for (unsigned table = 0; table < TABLE_COUNT; table++) {
        size_t size = 0;
        for (size_t i = 0; i < w.sets[table].count; i++) size += size_of_set((enum table)table, w.sets[table].list[i]);
        sum += print_size(out, words[table], w.sets[table].count, size);
    }
    sum += print_size(out, "users", p->user_count, size_of_users(p));
    if (p->route_count > 0) sum += SIZE_ROUTES;
    sum += print_size(out, "routes", p->route_count, (size_t)p->route_count * SIZE_ROUTE);
    sum += print_size(out, "hops", p->hop_count, size_of_hops(p));
    if (p->maintenance != NULL) sum += SIZE_POINTER + strlen(p->maintenance) + 1;
    if (p->limit_count > 0) sum += SIZE_LIMITS;
    sum += print_size(out, "limits", p->limit_count, (size_t)p->limit_count * SIZE_LIMIT);
    if (p->hop_count > 0)
        fprintf(out, "  %-10s %7u %9zu bytes, of RAM\n", "health", p->hop_count, (size_t)p->hop_count * SIZE_HEALTH);
    free_sets(&w);
    return sum;
}
