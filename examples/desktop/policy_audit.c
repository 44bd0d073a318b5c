/* SPDX-License-Identifier: MIT
 *
 * What in a policy may not mean what it says, and what changes from one policy to another.
 *
 * That a rule never matches, or changes nothing, is said only where it is proven over all requests; what a finding
 * shows as an example has been tried with the core.
 */
#include "desktop.h"
#include "policy_words.h"

#include <stdlib.h>
#include <string.h>

enum { RULES_MAX = 1000 /* compared each with each */, NAMES_MAX = 5000, ROUNDS_MIN = 10000, SHOWN_MAX = 5 };
enum severity { NOTE, WARNING, ERROR, SEVERITIES };

/* One rule of the text: first..last of the tables. */
struct group {
    unsigned first, last;
    bool dead;
};

struct lint {
    const struct compiled *c;
    FILE *out;
    struct space *space;
    struct group *groups;
    unsigned group_count;
    const uint64_t **boxes; /* room for all of a question */
    bool *used;
    unsigned counts[SEVERITIES];
};

static const struct miniproxy_rule *rule_of(const struct lint *l, unsigned rule)
{
    return l->c->policy.rules + rule;
}

static bool allows(const struct lint *l, unsigned group)
{
    return rule_of(l, l->groups[group].first)->verdict == MINIPROXY_ALLOW;
}

/* ---- Findings */

static void begin_finding(struct lint *l, enum severity severity, const struct place *place, struct phrase *first)
{
    static const char *const words[] = {"note", "warning", "error"};
    l->counts[severity]++;
    if (place != NULL) phrase_add(first, "%s:%u: %s: ", place->file, place->line, words[severity]);
    else phrase_add(first, "%s: %s: ", l->c->file, words[severity]);
}

#define FIND(l, severity, place, ...)                    \
    do {                                                 \
        struct phrase find_first = {.len = 0};           \
        begin_finding(l, severity, place, &find_first);  \
        tell((l)->out, find_first.text, 4, __VA_ARGS__); \
    } while (0)

/* A finding about a rule: what, why it matters, what to do. */
#define FIND_RULE(l, severity, group, format, ...)                                                                    \
    FIND(l, severity, &(l)->c->origins[(l)->groups[group].first].place, "rule %u: " format, (l)->groups[group].first, \
         __VA_ARGS__)

static void show_text(struct lint *l, unsigned group)
{
    tell(l->out, "    | ", 6, "%s", l->c->origins[l->groups[group].first].text);
}

static void show_example(struct lint *l, const struct witness *w)
{
    struct phrase p = {.len = 0};
    phrase_command(&p, l->c, l->space, w);
    fprintf(l->out, "    try: %s\n", p.text);
}

/* ---- Questions */

static unsigned add_matches(const struct lint *l, const uint64_t **out, unsigned n, unsigned from, unsigned before)
{
    for (unsigned i = from; i < before; i++) out[n++] = space_matches(l->space, 0, i);
    return n;
}

/* A request in these boxes that no rule before `before` matches, those of a group left aside (-1: none). */
static enum found find_before(struct lint *l, const uint64_t *a, const uint64_t *b, unsigned before, int aside,
                              struct witness *w)
{
    const uint64_t *in[2] = {a, b};
    unsigned n = 0;
    if (aside < 0) {
        n = add_matches(l, l->boxes, n, 0, before);
    } else {
        const struct group *g = &l->groups[aside];
        n = add_matches(l, l->boxes, n, 0, g->first < before ? g->first : before);
        if (g->last + 1 < before) n = add_matches(l, l->boxes, n, g->last + 1, before);
    }
    return space_find(l->space, in, b != NULL ? 2 : 1, l->boxes, n, NULL, w);
}

/* Is a request that a rule allows among these? Rules from..to are tried; *by is the one. */
static bool finds_allowed(struct lint *l, const uint64_t *box, int aside, unsigned from, unsigned *by,
                          struct witness *w)
{
    for (unsigned k = from; k < l->c->policy.rule_count; k++) {
        if (rule_of(l, k)->verdict != MINIPROXY_ALLOW) continue;
        if (find_before(l, box, space_matches(l->space, 0, k), k, aside, w) != FOUND) continue;
        *by = k;
        return true;
    }
    return false;
}

static bool is_atom(const void *data, unsigned atom)
{
    return atom == *(const unsigned *)data;
}

static bool is_other_atom(const void *data, unsigned atom)
{
    return atom != *(const unsigned *)data;
}

static bool is_public(const void *data, unsigned atom)
{
    return !space_is_special(data, atom);
}

static bool is_private(const void *data, unsigned atom)
{
    return space_is_special(data, atom);
}

static bool is_origin(const void *data, unsigned method)
{
    (void)data;
    return method != METHOD_PAGES;
}

static const unsigned pages = METHOD_PAGES, literal = HOST_LITERAL, nobody = USER_NOBODY, no_content = TYPE_NOTHING;

/* ---- Rules that never match */

static bool is_used_user(const struct miniproxy_policy *policy, unsigned users)
{
    for (unsigned i = 0; i < policy->user_count; i++)
        if ((users & (policy->users[i].groups | MINIPROXY_AUTHENTICATED)) != 0) return true;
    return false;
}

static bool is_hidden_atom(const void *data, unsigned atom)
{
    return space_is_hidden(data, 0, atom);
}

static bool is_visible_atom(const void *data, unsigned atom)
{
    return !space_is_hidden(data, 0, atom);
}

/* Would the rule match requests if it asked for no address, but only some of which no address is known? */
static bool asks_for_hidden(const struct lint *l, const struct miniproxy_rule *r)
{
    uint64_t *box = space_copy(l->space, space_matches(l->space, 0, (unsigned)(r - l->c->policy.rules)));
    const uint64_t *in[1] = {box};
    if (box == NULL || r->to == NULL) return false;
    space_open(l->space, box, DIM_ADDRESS);
    if (space_find(l->space, in, 1, NULL, 0, NULL, NULL) != FOUND) return false;
    space_cut(l->space, box, PROPERTY_ADDRESS, is_visible_atom, l->space);
    return space_find(l->space, in, 1, NULL, 0, NULL, NULL) == FOUND_NONE;
}

/* What such a rule asks for that pages of the proxy itself do not have, or NULL. */
static const char *missing_in_pages(const struct miniproxy_rule *r)
{
    if (r->hosts != NULL || r->literal) return "host";
    if (r->to != NULL) return "address";
    if (r->port[1] != 0 || (r->also != NULL && r->also->ports != NULL)) return "port";
    return r->also != NULL && r->also->types != NULL ? "type" : NULL;
}

/* Why no request can match the rule, whatever stands before it. */
static const char *own_contradiction(const struct lint *l, const struct miniproxy_rule *r)
{
    const struct miniproxy_also *also = r->also;
    unsigned methods = r->methods != 0 ? r->methods : MINIPROXY_PAGES - 1;
    if (r->methods == MINIPROXY_PAGES && missing_in_pages(r) != NULL)
        return "pages of the proxy itself have no host, address, port or type";
    if (r->users != 0 && !is_used_user(&l->c->policy, r->users))
        return l->c->policy.user_count == 0 ? "the policy has no users" : "none of its users exists";
    if (r->literal && r->hosts != NULL) return "an IP literal is in no set of hosts";
    if (r->hosts != NULL && r->hosts->count == 0 && r->hosts->blob == NULL) return "its set of hosts is empty";
    if (also != NULL && also->times != NULL && also->times->count == 0) return "its set of times is empty";
    if (also != NULL && also->ports != NULL && also->ports->count == 0) return "its set of ports is empty";
    if (also != NULL && also->paths != NULL && methods == MINIPROXY_CONNECT)
        return "CONNECT has no path: it is inside the tunnel";
    if (also != NULL && also->types != NULL && methods == MINIPROXY_CONNECT)
        return "the proxy does not see the types in a tunnel";
    if (also != NULL && also->types != NULL && (methods & ~(unsigned)MINIPROXY_CONNECT) == MINIPROXY_HEAD)
        return "responses to HEAD have no content, so that their type is not looked at";
    if (asks_for_hidden(l, r)) return "routes leave all these names to parents, so that their addresses are not known";
    if (r->verdict == MINIPROXY_ALLOW && r->to != NULL && !r->special_purpose)
        return "the addresses it names are private or of another special purpose, and it does not open these";
    if (also != NULL && also->paths != NULL) return "no request can have such a path";
    return "its own conditions exclude each other";
}

