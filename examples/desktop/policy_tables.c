/* SPDX-License-Identifier: MIT
 *
 * From statements to the core's tables. Equal sets become one.
 */
#include "desktop.h"
#include "policy_source.h"

#include <stdlib.h>
#include <string.h>

#if !MINIPROXY_WITH_CONDITIONS
#error "MINIPROXY_WITH_CONDITIONS is 0: the policy language has conditions; set it to 1 in your config header"
#endif
#if !MINIPROXY_WITH_PAGES || !MINIPROXY_WITH_MAINTENANCE
#error "the policy language knows pages and maintenance: MINIPROXY_WITH_PAGES and _MAINTENANCE must be 1"
#endif

enum {
    LIST_MAX = 16, /* host names of a list; more become a blob */
    BUCKETS = 4096,
    GROUPS_MAX = 15,
    ALL_METHODS = (MINIPROXY_OTHER << 1) - 1 /* of requests for origins */
};

/* Bytes that are the same for equal sets. */
struct key {
    uint8_t *bytes;
    size_t len, room;
};

struct interned {
    struct interned *next;
    uint8_t *bytes;
    size_t len;
    const void *object;
};

/* The values of a clause, with those of the sets in it. */
struct flat {
    struct value **list;
    size_t count, room;
    bool any;
};

/* Users of a rule, as bits. */
struct user_set {
    uint64_t *bits;
};

struct builder {
    struct source *s;
    struct arena *arena;
    struct compiled *c;
    struct interned *interned[BUCKETS];
    struct key key;
    struct flat flat;
    unsigned stamp;
    struct miniproxy_rule *rules;
    struct rule_origin *origins;
    unsigned rule_count, rule_room, type_rules;
    size_t set_room, host_room;
    struct user_set groups[GROUPS_MAX];
    unsigned group_count;
};

/* ---- One object for equal sets */

static void push(struct builder *b, const void *bytes, size_t len)
{
    struct key *key = &b->key;
    if (len > key->room - key->len) {
        size_t room = 2 * (key->room + len) + 64;
        uint8_t *more = arena_take(b->arena, room);
        if (key->len > 0) memcpy(more, key->bytes, key->len);
        key->bytes = more;
        key->room = room;
    }
    if (len > 0) memcpy(key->bytes + key->len, bytes, len);
    key->len += len;
}

static void begin_key(struct builder *b, char kind)
{
    b->key.len = 0;
    push(b, &kind, 1);
}

/* The entry of the key; its object is NULL when there is none yet. */
static struct interned *intern(struct builder *b)
{
    const struct key *key = &b->key;
    uint32_t hash = 2166136261u;
    struct interned **at, *new;
    for (size_t i = 0; i < key->len; i++) hash = (hash ^ key->bytes[i]) * 16777619u;
    for (at = &b->interned[hash % BUCKETS]; *at != NULL; at = &(*at)->next)
        if ((*at)->len == key->len && memcmp((*at)->bytes, key->bytes, key->len) == 0) return *at;
    new = arena_take(b->arena, sizeof *new);
    new->bytes = (uint8_t *)arena_text(b->arena, (const char *)key->bytes, key->len);
    new->len = key->len;
    *at = new;
    return new;
}

/* ---- Names of sets */

static void add_set_name(struct builder *b, const void *set, const char *kind, const char *name, struct place place)
{
    struct compiled *c = b->c;
    if (c->set_count == b->set_room) {
        struct set_name *more = arena_take(b->arena, (b->set_room = 2 * b->set_room + 32) * sizeof *more);
        if (c->set_count > 0) memcpy(more, c->sets, c->set_count * sizeof *more);
        c->sets = more;
    }
    c->sets[c->set_count++] = (struct set_name){set, kind, name, place};
}

/* The set that a clause names, and nothing else; NULL: it has values of its own. */
static struct named *only_set(const struct clause *clause)
{
    return clause->values->next == NULL ? clause->values->set : NULL;
}

