/* SPDX-License-Identifier: MIT
 *
 * Cuts the properties of requests into atoms, makes boxes of rules, and searches what lies in some boxes and not in
 * others. What a condition matches is always asked of the core itself, by a policy of one rule with that condition.
 */
#include "policy_space.h"

#include <stdlib.h>
#include <string.h>

/* More atoms would make boxes of megabytes; more boxes than NODES_MAX in one search are not looked at. */
enum { CONDITIONS_MAX = 4096, ATOMS_MAX = 4096, AGENT_ATOMS_MAX = 256, WORDS_MAX = 20000, NODES_MAX = 100000 };

enum { ALL_BUT_PAGES = MINIPROXY_PAGES - 1 };

static const char fresh[] = "unlisted-name."; /* a label that no list has */

struct block {
    struct block *next;
    uint64_t data[];
};

/* The atoms of one kind. A signature has a bit for each condition that an atom matches. */
struct cut {
    struct miniproxy_rule *conditions; /* with nothing but a condition of this kind */
    unsigned condition_count, condition_room;
    struct value *values;
    uint64_t *signatures;
    unsigned count, room, words;
    unsigned *buckets, bucket_count; /* hash table over signatures, atom + 1 */
    unsigned alone;                  /* so many atoms, the first ones, are never those of another value */
};

struct rule_boxes {
    uint64_t *matches, *asks;
};

/* Of two policies, one may see the address of a name and the other leave it to a parent. So atoms of PROPERTY_ADDRESS
 * come in variants: all as they are, and all once more for each way in which policies do not see them. `mask` has a bit
 * for each policy that does not; `local`: the name is one of this machine. */
struct variant {
    unsigned mask;
    bool local;
};
enum { VARIANTS_MAX = 7 };

struct space {
    const struct compiled *policies[2];
    unsigned policy_count;
    struct cut cuts[PROPERTIES];
    unsigned first_word[DIMENSIONS + 1];
    struct rule_boxes *boxes[2];
    struct rule_boxes *routes[2], *limits[2];
    struct variant variants[VARIANTS_MAX];
    unsigned variant_count;
    const uint64_t **all; /* requests that exist, in parts: their union is not a box */
    unsigned all_count, all_room;
    unsigned port_condition, special_condition;
    uint64_t *stack;
    size_t stack_room; /* boxes */
    struct block *blocks;
    const char *problem;
    bool no_memory;
};

static void *get(struct space *s, size_t size)
{
    struct block *b = calloc(1, sizeof *b + size);
    if (b == NULL) {
        s->no_memory = true;
        return NULL;
    }
    b->next = s->blocks;
    s->blocks = b;
    return b->data;
}

static const char *join(struct space *s, const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    char *text = get(s, n + m + 1);
    if (text == NULL) return NULL;
    memcpy(text, a, n);
    memcpy(text + n, b, m);
    return text;
}

/* ---- Conditions */

static const struct miniproxy_also nothing_else;

static const struct miniproxy_also *also_of(const struct miniproxy_rule *r)
{
    return r->also != NULL ? r->also : &nothing_else;
}

static bool same_condition(const struct miniproxy_rule *a, const struct miniproxy_rule *b)
{
    const struct miniproxy_also *x = also_of(a), *y = also_of(b);
    return a->verdict == b->verdict && a->users == b->users && a->port[0] == b->port[0] && a->port[1] == b->port[1] &&
           a->clients == b->clients && a->to == b->to && a->hosts == b->hosts && x->ports == y->ports &&
           x->paths == y->paths && x->agents == y->agents && x->types == y->types && x->times == y->times;
}

/* The condition of this kind that a rule has. False: none, it matches all atoms. */
static bool take_condition(enum property kind, const struct miniproxy_rule *r, struct miniproxy_rule *c,
                           struct miniproxy_also *also)
{
    const struct miniproxy_also *from = also_of(r);
    memset(c, 0, sizeof *c);
    memset(also, 0, sizeof *also);
    c->verdict = MINIPROXY_DENY;
    switch (kind) {
    case PROPERTY_CLIENT: c->clients = r->clients; return r->clients != NULL;
    case PROPERTY_ADDRESS: c->to = r->to; return r->to != NULL;
    case PROPERTY_HOST: c->hosts = r->hosts; return r->hosts != NULL;
    case PROPERTY_PORT:
        also->ports = from->ports;
        if (from->ports == NULL) memcpy(c->port, r->port, sizeof c->port);
        c->also = from->ports != NULL ? also : NULL;
        return from->ports != NULL || r->port[0] != 0 || r->port[1] != 0;
    case PROPERTY_PATH: also->paths = from->paths; break;
    case PROPERTY_AGENT: also->agents = from->agents; break;
    case PROPERTY_TYPE: /* several types, and byte ranges, match DENY whatever it names */
    case PROPERTY_TIME: /* an unknown time matches DENY only */
        if (kind == PROPERTY_TYPE) also->types = from->types;
        else also->times = from->times;
        c->verdict = r->verdict;
        c->special_purpose = 1;
        break;
    default: return false;
    }
    c->also = also;
    return also->paths != NULL || also->agents != NULL || also->types != NULL || also->times != NULL;
}

/* Which condition of a kind a rule has, -1: none. */
static int find_condition(const struct space *s, enum property kind, const struct miniproxy_rule *r)
{
    const struct cut *cut = &s->cuts[kind];
    struct miniproxy_rule c;
    struct miniproxy_also also;
    if (!take_condition(kind, r, &c, &also)) return -1;
    for (unsigned i = 0; i < cut->condition_count; i++)
        if (same_condition(&cut->conditions[i], &c)) return (int)i;
    return -1;
}

static void add_condition(struct space *s, enum property kind, const struct miniproxy_rule *r)
{
    struct cut *cut = &s->cuts[kind];
    struct miniproxy_rule c, *list;
    struct miniproxy_also also, *kept;
    if (!take_condition(kind, r, &c, &also) || find_condition(s, kind, r) >= 0) return;
    if (cut->condition_count == CONDITIONS_MAX) s->problem = "too many different sets";
    if (s->no_memory || s->problem != NULL) return;
    if (c.also != NULL) {
        kept = get(s, sizeof *kept);
        if (kept == NULL) return;
        *kept = also;
        c.also = kept;
    }
    if (cut->condition_count == cut->condition_room) {
        cut->condition_room = cut->condition_room == 0 ? 8 : 2 * cut->condition_room;
        list = get(s, cut->condition_room * sizeof *list);
        if (list == NULL) return;
        if (cut->condition_count > 0) memcpy(list, cut->conditions, cut->condition_count * sizeof *list);
        cut->conditions = list;
    }
    cut->conditions[cut->condition_count++] = c;
}

static bool core_matches(const struct miniproxy_rule *r, const struct miniproxy_question *q)
{
    const struct miniproxy_policy policy = {.rules = r, .rule_count = 1};
    int rule = -1;
    enum miniproxy_verdict verdict = miniproxy_decide(&policy, q, &rule);
    return r->verdict == MINIPROXY_ALLOW ? verdict == MINIPROXY_ALLOWED : rule == 0;
}

bool rule_covers(const struct miniproxy_rule *r, enum property property, const struct miniproxy_question *q)
{
    struct miniproxy_rule c;
    struct miniproxy_also also;
    struct miniproxy_question answered = *q;
    bool has_one = take_condition(property, r, &c, &also);
    if (property == PROPERTY_PORT && !has_one)
        return r->verdict == MINIPROXY_DENY || q->method != MINIPROXY_CONNECT || q->port == MINIPROXY_CONNECT_PORT;
    if (property == PROPERTY_TYPE && has_one && q->type == NULL) return r->verdict == MINIPROXY_ALLOW;
    answered.literal = answered.literal && property == PROPERTY_HOST;
    if (property == PROPERTY_TIME) answered.method = MINIPROXY_GET; /* an ALLOW without ports looks at CONNECT's */
    return !has_one || core_matches(&c, &answered);
}

/* A request of which only the property that is asked about matters. */
static void begin_question(struct miniproxy_question *q)
{
    static const struct miniproxy_addr somewhere = {.ip = {1, 1, 1, 1}, .family = 4};
    memset(q, 0, sizeof *q);
    q->client = q->address = &somewhere;
    q->host = "a.example";
    q->path = "/";
    q->path_len = 1;
    q->port = 80;
    q->method = MINIPROXY_GET;
    q->type = "";
    q->minute_of_week = -1;
}