static enum found find_alive(struct lint *l, unsigned group, struct witness *w)
{
    enum found result = FOUND_NONE;
    for (unsigned i = l->groups[group].first; i <= l->groups[group].last && result != FOUND; i++) {
        enum found found = find_before(l, space_matches(l->space, 0, i), NULL, l->groups[group].first, -1, w);
        if (found != FOUND_NONE) result = found;
    }
    return result;
}

/* Is every request that the group matches in one of these groups? used, if not NULL, learns which were needed. */
static bool is_covered(struct lint *l, unsigned group, const unsigned *by, unsigned count, bool *needed)
{
    for (unsigned i = l->groups[group].first; i <= l->groups[group].last; i++) {
        const uint64_t *in[1] = {space_matches(l->space, 0, i)};
        unsigned n = 0, at = 0;
        for (unsigned k = 0; k < count; k++)
            n = add_matches(l, l->boxes, n, l->groups[by[k]].first, l->groups[by[k]].last + 1);
        if (space_find(l->space, in, 1, l->boxes, n, l->used, NULL) != FOUND_NONE) return false;
        for (unsigned k = 0; needed != NULL && k < count; k++)
            for (unsigned j = l->groups[by[k]].first; j <= l->groups[by[k]].last; j++) needed[k] |= l->used[at++];
    }
    return true;
}

/* The groups before this one that are needed to cover it: one if one is enough, else none too many. */
static unsigned find_cover(struct lint *l, unsigned group, unsigned *by)
{
    bool *needed = calloc(group + 1u, sizeof *needed);
    unsigned count = 0, all = 0;
    for (unsigned k = 0; k < group; k++) {
        by[0] = k;
        if (is_covered(l, group, by, 1, NULL)) {
            free(needed);
            return 1;
        }
    }
    for (unsigned k = 0; k < group; k++) by[all++] = k;
    if (needed != NULL && is_covered(l, group, by, all, needed)) {
        for (unsigned k = 0; k < all; k++)
            if (needed[k]) by[count++] = k;
        all = count;
    }
    free(needed);
    for (unsigned k = all; k-- > 0 && all < 100;) {
        unsigned without = by[k];
        memmove(by + k, by + k + 1, (all - k - 1) * sizeof *by);
        if (is_covered(l, group, by, all - 1, NULL)) {
            all--;
            continue;
        }
        memmove(by + k + 1, by + k, (all - k - 1) * sizeof *by);
        by[k] = without;
    }
    return all;
}

static void tell_covered(struct lint *l, unsigned group)
{
    unsigned *by = calloc(group + 1u, sizeof *by), count = by != NULL ? find_cover(l, group, by) : 0, other = 0;
    struct phrase p = {.len = 0};
    for (unsigned k = 0; k < count; k++) {
        other += allows(l, by[k]) != allows(l, group);
        if (k < SHOWN_MAX) phrase_add(&p, k == 0 ? "" : k + 1 == count ? " and " : ", ");
        if (k < SHOWN_MAX) phrase_rule(&p, l->c, (int)l->groups[by[k]].first);
    }
    if (count > SHOWN_MAX) phrase_add(&p, " and %u more", count - SHOWN_MAX);
    FIND_RULE(l, other > 0 ? ERROR : WARNING, group, "never matches: %s %s %s every request that it could. %s", p.text,
              count > 1 ? "together" : "alone", count > 1 ? "match" : "matches",
              other == 0         ? "They decide the same, so it can be taken out."
              : allows(l, group) ? "So it allows nothing. Move it up, or take it out."
                                 : "So it denies nothing. Move it up, or take it out.");
    show_text(l, group);
    for (unsigned k = 0; k < count && k < SHOWN_MAX; k++)
        tell(l->out, "    covered by | ", 6, "%s", l->c->origins[l->groups[by[k]].first].text);
    free(by);
}

static void check_dead(struct lint *l, unsigned group)
{
    struct group *g = &l->groups[group];
    bool possible = false;
    struct witness w;
    enum found found = find_alive(l, group, &w);
    if (found == FOUND_TOO_MUCH)
        FIND_RULE(l, NOTE, group, "%s", "whether it can match is not decided: too many cases.");
    if (found != FOUND_NONE) return;
    g->dead = true;
    for (unsigned i = g->first; i <= g->last && !possible; i++) {
        const uint64_t *in[1] = {space_matches(l->space, 0, i)};
        possible = space_find(l->space, in, 1, NULL, 0, NULL, NULL) != FOUND_NONE;
    }
    if (possible) {
        tell_covered(l, group);
    } else {
        FIND_RULE(l, ERROR, group, "never matches: %s. Correct it, or take it out.",
                  own_contradiction(l, rule_of(l, g->first)));
        show_text(l, group);
    }
}

/* `pages` among other methods, in a rule that is not about any. */
static void check_pages(struct lint *l, unsigned group)
{
    const struct miniproxy_rule *r = rule_of(l, l->groups[group].first);
    if ((r->methods & MINIPROXY_PAGES) == 0 || missing_in_pages(r) == NULL) return;
    FIND_RULE(l, WARNING, group,
              "matches no pages, though it names them: a page of the proxy itself has no %s. Write a rule of their own "
              "for them.",
              missing_in_pages(r));
    show_text(l, group);
}

/* A rule with types that only decides on responses without content. */
static void check_only_empty(struct lint *l, unsigned group)
{
    const struct group *g = &l->groups[group];
    bool has_types = false;
    for (unsigned i = g->first; i <= g->last; i++) {
        const struct miniproxy_rule *r = rule_of(l, i);
        uint64_t *box = space_copy(l->space, space_matches(l->space, 0, i));
        if (box == NULL || r->also == NULL || r->also->types == NULL) return;
        has_types = true;
        space_cut(l->space, box, PROPERTY_TYPE, is_other_atom, &no_content);
        if (find_before(l, box, NULL, g->first, -1, NULL) != FOUND_NONE) return;
    }
    if (!has_types) return;
    FIND_RULE(l, WARNING, group, "%s",
              "its types never decide: rules before it match all responses of these types. Only responses "
              "without content are left to it.");
    show_text(l, group);
}

/* ---- Rules that change nothing */

/* Rules behind a group that decide as it does about requests of the group. */
struct takers {
    unsigned list[SHOWN_MAX], count;
    bool without_names; /* one of them asks for no host */
};

static void add_taker(const struct lint *l, struct takers *t, unsigned rule)
{
    for (unsigned i = 0; i < t->count && i < SHOWN_MAX; i++)
        if (t->list[i] == rule) return;
    if (t->count < SHOWN_MAX) t->list[t->count] = rule;
    t->count++;
    t->without_names |= rule_of(l, rule)->hosts == NULL;
}

static void phrase_takers(struct phrase *p, const struct lint *l, const struct takers *t)
{
    for (unsigned i = 0; i < t->count && i < SHOWN_MAX; i++) {
        phrase_add(p, i == 0 ? "" : i + 1 == t->count ? " and " : ", ");
        phrase_rule(p, l->c, (int)t->list[i]);
    }
    if (t->count > SHOWN_MAX) phrase_add(p, " and others");
}

/* Without the group, is there a request that is decided otherwise? */
static bool changes_something(struct lint *l, unsigned group, struct takers *takers)
{
    const struct group *g = &l->groups[group];
    for (unsigned i = g->first; i <= g->last; i++) {
        const uint64_t *box = space_matches(l->space, 0, i);
        for (unsigned k = g->last + 1; k < l->c->policy.rule_count; k++) {
            bool same = rule_of(l, k)->verdict == rule_of(l, i)->verdict;
            enum found found = find_before(l, box, space_matches(l->space, 0, k), k, (int)group, NULL);
            if (found == FOUND_TOO_MUCH || (found == FOUND && !same)) return true;
            if (found == FOUND) add_taker(l, takers, k);
            if (!allows(l, group) && find_before(l, box, space_asks(l->space, 0, k), k, (int)group, NULL) != FOUND_NONE)
                return true;
        }
        if (allows(l, group) && find_before(l, box, NULL, l->c->policy.rule_count, (int)group, NULL) != FOUND_NONE)
            return true;
    }
    return false;
}