/* is_new: the object has been made for this clause. */
static void name_set(struct builder *b, const struct clause *clause, enum kind kind, const void *object, bool is_new)
{
    struct named *set = only_set(clause);
    if (set == NULL) {
        if (is_new) add_set_name(b, object, kind_words[kind], clause->text, clause->place);
        return;
    }
    for (unsigned i = 0; i < sizeof set->table / sizeof set->table[0]; i++) {
        if (set->table[i] == object) return;
        if (set->table[i] != NULL) continue;
        set->table[i] = object;
        break;
    }
    add_set_name(b, object, kind_words[kind], set->name, set->place);
}

/* ---- Values */

static void add_value(struct builder *b, struct value *v)
{
    struct flat *flat = &b->flat;
    if (flat->count == flat->room) {
        struct value **more = arena_take(b->arena, (flat->room = 2 * flat->room + 64) * sizeof *more);
        if (flat->count > 0) memcpy(more, flat->list, flat->count * sizeof *more);
        flat->list = more;
    }
    flat->list[flat->count++] = v;
}

/* Nested at most NESTING_MAX deep; each set once. */
static void walk_values(struct builder *b, struct value *values)
{
    for (struct value *v = values; v != NULL; v = v->next) {
        if (v->any) b->flat.any = true;
        if (v->set == NULL) {
            add_value(b, v);
        } else if (v->set->stamp != b->stamp) {
            v->set->stamp = b->stamp;
            v->set->used = true;
            walk_values(b, v->set->values);
        }
    }
}

static const struct flat *flatten(struct builder *b, const struct clause *clause)
{
    b->stamp++;
    b->flat.count = 0;
    b->flat.any = false;
    walk_values(b, clause->values);
    return &b->flat;
}

static bool fits(struct builder *b, const struct clause *clause, size_t count)
{
    if (count <= UINT16_MAX) return true;
    complain(b->s, clause->place, NULL, "expected a set of at most %d values, found %zu", UINT16_MAX, count);
    return false;
}

/* ---- Networks */

static bool is_in4(const uint8_t *ip, unsigned bits)
{
    for (unsigned i = 0; i < miniproxy_special_purpose.v4_count; i++) {
        const struct miniproxy_net4 *net = &miniproxy_special_purpose.v4[i];
        unsigned byte = 0;
        if (bits < net->bits) continue;
        while (byte < net->bits / 8u && ip[byte] == net->ip[byte]) byte++;
        if (byte < net->bits / 8u) continue;
        if (net->bits % 8 == 0 || (ip[byte] ^ net->ip[byte]) >> (8 - net->bits % 8) == 0) return true;
    }
    return false;
}

static bool is_in6(const struct net *n)
{
    for (unsigned i = 0; i < miniproxy_special_purpose.v6_count; i++) {
        const struct miniproxy_net6 *net = &miniproxy_special_purpose.v6[i];
        unsigned byte = 0;
        if (n->bits < net->bits) continue;
        while (byte < net->bits / 8u && n->ip[byte] == net->ip[byte]) byte++;
        if (byte < net->bits / 8u) continue;
        if (net->bits % 8 == 0 || (n->ip[byte] ^ net->ip[byte]) >> (8 - net->bits % 8) == 0) return true;
    }
    return false;
}

/* Whether every address of a network is special-purpose, as the core sees it: by the IPv4 address within, too. */
static bool is_special(const struct net *n)
{
    static const uint8_t nat64[12] = {0x00, 0x64, 0xff, 0x9b}, zero[12] = {0};
    if (n->family == 4) return is_in4(n->ip, n->bits);
    if (is_in6(n)) return true;
    if (n->bits >= 16 && n->ip[0] == 0x20 && n->ip[1] == 0x02)
        return is_in4(n->ip + 2, n->bits - 16u > 32 ? 32 : n->bits - 16u);
    return n->bits >= 96 && (memcmp(n->ip, nat64, 12) == 0 || memcmp(n->ip, zero, 12) == 0) &&
           is_in4(n->ip + 12, n->bits - 96u);
}

enum part { PART_ALL, PART_SPECIAL, PART_OTHER };

static bool is_of(enum part part, const struct value *v)
{
    return !v->any && (part == PART_ALL || is_special(&v->u.net) == (part == PART_SPECIAL));
}