static void put_value(struct miniproxy_question *q, enum property kind, const struct value *v)
{
    size_t len = v->text != NULL ? strlen(v->text) : 0;
    switch (kind) {
    case PROPERTY_CLIENT: q->client = &v->addr; break;
    case PROPERTY_ADDRESS: q->address = &v->addr; break;
    case PROPERTY_HOST: q->host = v->text; break;
    case PROPERTY_PORT: q->port = (uint16_t)v->number; break;
    case PROPERTY_PATH: q->path = v->text, q->path_len = len; break;
    case PROPERTY_AGENT: q->agent = v->text, q->agent_len = len; break;
    case PROPERTY_TYPE: q->type = v->text, q->type_len = len; break;
    case PROPERTY_TIME: q->minute_of_week = v->number; break;
    default: break;
    }
}

/* ---- Atoms */

static unsigned hash_words(const uint64_t *words, unsigned count)
{
    uint64_t h = 1469598103934665603u;
    for (unsigned i = 0; i < count; i++) h = (h ^ words[i]) * 1099511628211u, h ^= h >> 29;
    return (unsigned)(h >> 16);
}

static void rehash(struct space *s, struct cut *cut)
{
    cut->bucket_count = 4 * cut->room;
    cut->buckets = get(s, cut->bucket_count * sizeof *cut->buckets);
    for (unsigned i = 0; cut->buckets != NULL && i < cut->count; i++) {
        unsigned at = hash_words(cut->signatures + (size_t)i * cut->words, cut->words) % cut->bucket_count;
        while (cut->buckets[at] != 0) at = (at + 1) % cut->bucket_count;
        cut->buckets[at] = i + 1;
    }
}

static bool grow(struct space *s, struct cut *cut)
{
    unsigned room = cut->room == 0 ? 8 : 2 * cut->room;
    struct value *values = get(s, room * sizeof *values);
    uint64_t *signatures = get(s, (size_t)room * cut->words * sizeof *signatures);
    if (values == NULL || signatures == NULL) return false;
    if (cut->count > 0) {
        memcpy(values, cut->values, cut->count * sizeof *values);
        memcpy(signatures, cut->signatures, (size_t)cut->count * cut->words * sizeof *signatures);
    }
    cut->values = values;
    cut->signatures = signatures;
    cut->room = room;
    rehash(s, cut);
    return cut->buckets != NULL;
}

/* The atom with this signature; new unless there is one. */
static void add_atom(struct space *s, enum property kind, const struct value *v, const uint64_t *signature)
{
    struct cut *cut = &s->cuts[kind];
    unsigned at, known;
    if (s->no_memory || s->problem != NULL) return;
    if (cut->count == cut->room && !grow(s, cut)) return;
    at = hash_words(signature, cut->words) % cut->bucket_count;
    for (; (known = cut->buckets[at]) != 0; at = (at + 1) % cut->bucket_count) {
        if (known <= cut->alone ||
            memcmp(cut->signatures + (size_t)(known - 1) * cut->words, signature, cut->words * sizeof *signature) != 0)
            continue;
        if (v->rank < cut->values[known - 1].rank) cut->values[known - 1] = *v;
        return;
    }
    if (cut->count == ATOMS_MAX) {
        s->problem = "too many combinations of sets";
        return;
    }
    memcpy(cut->signatures + (size_t)cut->count * cut->words, signature, cut->words * sizeof *signature);
    cut->values[cut->count++] = *v;
    cut->buckets[at] = cut->count;
}

static bool signature_has(const struct cut *cut, unsigned atom, unsigned condition)
{
    return (cut->signatures[(size_t)atom * cut->words + condition / 64] >> condition % 64 & 1) != 0;
}

static void sign(const struct space *s, enum property kind, const struct value *v, uint64_t *signature)
{
    const struct cut *cut = &s->cuts[kind];
    struct miniproxy_question q;
    begin_question(&q);
    put_value(&q, kind, v);
    memset(signature, 0, cut->words * sizeof *signature);
    for (unsigned i = 0; i < cut->condition_count; i++)
        if (core_matches(&cut->conditions[i], &q)) signature[i / 64] |= (uint64_t)1 << i % 64;
}

static void add_value(struct space *s, enum property kind, const struct value *v)
{
    uint64_t signature[CONDITIONS_MAX / 64 + 1];
    sign(s, kind, v, signature);
    add_atom(s, kind, v, signature);
}

static void add_text(struct space *s, enum property kind, const char *text, unsigned rank)
{
    if (!s->no_memory) add_value(s, kind, &(struct value){.text = text, .rank = rank});
}

static const uint64_t no_signature[CONDITIONS_MAX / 64 + 1];

/* ---- Routes and limits, as rules with the conditions that they have */

bool route_hides_address(const struct miniproxy_policy *policy, const struct miniproxy_route *r)
{
    return r->count > 0 && (!r->resolve || policy->hops[r->first].kind == MINIPROXY_HOP_ORIGIN);
}

struct miniproxy_rule route_as_rule(const struct miniproxy_route *r)
{
    return (struct miniproxy_rule){.verdict = MINIPROXY_DENY,
                                   .methods = ALL_BUT_PAGES,
                                   .users = r->users,
                                   .clients = r->clients,
                                   .to = r->to,
                                   .hosts = r->hosts};
}

struct miniproxy_rule limit_as_rule(const struct miniproxy_limit *l)
{
    const unsigned users = l->users == 0 && l->share == MINIPROXY_EACH_USER ? MINIPROXY_AUTHENTICATED : l->users;
    return (struct miniproxy_rule){.verdict = MINIPROXY_DENY, .users = users & 0xffffu, .clients = l->clients};
}

bool name_is_local(const char *host)
{
    const struct miniproxy_rule rule = {.verdict = MINIPROXY_ALLOW};
    struct miniproxy_question q;
    begin_question(&q);
    q.host = host;
    q.address = NULL;
    q.remote = true;
    return !core_matches(&rule, &q);
}

/* Whether a policy can leave names to parents. */
static bool hides_addresses(const struct miniproxy_policy *policy)
{
    for (unsigned i = 0; i < policy->route_count; i++)
        if (route_hides_address(policy, policy->routes + i)) return true;
    return false;
}

static void add_ways(struct space *s, enum property kind, const struct miniproxy_policy *policy)
{
    static const char *const local_names[] = {"localhost", ".localhost"};
    static const struct miniproxy_hosts local = {.names = local_names, .count = 2};
    struct miniproxy_rule rule = {.hosts = &local};
    if (kind == PROPERTY_HOST && hides_addresses(policy)) add_condition(s, kind, &rule);
    for (unsigned i = 0; i < policy->route_count; i++) {
        rule = route_as_rule(policy->routes + i);
        add_condition(s, kind, &rule);
    }
    for (unsigned i = 0; i < policy->limit_count; i++) {
        rule = limit_as_rule(policy->limits + i);
        add_condition(s, kind, &rule);
    }
}

/* ---- Addresses: between two boundaries nothing changes */

struct point {
    uint8_t ip[16];
};

struct points {
    struct point *list;
    size_t count, room;
};

static void add_point(struct points *p, const uint8_t *ip, size_t at, size_t len, const uint8_t *prefix)
{
    struct point *list;
    if (p->count == p->room) {
        p->room = p->room == 0 ? 64 : 2 * p->room;
        list = realloc(p->list, p->room * sizeof *list);
        if (list == NULL) abort();
        p->list = list;
    }
    memset(&p->list[p->count], 0, sizeof *p->list);
    if (prefix != NULL) memcpy(p->list[p->count].ip, prefix, 16);
    memcpy(p->list[p->count++].ip + at, ip, len);
}

/* The first address behind a network. False: there is none. */
static bool step_over(uint8_t *ip, unsigned bits, unsigned len)
{
    unsigned carry = bits == 0 ? 0 : 1, i = bits == 0 ? 0 : (bits - 1) / 8 + 1;
    if (bits == 0) return false;
    for (unsigned step = 1u << (7 - (bits - 1) % 8); i-- > 0 && carry != 0; step = 1) {
        unsigned sum = ip[i] + step;
        ip[i] = (uint8_t)sum;
        carry = sum >> 8;
    }
    (void)len;
    return carry == 0;
}

static void add_net_points(struct points *v4, struct points *v6, const struct miniproxy_nets *nets)
{
    uint8_t ip[16];
    for (unsigned i = 0; i < nets->v4_count; i++) {
        memcpy(ip, nets->v4[i].ip, 4);
        add_point(v4, ip, 0, 4, NULL);
        if (step_over(ip, nets->v4[i].bits, 4)) add_point(v4, ip, 0, 4, NULL);
    }
    for (unsigned i = 0; i < nets->v6_count; i++) {
        memcpy(ip, nets->v6[i].ip, 16);
        add_point(v6, ip, 0, 16, NULL);
        if (step_over(ip, nets->v6[i].bits, 16)) add_point(v6, ip, 0, 16, NULL);
    }
}

static int compare_points(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct point));
}

static size_t sort_points(struct points *p)
{
    size_t kept = 0;
    qsort(p->list, p->count, sizeof *p->list, compare_points);
    for (size_t i = 0; i < p->count; i++)
        if (kept == 0 || compare_points(&p->list[kept - 1], &p->list[i]) != 0) p->list[kept++] = p->list[i];
    return p->count = kept;
}