/* "deny" at the end says what is so anyway, and is good style. */
static bool is_closing(const struct lint *l, unsigned group)
{
    const struct miniproxy_rule *r = rule_of(l, l->groups[group].first);
    return group + 1 == l->group_count && !allows(l, group) && r->methods == 0 && r->users == 0 && !r->literal &&
           r->clients == NULL && r->to == NULL && r->hosts == NULL && r->also == NULL && r->port[1] == 0;
}

/* Does every requester of the one fit the other too? */
static bool who_contains(const struct lint *l, unsigned outer, unsigned inner)
{
    for (unsigned client = 0; client < space_atoms(l->space, PROPERTY_CLIENT); client++)
        for (unsigned user = 0; user < space_atoms(l->space, PROPERTY_USER); user++)
            if (space_has_requester(l->space, space_matches(l->space, 0, inner), client, user) &&
                !space_has_requester(l->space, space_matches(l->space, 0, outer), client, user))
                return false;
    return true;
}

/* Has a rule before a group, for all whom the group is about, allowed something that the group matches? */
static bool is_late(struct lint *l, unsigned group, unsigned *before)
{
    for (unsigned i = l->groups[group].first; i <= l->groups[group].last; i++)
        for (unsigned k = 0; k < l->groups[group].first; k++) {
            *before = k;
            if (rule_of(l, k)->verdict == MINIPROXY_ALLOW && who_contains(l, k, i) &&
                find_before(l, space_matches(l->space, 0, i), space_matches(l->space, 0, k), k, -1, NULL) == FOUND)
                return true;
        }
    return false;
}

/* A deny-list that a rule before it makes exceptions from: perhaps so that nobody noticed. */
static void check_late_names(struct lint *l, unsigned group)
{
    struct phrase p = {.len = 0};
    struct witness w;
    if (allows(l, group) || rule_of(l, l->groups[group].first)->hosts == NULL) return;
    for (unsigned k = 0; k < l->groups[group].first; k++) {
        const struct miniproxy_rule *r = rule_of(l, k);
        if (r->verdict == MINIPROXY_DENY || r->hosts != NULL) continue;
        if (find_before(l, space_matches(l->space, 0, l->groups[group].first), space_matches(l->space, 0, k), k, -1,
                        &w) != FOUND)
            continue;
        phrase_rule_text(&p, l->c, (int)k);
        FIND_RULE(l, NOTE, group,
                  "%s before it has allowed some requests to these hosts. If they are to be denied to all, "
                  "move this rule up.",
                  p.text);
        show_text(l, group);
        show_example(l, &w);
        return;
    }
}

/* True: said. */
static bool check_useless(struct lint *l, unsigned group)
{
    struct takers takers = {.count = 0};
    struct phrase p = {.len = 0};
    const char *s;
    unsigned before;
    if (is_closing(l, group) || changes_something(l, group, &takers)) return false;
    phrase_takers(&p, l, &takers);
    s = takers.count > 1 ? "" : "s";
    if (!allows(l, group) && is_late(l, group, &before)) {
        p.len = 0;
        phrase_rule(&p, l->c, (int)before);
        FIND_RULE(
            l, WARNING, group,
            "changes nothing: %s before it has allowed such requests, and what is left would be denied anyway. If it "
            "is meant to deny them, move it up.",
            p.text);
        show_text(l, group);
        tell(l->out, "    see | ", 6, "%s", l->c->origins[before].text);
        return true;
    }
    if (!allows(l, group) && takers.count == 0)
        FIND_RULE(l, NOTE, group, "%s", "changes nothing: no rule behind it allows what it denies.");
    else if (!allows(l, group))
        FIND_RULE(l, NOTE, group, "changes nothing: without it, %s or the end of the rules would deny the same.",
                  p.text);
    else if (rule_of(l, l->groups[group].first)->hosts != NULL && takers.without_names)
        FIND_RULE(
            l, WARNING, group,
            "its list of hosts restricts nothing: %s behind it allow%s the same and more, without asking for names. "
            "If only these hosts are meant, narrow what is behind.",
            p.text, s);
    else
        FIND_RULE(
            l, WARNING, group,
            "changes nothing: %s behind it allow%s the same. If less is meant, narrow what is behind; else take this "
            "one out.",
            p.text, s);
    show_text(l, group);
    for (unsigned i = 0; i < takers.count && i < SHOWN_MAX; i++)
        tell(l->out, "    see | ", 6, "%s", l->c->origins[takers.list[i]].text);
    return true;
}

/* ---- Names and literals */

/* The requests of a rule, but with an IP literal of a public address for the name. */
static uint64_t *as_literal(struct lint *l, unsigned rule)
{
    uint64_t *box = space_copy(l->space, space_matches(l->space, 0, rule));
    if (box == NULL) return NULL;
    space_open(l->space, box, DIM_HOST);
    space_cut(l->space, box, PROPERTY_HOST, is_atom, &literal);
    space_cut(l->space, box, PROPERTY_ADDRESS, is_public, l->space);
    return box;
}

static void check_denied_names(struct lint *l, unsigned group)
{
    const struct miniproxy_rule *r = rule_of(l, l->groups[group].first);
    struct phrase p = {.len = 0};
    struct witness w;
    unsigned by;
    uint64_t *box;
    if (allows(l, group) || r->hosts == NULL) return;
    box = as_literal(l, l->groups[group].first);
    if (box == NULL || !finds_allowed(l, box, -1, l->groups[group].last + 1, &by, &w)) return;
    phrase_rule_text(&p, l->c, (int)by);
    FIND_RULE(
        l, rule_of(l, by)->to == NULL ? WARNING : NOTE, group,
        "denies hosts by name only: %s lets the same client in by the server's "
        "IP address, which is no name. Put \"deny literals\" before that rule. (A name that is not in the list and "
        "leads to the same server gets through in any case.)",
        p.text);
    show_text(l, group);
    show_example(l, &w);
}

static void check_allowed_names(struct lint *l, unsigned group)
{
    const struct miniproxy_rule *r = rule_of(l, l->groups[group].first);
    struct phrase p = {.len = 0};
    struct witness w;
    uint64_t *box;
    if (!allows(l, group) || r->hosts == NULL) return;
    box = as_literal(l, l->groups[group].first);
    for (unsigned k = 0; box != NULL && k < l->c->policy.rule_count; k++) {
        const struct miniproxy_rule *other = rule_of(l, k);
        if (other->verdict != MINIPROXY_ALLOW || other->hosts != NULL || !who_contains(l, k, l->groups[group].first))
            continue;
        if (find_before(l, box, space_matches(l->space, 0, k), k, -1, &w) != FOUND) continue;
        phrase_rule_text(&p, l->c, (int)k);
        FIND_RULE(l, other->to == NULL ? WARNING : NOTE, group,
                  "allows some hosts by name, but %s lets the same clients in to IP "
                  "literals, of any server. If only these hosts are meant, narrow that rule, or put \"deny literals\" "
                  "before it.",
                  p.text);
        show_text(l, group);
        show_example(l, &w);
        return;
    }
}

static const struct host_names *names_behind(const struct lint *l, const struct miniproxy_hosts *set)
{
    for (size_t i = 0; i < l->c->host_count; i++)
        if (l->c->hosts[i].set == set) return &l->c->hosts[i];
    return NULL;
}

/* Can a rule of the group decide about a name like this? */
static bool can_decide_name(struct lint *l, unsigned group, const char *name)
{
    unsigned atom = space_atom_of(l->space, PROPERTY_HOST, &(struct value){.text = name});
    for (unsigned i = l->groups[group].first; i <= l->groups[group].last; i++) {
        uint64_t *box = space_copy(l->space, space_matches(l->space, 0, i));
        if (box == NULL) return true;
        space_cut(l->space, box, PROPERTY_HOST, is_atom, &atom);
        if (find_before(l, box, NULL, l->groups[group].first, -1, NULL) != FOUND_NONE) return true;
    }
    return false;
}