static const struct miniproxy_nets *make_nets(struct builder *b, const struct clause *clause, const struct flat *flat,
                                              enum part part)
{
    struct miniproxy_net4 *v4 = arena_take(b->arena, (flat->count + 1) * sizeof *v4);
    struct miniproxy_net6 *v6 = arena_take(b->arena, (flat->count + 1) * sizeof *v6);
    struct miniproxy_nets *nets;
    struct interned *entry;
    size_t n4 = 0, n6 = 0;
    for (size_t i = 0; i < flat->count; i++) {
        const struct net *net = &flat->list[i]->u.net;
        if (!is_of(part, flat->list[i])) continue;
        if (net->family == 4) {
            memcpy(v4[n4].ip, net->ip, 4);
            v4[n4++].bits = net->bits;
        } else {
            memcpy(v6[n6].ip, net->ip, 16);
            v6[n6++].bits = net->bits;
        }
    }
    n4 = nets_tidy4(v4, n4);
    n6 = nets_tidy6(v6, n6);
    if (n4 + n6 == 0 || !fits(b, clause, n4) || !fits(b, clause, n6)) return NULL;
    begin_key(b, 'n');
    push(b, v4, n4 * sizeof *v4);
    push(b, "", 1);
    push(b, v6, n6 * sizeof *v6);
    entry = intern(b);
    if (entry->object != NULL) {
        name_set(b, clause, KIND_NET, entry->object, false);
        return entry->object;
    }
    nets = arena_take(b->arena, sizeof *nets);
    *nets = (struct miniproxy_nets){n4 > 0 ? v4 : NULL, n6 > 0 ? v6 : NULL, (uint16_t)n4, (uint16_t)n6};
    entry->object = nets;
    name_set(b, clause, KIND_NET, nets, true);
    return nets;
}

/* ---- Host names */

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void sort_texts(struct names *names)
{
    size_t kept = 0;
    if (names->count > 0) qsort(names->list, names->count, sizeof *names->list, compare_texts);
    for (size_t i = 0; i < names->count; i++)
        if (kept == 0 || strcmp(names->list[i], names->list[kept - 1]) != 0) names->list[kept++] = names->list[i];
    names->count = kept;
}

static void add_all(struct arena *a, struct names *names, const struct names *more)
{
    for (size_t i = 0; i < more->count; i++) names_add(a, names, more->list[i]);
}

/* Returns whether the set is to be hashed. */
static bool gather_hosts(struct builder *b, const struct flat *flat, struct names *names, struct names *good)
{
    bool hashed = false;
    for (size_t i = 0; i < flat->count; i++) {
        const struct value *v = flat->list[i];
        if (!v->is_file) {
            names_add(b->arena, names, v->u.text);
            continue;
        }
        hashed |= v->u.file->hashed;
        add_all(b->arena, names, &v->u.file->names);
        for (size_t j = 0; j < v->u.file->good.count; j++) {
            const char *name = v->u.file->good.list[j];
            names_add(b->arena, good, name[0] == '.' ? name + 1 : name);
        }
    }
    sort_texts(names);
    sort_texts(good);
    return hashed;
}

/* False: said. */
static bool fill_hosts(struct builder *b, const struct clause *clause, struct miniproxy_hosts *hosts,
                       const struct names *names, const struct names *good, bool hashed)
{
#if MINIPROXY_WITH_HOST_BLOBS
    if (names->count > LIST_MAX) {
        const char *problem = "no memory";
        uint8_t *blob = hostset_build(hashed ? BLOB_HASHED : BLOB_EXACT, names->list, names->count, good->list,
                                      good->count, &hosts->blob_len, &problem);
        if (blob == NULL) {
            complain(b->s, clause->place, NULL, "expected host names that can be encoded: %s", problem);
            return false;
        }
        hosts->blob = (uint8_t *)arena_text(b->arena, (const char *)blob, hosts->blob_len);
        free(blob);
        return true;
    }
#endif
    (void)good, (void)hashed;
    hosts->names = names->list;
    hosts->count = (uint16_t)names->count;
    return fits(b, clause, names->count);
}