/* Where IPv4 addresses lie in the space of IPv6 (see inner_ip4 in miniproxy.c), and where that begins and ends. */
static const struct {
    uint8_t prefix[16];
    unsigned at;
    uint8_t edges[2][16];
} embedded[] = {
    {{0x20, 0x02}, 2, {{0x20, 0x02}, {0x20, 0x03}}},
    {{0x00, 0x64, 0xff, 0x9b}, 12, {{0x00, 0x64, 0xff, 0x9b}, {0x00, 0x64, 0xff, 0x9b, [11] = 1}}},
    {{0}, 12, {{[15] = 2}, {[11] = 1}}},
    {{[10] = 0xff, [11] = 0xff}, 12, {{[10] = 0xff, [11] = 0xff}, {[9] = 1}}},
};
enum { EMBEDDED = sizeof embedded / sizeof embedded[0] };

/* An example inside a network looks better with a host part. */
static void add_address(struct space *s, enum property kind, const uint8_t *ip, const uint8_t *end, unsigned family)
{
    struct value v = {.addr.family = (uint8_t)family};
    size_t len = family == 4 ? 4 : 16;
    bool odd = family == 6 && (ip[0] == 0 || (ip[0] == 0x20 && ip[1] == 2));
    memcpy(v.addr.ip, ip, len);
    if (ip[len - 1] == 0) {
        v.addr.ip[len - 1] = 1;
        if (end != NULL && memcmp(v.addr.ip, end, len) >= 0) v.addr.ip[len - 1] = 0;
    }
    v.rank = family == 4 ? (ip[0] == 0 || ip[0] >= 224) : odd || ip[0] == 0xff ? 3 : 2;
    add_value(s, kind, &v);
}

static void cut_addresses(struct space *s, enum property kind)
{
    static const uint8_t zero[16], nicer[][4] = {{192, 168, 1, 10}, {10, 0, 0, 10}, {93, 184, 215, 14}};
    struct points v4 = {0}, v6 = {0};
    struct cut *cut = &s->cuts[kind];
    for (unsigned i = 0; i < cut->condition_count; i++)
        add_net_points(&v4, &v6, kind == PROPERTY_CLIENT ? cut->conditions[i].clients : cut->conditions[i].to);
    add_point(&v4, zero, 0, 4, NULL);
    add_point(&v6, zero, 0, 16, NULL);
    sort_points(&v4);
    for (unsigned e = 0; e < EMBEDDED; e++) {
        for (size_t i = 0; i < v4.count; i++)
            if (memcmp(embedded[e].prefix, zero, 16) != 0 || i > 0)
                add_point(&v6, v4.list[i].ip, embedded[e].at, 4, embedded[e].prefix);
        add_point(&v6, embedded[e].edges[0], 0, 16, NULL);
        add_point(&v6, embedded[e].edges[1], 0, 16, NULL);
    }
    sort_points(&v6);
    for (size_t i = 0; i < sizeof nicer / sizeof nicer[0]; i++) add_address(s, kind, nicer[i], NULL, 4);
    for (size_t i = 0; i < v4.count; i++)
        add_address(s, kind, v4.list[i].ip, i + 1 < v4.count ? v4.list[i + 1].ip : NULL, 4);
    for (size_t i = 0; i < v6.count; i++)
        add_address(s, kind, v6.list[i].ip, i + 1 < v6.count ? v6.list[i + 1].ip : NULL, 6);
    free(v4.list);
    free(v6.list);
}

/* ---- Hosts: the nearest listed name above a name, or at it, says which sets match */

static bool can_be_asked_for(const char *name)
{
    size_t len = strlen(name), label = 0;
    if (len == 0 || len > 253) return false;
    for (size_t i = 0; i < len; i++) {
        label = name[i] == '.' ? 0 : label + 1;
        if (label > 63 || (name[i] == '.' && (i == 0 || i + 1 == len || name[i - 1] == '.'))) return false;
        if ((name[i] < 'a' || name[i] > 'z') && (name[i] < '0' || name[i] > '9') && strchr(".-_", name[i]) == NULL)
            return false;
    }
    for (label = len; label > 0 && name[label - 1] != '.'; label--) {
    }
    return strspn(name + label, "0123456789") != strlen(name + label); /* not an address in odd spelling */
}

static void add_name(struct space *s, const char *name)
{
    const char *below;
    bool suffix = *name == '.';
    name += suffix;
    if (can_be_asked_for(name)) add_text(s, PROPERTY_HOST, name, suffix);
    below = strlen(name) + strlen(fresh) <= 253 ? join(s, fresh, name) : join(s, "x.", name);
    if (below != NULL && can_be_asked_for(below)) add_text(s, PROPERTY_HOST, below, suffix ? 2 : 3);
}

/* The names behind a set, or NULL: not known. */
static const struct host_names *names_behind(const struct space *s, const struct miniproxy_hosts *set)
{
    for (unsigned p = 0; p < s->policy_count; p++)
        for (size_t i = 0; i < s->policies[p]->host_count; i++)
            if (s->policies[p]->hosts[i].set == set) return &s->policies[p]->hosts[i];
    return NULL;
}

static void cut_hosts(struct space *s)
{
    struct cut *cut = &s->cuts[PROPERTY_HOST];
    add_atom(s, PROPERTY_HOST, &(struct value){.rank = 9}, no_signature);
    cut->alone = 1;
    /* a list may have the whole of a top-level domain, hardly of all three */
    add_text(s, PROPERTY_HOST, "www.unlisted-name.example", 0);
    add_text(s, PROPERTY_HOST, "www.unlisted-name.test", 1);
    add_text(s, PROPERTY_HOST, "unlisted-name", 4);
    for (unsigned i = 0; i < cut->condition_count && s->problem == NULL; i++) {
        const struct miniproxy_hosts *set = cut->conditions[i].hosts;
        const struct host_names *names = names_behind(s, set);
        if (names == NULL && set->blob != NULL) s->problem = "the names behind a set of hosts are not known";
        for (size_t n = 0; names != NULL && n < names->count; n++) add_name(s, names->names[n]);
        for (unsigned n = 0; n < set->count; n++) add_name(s, set->names[n]);
    }
}

/* ---- Paths and types: the longest listed text that a text begins with says which match */

static bool can_be_sent(const char *text, const char *never)
{
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f || strchr(never, *text) != NULL) return false;
    return true;
}

static void cut_paths(struct space *s)
{
    struct cut *cut = &s->cuts[PROPERTY_PATH];
    add_text(s, PROPERTY_PATH, "/", 0);
    add_text(s, PROPERTY_PATH, "?", 5);
    for (unsigned i = 0; i < cut->condition_count; i++) {
        const struct miniproxy_texts *paths = cut->conditions[i].also->paths;
        for (unsigned n = 0; n < paths->count; n++) {
            const char *path = paths->list[n];
            if (!can_be_sent(path, " #")) continue;
            if (*path == '/' || *path == '?') add_text(s, PROPERTY_PATH, path, 1);
            if (path[0] == '/' && path[1] == '?') add_text(s, PROPERTY_PATH, path + 1, 4);
        }
    }
}

static void cut_types(struct space *s)
{
    struct cut *cut = &s->cuts[PROPERTY_TYPE];
    add_atom(s, PROPERTY_TYPE, &(struct value){.text = NULL}, no_signature);
    cut->alone = 1;
    if (cut->condition_count == 0) return;
    add_text(s, PROPERTY_TYPE, "application/x-unlisted", 0);
    add_text(s, PROPERTY_TYPE, "", 7);
    add_text(s, PROPERTY_TYPE, "multipart/byteranges", 8);
    add_text(s, PROPERTY_TYPE, "application/x-unlisted, application/x-unlisted", 9);
    for (unsigned i = 0; i < cut->condition_count; i++) {
        const struct miniproxy_texts *types = cut->conditions[i].also->types;
        for (unsigned n = 0; n < types->count; n++) {
            const char *type = types->list[n];
            size_t len = strlen(type);
            if (!can_be_sent(type, "")) continue;
            add_text(s, PROPERTY_TYPE, len > 0 && type[len - 1] == '/' ? join(s, type, "x-unlisted") : type, 1);
        }
    }
}

/* ---- User agents: one can have any of the parts, and then has all parts of these */

/* Between parts, so that they make no other: an octet that no part has. */
static const char *separator(struct space *s)
{
    static const char candidates[] = "|~^`_!$&'*+#%-.,;:/()<>@[]{}=?\"\\0123456789abcdefghijklmnopqrstuvwxyz ";
    const struct cut *cut = &s->cuts[PROPERTY_AGENT];
    for (const char *c = candidates; *c != '\0'; c++) {
        bool is_used = false;
        for (unsigned i = 0; i < cut->condition_count; i++) {
            const struct miniproxy_texts *agents = cut->conditions[i].also->agents;
            for (unsigned n = 0; n < agents->count; n++) is_used |= strchr(agents->list[n], *c) != NULL;
        }
        if (!is_used) return join(s, (char[]){*c, '\0'}, "");
    }
    s->problem = "the texts of user agents use every character there is";
    return NULL;
}