/* Names of an allow-list that a rule before denies. */
static void check_names(struct lint *l, unsigned group)
{
    const struct miniproxy_hosts *set = rule_of(l, l->groups[group].first)->hosts;
    const struct host_names *behind = set != NULL ? names_behind(l, set) : NULL;
    size_t count = behind != NULL ? behind->count : set != NULL ? set->count : 0, dead = 0;
    struct phrase p = {.len = 0};
    if (!allows(l, group) || count > NAMES_MAX) return;
    for (size_t i = 0; i < count; i++) {
        const char *name = behind != NULL ? behind->names[i] : set->names[i];
        char below[300];
        if (can_decide_name(l, group, name + (*name == '.'))) continue;
        snprintf(below, sizeof below, "unlisted-name%s", name);
        if (*name == '.' && strlen(below) <= 253 && can_decide_name(l, group, below)) continue;
        if (dead++ < SHOWN_MAX) phrase_add(&p, "%s%s", dead > 1 ? ", " : "", name);
    }
    if (dead == 0) return;
    if (dead > SHOWN_MAX) phrase_add(&p, " and %zu more", dead - SHOWN_MAX);
    FIND_RULE(l, WARNING, group,
              "never decides about %s: rules before it do. Take %s out here, or out of the rule before.", p.text,
              dead > 1 ? "these names" : "this name");
    show_text(l, group);
}

/* ---- Rules that allow more than one thinks */

/* Addresses of the Internet far from each other: clients in all of them are anybody. */
static bool is_for_everywhere(const struct miniproxy_rule *r)
{
    static const char *const places[] = {"1.1.1.1", "45.1.1.1", "93.184.215.14", "150.1.1.1", "203.1.1.1"};
    struct miniproxy_addr a;
    struct miniproxy_question q = {
        .client = &a, .address = &a, .host = "", .path = "/", .port = 80, .method = MINIPROXY_GET};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        miniproxy_addr_parse(&a, places[i], strlen(places[i]));
        if (!rule_covers(r, PROPERTY_CLIENT, &q)) return false;
    }
    return true;
}

/* What this rule is the first to allow to somebody far away who has not logged in; NULL: nothing, or no memory. */
static uint64_t *open_part(struct lint *l, unsigned group)
{
    const struct miniproxy_rule *r = rule_of(l, l->groups[group].first);
    const struct value outside = {.addr = {.ip = {93, 184, 215, 14}, .family = 4}};
    unsigned client = space_atom_of(l->space, PROPERTY_CLIENT, &outside);
    uint64_t *box = space_copy(l->space, space_matches(l->space, 0, l->groups[group].first));
    if (box == NULL || !allows(l, group) || !is_for_everywhere(r)) return NULL;
    space_cut(l->space, box, PROPERTY_USER, is_atom, &nobody);
    space_cut(l->space, box, PROPERTY_CLIENT, is_atom, &client);
    return box;
}

static void check_open_pages(struct lint *l, unsigned group)
{
    uint64_t *box = open_part(l, group);
    struct witness w;
    if (box == NULL) return;
    space_cut(l->space, box, PROPERTY_METHOD, is_atom, &pages);
    if (find_before(l, box, NULL, l->groups[group].first, -1, &w) != FOUND) return;
    FIND_RULE(l, NOTE, group, "%s",
              "shows pages of the proxy itself to everybody who reaches it. /log tells who asked for what: name who may "
              "see that, with \"from\" or \"users\", or which pages, with \"paths\".");
    show_text(l, group);
    show_example(l, &w);
}

static void check_open(struct lint *l, unsigned group)
{
    const struct miniproxy_rule *r = rule_of(l, l->groups[group].first);
    uint64_t *box = open_part(l, group);
    struct witness w;
    bool narrow = r->hosts != NULL || r->to != NULL;
    if (box == NULL) return;
    space_cut(l->space, box, PROPERTY_METHOD, is_origin, NULL);
    if (find_before(l, box, NULL, l->groups[group].first, -1, &w) != FOUND) return;
    FIND_RULE(l, narrow ? NOTE : WARNING, group,
              "is for everybody who reaches the proxy, from any network and without a login%s. "
              "Name who may, with \"from\" or \"users\"; or let the proxy listen where only these reach it.",
              narrow ? ", though only to some destinations" : ": that is an open proxy");
    show_text(l, group);
    show_example(l, &w);
}

static void check_tunnels(struct lint *l, unsigned group)
{
    static const uint16_t odd[] = {25, 22, 6667, 3306, 50000};
    const struct miniproxy_rule *r = rule_of(l, l->groups[group].first);
    struct miniproxy_question q = {.host = "", .method = MINIPROXY_CONNECT};
    const struct value mail = {.number = 25};
    const unsigned connect = 7;
    unsigned port = space_atom_of(l->space, PROPERTY_PORT, &mail);
    uint64_t *box = space_copy(l->space, space_matches(l->space, 0, l->groups[group].first));
    struct witness w;
    if (box == NULL || !allows(l, group) || r->to != NULL || r->hosts != NULL) return;
    for (size_t i = 1; i < sizeof odd / sizeof odd[0]; i++) {
        q.port = odd[i];
        if (!rule_covers(r, PROPERTY_PORT, &q)) return;
    }
    space_cut(l->space, box, PROPERTY_METHOD, is_atom, &connect);
    if (find_before(l, box, NULL, l->groups[group].first, -1, NULL) != FOUND) return;
    space_cut(l->space, box, PROPERTY_PORT, is_atom, &port);
    if (find_before(l, box, NULL, l->groups[group].first, -1, &w) != FOUND) {
        FIND_RULE(l, WARNING, group, "%s",
                  "lets CONNECT through to nearly every port of every host: tunnels can carry any protocol, SSH and "
                  "databases too. Name the ports that are needed.");
        show_text(l, group);
        return;
    }
    w.question.port = 25;
    FIND_RULE(l, WARNING, group, "%s",
              "lets CONNECT through to every port of every host: tunnels can carry any protocol, mail (25) and "
              "SSH (22) too, and senders of spam look for that. Name the ports that are needed.");
    show_text(l, group);
    show_example(l, &w);
}

/* Names that anybody may register can resolve to addresses inside. */
static void check_rebinding(struct lint *l, unsigned group)
{
    for (unsigned i = l->groups[group].first; i <= l->groups[group].last; i++) {
        const struct miniproxy_rule *r = rule_of(l, i);
        const struct miniproxy_addr loopback = {.ip = {127, 0, 0, 1}, .family = 4};
        const struct miniproxy_question q = {
            .client = &loopback, .address = &loopback, .host = "", .path = "/", .port = 80, .method = MINIPROXY_GET};
        bool wide = rule_covers(r, PROPERTY_ADDRESS, &q);
        struct value unlisted = {.text = "www.unlisted-name.example"};
        unsigned host = space_atom_of(l->space, PROPERTY_HOST, &unlisted);
        uint64_t *box;
        struct witness w;
        if (r->verdict == MINIPROXY_DENY || !r->special_purpose || r->hosts != NULL || r->literal) continue;
        box = space_copy(l->space, space_matches(l->space, 0, i));
        if (box == NULL) return;
        space_cut(l->space, box, PROPERTY_ADDRESS, is_private, l->space);
        space_cut(l->space, box, PROPERTY_HOST, is_atom, &host);
        if (find_before(l, box, NULL, i, -1, &w) != FOUND) continue;
        FIND_RULE(l, wide ? WARNING : NOTE, group,
                  "opens %s to every name: whoever has a domain can let it "
                  "resolve to an address there, and a web page then makes a browser ask it (DNS rebinding). Name the "
                  "hosts, or write \"literals\" if they are asked for by address.",
                  wide ? "addresses inside, this machine's own too," : "addresses inside");
        show_text(l, group);
        show_example(l, &w);
        return;
    }
}

/* ---- Conditions that see less than one thinks */