static void add_host_names(struct builder *b, const struct miniproxy_hosts *hosts, const struct names *names)
{
    struct compiled *c = b->c;
    if (c->host_count == b->host_room) {
        struct host_names *more = arena_take(b->arena, (b->host_room = 2 * b->host_room + 16) * sizeof *more);
        if (c->host_count > 0) memcpy(more, c->hosts, c->host_count * sizeof *more);
        c->hosts = more;
    }
    c->hosts[c->host_count++] = (struct host_names){hosts, names->list, names->count};
}

static const struct miniproxy_hosts *make_hosts(struct builder *b, const struct clause *clause)
{
    struct named *set = only_set(clause);
    struct miniproxy_hosts *hosts;
    struct names names = {0}, good = {0};
    struct interned *entry;
    bool hashed;
    if (set != NULL && set->table[0] != NULL) return set->table[0];
    hashed = gather_hosts(b, flatten(b, clause), &names, &good);
    begin_key(b, hashed && names.count > LIST_MAX ? 'H' : 'h');
    for (size_t i = 0; i < names.count; i++) push(b, names.list[i], strlen(names.list[i]) + 1);
    if (hashed) push(b, "", 1);
    for (size_t i = 0; i < good.count; i++) push(b, good.list[i], strlen(good.list[i]) + 1);
    entry = intern(b);
    if (entry->object != NULL) {
        name_set(b, clause, KIND_HOSTS, entry->object, false);
        return entry->object;
    }
    hosts = arena_take(b->arena, sizeof *hosts);
    if (!fill_hosts(b, clause, hosts, &names, &good, hashed)) return NULL;
    entry->object = hosts;
    add_host_names(b, hosts, &names);
    name_set(b, clause, KIND_HOSTS, hosts, true);
    return hosts;
}

/* ---- Ports, methods, texts, times */

static int compare_ranges(const void *a, const void *b)
{
    const struct miniproxy_range *x = a, *y = b;
    return x->first != y->first ? (int)x->first - (int)y->first : (int)x->last - (int)y->last;
}

/* Ascending, with gaps between. Returns how many are left. */
static size_t tidy_ranges(struct miniproxy_range *list, size_t count)
{
    size_t kept = 0;
    qsort(list, count, sizeof *list, compare_ranges);
    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || list[i].first > list[kept - 1].last + 1) list[kept++] = list[i];
        else if (list[i].last > list[kept - 1].last) list[kept - 1].last = list[i].last;
    }
    return kept;
}

static void make_ports(struct builder *b, const struct clause *clause, struct miniproxy_rule *r,
                       struct miniproxy_also *also)
{
    const struct flat *flat = flatten(b, clause);
    struct miniproxy_range *list = arena_take(b->arena, flat->count * sizeof *list);
    struct miniproxy_ranges *ranges;
    struct interned *entry;
    size_t count;
    for (size_t i = 0; i < flat->count; i++) list[i] = flat->list[i]->u.ports;
    count = tidy_ranges(list, flat->count);
    if (count == 1) {
        if (list[0].first == 1 && list[0].last == UINT16_MAX && r->verdict == MINIPROXY_DENY) return;
        r->port[0] = list[0].first;
        r->port[1] = list[0].last;
        return;
    }
    begin_key(b, 'p');
    push(b, list, count * sizeof *list);
    entry = intern(b);
    if (entry->object == NULL) {
        ranges = arena_take(b->arena, sizeof *ranges);
        *ranges = (struct miniproxy_ranges){list, (uint16_t)count};
        entry->object = ranges;
        name_set(b, clause, KIND_PORTS, ranges, true);
    } else {
        name_set(b, clause, KIND_PORTS, entry->object, false);
    }
    also->ports = entry->object;
}

/* What a rule without methods matches: an ALLOW no pages. */
static unsigned make_methods(struct builder *b, const struct clause *clause, unsigned verdict)
{
    const unsigned all = verdict == MINIPROXY_ALLOW ? ALL_METHODS : ALL_METHODS | MINIPROXY_PAGES;
    const struct flat *flat = flatten(b, clause);
    unsigned mask = 0;
    for (size_t i = 0; i < flat->count; i++) mask |= flat->list[i]->u.method;
    return mask == all ? 0 : mask;
}