/* Every union of the signatures of parts is one of a user agent. */
static void cut_agents(struct space *s)
{
    struct cut *cut = &s->cuts[PROPERTY_AGENT];
    const char *between = cut->condition_count > 0 ? separator(s) : "";
    add_atom(s, PROPERTY_AGENT, &(struct value){.text = NULL}, no_signature);
    if (cut->condition_count > 0) add_text(s, PROPERTY_AGENT, "", 8);
    for (unsigned i = 0; i < cut->condition_count && between != NULL; i++) {
        const struct miniproxy_texts *agents = cut->conditions[i].also->agents;
        for (unsigned n = 0; n < agents->count; n++) {
            const char *part = agents->list[n], *joined;
            unsigned before = cut->count;
            if (!can_be_sent(part, "") || s->no_memory || s->problem != NULL) continue;
            add_text(s, PROPERTY_AGENT, part, 0);
            for (unsigned a = 1; a < before; a++) {
                const char *old = cut->values[a].text;
                if (old == NULL || *old == '\0') continue;
                joined = join(s, join(s, old, between), part);
                add_text(s, PROPERTY_AGENT, joined, (unsigned)strlen(joined));
            }
            if (cut->count > AGENT_ATOMS_MAX) s->problem = "too many combinations of user agents";
        }
    }
}

/* ---- The rest */

static void cut_ports(struct space *s)
{
    static const int usual[] = {443, 80, 8080, 25, 22, 1, 65535};
    struct cut *cut = &s->cuts[PROPERTY_PORT];
    for (unsigned i = 0; i < sizeof usual / sizeof usual[0]; i++)
        add_value(s, PROPERTY_PORT, &(struct value){.number = usual[i], .rank = i});
    for (unsigned i = 0; i < cut->condition_count; i++) {
        const struct miniproxy_rule *c = &cut->conditions[i];
        const struct miniproxy_range own = {c->port[0], c->port[1]};
        const struct miniproxy_ranges ranges = c->also != NULL ? *c->also->ports : (struct miniproxy_ranges){&own, 1};
        for (unsigned n = 0; n < ranges.count; n++) {
            int first = ranges.list[n].first, after = ranges.list[n].last + 1;
            if (first > 0) add_value(s, PROPERTY_PORT, &(struct value){.number = first, .rank = 9});
            if (after < 65536) add_value(s, PROPERTY_PORT, &(struct value){.number = after, .rank = 9});
        }
    }
}

static void cut_times(struct space *s)
{
    enum { WEEK = 7 * 1440 };
    struct cut *cut = &s->cuts[PROPERTY_TIME];
    add_value(s, PROPERTY_TIME, &(struct value){.number = 12 * 60});
    add_value(s, PROPERTY_TIME, &(struct value){.number = 0, .rank = 1});
    add_value(s, PROPERTY_TIME, &(struct value){.number = -1, .rank = 9});
    for (unsigned i = 0; i < cut->condition_count; i++) {
        const struct miniproxy_times *times = cut->conditions[i].also->times;
        for (unsigned n = 0; n < times->count; n++)
            for (int day = 0; day < 7; day++) {
                add_value(s, PROPERTY_TIME,
                          &(struct value){.number = (day * 1440 + times->list[n].from) % WEEK, .rank = 2});
                add_value(s, PROPERTY_TIME,
                          &(struct value){.number = (day * 1440 + times->list[n].to) % WEEK, .rank = 2});
                add_value(s, PROPERTY_TIME, &(struct value){.number = day * 1440, .rank = 2});
            }
    }
}

static int find_user(const struct compiled *c, const char *name)
{
    for (unsigned i = 0; i < c->policy.user_count; i++)
        if (strcmp(c->policy.users[i].name, name) == 0) return (int)i;
    return -1;
}

/* Users that all policies have, by their groups; a policy without users looks at no login. Who has a password in one and
 * a certificate in another is two users. */
static void cut_users(struct space *s)
{
    add_atom(s, PROPERTY_USER, &(struct value){.user = {-1, -1}}, (uint64_t[]){0});
    for (unsigned p = 0; p < s->policy_count; p++) {
        const struct miniproxy_policy *policy = &s->policies[p]->policy;
        for (unsigned i = 0; i < policy->user_count; i++) {
            struct value v = {.text = policy->users[i].name, .user = {-1, -1}, .rank = 1};
            uint64_t signature = 0;
            bool everywhere = true;
            for (unsigned other = 0; other < s->policy_count; other++) {
                const struct compiled *c = s->policies[other];
                v.user[other] = find_user(c, v.text);
                if (v.user[other] < 0) {
                    everywhere &= c->policy.user_count == 0;
                    continue;
                }
                everywhere &= policy_has_password(&policy->users[i]) ==
                              policy_has_password(&c->policy.users[v.user[other]]);
                signature |= (uint64_t)(c->policy.users[v.user[other]].groups | MINIPROXY_AUTHENTICATED)
                             << 16 * other;
            }
            if (everywhere) add_atom(s, PROPERTY_USER, &v, &signature);
        }
    }
}

static void find_variants(struct space *s)
{
    unsigned hiding = 0;
    s->variant_count = 1;
    for (unsigned p = 0; p < s->policy_count; p++)
        if (hides_addresses(&s->policies[p]->policy)) hiding |= 1u << p;
    for (unsigned mask = 1; mask <= hiding; mask++) {
        if ((mask & ~hiding) != 0) continue;
        for (int local = 0; local < 2; local++) s->variants[s->variant_count++] = (struct variant){mask, local != 0};
    }
}

static void cut_all(struct space *s)
{
    static const struct miniproxy_rule to_special = {.to = &miniproxy_special_purpose};
    static const struct miniproxy_rule connect = {.port = {MINIPROXY_CONNECT_PORT, MINIPROXY_CONNECT_PORT}};
    for (int kind = 0; kind < PROPERTIES; kind++) {
        struct cut *cut = &s->cuts[kind];
        for (unsigned p = 0; p < s->policy_count; p++)
            for (unsigned i = 0; i < s->policies[p]->policy.rule_count; i++)
                add_condition(s, (enum property)kind, s->policies[p]->policy.rules + i);
        for (unsigned p = 0; p < s->policy_count; p++) add_ways(s, (enum property)kind, &s->policies[p]->policy);
        if (kind == PROPERTY_ADDRESS) add_condition(s, PROPERTY_ADDRESS, &to_special);
        if (kind == PROPERTY_PORT) add_condition(s, PROPERTY_PORT, &connect);
        cut->words = cut->condition_count / 64 + 1;
    }
    if (s->no_memory || s->problem != NULL) return;
    s->special_condition = (unsigned)find_condition(s, PROPERTY_ADDRESS, &to_special);
    s->port_condition = (unsigned)find_condition(s, PROPERTY_PORT, &connect);
    cut_addresses(s, PROPERTY_CLIENT);
    cut_addresses(s, PROPERTY_ADDRESS);
    cut_users(s);
    cut_ports(s);
    cut_hosts(s);
    cut_paths(s);
    cut_agents(s);
    cut_types(s);
    cut_times(s);
    s->cuts[PROPERTY_METHOD].count = METHODS;
    find_variants(s);
}

unsigned space_atoms(const struct space *s, enum property kind)
{
    return s->cuts[kind].count;
}

/* Of an atom of addresses, the one that is not a variant; any other as it is. */
static unsigned plain_atom(const struct space *s, enum property kind, unsigned atom)
{
    return kind == PROPERTY_ADDRESS ? atom % s->cuts[kind].count : atom;
}

static const struct variant *variant_of(const struct space *s, unsigned address_atom)
{
    return s->variants + address_atom / s->cuts[PROPERTY_ADDRESS].count;
}

bool space_is_hidden(const struct space *s, unsigned policy, unsigned address_atom)
{
    return (variant_of(s, address_atom)->mask >> policy & 1) != 0;
}

const struct value *space_value(const struct space *s, enum property kind, unsigned atom)
{
    return s->cuts[kind].values + plain_atom(s, kind, atom);
}

unsigned space_atom_of(const struct space *s, enum property property, const struct value *v)
{
    const struct cut *cut = &s->cuts[property];
    uint64_t signature[CONDITIONS_MAX / 64 + 1];
    unsigned atom = cut->alone;
    sign(s, property, v, signature);
    while (atom + 1 < cut->count &&
           memcmp(cut->signatures + (size_t)atom * cut->words, signature, cut->words * sizeof *signature) != 0)
        atom++;
    return atom;
}