static void check_spoofable(struct lint *l, unsigned group)
{
    const struct miniproxy_rule *r = rule_of(l, l->groups[group].first);
    if (r->also == NULL) return;
    if (r->also->agents != NULL) {
        FIND_RULE(l, allows(l, group) ? WARNING : NOTE, group, "%s",
                  "depends on User-Agent, which every client can set "
                  "as it likes: it keeps nobody out who wants in.");
        show_text(l, group);
    }
    if (r->also->paths != NULL && allows(l, group) && r->methods != MINIPROXY_PAGES) {
        FIND_RULE(l, WARNING, group, "%s",
                  "allows by path. A path is compared as it was sent: \"/pub/../admin\" begins with "
                  "\"/pub\". And https:// has no path here, so the rule is for http:// only. Allow hosts instead.");
        show_text(l, group);
    }
    if (r->also->paths != NULL && !allows(l, group) && r->methods != MINIPROXY_PAGES) {
        FIND_RULE(l, NOTE, group, "%s",
                  "denies by path. A path is compared as it was sent: \"/%61dmin\", \"//admin\" and \"/x/../admin\" do "
                  "not begin with \"/admin\", but most servers take them for it. Deny hosts instead, if that matters.");
        show_text(l, group);
    }
}

/* Does a tunnel go where the rule would deny the request? */
static void check_unseen(struct lint *l, unsigned group)
{
    const struct miniproxy_rule *r = rule_of(l, l->groups[group].first);
    const bool paths = r->also != NULL && r->also->paths != NULL, types = r->also != NULL && r->also->types != NULL;
    const struct value https = {.number = 443};
    const unsigned connect = 7;
    unsigned port = space_atom_of(l->space, PROPERTY_PORT, &https), by;
    uint64_t *box;
    struct witness w;
    struct phrase p = {.len = 0};
    if (allows(l, group) || (!paths && !types)) return;
    box = space_copy(l->space, space_matches(l->space, 0, l->groups[group].first));
    if (box == NULL) return;
    space_open(l->space, box, DIM_WHAT);
    space_open(l->space, box, DIM_PATH);
    space_open(l->space, box, DIM_TYPE);
    space_cut(l->space, box, PROPERTY_METHOD, is_atom, &connect);
    space_cut(l->space, box, PROPERTY_PORT, is_atom, &port);
    if (!finds_allowed(l, box, -1, 0, &by, &w)) return;
    phrase_rule(&p, l->c, (int)by);
    FIND_RULE(l, WARNING, group,
              "sees %s of http:// only: through a tunnel, which %s allows, the same can be had by https://. "
              "If that matters, deny CONNECT to these hosts.",
              paths ? "paths" : "types", p.text);
    show_text(l, group);
    show_example(l, &w);
}

struct clients {
    const struct space *space;
    const struct miniproxy_rule *rule;
};

static bool is_client_of(const void *data, unsigned atom)
{
    const struct clients *of = data;
    const struct value *v = space_value(of->space, PROPERTY_CLIENT, atom);
    const struct miniproxy_question q = {.client = &v->addr, .host = "", .path = "/", .method = MINIPROXY_GET};
    return rule_covers(of->rule, PROPERTY_CLIENT, &q);
}

/* Does a DENY for certain users let them have the same without a login, for a rule behind it asks for none? */
static void check_anonymous(struct lint *l, unsigned group)
{
    const unsigned first = l->groups[group].first;
    const struct miniproxy_rule *r = rule_of(l, first);
    const struct clients of = {l->space, r};
    struct phrase p = {.len = 0};
    struct witness w;
    uint64_t *box;
    if (allows(l, group) || r->users == 0 || r->either) return;
    box = space_copy(l->space, space_matches(l->space, 0, first));
    if (box == NULL) return;
    space_open(l->space, box, DIM_WHO);
    space_cut(l->space, box, PROPERTY_USER, is_atom, &nobody);
    space_cut(l->space, box, PROPERTY_CLIENT, is_client_of, &of);
    for (unsigned k = l->groups[group].last + 1; k < l->c->policy.rule_count; k++) {
        if (rule_of(l, k)->verdict != MINIPROXY_ALLOW || rule_of(l, k)->users != 0) continue;
        if (find_before(l, box, space_matches(l->space, 0, k), k, -1, &w) != FOUND) continue;
        phrase_rule_text(&p, l->c, (int)k);
        FIND_RULE(l, WARNING, group,
                  "denies users what they get without a login: %s asks for none. Let that rule name its users, too.",
                  p.text);
        show_text(l, group);
        show_example(l, &w);
        return;
    }
}

/* ---- Users and sets */

/* List those users for whom `is` is true. */
static unsigned list_users(const struct lint *l, struct phrase *p,
                           bool (*is)(const struct lint *l, const struct miniproxy_user *user))
{
    unsigned count = 0;
    for (unsigned i = 0; i < l->c->policy.user_count; i++) {
        if (!is(l, &l->c->policy.users[i])) continue;
        if (count++ < SHOWN_MAX) phrase_add(p, "%s%s", count > 1 ? ", " : "", l->c->policy.users[i].name);
    }
    if (count > SHOWN_MAX) phrase_add(p, " and %u more", count - SHOWN_MAX);
    return count;
}

static bool is_in_no_rule(const struct lint *l, const struct miniproxy_user *user)
{
    const struct miniproxy_policy *p = &l->c->policy;
    const unsigned groups = user->groups | MINIPROXY_AUTHENTICATED;
    for (unsigned i = 0; i < p->rule_count; i++)
        if ((rule_of(l, i)->users & groups) != 0) return false;
    for (unsigned i = 0; i < p->route_count; i++)
        if ((p->routes[i].users & groups) != 0) return false;
    for (unsigned i = 0; i < p->limit_count; i++)
        if ((limit_as_rule(p->limits + i).users & groups) != 0) return false;
    return true;
}

static bool has_clear_password(const struct lint *l, const struct miniproxy_user *user)
{
    (void)l;
    return user->digest == NULL && user->password != NULL;
}

static bool has_plain_digest(const struct lint *l, const struct miniproxy_user *user)
{
    (void)l;
    return user->digest != NULL && user->rounds == 0;
}

static bool has_few_rounds(const struct lint *l, const struct miniproxy_user *user)
{
    (void)l;
    return user->digest != NULL && user->rounds > 0 && user->rounds < ROUNDS_MIN;
}

static void check_users(struct lint *l)
{
    static const struct {
        bool (*is)(const struct lint *l, const struct miniproxy_user *user);
        enum severity severity;
        const char *text;
    } checks[] = {
        {is_in_no_rule, WARNING, "in no rule: a login gives nothing. Put a rule's group in, or take the entry out."},
        {has_clear_password, WARNING,
         "password in clear: whoever reads this file or the flash has it. Let \"miniproxy hash\" make an entry, unless "
         "the "
         "device has no room for that."},
        {has_few_rounds, WARNING,
         "fewer than 10000 rounds: whoever gets the table guesses the password quickly. Let \"miniproxy hash\" make "
         "the "
         "entry again."},
        {has_plain_digest, NOTE,
         "hashed once (sha256:). That is good for a long random password that a machine made, not for what people "
         "choose: "
         "that wants pbkdf2:."},
    };
    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++) {
        struct phrase p = {.len = 0};
        unsigned count = list_users(l, &p, checks[i].is);
        if (count > 0)
            FIND(l, checks[i].severity, NULL, "%s %s: %s", count > 1 ? "users" : "user", p.text, checks[i].text);
    }
}

static void check_sets(struct lint *l)
{
    for (size_t i = 0; i < l->c->set_count; i++) {
        const struct set_name *s = &l->c->sets[i];
        if (s->set == NULL && s->name != NULL)
            FIND(l, WARNING, &s->place, "%s %s is used by no %s. Use it, or take it out.", s->kind, s->name,
                 strcmp(s->kind, "parent") == 0 || strcmp(s->kind, "origins") == 0 ? "route" : "rule");
    }
}

/* ---- Routes */

/* A finding about a route or a limit. */
#define FIND_WAY(l, severity, what, number, origin, format, ...)                       \
    do {                                                                               \
        FIND(l, severity, &(origin)->place, what " %u: " format, number, __VA_ARGS__); \
        tell((l)->out, "    | ", 6, "%s", (origin)->text);                             \
    } while (0)