static const struct miniproxy_texts *make_texts(struct builder *b, const struct clause *clause, enum kind kind)
{
    const struct flat *flat = flatten(b, clause);
    struct names names = {0};
    struct miniproxy_texts *texts;
    struct interned *entry;
    for (size_t i = 0; i < flat->count; i++) names_add(b->arena, &names, flat->list[i]->u.text);
    sort_texts(&names);
    if (!fits(b, clause, names.count)) return NULL;
    begin_key(b, 't');
    for (size_t i = 0; i < names.count; i++) push(b, names.list[i], strlen(names.list[i]) + 1);
    entry = intern(b);
    if (entry->object != NULL) {
        name_set(b, clause, kind, entry->object, false);
        return entry->object;
    }
    texts = arena_take(b->arena, sizeof *texts);
    *texts = (struct miniproxy_texts){names.list, (uint16_t)names.count};
    entry->object = texts;
    name_set(b, clause, kind, texts, true);
    return texts;
}

static int compare_times(const void *a, const void *b)
{
    const struct miniproxy_time *x = a, *y = b;
    if (x->days != y->days) return (int)x->days - (int)y->days;
    return x->from != y->from ? (int)x->from - (int)y->from : (int)x->to - (int)y->to;
}

static const struct miniproxy_times *make_times(struct builder *b, const struct clause *clause)
{
    const struct flat *flat = flatten(b, clause);
    struct miniproxy_time *list = arena_take(b->arena, flat->count * sizeof *list);
    struct miniproxy_times *times;
    struct interned *entry;
    size_t kept = 0;
    for (size_t i = 0; i < flat->count; i++) list[i] = flat->list[i]->u.time;
    qsort(list, flat->count, sizeof *list, compare_times);
    for (size_t i = 0; i < flat->count; i++)
        if (kept == 0 || compare_times(&list[i], &list[kept - 1]) != 0) list[kept++] = list[i];
    if (!fits(b, clause, kept)) return NULL;
    begin_key(b, 'w');
    for (size_t i = 0; i < kept; i++) {
        push(b, &list[i].from, sizeof list[i].from);
        push(b, &list[i].to, sizeof list[i].to);
        push(b, &list[i].days, sizeof list[i].days);
    }
    entry = intern(b);
    if (entry->object != NULL) {
        name_set(b, clause, KIND_TIMES, entry->object, false);
        return entry->object;
    }
    times = arena_take(b->arena, sizeof *times);
    *times = (struct miniproxy_times){list, (uint16_t)kept};
    entry->object = times;
    name_set(b, clause, KIND_TIMES, times, true);
    return times;
}

/* ---- Users: a bit for each different set of them that rules name */

static unsigned make_users(struct builder *b, const struct clause *clause)
{
    const struct flat *flat = flatten(b, clause);
    const struct named *set = only_set(clause);
    size_t words = b->s->user_count / 64 + 1;
    uint64_t *bits;
    if (flat->any) return MINIPROXY_AUTHENTICATED;
    bits = arena_take(b->arena, words * sizeof *bits);
    for (size_t i = 0; i < flat->count; i++) {
        unsigned number = flat->list[i]->user->number;
        bits[number / 64] |= (uint64_t)1 << number % 64;
    }
    for (unsigned i = 0; i < b->group_count; i++)
        if (memcmp(b->groups[i].bits, bits, words * sizeof *bits) == 0) return 1u << i;
    if (b->group_count == GROUPS_MAX) {
        complain(b->s, clause->place, NULL,
                 "expected at most %d different sets of users in all rules, this is one more", GROUPS_MAX);
        return 0;
    }
    b->groups[b->group_count].bits = bits;
    b->c->group_names[b->group_count] = set != NULL ? set->name : clause->text;
    return 1u << b->group_count++;
}