bool space_is_special(const struct space *s, unsigned address_atom)
{
    if (variant_of(s, address_atom)->mask != 0) return variant_of(s, address_atom)->local;
    return signature_has(&s->cuts[PROPERTY_ADDRESS], address_atom, s->special_condition);
}

/* ---- Boxes */

static const struct {
    enum property first, second; /* bit of a pair: atom of first * count of second + atom of second */
} dimensions[DIMENSIONS] = {
    [DIM_WHO] = {PROPERTY_CLIENT, PROPERTY_USER}, [DIM_WHAT] = {PROPERTY_METHOD, PROPERTY_PORT},
    [DIM_HOST] = {PROPERTY_HOST, PROPERTIES},     [DIM_ADDRESS] = {PROPERTY_ADDRESS, PROPERTIES},
    [DIM_PATH] = {PROPERTY_PATH, PROPERTIES},     [DIM_AGENT] = {PROPERTY_AGENT, PROPERTIES},
    [DIM_TYPE] = {PROPERTY_TYPE, PROPERTIES},     [DIM_TIME] = {PROPERTY_TIME, PROPERTIES},
};

static unsigned second_count(const struct space *s, unsigned d)
{
    return dimensions[d].second == PROPERTIES ? 1 : s->cuts[dimensions[d].second].count;
}

static unsigned size_of(const struct space *s, unsigned d)
{
    return s->cuts[dimensions[d].first].count * (d == DIM_ADDRESS ? s->variant_count : second_count(s, d));
}

static unsigned box_words(const struct space *s)
{
    return s->first_word[DIMENSIONS];
}

static void set_bit(const struct space *s, uint64_t *box, unsigned d, unsigned bit)
{
    box[s->first_word[d] + bit / 64] |= (uint64_t)1 << bit % 64;
}

static void clear_bit(const struct space *s, uint64_t *box, unsigned d, unsigned bit)
{
    box[s->first_word[d] + bit / 64] &= ~((uint64_t)1 << bit % 64);
}

static bool has_bit(const struct space *s, const uint64_t *box, unsigned d, unsigned bit)
{
    return (box[s->first_word[d] + bit / 64] >> bit % 64 & 1) != 0;
}

bool space_has_requester(const struct space *s, const uint64_t *box, unsigned client, unsigned user)
{
    return has_bit(s, box, DIM_WHO, client * s->cuts[PROPERTY_USER].count + user);
}

void space_open(const struct space *s, uint64_t *box, enum dimension dimension)
{
    for (unsigned bit = 0; bit < size_of(s, dimension); bit++) set_bit(s, box, dimension, bit);
}

uint64_t *space_all(struct space *s)
{
    uint64_t *box = get(s, box_words(s) * sizeof *box);
    for (unsigned d = 0; box != NULL && d < DIMENSIONS; d++) space_open(s, box, (enum dimension)d);
    return box;
}

uint64_t *space_copy(struct space *s, const uint64_t *box)
{
    uint64_t *copy = get(s, box_words(s) * sizeof *copy);
    if (copy != NULL) memcpy(copy, box, box_words(s) * sizeof *copy);
    return copy;
}

void space_meet(const struct space *s, uint64_t *box, const uint64_t *with)
{
    for (unsigned i = 0; i < box_words(s); i++) box[i] &= with[i];
}

static void cut_pairs(const struct space *s, uint64_t *box, unsigned d,
                      bool (*keep)(const void *data, unsigned first, unsigned second), const void *data)
{
    unsigned seconds = second_count(s, d);
    for (unsigned bit = 0; bit < size_of(s, d); bit++)
        if (!keep(data, bit / seconds, bit % seconds)) clear_bit(s, box, d, bit);
}

struct keep_one {
    bool (*keep)(const void *data, unsigned atom);
    const void *data;
    bool is_second;
};

static bool keep_one(const void *data, unsigned first, unsigned second)
{
    const struct keep_one *k = data;
    return k->keep(k->data, k->is_second ? second : first);
}

void space_cut(const struct space *s, uint64_t *box, enum property kind, bool (*keep)(const void *data, unsigned atom),
               const void *data)
{
    for (unsigned d = 0; d < DIMENSIONS; d++)
        if (dimensions[d].first == kind || dimensions[d].second == kind)
            cut_pairs(s, box, d, keep_one, &(struct keep_one){keep, data, dimensions[d].second == kind});
}

/* A rule, with the condition of each kind that it has, -1: none. */
struct rule_view {
    const struct space *s;
    const struct miniproxy_rule *r;
    unsigned policy;
    int condition[PROPERTIES];
};

static bool covers(const struct rule_view *v, enum property kind, unsigned atom)
{
    return v->condition[kind] < 0 || signature_has(&v->s->cuts[kind], atom, (unsigned)v->condition[kind]);
}

static bool covers_user(const struct rule_view *v, unsigned atom)
{
    const struct value *user = space_value(v->s, PROPERTY_USER, atom);
    int index = user->user[v->policy];
    if (index < 0) return v->r->users == 0;
    return v->r->users == 0 ||
           (v->r->users & (v->s->policies[v->policy]->policy.users[index].groups | MINIPROXY_AUTHENTICATED)) != 0;
}

static bool keep_who(const void *data, unsigned client, unsigned user)
{
    const struct rule_view *v = data;
    if (!v->r->either) return covers(v, PROPERTY_CLIENT, client) && covers_user(v, user);
    return covers_user(v, user) || covers(v, PROPERTY_CLIENT, client);
}

/* A login might help. */
static bool keep_asked(const void *data, unsigned client, unsigned user)
{
    const struct rule_view *v = data;
    if (v->r->users == 0 || v->r->verdict == MINIPROXY_DENY || user != USER_NOBODY) return false;
    if (!policy_has_passwords(&v->s->policies[v->policy]->policy, v->r->users)) return false;
    return v->r->either ? !covers(v, PROPERTY_CLIENT, client) : covers(v, PROPERTY_CLIENT, client);
}

/* Rules that ask for what pages do not have are not about them, nor is an ALLOW that does not name them. */
static bool covers_pages(const struct rule_view *v)
{
    const int *condition = v->condition;
    return (v->r->methods != 0 || v->r->verdict == MINIPROXY_DENY) && !v->r->literal && condition[PROPERTY_HOST] < 0 &&
           condition[PROPERTY_ADDRESS] < 0 && condition[PROPERTY_PORT] < 0 && condition[PROPERTY_TYPE] < 0;
}

static bool keep_what(const void *data, unsigned method, unsigned port)
{
    const struct rule_view *v = data;
    const struct miniproxy_rule *r = v->r;
    bool is_connect = 1u << method == MINIPROXY_CONNECT;
    if (r->methods != 0 && (r->methods >> method & 1u) == 0) return false;
    if (method == METHOD_PAGES) return covers_pages(v);
    if (is_connect && (v->condition[PROPERTY_PATH] >= 0 || v->condition[PROPERTY_TYPE] >= 0)) return false;
    if (v->condition[PROPERTY_PORT] >= 0 || !is_connect || r->verdict == MINIPROXY_DENY)
        return covers(v, PROPERTY_PORT, port);
    return signature_has(&v->s->cuts[PROPERTY_PORT], port, v->s->port_condition);
}

static bool keep_host(const void *data, unsigned host, unsigned unused)
{
    const struct rule_view *v = data;
    (void)unused;
    if (v->r->literal && host != HOST_LITERAL) return false;
    return v->condition[PROPERTY_HOST] < 0 || (host != HOST_LITERAL && covers(v, PROPERTY_HOST, host));
}

static bool keep_address(const void *data, unsigned address, unsigned unused)
{
    const struct rule_view *v = data;
    (void)unused;
    if (space_is_hidden(v->s, v->policy, address))
        return v->r->to == NULL &&
               (v->r->verdict == MINIPROXY_DENY || v->r->special_purpose || !variant_of(v->s, address)->local);
    address = plain_atom(v->s, PROPERTY_ADDRESS, address);
    if (v->r->verdict == MINIPROXY_ALLOW && !v->r->special_purpose && space_is_special(v->s, address)) return false;
    return covers(v, PROPERTY_ADDRESS, address);
}

static bool keep_path(const void *data, unsigned path, unsigned unused)
{
    (void)unused;
    return covers(data, PROPERTY_PATH, path);
}

static bool keep_agent(const void *data, unsigned agent, unsigned unused)
{
    (void)unused;
    return covers(data, PROPERTY_AGENT, agent);
}

static bool keep_type(const void *data, unsigned type, unsigned unused)
{
    const struct rule_view *v = data;
    (void)unused;
    if (type == TYPE_NOTHING && v->condition[PROPERTY_TYPE] >= 0) return v->r->verdict == MINIPROXY_ALLOW;
    return covers(v, PROPERTY_TYPE, type);
}