/* Do the routes before this one take all of a box? l->used tells which of them were needed. */
static bool is_taken_before(struct lint *l, unsigned route, const uint64_t *box)
{
    for (unsigned i = 0; i < route; i++) l->boxes[i] = space_route(l->space, 0, i);
    return space_find(l->space, &box, 1, l->boxes, route, l->used, NULL) == FOUND_NONE;
}

static unsigned phrase_needed(struct phrase *p, const struct lint *l, unsigned route)
{
    unsigned needed = 0;
    for (unsigned i = 0; i < route; i++) {
        if (!l->used[i]) continue;
        if (needed++ < SHOWN_MAX)
            phrase_add(p, needed > 1 ? ", route %u (line %u)" : "route %u (line %u)", i,
                       l->c->route_origins[i].place.line);
    }
    return needed;
}

static void check_dead_route(struct lint *l, unsigned route)
{
    const struct rule_origin *origin = &l->c->route_origins[route];
    struct phrase p = {.len = 0};
    unsigned needed;
    uint64_t *box = space_copy(l->space, space_route(l->space, 0, route));
    if (box == NULL || !is_taken_before(l, route, box)) return;
    needed = phrase_needed(&p, l, route);
    if (needed == 0) { /* names that others have left to a parent have no address that it could be about */
        space_open(l->space, box, DIM_ADDRESS);
        if (is_taken_before(l, route, box)) needed = phrase_needed(&p, l, route);
    }
    if (needed == 0)
        FIND_WAY(l, ERROR, "route", route, origin, "never matches: %s. Correct it, or take it out.",
                 "its own conditions exclude each other, or nobody is in its groups");
    else
        FIND_WAY(l, ERROR, "route", route, origin,
                 "never matches: %s before it match%s all that it does. Move it up, or take it out.", p.text,
                 needed > 1 ? "" : "es");
}

/* A route that asks for an address has every name resolved to know it, also those that a parent was to resolve. */
static void check_resolving(struct lint *l, unsigned route)
{
    const struct miniproxy_policy *p = &l->c->policy;
    const uint64_t *in[2];
    uint64_t *box;
    if (p->routes[route].to == NULL) return;
    box = space_copy(l->space, space_route(l->space, 0, route));
    if (box == NULL) return;
    space_open(l->space, box, DIM_ADDRESS);
    space_cut(l->space, box, PROPERTY_HOST, is_other_atom, &literal);
    for (unsigned i = route + 1; i < p->route_count; i++) {
        if (!route_hides_address(p, p->routes + i) || p->routes[i].to != NULL) continue;
        in[0] = box;
        in[1] = space_route(l->space, 0, i);
        for (unsigned k = 0; k < route; k++) l->boxes[k] = space_route(l->space, 0, k);
        if (space_find(l->space, in, 2, l->boxes, route, NULL, NULL) != FOUND) continue;
        FIND_WAY(l, NOTE, "route", route, &l->c->route_origins[route],
                 "asks for networks: names that it could be for are all resolved here, also those that route %u "
                 "(%s:%u) then leads to a parent. Name the hosts, if that is not wanted.",
                 i, l->c->route_origins[i].place.file, l->c->route_origins[i].place.line);
        return;
    }
}

static bool is_loopback_host(const char *host)
{
    struct miniproxy_addr a;
    static const uint8_t loopback6[16] = {[15] = 1};
    if (!miniproxy_addr_parse(&a, host, strlen(host))) return name_is_local(host);
    return a.family == 4 ? a.ip[0] == 127 : memcmp(a.ip, loopback6, sizeof loopback6) == 0;
}

static void check_logins(struct lint *l)
{
    const struct miniproxy_policy *p = &l->c->policy;
    for (unsigned i = 0; i < p->hop_count; i++) {
        const struct hop_origin *origin = &l->c->hop_origins[i];
        unsigned before = 0;
        while (before < i && l->c->hop_origins[before].name != origin->name) before++;
        if (before < i || p->hops[i].login == NULL || p->hops[i].secure || is_loopback_host(p->hops[i].host)) continue;
        FIND(l, WARNING, &origin->place,
             "parent %s: its login crosses the network in clear: whoever is on the way has it. %s", origin->name,
             p->hops[i].kind == MINIPROXY_HOP_PROXY ? "Use https://, if the parent speaks TLS."
                                                    : "Keep that way within a network that you trust.");
    }
}

/* ---- Rules about addresses that parents resolve */

/* Does a DENY that names networks let pass what it would deny, for nobody here knows the address? */
static void check_bypassed(struct lint *l, unsigned group)
{
    const struct miniproxy_rule *r = rule_of(l, l->groups[group].first);
    struct phrase p = {.len = 0};
    struct witness w;
    const struct rule_origin *origin;
    uint64_t *box;
    unsigned by;
    int route;
    if (allows(l, group) || r->to == NULL || r->literal) return;
    box = space_copy(l->space, space_matches(l->space, 0, l->groups[group].first));
    if (box == NULL) return;
    space_open(l->space, box, DIM_ADDRESS);
    space_cut(l->space, box, PROPERTY_ADDRESS, is_hidden_atom, l->space);
    if (!finds_allowed(l, box, -1, l->groups[group].last + 1, &by, &w)) return;
    w.question.user = w.users[0];
    route = miniproxy_find_route(&l->c->policy, &w.question);
    if (route < 0) return;
    origin = &l->c->route_origins[route];
    phrase_rule(&p, l->c, (int)by);
    FIND_RULE(l, WARNING, group,
              "does not see addresses of names that route %d (%s:%u) leads: whoever they are led to resolves them, "
              "and %s allows them. Write \"resolve\" there if this rule is to hold for them.",
              route, origin->place.file, origin->place.line, p.text);
    show_text(l, group);
    tell(l->out, "    see | ", 6, "%s", origin->text);
    show_example(l, &w);
}

/* ---- Limits */

enum { LIMITS_MAX = 24 /* compared each with two others */ };

/* Is there a request for which this limit holds and less than MINIPROXY_LIMITS_EACH before it? */
static enum found find_limited(struct lint *l, unsigned limit)
{
    const uint64_t *in[1] = {space_limit(l->space, 0, limit)};
    const uint64_t *both[LIMITS_MAX * LIMITS_MAX];
    unsigned n = 0;
    for (unsigned i = 0; i < limit; i++)
        for (unsigned k = 0; k < i; k++) {
            uint64_t *box = space_copy(l->space, space_limit(l->space, 0, i));
            if (box == NULL) return FOUND_TOO_MUCH;
            space_meet(l->space, box, space_limit(l->space, 0, k));
            if (!space_is_empty(l->space, box)) both[n++] = box;
        }
    return space_find(l->space, in, 1, both, n, NULL, NULL);
}

static void check_limits(struct lint *l)
{
    const struct miniproxy_policy *p = &l->c->policy;
    for (unsigned i = 0; i < p->limit_count && i < LIMITS_MAX; i++) {
        const uint64_t *in[1] = {space_limit(l->space, 0, i)};
        const struct rule_origin *origin = &l->c->limit_origins[i];
        if (space_find(l->space, in, 1, NULL, 0, NULL, NULL) == FOUND_NONE)
            FIND_WAY(l, ERROR, "limit", i, origin, "never holds: %s. Correct it, or take it out.",
                     p->user_count == 0 ? "the policy has no users" : "nobody is in its groups");
        else if (find_limited(l, i) == FOUND_NONE)
            FIND_WAY(
                l, ERROR, "limit", i, origin,
                "never holds: for all that it is for, %d others before it hold already. Move it up, or take it out.",
                MINIPROXY_LIMITS_EACH);
    }
    if (p->limit_count > LIMITS_MAX)
        FIND(l, NOTE, NULL, "more than %d limits: whether the others ever hold was not looked at.", LIMITS_MAX);
}

_Static_assert(MINIPROXY_LIMITS_EACH == 2, "find_limited counts to two");

static void check_maintenance(struct lint *l)
{
    if (l->c->policy.maintenance == NULL) return;
    FIND(l, NOTE, &l->c->maintenance_place, "%s",
         "maintenance: everything but pages of the proxy itself is answered by 503, whatever the rules say.");
}