static void make_user_table(struct builder *b)
{
    struct miniproxy_user *list = arena_take(b->arena, (b->s->user_count + 1) * sizeof *list), *at = list;
    for (const struct person *p = b->s->users; p != NULL; p = p->next, at++) {
        *at = (struct miniproxy_user){p->name, p->password, p->digest, p->rounds, 0};
        for (unsigned i = 0; i < b->group_count; i++)
            if ((b->groups[i].bits[p->number / 64] >> p->number % 64 & 1) != 0) at->groups |= (uint16_t)(1u << i);
    }
    b->c->policy.users = list;
    b->c->policy.user_count = (uint16_t)b->s->user_count;
}

/* ---- Rules */

static void add_rule(struct builder *b, const struct written_rule *written, struct miniproxy_rule rule)
{
    if (b->rule_count == RULES_MAX) {
        complain(b->s, written->place, NULL, "expected at most %d rules in the tables", RULES_MAX);
        b->rule_count++;
    }
    if (b->rule_count > RULES_MAX) return;
    if (b->rule_count == b->rule_room) {
        size_t room = b->rule_room = 2 * b->rule_room + 32;
        struct miniproxy_rule *rules = arena_take(b->arena, room * sizeof *rules);
        struct rule_origin *origins = arena_take(b->arena, room * sizeof *origins);
        if (b->rule_count > 0) {
            memcpy(rules, b->rules, b->rule_count * sizeof *rules);
            memcpy(origins, b->origins, b->rule_count * sizeof *origins);
        }
        b->rules = rules;
        b->origins = origins;
    }
    if (rule.also != NULL && rule.also->types != NULL && ++b->type_rules == MINIPROXY_TYPE_RULES + 1)
        complain(b->s, written->place, NULL, "expected at most %d rules with types in the tables",
                 MINIPROXY_TYPE_RULES);
    b->origins[b->rule_count] = (struct rule_origin){written->place, written->text};
    b->rules[b->rule_count++] = rule;
}

static const struct miniproxy_also *make_also(struct builder *b, const struct clause *clauses,
                                              struct miniproxy_also *also)
{
    struct interned *entry;
    if (clauses[SLOT_PATHS].values != NULL) also->paths = make_texts(b, &clauses[SLOT_PATHS], KIND_PATHS);
    if (clauses[SLOT_AGENTS].values != NULL) also->agents = make_texts(b, &clauses[SLOT_AGENTS], KIND_AGENTS);
    if (clauses[SLOT_TYPES].values != NULL) also->types = make_texts(b, &clauses[SLOT_TYPES], KIND_TYPES);
    if (clauses[SLOT_TIMES].values != NULL) also->times = make_times(b, &clauses[SLOT_TIMES]);
    if (also->ports == NULL && also->paths == NULL && also->agents == NULL && also->types == NULL &&
        also->times == NULL)
        return NULL;
    begin_key(b, 'a');
    push(b, also, sizeof *also); /* pointers alone: there is no padding */
    entry = intern(b);
    if (entry->object == NULL) {
        struct miniproxy_also *made = arena_take(b->arena, sizeof *made);
        *made = *also;
        entry->object = made;
    }
    return entry->object;
}

/* Who: clients and users. `any` client or a user is anybody. */
static void make_who(struct builder *b, const struct written_rule *written, struct miniproxy_rule *r)
{
    const struct clause *from = &written->clauses[SLOT_FROM], *users = &written->clauses[SLOT_USERS];
    bool anywhere = false;
    if (from->values != NULL) {
        const struct flat *flat = flatten(b, from);
        anywhere = flat->any;
        if (!anywhere) r->clients = make_nets(b, from, flat, PART_ALL);
    }
    if (users->values != NULL) r->users = make_users(b, users) & 0xffffu;
    if (written->either && anywhere) r->users = 0;
    else r->either = written->either;
}

/* An ALLOW opens special-purpose addresses only where it names networks that have no others: such a rule becomes two.
 */