static bool keep_time(const void *data, unsigned time, unsigned unused)
{
    (void)unused;
    return covers(data, PROPERTY_TIME, time);
}

static void make_boxes(struct space *s, struct rule_boxes *boxes, const struct rule_view *v)
{
    uint64_t *box = space_all(s);
    if (box == NULL) return;
    cut_pairs(s, box, DIM_WHAT, keep_what, v);
    cut_pairs(s, box, DIM_HOST, keep_host, v);
    cut_pairs(s, box, DIM_ADDRESS, keep_address, v);
    cut_pairs(s, box, DIM_PATH, keep_path, v);
    cut_pairs(s, box, DIM_AGENT, keep_agent, v);
    cut_pairs(s, box, DIM_TYPE, keep_type, v);
    cut_pairs(s, box, DIM_TIME, keep_time, v);
    boxes->matches = box;
    boxes->asks = space_copy(s, box);
    cut_pairs(s, box, DIM_WHO, keep_who, v);
    if (boxes->asks != NULL) cut_pairs(s, boxes->asks, DIM_WHO, keep_asked, v);
}

static void make_boxes_of(struct space *s, struct rule_boxes *boxes, unsigned policy, const struct miniproxy_rule *r)
{
    struct rule_view v = {.s = s, .r = r, .policy = policy};
    if (s->no_memory) return;
    for (int kind = 0; kind < PROPERTIES; kind++) v.condition[kind] = find_condition(s, (enum property)kind, r);
    make_boxes(s, boxes, &v);
}

static void make_all_boxes(struct space *s)
{
    for (unsigned p = 0; p < s->policy_count; p++) {
        const struct miniproxy_policy *policy = &s->policies[p]->policy;
        struct miniproxy_rule rule;
        s->boxes[p] = get(s, (policy->rule_count + 1u) * sizeof *s->boxes[p]);
        s->routes[p] = get(s, (policy->route_count + 1u) * sizeof *s->routes[p]);
        s->limits[p] = get(s, (policy->limit_count + 1u) * sizeof *s->limits[p]);
        for (unsigned i = 0; i < policy->rule_count; i++) make_boxes_of(s, &s->boxes[p][i], p, policy->rules + i);
        for (unsigned i = 0; i < policy->route_count; i++) {
            rule = route_as_rule(policy->routes + i);
            make_boxes_of(s, &s->routes[p][i], p, &rule);
        }
        for (unsigned i = 0; i < policy->limit_count; i++) {
            rule = limit_as_rule(policy->limits + i);
            make_boxes_of(s, &s->limits[p][i], p, &rule);
        }
    }
}

static bool is_atom(const void *data, unsigned atom)
{
    return atom == *(const unsigned *)data;
}

static bool is_connect(const void *data, unsigned method)
{
    return (1u << method == MINIPROXY_CONNECT) == (data != NULL);
}

static bool is_head(const void *data, unsigned method)
{
    return (1u << method == MINIPROXY_HEAD) == (data != NULL);
}

/* ---- Requests that exist */

static void add_existing(struct space *s, const uint64_t *box)
{
    if (s->all_count == s->all_room) {
        unsigned room = 2 * s->all_room + 8;
        const uint64_t **list = get(s, room * sizeof *list);
        if (list == NULL) return;
        if (s->all_count > 0) memcpy(list, s->all, s->all_count * sizeof *list);
        s->all = list;
        s->all_room = room;
    }
    s->all[s->all_count++] = box;
}

static bool is_page(const void *data, unsigned method)
{
    return (method == METHOD_PAGES) == (data != NULL);
}

/* Of what a page does not have, one atom stands for that. */
static void add_pages(struct space *s)
{
    static const unsigned nothing = TYPE_NOTHING, no_port = 0, no_host = HOST_LITERAL + 1;
    uint64_t *box = space_all(s);
    unsigned no_address = 0;
    if (box == NULL) return;
    while (space_is_special(s, no_address)) no_address++;
    space_cut(s, box, PROPERTY_METHOD, is_page, s);
    space_cut(s, box, PROPERTY_PORT, is_atom, &no_port);
    space_cut(s, box, PROPERTY_HOST, is_atom, &no_host);
    space_cut(s, box, PROPERTY_ADDRESS, is_atom, &no_address);
    space_cut(s, box, PROPERTY_TYPE, is_atom, &nothing);
    add_existing(s, box);
}

/* Responses to HEAD have no content, tunnels have neither a path. */
static void add_by_method(struct space *s, const uint64_t *part)
{
    static const unsigned nothing = TYPE_NOTHING, first = 0;
    const bool all_alike = s->cuts[PROPERTY_TYPE].count == 1 && s->cuts[PROPERTY_PATH].count == 1;
    uint64_t *most = space_copy(s, part), *tunnels = space_copy(s, part), *heads = space_copy(s, part);
    if (most == NULL || tunnels == NULL || heads == NULL) return;
    space_cut(s, most, PROPERTY_METHOD, is_page, NULL);
    add_existing(s, most);
    if (all_alike) return;
    space_cut(s, most, PROPERTY_METHOD, is_connect, NULL);
    space_cut(s, most, PROPERTY_METHOD, is_head, NULL);
    space_cut(s, tunnels, PROPERTY_METHOD, is_connect, s);
    space_cut(s, tunnels, PROPERTY_TYPE, is_atom, &nothing);
    space_cut(s, tunnels, PROPERTY_PATH, is_atom, &first);
    add_existing(s, tunnels);
    space_cut(s, heads, PROPERTY_METHOD, is_head, s);
    space_cut(s, heads, PROPERTY_TYPE, is_atom, &nothing);
    add_existing(s, heads);
}

/* Hosts that no route of any policy tells apart. */
struct host_class {
    uint64_t *hidden[2]; /* who asks for them so that a policy does not see their address: bits of DIM_WHO */
    unsigned host;       /* one of them */
};

static bool route_covers_host(const struct space *s, unsigned policy, unsigned route, unsigned host)
{
    return has_bit(s, s->routes[policy][route].matches, DIM_HOST, host);
}

/* The first route whose other conditions match says it: by asking for an address it has the name resolved here. */
static void find_hidden(const struct space *s, unsigned policy, unsigned host, uint64_t *hidden, uint64_t *left)
{
    const struct miniproxy_policy *p = &s->policies[policy]->policy;
    const unsigned first = s->first_word[DIM_WHO], words = s->first_word[DIM_WHO + 1] - first;
    memset(left, 0xff, words * sizeof *left);
    memset(hidden, 0, words * sizeof *hidden);
    for (unsigned i = 0; i < p->route_count && host != HOST_LITERAL; i++) {
        const uint64_t *who = s->routes[policy][i].matches + first;
        const bool hides = route_hides_address(p, p->routes + i) && p->routes[i].to == NULL;
        if (!route_covers_host(s, policy, i, host)) continue;
        for (unsigned w = 0; w < words; w++) {
            if (hides) hidden[w] |= left[w] & who[w];
            left[w] &= ~who[w];
        }
    }
}

static bool is_of_class(const struct space *s, const struct host_class *c, unsigned host)
{
    if ((c->host == HOST_LITERAL) != (host == HOST_LITERAL)) return false;
    for (unsigned p = 0; p < s->policy_count; p++)
        for (unsigned i = 0; i < s->policies[p]->policy.route_count; i++)
            if (route_covers_host(s, p, i, c->host) != route_covers_host(s, p, i, host)) return false;
    return true;
}

/* Cut a box down to those who hide addresses from the policies of a mask, and from no others. */
static void cut_who(const struct space *s, uint64_t *box, const struct host_class *c, unsigned mask)
{
    const unsigned first = s->first_word[DIM_WHO], words = s->first_word[DIM_WHO + 1] - first;
    for (unsigned p = 0; p < s->policy_count; p++)
        for (unsigned w = 0; w < words; w++)
            box[first + w] &= (mask >> p & 1) != 0 ? c->hidden[p][w] : ~c->hidden[p][w];
}

/* Addresses of a variant: all of them; if no policy sees any, one stands for all. */
static void cut_to_variant(const struct space *s, uint64_t *box, unsigned variant)
{
    const unsigned count = s->cuts[PROPERTY_ADDRESS].count, none = (1u << s->policy_count) - 1;
    for (unsigned atom = 0; atom < count * s->variant_count; atom++)
        if (atom / count != variant || (s->variants[variant].mask == none && atom % count != 0))
            clear_bit(s, box, DIM_ADDRESS, atom);
}