static void check_ways(struct lint *l)
{
    const unsigned count = l->c->policy.route_count;
    for (unsigned i = 0; i < count && count <= RULES_MAX; i++) {
        check_dead_route(l, i);
        check_resolving(l, i);
    }
    check_limits(l);
}

/* ---- All of it */

static bool same_place(const struct place *a, const struct place *b)
{
    return a->line == b->line && a->column == b->column && strcmp(a->file, b->file) == 0;
}

static bool make_groups(struct lint *l)
{
    const struct miniproxy_policy *p = &l->c->policy;
    unsigned count = p->rule_count, room = 2u * count + p->route_count + 4u;
    l->groups = calloc(count + 1u, sizeof *l->groups);
    l->boxes = calloc(room, sizeof *l->boxes);
    l->used = calloc(room, sizeof *l->used);
    if (l->groups == NULL || l->boxes == NULL || l->used == NULL) return false;
    for (unsigned i = 0; i < count; i++) {
        if (i > 0 && same_place(&l->c->origins[i].place, &l->c->origins[i - 1].place))
            l->groups[l->group_count - 1].last = i;
        else l->groups[l->group_count++] = (struct group){.first = i, .last = i};
    }
    return true;
}

/* What compares each rule with many others. */
static void check_among_others(struct lint *l, unsigned group)
{
    check_denied_names(l, group);
    if (!check_useless(l, group)) {
        check_allowed_names(l, group);
        check_late_names(l, group);
    }
    check_unseen(l, group);
    check_anonymous(l, group);
}

static void check_rules(struct lint *l)
{
    for (unsigned g = 0; g < l->group_count; g++) {
        check_dead(l, g);
        if (l->groups[g].dead) continue;
        check_only_empty(l, g);
        check_pages(l, g);
        check_open_pages(l, g);
        check_open(l, g);
        check_tunnels(l, g);
        check_names(l, g);
        check_rebinding(l, g);
        check_bypassed(l, g);
        check_spoofable(l, g);
        if (l->group_count <= RULES_MAX) check_among_others(l, g);
    }
    if (l->group_count > RULES_MAX)
        FIND(l, NOTE, NULL, "more than %d rules: which of them change nothing, or can be got round, was not looked at.",
             RULES_MAX);
}

unsigned policy_lint(const struct compiled *c, FILE *out)
{
    struct lint l = {.c = c, .out = out};
    const char *problem;
    l.space = space_new(&c, 1, &problem);
    if (l.space == NULL)
        FIND(&l, WARNING, NULL, "rules were not looked at: %s.", problem != NULL ? problem : "not enough memory");
    else if (!make_groups(&l)) FIND(&l, WARNING, NULL, "rules were not looked at: %s.", "not enough memory");
    else check_rules(&l), check_ways(&l);
    if (c->policy.rule_count == 0) FIND(&l, WARNING, NULL, "%s", "no rules: everything is denied.");
    check_maintenance(&l);
    check_logins(&l);
    check_users(&l);
    check_sets(&l);
    if (l.counts[ERROR] + l.counts[WARNING] + l.counts[NOTE] > 0) fputc('\n', out);
    fprintf(out, "%u errors, %u warnings, %u notes\n", l.counts[ERROR], l.counts[WARNING], l.counts[NOTE]);
    free(l.groups);
    free(l.boxes);
    free(l.used);
    space_free(l.space);
    return l.counts[ERROR] + l.counts[WARNING];
}

/* ---- diff */

struct diff {
    const struct compiled *policies[2];
    struct space *space;
    FILE *out;
    unsigned count; /* said */
    struct difference *list;
    size_t kept, room;
    bool no_memory;
};

static void say_outcome(const struct diff *d, unsigned policy, const struct outcome *o, bool page)
{
    struct phrase p = {.len = 0};
    phrase_rule_text(&p, d->policies[policy], o->rule);
    tell(d->out, policy == 0 ? "    before: " : "    now:    ", 12, "%s %s",
         o->verdict == MINIPROXY_ALLOWED  ? "allowed by"
         : o->verdict == MINIPROXY_DENIED ? "denied (403) by"
         : page                           ? "asked for a login (401) by"
                                          : "asked for a login (407) by",
         p.text);
}

static void show_difference(struct diff *d, const struct difference *difference)
{
    static const char *const words[] = {
        [MINIPROXY_ALLOWED] = "allowed", [MINIPROXY_DENIED] = "denied", [MINIPROXY_NEEDS_USER] = "asked for a login"};
    const bool page = difference->found == FOUND && difference->witness.question.method == MINIPROXY_PAGES;
    struct phrase p = {.len = 0}, first = {.len = 0};
    phrase_add(&first, "%u. ", ++d->count);
    tell(d->out, first.text, 4, "%s, was %s%s", words[difference->outcome[1].verdict],
         words[difference->outcome[0].verdict],
         difference->found == FOUND ? ":"
                                    : ", perhaps: too many cases to find a request or to prove that there is none:");
    say_outcome(d, 0, &difference->outcome[0], page);
    say_outcome(d, 1, &difference->outcome[1], page);
    if (difference->found != FOUND) return;
    phrase_command(&p, d->policies[1], d->space, &difference->witness);
    fprintf(d->out, "    try: %s\n", p.text);
}

static void keep_difference(void *data, const struct difference *difference)
{
    struct diff *d = data;
    struct difference *list;
    if (d->kept == d->room) {
        d->room = d->room == 0 ? 16 : 2 * d->room;
        list = realloc(d->list, d->room * sizeof *list);
        if (list == NULL) {
            d->no_memory = true;
            return;
        }
        d->list = list;
    }
    if (!d->no_memory) d->list[d->kept++] = *difference;
}

/* What is allowed now comes first, then what is not any more, then who is asked for a login instead of refused. */
static void show_differences(struct diff *d)
{
    for (int pass = 0; pass < 3; pass++)
        for (size_t i = 0; i < d->kept; i++) {
            const struct outcome *o = d->list[i].outcome;
            int kind = o[1].verdict == MINIPROXY_ALLOWED ? 0 : o[0].verdict == MINIPROXY_ALLOWED ? 1 : 2;
            if (kind == pass) show_difference(d, &d->list[i]);
        }
}

static const struct miniproxy_user *find_user(const struct compiled *c, const char *name)
{
    for (unsigned i = 0; i < c->policy.user_count; i++)
        if (strcmp(c->policy.users[i].name, name) == 0) return &c->policy.users[i];
    return NULL;
}

static bool same_password(const struct miniproxy_user *a, const struct miniproxy_user *b)
{
    if ((a->digest == NULL) != (b->digest == NULL) || a->rounds != b->rounds) return false;
    if (policy_has_password(a) != policy_has_password(b)) return false;
    if (a->digest != NULL) return memcmp(a->digest, b->digest, MINIPROXY_SALT_LEN + MINIPROXY_DIGEST_LEN) == 0;
    return a->password == NULL || strcmp(a->password, b->password) == 0;
}

/* One of both policies, whose entries differ. */
static void tell_changed(struct diff *d, const struct miniproxy_user *a, const struct miniproxy_user *b)
{
    static const char *const texts[2][2] = {
        {NULL, "logs in by a password now, and no longer comes by a certificate"},
        {"comes by a certificate now: every request with this login gets 407 login_failed",
         "has another password, or another hash of it: the old one may get 407 login_failed"}};
    tell(d->out, "", 4, "%u. user %s %s", d->count, a->name,
         texts[policy_has_password(a) ? 1 : 0][policy_has_password(b) ? 1 : 0]);
}

static void tell_gone(struct diff *d, const struct miniproxy_user *a, bool as_all)
{
    if (!policy_has_password(a))
        tell(d->out, "", 4, "%u. user %s is gone: who has this certificate is nobody now", d->count, a->name);
    else if (as_all)
        tell(d->out, "", 4, "%u. user %s is gone, as all users are: logins are not looked at any more", d->count,
             a->name);
    else
        tell(d->out, "", 4, "%u. user %s is gone: every request with this login gets 407 login_failed", d->count,
             a->name);
}