static void make_rule(struct builder *b, const struct written_rule *written)
{
    const struct clause *clauses = written->clauses, *to = &clauses[SLOT_TO];
    struct miniproxy_rule r = {.verdict = written->allow ? MINIPROXY_ALLOW : MINIPROXY_DENY,
                               .literal = written->literals};
    struct miniproxy_also also = {0};
    const struct miniproxy_nets *special, *other;
    const struct flat *flat;
    make_who(b, written, &r);
    if (clauses[SLOT_HOSTS].values != NULL) r.hosts = make_hosts(b, &clauses[SLOT_HOSTS]);
    if (clauses[SLOT_PORTS].values != NULL) make_ports(b, &clauses[SLOT_PORTS], &r, &also);
    if (clauses[SLOT_METHODS].values != NULL) r.methods = make_methods(b, &clauses[SLOT_METHODS], r.verdict) & 0xfffu;
    r.also = make_also(b, clauses, &also);
    if (to->values == NULL) {
        add_rule(b, written, r);
        return;
    }
    flat = flatten(b, to);
    if (!written->allow) {
        if (!flat->any) r.to = make_nets(b, to, flat, PART_ALL);
        add_rule(b, written, r);
        return;
    }
    special = make_nets(b, to, flat, PART_SPECIAL);
    other = flat->any ? NULL : make_nets(b, to, flat, PART_OTHER);
    if (special != NULL) {
        r.to = special;
        r.special_purpose = 1;
        add_rule(b, written, r);
        r.special_purpose = 0;
    }
    if (other == NULL && !flat->any) return;
    r.to = other;
    add_rule(b, written, r);
}

/* ---- Routes and limits */

static const struct miniproxy_nets *make_clause_nets(struct builder *b, const struct clause *clause)
{
    const struct flat *flat = clause->values != NULL ? flatten(b, clause) : NULL;
    return flat == NULL || flat->any ? NULL : make_nets(b, clause, flat, PART_ALL);
}

/* The hops of a route, as the text names them. Returns how many. */
static unsigned list_hops(const struct source *s, const struct written_route *route,
                          struct miniproxy_hop hops[MINIPROXY_ROUTE_HOPS],
                          struct hop_origin origins[MINIPROXY_ROUTE_HOPS])
{
    unsigned count = 0;
    for (const struct value *v = route->via; v != NULL; v = v->next) {
        const struct written_hops *h = find_hops(s, v->name);
        for (unsigned i = 0; i < h->count; i++, count++) {
            hops[count] = h->hops[i];
            origins[count] = (struct hop_origin){h->name, h->place};
        }
    }
    return count;
}

/* How many of these hops the table has from `at` on, up to its end. */
static unsigned same_hops(const struct compiled *c, unsigned at, const struct miniproxy_hop *hops, unsigned count)
{
    unsigned same = 0;
    while (same < count && at + same < c->policy.hop_count && c->policy.hops[at + same].host == hops[same].host) same++;
    return same;
}

/* Where a route's hops stand: a parent that is in two routes is checked once only if the table has them as neighbours
 * already, or ends with the first of them. */
static unsigned place_hops(struct compiled *c, struct miniproxy_hop *table, const struct miniproxy_hop *hops,
                           const struct hop_origin *origins, unsigned count)
{
    unsigned at = 0, same;
    while ((same = same_hops(c, at, hops, count)) < count && at + same < c->policy.hop_count) at++;
    for (unsigned i = same; i < count; i++) {
        table[at + i] = hops[i];
        c->hop_origins[at + i] = origins[i];
    }
    if (at + count > c->policy.hop_count) c->policy.hop_count = (uint16_t)(at + count);
    return at;
}