static void add_class(struct space *s, const struct host_class *c, const uint64_t *hosts)
{
    const unsigned first = s->first_word[DIM_HOST], words = s->first_word[DIM_HOST + 1] - first;
    for (unsigned variant = 0; variant < s->variant_count; variant++) {
        uint64_t *box = space_all(s);
        if (box == NULL) return;
        memcpy(box + first, hosts, words * sizeof *hosts);
        for (unsigned host = 1; host < s->cuts[PROPERTY_HOST].count && variant > 0; host++)
            if (name_is_local(s->cuts[PROPERTY_HOST].values[host].text) != s->variants[variant].local)
                clear_bit(s, box, DIM_HOST, host);
        cut_who(s, box, c, s->variants[variant].mask);
        cut_to_variant(s, box, variant);
        if (!space_is_empty(s, box)) add_by_method(s, box);
    }
}

/* Where routes leave names to parents, the address of a request is there or not, depending on who asks for what. */
static void make_existing(struct space *s)
{
    const unsigned hosts = s->cuts[PROPERTY_HOST].count, words = s->first_word[DIM_WHO + 1] - s->first_word[DIM_WHO];
    bool *done = get(s, hosts * sizeof *done);
    uint64_t *left = get(s, words * sizeof *left);
    uint64_t *box = space_all(s);
    if (done == NULL || left == NULL || box == NULL) return;
    if (s->variant_count == 1) {
        add_by_method(s, box);
        return;
    }
    for (unsigned i = 1; i <= hosts && !s->no_memory; i++) { /* names make better examples than literals */
        unsigned host = i < hosts ? i : HOST_LITERAL;
        struct host_class c = {.host = host};
        uint64_t *of_class = get(s, ((hosts + 63) / 64) * sizeof *of_class);
        if (done[host] || of_class == NULL) continue;
        for (unsigned p = 0; p < s->policy_count; p++) {
            c.hidden[p] = get(s, words * sizeof *c.hidden[p]);
            if (c.hidden[p] == NULL) return;
            find_hidden(s, p, host, c.hidden[p], left);
        }
        for (unsigned other = host; other < hosts; other++) {
            if (done[other] || !is_of_class(s, &c, other)) continue;
            done[other] = true;
            of_class[other / 64] |= (uint64_t)1 << other % 64;
        }
        add_class(s, &c, of_class);
    }
}

struct space *space_new(const struct compiled *const *policies, unsigned count, const char **problem)
{
    struct space *s = calloc(1, sizeof *s);
    unsigned words = 0;
    *problem = NULL;
    if (s == NULL) return NULL;
    s->policy_count = count;
    for (unsigned i = 0; i < count; i++) s->policies[i] = policies[i];
    cut_all(s);
    for (unsigned d = 0; d < DIMENSIONS && !s->no_memory; d++) {
        s->first_word[d] = words;
        words += (size_of(s, d) + 63) / 64;
        if (words > WORDS_MAX) s->problem = "too many combinations of clients and users, or of other properties";
        if (s->problem != NULL) break;
    }
    s->first_word[DIMENSIONS] = words;
    if (s->problem == NULL && !s->no_memory) make_all_boxes(s);
    if (s->problem == NULL && !s->no_memory) make_existing(s);
    if (s->problem == NULL && !s->no_memory) add_pages(s);
    if (s->problem == NULL && !s->no_memory) return s;
    *problem = s->problem;
    space_free(s);
    return NULL;
}

void space_free(struct space *s)
{
    struct block *next;
    if (s == NULL) return;
    for (struct block *b = s->blocks; b != NULL; b = next) {
        next = b->next;
        free(b);
    }
    free(s->stack);
    free(s);
}

const uint64_t *space_matches(const struct space *s, unsigned policy, unsigned rule)
{
    return s->boxes[policy][rule].matches;
}

const uint64_t *space_route(const struct space *s, unsigned policy, unsigned route)
{
    return s->routes[policy][route].matches;
}

const uint64_t *space_limit(const struct space *s, unsigned policy, unsigned limit)
{
    return s->limits[policy][limit].matches;
}

const uint64_t *space_asks(const struct space *s, unsigned policy, unsigned rule)
{
    return s->boxes[policy][rule].asks;
}

/* ---- Search */

static bool is_empty_in(const struct space *s, const uint64_t *box, unsigned d)
{
    for (unsigned i = s->first_word[d]; i < s->first_word[d + 1]; i++)
        if (box[i] != 0) return false;
    return true;
}

bool space_is_empty(const struct space *s, const uint64_t *box)
{
    for (unsigned d = 0; d < DIMENSIONS; d++)
        if (is_empty_in(s, box, d)) return true;
    return false;
}

static bool contains_in(const struct space *s, const uint64_t *outer, const uint64_t *inner, unsigned d)
{
    for (unsigned i = s->first_word[d]; i < s->first_word[d + 1]; i++)
        if ((inner[i] & ~outer[i]) != 0) return false;
    return true;
}

bool space_contains(const struct space *s, const uint64_t *outer, const uint64_t *inner)
{
    for (unsigned d = 0; d < DIMENSIONS; d++)
        if (!contains_in(s, outer, inner, d)) return false;
    return true;
}

static bool meets(const struct space *s, const uint64_t *a, const uint64_t *b)
{
    for (unsigned d = 0; d < DIMENSIONS; d++) {
        uint64_t common = 0;
        for (unsigned i = s->first_word[d]; i < s->first_word[d + 1]; i++) common |= a[i] & b[i];
        if (common == 0) return false;
    }
    return true;
}

/* Cut `to` down to what is in `box` too. False: nothing. */
static bool intersect(const struct space *s, uint64_t *to, const uint64_t *box)
{
    space_meet(s, to, box);
    return !space_is_empty(s, to);
}

struct search {
    struct space *s;
    const uint64_t *const *out;
    unsigned out_count;
    unsigned nodes; /* that may still be looked at */
    bool *used;
};

/* The box of `out` that divides this one into the fewest pieces; out_count: none meets it. */
static unsigned choose_box(const struct search *x, const uint64_t *box, unsigned *pieces)
{
    unsigned best = x->out_count;
    *pieces = DIMENSIONS + 1;
    for (unsigned j = 0; j<x->out_count && * pieces> 0; j++) {
        unsigned n = 0;
        if (!meets(x->s, box, x->out[j])) continue;
        for (unsigned d = 0; d < DIMENSIONS; d++) n += !contains_in(x->s, x->out[j], box, d);
        if (n >= *pieces) continue;
        *pieces = n;
        best = j;
    }
    return best;
}

static uint64_t *level(const struct search *x, unsigned depth)
{
    return x->s->stack + (size_t)depth * box_words(x->s);
}

/* Is anything of the box at this level of the stack in none of `out`? Then that is left there. Each level takes one box
 * of `out` away, so there are at most out_count of them. */
static enum found search(struct search *x, unsigned depth)
{
    const struct space *s = x->s;
    uint64_t *box = level(x, depth), *piece = level(x, depth + 1);
    unsigned pieces, j = choose_box(x, box, &pieces);
    if (j == x->out_count) {
        memmove(x->s->stack, box, box_words(s) * sizeof *box);
        return FOUND;
    }
    if (x->nodes-- == 0) return FOUND_TOO_MUCH;
    if (x->used != NULL) x->used[j] = true;
    for (unsigned d = 0; d < DIMENSIONS; d++) {
        enum found found;
        memcpy(piece, box, box_words(s) * sizeof *box);
        for (unsigned i = s->first_word[d]; i < s->first_word[d + 1]; i++) {
            piece[i] &= ~x->out[j][i];
            box[i] &= x->out[j][i];
        }
        if (is_empty_in(s, piece, d)) continue;
        found = search(x, depth + 1);
        if (found != FOUND_NONE) return found;
    }
    return FOUND_NONE;
}

/* The atoms of one dimension that make the best example. */
static void choose_atoms(const struct space *s, const uint64_t *box, unsigned d, struct witness *w)
{
    enum property first = dimensions[d].first, second = dimensions[d].second;
    unsigned best = UINT32_MAX, seconds = second_count(s, d);
    for (unsigned bit = 0; bit < size_of(s, d); bit++) {
        unsigned a = bit / seconds, b = bit % seconds, rank = 0;
        if (!has_bit(s, box, d, bit)) continue;
        rank += first == PROPERTY_METHOD ? 10 * a : space_value(s, first, a)->rank;
        if (second != PROPERTIES) rank += s->cuts[second].values[b].rank;
        if (first == PROPERTY_METHOD && 1u << a != MINIPROXY_CONNECT && s->cuts[second].values[b].number == 443)
            rank += 2;
        if (rank >= best) continue;
        best = rank;
        w->atom[first] = a;
        if (second != PROPERTIES) w->atom[second] = b;
    }
}