static void compare_users(struct diff *d)
{
    const struct compiled *before = d->policies[0], *now = d->policies[1];
    for (unsigned i = 0; i < before->policy.user_count; i++) {
        const struct miniproxy_user *a = &before->policy.users[i], *b = find_user(now, a->name);
        if (b != NULL && same_password(a, b)) continue;
        d->count++;
        if (b != NULL) tell_changed(d, a, b);
        else tell_gone(d, a, now->policy.user_count == 0);
    }
    for (unsigned i = 0; i < now->policy.user_count; i++) {
        const struct miniproxy_user *b = &now->policy.users[i];
        if (find_user(before, b->name) != NULL) continue;
        d->count++;
        tell(d->out, "", 4, "%u. user %s is new: %s", d->count, b->name,
             !policy_has_password(b)        ? "who has this certificate was nobody before"
             : before->policy.user_count > 0 ? "requests with this login got 407 login_failed before"
                                             : "requests with this login were taken as without before");
    }
}

/* ---- Ways that change */

static bool same_way(const struct diff *d, int a, int b)
{
    const struct miniproxy_policy *p = &d->policies[0]->policy, *q = &d->policies[1]->policy;
    static const struct miniproxy_route direct;
    const struct miniproxy_route *x = a >= 0 ? p->routes + a : &direct, *y = b >= 0 ? q->routes + b : &direct;
    if (x->count != y->count || (x->count > 0 && x->resolve != y->resolve) || (x->count > 1 && x->order != y->order))
        return false;
    for (unsigned i = 0; i < x->count; i++)
        if (!same_hop(p->hops + x->first + i, q->hops + y->first + i)) return false;
    return true;
}

/* A request that is allowed now, and takes route a before and b now. -1: no route. */
static enum found find_led(struct diff *d, int a, int b, const uint64_t **out, struct witness *w)
{
    const int routes[2] = {a, b};
    const struct miniproxy_policy *now = &d->policies[1]->policy;
    const uint64_t *in[3];
    unsigned in_count = 0, out_count = 0;
    enum found result = FOUND_NONE;
    for (unsigned p = 0; p < 2; p++) {
        const int before = routes[p] >= 0 ? routes[p] : d->policies[p]->policy.route_count;
        if (routes[p] >= 0) in[in_count++] = space_route(d->space, p, (unsigned)routes[p]);
        for (int i = 0; i < before; i++) out[out_count++] = space_route(d->space, p, (unsigned)i);
    }
    for (unsigned k = 0; k < now->rule_count && result != FOUND; k++) {
        if (now->rules[k].verdict == MINIPROXY_ALLOW) {
            enum found found;
            in[in_count] = space_matches(d->space, 1, k);
            found = space_find(d->space, in, in_count + 1, out, out_count, NULL, w);
            if (found != FOUND_NONE) result = found;
        }
        out[out_count++] = space_matches(d->space, 1, k);
    }
    return result;
}

static void show_led(struct diff *d, unsigned policy, int route)
{
    struct phrase p = {.len = 0};
    phrase_way(&p, d->policies[policy], route);
    phrase_add(&p, ", ");
    if (route < 0) phrase_add(&p, "by no route");
    else phrase_origin(&p, "route", route, d->policies[policy]->route_origins + route);
    tell(d->out, policy == 0 ? "    before: " : "    now:    ", 12, "%s", p.text);
}

/* False: no memory. */
static bool compare_ways(struct diff *d)
{
    const struct miniproxy_policy *p = &d->policies[0]->policy, *q = &d->policies[1]->policy;
    const uint64_t **out = malloc(((size_t)p->route_count + q->route_count + q->rule_count + 1) * sizeof *out);
    for (int a = -1; out != NULL && a < p->route_count; a++)
        for (int b = -1; b < q->route_count; b++) {
            struct phrase command = {.len = 0}, first = {.len = 0};
            struct witness w;
            enum found found = same_way(d, a, b) ? FOUND_NONE : find_led(d, a, b, out, &w);
            if (found == FOUND_NONE) continue;
            phrase_add(&first, "%u. ", ++d->count);
            tell(d->out, first.text, 4,
                 found == FOUND ? "goes another way:" : "goes another way, perhaps: too many cases to find a request:");
            show_led(d, 0, a);
            show_led(d, 1, b);
            if (found != FOUND) continue;
            phrase_command(&command, d->policies[1], d->space, &w);
            fprintf(d->out, "    try: %s\n", command.text);
        }
    free(out);
    return out != NULL;
}

static bool same_nets(const struct miniproxy_nets *a, const struct miniproxy_nets *b)
{
    if (a == NULL || b == NULL) return a == b;
    return a->v4_count == b->v4_count && a->v6_count == b->v6_count &&
           (a->v4_count == 0 || memcmp(a->v4, b->v4, a->v4_count * sizeof *a->v4) == 0) &&
           (a->v6_count == 0 || memcmp(a->v6, b->v6, a->v6_count * sizeof *a->v6) == 0);
}

/* The same people: those whom both policies have. */
static bool same_people(const struct diff *d, unsigned a, unsigned b)
{
    const struct miniproxy_policy *p = &d->policies[0]->policy;
    if ((a == 0) != (b == 0)) return false;
    for (unsigned i = 0; i < p->user_count && a != 0; i++) {
        const struct miniproxy_user *now = find_user(d->policies[1], p->users[i].name);
        bool was = ((p->users[i].groups | MINIPROXY_AUTHENTICATED) & a) != 0;
        bool is = now == NULL ? was : ((now->groups | MINIPROXY_AUTHENTICATED) & b) != 0;
        if (was != is) return false;
    }
    return true;
}

static bool same_limit(const struct diff *d, const struct miniproxy_limit *a, const struct miniproxy_limit *b)
{
    return same_nets(a->clients, b->clients) && same_people(d, a->users, b->users) && a->share == b->share &&
           a->at_once == b->at_once && a->requests_a_minute == b->requests_a_minute &&
           a->request_burst == b->request_burst && a->down_per_s == b->down_per_s && a->up_per_s == b->up_per_s &&
           a->burst == b->burst;
}

/* Limits that only one of the policies has. Their order matters only beyond the first two, and is not looked at. */
static void compare_limits(struct diff *d)
{
    for (unsigned side = 0; side < 2; side++) {
        const struct miniproxy_policy *one = &d->policies[side]->policy, *other = &d->policies[1 - side]->policy;
        for (unsigned i = 0; i < one->limit_count; i++) {
            struct phrase p = {.len = 0};
            bool known = false;
            for (unsigned k = 0; k < other->limit_count; k++)
                known |= side == 0 ? same_limit(d, one->limits + i, other->limits + k)
                                   : same_limit(d, other->limits + k, one->limits + i);
            if (known) continue;
            phrase_origin(&p, "limit", (int)i, d->policies[side]->limit_origins + i);
            tell(d->out, "", 4, "%u. %s %s", ++d->count, p.text, side == 0 ? "is gone" : "is new");
        }
    }
}

static void compare_maintenance(struct diff *d)
{
    const char *before = d->policies[0]->policy.maintenance, *now = d->policies[1]->policy.maintenance;
    if (before == now || (before != NULL && now != NULL && strcmp(before, now) == 0)) return;
    d->count++;
    if (now == NULL)
        tell(d->out, "", 4, "%u. maintenance is over: requests are not answered by 503 any more", d->count);
    else if (before == NULL)
        tell(d->out, "", 4, "%u. maintenance: everything but pages of the proxy itself is answered by 503, \"%s\"",
             d->count, now);
    else tell(d->out, "", 4, "%u. maintenance has another message, \"%s\"", d->count, now);
}

unsigned policy_diff(const struct compiled *before, const struct compiled *after, FILE *out)
{
    struct diff d = {.policies = {before, after}, .out = out};
    const char *problem;
    bool ok;
    compare_maintenance(&d);
    compare_users(&d);
    d.space = space_new(d.policies, 2, &problem);
    ok = d.space != NULL && space_compare(d.space, keep_difference, &d) && !d.no_memory;
    if (ok) show_differences(&d);
    if (ok) ok = compare_ways(&d);
    if (ok) compare_limits(&d);
    else fprintf(out, "not decided: %s\n", d.space == NULL && problem != NULL ? problem : "not enough memory");
    if (ok && d.count == 0) fprintf(out, "No decision changes.\n");
    space_free(d.space);
    free(d.list);
    return ok ? d.count : d.count + 1;
}