static void make_routes(struct builder *b)
{
    const struct source *s = b->s;
    struct compiled *c = b->c;
    const size_t most = (size_t)s->route_count * MINIPROXY_ROUTE_HOPS + 1;
    struct miniproxy_route *routes = arena_take(b->arena, (s->route_count + 1) * sizeof *routes), *at = routes;
    struct miniproxy_hop *table = arena_take(b->arena, most * sizeof *table), hops[MINIPROXY_ROUTE_HOPS];
    struct hop_origin origins[MINIPROXY_ROUTE_HOPS];
    c->hop_origins = arena_take(b->arena, most * sizeof *c->hop_origins);
    c->route_origins = arena_take(b->arena, (s->route_count + 1) * sizeof *c->route_origins);
    c->policy.hops = table;
    for (const struct written_route *w = s->routes; w != NULL; w = w->next, at++) {
        const struct clause *users = &w->clauses[SLOT_USERS], *names = &w->clauses[SLOT_HOSTS];
        at->clients = make_clause_nets(b, &w->clauses[SLOT_FROM]);
        at->to = make_clause_nets(b, &w->clauses[SLOT_TO]);
        if (names->values != NULL) at->hosts = make_hosts(b, names);
        if (users->values != NULL) at->users = (uint16_t)make_users(b, users);
        at->count = (uint8_t)list_hops(s, w, hops, origins);
        at->order = w->in_turn ? MINIPROXY_IN_TURN : MINIPROXY_IN_ORDER;
        at->resolve = w->resolve;
        c->route_origins[at - routes] = (struct rule_origin){w->place, w->text};
    }
    c->policy.routes = routes;
    c->policy.route_count = (uint16_t)s->route_count;
    for (unsigned count = MINIPROXY_ROUTE_HOPS; count > 0; count--) { /* the short ones may be parts of the long ones */
        at = routes;
        for (const struct written_route *w = s->routes; w != NULL; w = w->next, at++) {
            if (at->count != count) continue;
            list_hops(s, w, hops, origins);
            at->first = (uint16_t)place_hops(c, table, hops, origins, count);
        }
    }
    c->policy.health = arena_take(b->arena, (c->policy.hop_count + 1u) * sizeof *c->policy.health);
}

static void make_limits(struct builder *b)
{
    const struct source *s = b->s;
    struct miniproxy_limit *limits = arena_take(b->arena, (s->limit_count + 1) * sizeof *limits), *at = limits;
    b->c->limit_origins = arena_take(b->arena, (s->limit_count + 1) * sizeof *b->c->limit_origins);
    for (const struct written_limit *w = s->limits; w != NULL; w = w->next, at++) {
        *at = w->limit;
        at->clients = make_clause_nets(b, &w->clauses[SLOT_FROM]);
        if (w->clauses[SLOT_USERS].values != NULL) at->users = (uint16_t)make_users(b, &w->clauses[SLOT_USERS]);
        b->c->limit_origins[at - limits] = (struct rule_origin){w->place, w->text};
    }
    b->c->policy.limits = limits;
    b->c->policy.limit_count = (uint16_t)s->limit_count;
}

static void note_unused(struct builder *b)
{
    for (const struct written_hops *h = b->s->hops; h != NULL; h = h->next)
        if (!h->used) add_set_name(b, NULL, h->origins ? "origins" : "parent", h->name, h->place);
    for (const struct named *set = b->s->sets; set != NULL; set = set->next)
        if (!set->used && !set->builtin) add_set_name(b, NULL, kind_words[set->kind], set->name, set->place);
}

struct compiled *make_tables(struct source *s)
{
    struct builder *b = arena_take(s->arena, sizeof *b);
    struct compiled *c = arena_take(s->arena, sizeof *c);
    int wrong;
    b->s = s;
    b->c = c;
    b->arena = c->arena = s->arena;
    for (const struct written_rule *rule = s->rules; rule != NULL && s->error_count <= ERRORS_MAX; rule = rule->next)
        make_rule(b, rule);
    if (s->error_count <= ERRORS_MAX) {
        make_routes(b);
        make_limits(b);
    }
    make_user_table(b);
    note_unused(b);
    c->policy.rules = b->rules;
    c->policy.rule_count = (uint16_t)b->rule_count;
    c->origins = b->origins;
    c->written_rules = s->rule_count;
    c->notes = s->notes;
    c->policy.maintenance = s->maintenance;
    c->maintenance_place = s->maintenance_place;
    if (s->error_count > 0) return NULL;
    wrong = miniproxy_check_policy(&c->policy);
    if (wrong < 0) return c;
    complain(s, wrong < c->policy.rule_count ? c->origins[wrong].place : (struct place){s->file, 1, 1}, NULL,
             "expected tables that the proxy accepts: a fault of this program");
    return NULL;
}