static void fill_witness(const struct space *s, struct witness *w)
{
    const struct value *user = space_value(s, PROPERTY_USER, w->atom[PROPERTY_USER]);
    struct miniproxy_question *q = &w->question;
    begin_question(q);
    q->method = (uint16_t)(1u << w->atom[PROPERTY_METHOD]);
    for (int kind = 0; kind < PROPERTIES; kind++)
        if (kind != PROPERTY_METHOD)
            put_value(q, (enum property)kind, space_value(s, (enum property)kind, w->atom[kind]));
    w->client = *q->client;
    w->address = *q->address;
    q->client = &w->client;
    q->address = &w->address;
    if (w->atom[PROPERTY_HOST] == HOST_LITERAL) {
        miniproxy_addr_format(&w->address, w->literal);
        q->host = w->literal;
        q->literal = true;
    }
    if (q->method == MINIPROXY_CONNECT) q->path = NULL, q->path_len = 0;
    if (q->method == MINIPROXY_PAGES) q->host = "", q->port = 0, q->address = NULL;
    if (variant_of(s, w->atom[PROPERTY_ADDRESS])->mask == (1u << s->policy_count) - 1) {
        q->address = NULL;
        q->remote = true;
    }
    w->user = user->text;
    for (unsigned p = 0; p < s->policy_count; p++)
        w->users[p] = user->user[p] < 0 ? NULL : s->policies[p]->policy.users + user->user[p];
}

static bool has_stack(struct space *s, size_t boxes)
{
    if (boxes <= s->stack_room) return true;
    free(s->stack);
    s->stack_room = boxes < 64 ? 64 : boxes;
    s->stack = malloc(s->stack_room * box_words(s) * sizeof *s->stack);
    if (s->stack == NULL) s->stack_room = 0;
    return s->stack != NULL;
}

enum found space_find(struct space *s, const uint64_t *const *in, unsigned in_count, const uint64_t *const *out,
                      unsigned out_count, bool *used, struct witness *w)
{
    struct search x = {.s = s, .out = out, .out_count = out_count, .nodes = NODES_MAX, .used = used};
    enum found found = FOUND_NONE;
    if (used != NULL) memset(used, 0, out_count * sizeof *used);
    if (!has_stack(s, out_count + 2u)) return FOUND_TOO_MUCH;
    for (unsigned part = 0; part < s->all_count && found == FOUND_NONE; part++) {
        bool any = true;
        memcpy(s->stack, s->all[part], box_words(s) * sizeof *s->stack);
        for (unsigned i = 0; i < in_count && any; i++) any = intersect(s, s->stack, in[i]);
        if (any) found = search(&x, 0);
    }
    if (found != FOUND || w == NULL) return found;
    memset(w, 0, sizeof *w);
    for (unsigned d = 0; d < DIMENSIONS; d++) choose_atoms(s, s->stack, d, w);
    fill_witness(s, w);
    return found;
}

enum miniproxy_verdict space_verdict(const struct space *s, unsigned policy, const struct witness *w, int *rule)
{
    struct miniproxy_question q = w->question;
    enum miniproxy_verdict verdict;
    q.client = &w->client;
    q.address = q.method != MINIPROXY_PAGES ? &w->address : NULL;
    if (q.literal) q.host = w->literal;
    q.user = w->users[policy];
    q.remote = !q.literal && space_is_hidden(s, policy, w->atom[PROPERTY_ADDRESS]);
    if (q.remote) q.address = NULL;
    verdict = miniproxy_decide(&s->policies[policy]->policy, &q, rule);
    return verdict == MINIPROXY_NEEDS_TYPE ? MINIPROXY_ALLOWED : verdict;
}

/* ---- Comparison */

/* A part of the requests with one outcome: in all of `in`, in no rule's box before `matches_from` … */
struct cell {
    struct outcome outcome;
    const uint64_t *in[2];
    unsigned in_count;
    unsigned no_match; /* rules before this one do not match */
    unsigned no_ask;   /* rules before this one do not ask for a login */
};

struct cells {
    struct cell *list;
    size_t count, room;
};

static unsigned put_out(const struct space *s, unsigned policy, const struct cell *c, const uint64_t **out)
{
    unsigned n = 0;
    for (unsigned i = 0; i < c->no_match; i++) out[n++] = space_matches(s, policy, i);
    for (unsigned i = 0; i < c->no_ask; i++)
        if (!space_is_empty(s, space_asks(s, policy, i))) out[n++] = space_asks(s, policy, i);
    return n;
}

static bool add_cell(struct space *s, struct cells *cells, unsigned policy, struct cell c, const uint64_t **out)
{
    struct cell *list;
    if (c.in_count == 2 && !meets(s, c.in[0], c.in[1])) return true;
    if (space_find(s, c.in, c.in_count, out, put_out(s, policy, &c, out), NULL, NULL) == FOUND_NONE) return true;
    if (cells->count == cells->room) {
        cells->room = cells->room == 0 ? 64 : 2 * cells->room;
        list = realloc(cells->list, cells->room * sizeof *list);
        if (list == NULL) return false;
        cells->list = list;
    }
    cells->list[cells->count++] = c;
    return true;
}

/* All that has an outcome in one policy. After a rule that asks for a login, a DENY or the end makes that the outcome,
 * an ALLOW does not. */
static bool make_cells(struct space *s, struct cells *cells, unsigned policy, const uint64_t **out)
{
    const struct miniproxy_policy *t = &s->policies[policy]->policy;
    bool ok = true;
    for (unsigned i = 0; i <= t->rule_count && ok; i++) {
        bool is_rule = i < t->rule_count, allows = is_rule && t->rules[i].verdict == MINIPROXY_ALLOW;
        struct cell c = {.outcome = {allows ? MINIPROXY_ALLOWED : MINIPROXY_DENIED, is_rule ? (int)i : -1},
                         .no_match = i,
                         .no_ask = allows ? 0 : i};
        if (is_rule) c.in[c.in_count++] = space_matches(s, policy, i);
        ok = add_cell(s, cells, policy, c, out);
        for (unsigned j = 0; j < i && !allows && ok; j++) {
            struct cell asked = c;
            if (space_is_empty(s, space_asks(s, policy, j))) continue;
            asked.outcome = (struct outcome){MINIPROXY_NEEDS_USER, (int)j};
            asked.in[asked.in_count++] = space_asks(s, policy, j);
            asked.no_ask = j;
            ok = add_cell(s, cells, policy, asked, out);
        }
    }
    return ok;
}

static bool same_outcome(const struct outcome *a, const struct outcome *b)
{
    return a->verdict == b->verdict && a->rule == b->rule;
}

struct told {
    struct outcome (*list)[2];
    size_t count, room;
};

static bool was_told(const struct told *t, const struct difference *d)
{
    for (size_t i = 0; i < t->count; i++)
        if (same_outcome(&t->list[i][0], &d->outcome[0]) && same_outcome(&t->list[i][1], &d->outcome[1])) return true;
    return false;
}

static bool remember(struct told *t, const struct difference *d)
{
    if (t->count == t->room) {
        t->room = t->room == 0 ? 64 : 2 * t->room;
        void *list = realloc(t->list, t->room * sizeof *t->list);
        if (list == NULL) return false;
        t->list = list;
    }
    memcpy(t->list[t->count++], d->outcome, sizeof d->outcome);
    return true;
}

static bool compare_cells(struct space *s, const struct cell *a, const struct cell *b, const uint64_t **out,
                          struct told *told, void (*tell)(void *data, const struct difference *d), void *data)
{
    struct difference d = {.outcome = {a->outcome, b->outcome}};
    const uint64_t *in[4];
    unsigned in_count = 0, out_count;
    if (a->outcome.verdict == b->outcome.verdict || was_told(told, &d)) return true;
    for (unsigned i = 0; i < a->in_count; i++) in[in_count++] = a->in[i];
    for (unsigned i = 0; i < b->in_count; i++) in[in_count++] = b->in[i];
    for (unsigned i = 0; i < in_count; i++)
        for (unsigned j = i + 1; j < in_count; j++)
            if (!meets(s, in[i], in[j])) return true;
    out_count = put_out(s, 0, a, out);
    out_count += put_out(s, 1, b, out + out_count);
    d.found = space_find(s, in, in_count, out, out_count, NULL, &d.witness);
    if (d.found == FOUND_NONE) return true;
    tell(data, &d);
    return remember(told, &d);
}

bool space_compare(struct space *s, void (*tell)(void *data, const struct difference *d), void *data)
{
    size_t most = 2 * ((size_t)s->policies[0]->policy.rule_count + s->policies[1]->policy.rule_count + 2);
    const uint64_t **out = malloc(most * sizeof *out);
    struct cells cells[2] = {{0}, {0}};
    struct told told = {0};
    bool ok = out != NULL && make_cells(s, &cells[0], 0, out) && make_cells(s, &cells[1], 1, out);
    for (size_t i = 0; ok && i < cells[0].count; i++)
        for (size_t j = 0; ok && j < cells[1].count; j++)
            ok = compare_cells(s, &cells[0].list[i], &cells[1].list[j], out, &told, tell, data);
    free(out);
    free(cells[0].list);
    free(cells[1].list);
    free(told.list);
    return ok;
}
