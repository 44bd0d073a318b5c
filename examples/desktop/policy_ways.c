/* SPDX-License-Identifier: MIT
 *
 * The policy language: parents, groups of origins, routes and limits.
 */
#define _GNU_SOURCE
#include "desktop.h"
#include "policy_source.h"

#include <string.h>

#if !MINIPROXY_WITH_ROUTES || !MINIPROXY_WITH_LIMITS
#error "the policy language has routes and limits: MINIPROXY_WITH_ROUTES and _LIMITS must be 1"
#endif

/* ---- Parents and groups of origins */

struct written_hops *find_hops(const struct source *s, const char *name)
{
    struct written_hops *h = s->hops;
    while (h != NULL && strcmp(h->name, name) != 0) h = h->next;
    return h;
}

/* The name and the = behind it; NULL: said. */
static struct written_hops *take_name(struct source *s, struct words *w, bool origins)
{
    const struct token *name = here(w);
    const struct written_hops *known;
    struct written_hops *h;
    if (name->type != TOKEN_WORD || !is_set_name(name->text) || is_reserved(name->text)) {
        expected(
            s, w,
            "a name that is no word of the language: a lower-case letter, then letters, digits, - or _, at most 64");
        return NULL;
    }
    known = find_hops(s, name->text);
    if (known != NULL) {
        complain(s, name->place, NULL, "expected another name, \"%s\" is taken at %s:%u", name->text, known->place.file,
                 known->place.line);
        return NULL;
    }
    if (s->hops_count++ == WAYS_MAX) {
        complain(s, name->place, NULL, "expected at most %d parents and groups of origins", WAYS_MAX);
        return NULL;
    }
    w->at++;
    if (here(w)->type != TOKEN_EQUALS) {
        expected(s, w, origins ? "= after the name of the group of origins" : "= after the name of the parent");
        return NULL;
    }
    w->at++;
    h = arena_take(s->arena, sizeof *h); /* even if the rest is wrong: its name is known then */
    *h = (struct written_hops){.name = name->text, .place = name->place, .origins = origins};
    *s->hops_end = h;
    s->hops_end = &h->next;
    return h;
}

/* One server. What is there may have a password: it is not shown. */
static bool take_hop(struct source *s, struct words *w, bool origins, struct miniproxy_hop *hop)
{
    const struct token *t = here(w);
    const char *problem;
    char *room;
    if (t->type != TOKEN_WORD && t->type != TOKEN_TEXT) {
        expected(s, w,
                 origins ? "HOST:PORT of an origin, as 10.0.0.1:8080"
                         : "the parent's URL, as http://proxy.example:3128, https://… or socks5://…");
        return false;
    }
    room = arena_take(s->arena, strlen(t->text) + 8);
    problem = origins ? origin_parse(hop, t->text, room) : parent_parse(hop, t->text, room);
    if (problem != NULL) {
        complain(s, t->place, origins ? token_shown(s, t) : NULL, "%s", problem);
        return false;
    }
    w->at++;
    return true;
}

/* A whole number with this unit, as "10s" or "10 s". */
static bool take_seconds(struct source *s, struct words *w, uint16_t *seconds)
{
    const char *text = here(w)->text;
    size_t digits = strspn(text, "0123456789");
    unsigned value;
    if (here(w)->type == TOKEN_WORD && number(text, digits, UINT16_MAX, &value) && value > 0) {
        bool apart = text[digits] == '\0' && is_word(&w->list[w->at + 1], "s");
        if (apart || strcmp(text + digits, "s") == 0) {
            w->at += apart ? 2 : 1;
            *seconds = (uint16_t)value;
            return true;
        }
    }
    expected(s, w, "seconds from 1 to 65535, as 10s");
    return false;
}

/* Behind `check`: what it asks for, if anything, and how often. */
static bool take_check(struct source *s, struct words *w, struct miniproxy_hop *hop)
{
    const struct token *t = here(w);
    if (!is_word(t, "every") && t->type != TOKEN_END) {
        const char *problem = t->type == TOKEN_WORD || t->type == TOKEN_TEXT
                                  ? check_problem(t->text)
                                  : "expected what a check asks for as \"http://host/path\", or every";
        if (problem != NULL) {
            complain(s, t->place, token_shown(s, t), "%s", problem);
            return false;
        }
        hop->check = t->text;
        w->at++;
    }
    if (!take(w, "every")) {
        expected(s, w,
                 hop->check != NULL ? "\"every\" and seconds, as every 10s"
                                    : "\"every\" and seconds, as every 10s, or the URL that is asked for");
        return false;
    }
    return take_seconds(s, w, &hop->check_s);
}

static bool take_count(struct source *s, struct words *w, uint8_t *count)
{
    unsigned value;
    if (*count != 0) {
        w->at--;
        complain(s, here(w)->place, token_shown(s, here(w)), "expected it only once");
        return false;
    }
    if (here(w)->type != TOKEN_WORD || !number(here(w)->text, strlen(here(w)->text), UINT8_MAX, &value) || value == 0) {
        expected(s, w, "a number of results in a row, 1 to 255");
        return false;
    }
    w->at++;
    *count = (uint8_t)value;
    return true;
}

/* What is the same for all of a group. */
static bool take_health(struct source *s, struct words *w, struct miniproxy_hop *hop, bool comma)
{
    while (here(w)->type != TOKEN_END) {
        bool ok;
        if (hop->check_s == 0 && take(w, "check")) {
            ok = take_check(s, w, hop);
        } else if (take(w, "rise")) {
            ok = take_count(s, w, &hop->rise);
        } else if (take(w, "fall")) {
            ok = take_count(s, w, &hop->fall);
        } else {
            expected(s, w,
                     hop->check_s != 0 ? "rise, fall or the end of the line"
                     : comma           ? "a comma, check, rise, fall or the end of the line"
                                       : "check, rise, fall or the end of the line");
            return false;
        }
        comma = false;
        if (!ok) return false;
    }
    if (hop->rise == 0 || hop->check_s != 0) return true;
    complain(s, here(w)->place, NULL,
             "expected \"check\" with \"rise\": without checks a request that goes well is enough");
    return false;
}

void parent_statement(struct source *s, struct words *w)
{
    struct written_hops *h = take_name(s, w, false);
    struct miniproxy_hop *hop = arena_take(s->arena, sizeof *hop);
    if (h == NULL || !take_hop(s, w, false, hop) || !take_health(s, w, hop, false)) return;
    h->hops = hop;
    h->count = 1;
}

void origins_statement(struct source *s, struct words *w)
{
    struct written_hops *h = take_name(s, w, true);
    struct miniproxy_hop *hops = arena_take(s->arena, MINIPROXY_ROUTE_HOPS * sizeof *hops), common = {0};
    unsigned count = 0;
    if (h == NULL) return;
    do {
        if (count == MINIPROXY_ROUTE_HOPS) {
            complain(s, here(w)->place, NULL, "expected at most %d origins in a group", MINIPROXY_ROUTE_HOPS);
            return;
        }
        if (!take_hop(s, w, true, &hops[count++])) return;
    } while (here(w)->type == TOKEN_COMMA && (w->at++, true));
    if (!take_health(s, w, &common, true)) return;
    for (unsigned i = 0; i < count; i++) {
        hops[i].check = common.check;
        hops[i].check_s = common.check_s;
        hops[i].rise = common.rise;
        hops[i].fall = common.fall;
    }
    h->hops = hops;
    h->count = count;
}

/* ---- Routes */

static bool take_via(struct source *s, struct words *w, struct written_route *route)
{
    struct value **end = &route->via;
    do {
        const struct token *t = here(w);
        struct value *v = arena_take(s->arena, sizeof *v);
        if (t->type != TOKEN_WORD || !is_set_name(t->text) || is_reserved(t->text)) {
            expected(s, w, "the name of a parent or of a group of origins");
            return false;
        }
        *v = (struct value){.place = t->place, .name = t->text};
        *end = v;
        end = &v->next;
        w->at++;
    } while (here(w)->type == TOKEN_COMMA && (w->at++, true));
    return true;
}

static bool is_way_given(const struct written_route *route)
{
    return route->directly || route->via != NULL;
}

/* One word of a route and what belongs to it. */
static bool take_route_part(struct source *s, struct words *w, struct written_route *route)
{
    const enum slot slot = slot_here(w);
    if (slot == SLOT_FROM || slot == SLOT_USERS || slot == SLOT_TO || slot == SLOT_HOSTS)
        return take_clause(s, w, route->clauses, slot, "route");
    if (!is_way_given(route) && take(w, "directly")) return route->directly = true;
    if (!is_way_given(route) && take(w, "via")) return take_via(s, w, route);
    if (route->via != NULL && take(w, "resolve")) return route->resolve = true;
    if (route->via != NULL && take(w, "in")) {
        if (take(w, "turn")) return route->in_turn = true;
        expected(s, w, "\"turn\" after in");
        return false;
    }
    if (slot != SLOT_COUNT || is_word(here(w), "literals")) {
        complain(s, here(w)->place, token_shown(s, here(w)),
                 "expected one of from, users, hosts and to: a route asks for nothing else");
        return false;
    }
    expected(s, w,
             route->via != NULL ? "a comma, from, users, hosts, to, in turn, resolve or the end of the line"
             : route->directly  ? "from, users, hosts, to or the end of the line"
                                : "from, users, hosts, to, via or directly");
    return false;
}

void route_statement(struct source *s, struct words *w)
{
    struct written_route *route = arena_take(s->arena, sizeof *route);
    route->place = w->list[0].place;
    route->text = text_of(s, w, 0, w->count - 1);
    while (here(w)->type != TOKEN_END)
        if (!take_route_part(s, w, route)) return;
    if (!is_way_given(route)) {
        expected(s, w, "\"via\" and names of parents or groups of origins, or \"directly\"");
        return;
    }
    if (s->route_count++ == WAYS_MAX) {
        complain(s, route->place, NULL, "expected at most %d routes", WAYS_MAX);
        return;
    }
    *s->routes_end = route;
    s->routes_end = &route->next;
}

static void unknown_way(struct source *s, const struct value *v)
{
    struct names all = {0};
    const char *meant;
    for (const struct written_hops *h = s->hops; h != NULL; h = h->next) names_add(s->arena, &all, h->name);
    names_add(s->arena, &all, NULL);
    meant = nearest(v->name, all.list);
    complain(s, v->place, NULL, "expected a `parent` or a group of `origins` of this policy, found \"%s\"%s%s%s",
             v->name, meant != NULL ? " (did you mean \"" : "", meant != NULL ? meant : "",
             meant != NULL ? "\"?)" : "");
}

static void resolve_route(struct source *s, const struct written_route *route)
{
    const struct written_hops *first = NULL;
    unsigned count = 0;
    for (const struct value *v = route->via; v != NULL; v = v->next) {
        struct written_hops *h = find_hops(s, v->name);
        if (h == NULL) {
            unknown_way(s, v);
            return;
        }
        h->used = true;
        for (const struct value *before = route->via; before != v; before = before->next) {
            if (strcmp(before->name, v->name) != 0) continue;
            complain(s, v->place, NULL, "expected \"%s\" only once in a route", v->name);
            return;
        }
        if (first == NULL) first = h;
        if (h->origins != first->origins) {
            complain(s, v->place, NULL,
                     "expected parents alone or groups of origins alone behind via: \"%s\" is a %s, \"%s\" is a %s",
                     first->name, first->origins ? "group of origins" : "parent", h->name,
                     h->origins ? "group of origins" : "parent");
            return;
        }
        if (h->origins && route->resolve) {
            complain(
                s, v->place, NULL,
                "expected no \"resolve\" with a group of origins: it stands for the name, which is never resolved");
            return;
        }
        count += h->count;
        if (count <= MINIPROXY_ROUTE_HOPS) continue;
        complain(s, v->place, NULL, "expected at most %d parents or origins in a route", MINIPROXY_ROUTE_HOPS);
        return;
    }
}

void resolve_ways(struct source *s)
{
    for (const struct written_route *route = s->routes; route != NULL; route = route->next) resolve_route(s, route);
}

/* ---- Limits */

/* "1.5 Mbit/s", "64kB": a decimal number and a unit of a table, in thousandths of what the unit is worth. */
struct unit {
    const char *word;
    uint64_t worth; /* in eighths */
};

static const struct unit rates[] = {
    {"bit/s", 1},      {"kbit/s", 1000},     {"Mbit/s", 1000000}, {"Gbit/s", 1000000000}, {"B/s", 8}, {"kB/s", 8000},
    {"MB/s", 8000000}, {"GB/s", 8000000000}, {"KiB/s", 8192},     {"MiB/s", 8388608},     {NULL, 0}};
static const struct unit sizes[] = {{"B", 8},      {"kB", 8000},     {"MB", 8000000}, {"GB", 8000000000},
                                    {"KiB", 8192}, {"MiB", 8388608}, {NULL, 0}};
static const struct unit per[] = {{"/min", 8}, {"/s", 480}, {NULL, 0}};
static const struct unit plain[] = {{"", 8}, {NULL, 0}};
static const struct unit requests[] = {{"requests", 8}, {NULL, 0}};

/* The number that begins a word, in thousandths. False: none does, or one of more than 12 digits. */
static bool read_decimal(const char **text, uint64_t *thousandths)
{
    size_t whole = strspn(*text, "0123456789"), digits;
    uint64_t value = 0;
    if (whole == 0 || whole > 12) return false;
    for (size_t i = 0; i < whole; i++) value = value * 10 + (unsigned)(*(*text)++ - '0');
    value *= 1000;
    if (**text == '.') {
        digits = strspn(++*text, "0123456789");
        if (digits == 0 || digits > 3) return false;
        for (uint64_t unit = 100; digits > 0; digits--, unit /= 10) value += unit * (unsigned)(*(*text)++ - '0');
    }
    *thousandths = value;
    return true;
}

static const struct unit *find_unit(const struct unit *units, const char *word)
{
    while (units->word != NULL && strcmp(units->word, word) != 0) units++;
    return units->word != NULL ? units : NULL;
}

/* An amount of 1..max. The unit may stand apart. 0: said, or there is none of these units (said is false). */
static uint64_t take_amount(struct words *w, const struct unit *units, uint64_t max)
{
    const char *rest = here(w)->text;
    const struct unit *unit;
    uint64_t thousandths, amount;
    size_t used = 1;
    if (here(w)->type != TOKEN_WORD || !read_decimal(&rest, &thousandths)) return 0;
    unit = find_unit(units, rest);
    if (unit == NULL && *rest == '\0' && w->list[w->at + 1].type == TOKEN_WORD) {
        unit = find_unit(units, w->list[w->at + 1].text);
        used = 2;
    }
    if (unit == NULL || thousandths > UINT64_MAX / unit->worth) return 0;
    amount = thousandths * unit->worth / 8000;
    if (amount == 0 || amount > max) return 0;
    w->at += used;
    return amount;
}

/* What a limit can say, each once. `burst` stands for two things that their units tell apart. */
static bool take_limit_part(struct source *s, struct words *w, struct miniproxy_limit *l)
{
    static const char rate[] = "a rate as 500 kbit/s, 1.5 Mbit/s, 64 kB/s or 1 MiB/s, of at least 1 B/s and less than "
                               "4.3 GB/s";
    const struct token *word = here(w);
    const char *problem = NULL;
    bool twice = false;
    if (take(w, "down")) {
        twice = l->down_per_s != 0;
        if ((l->down_per_s = (uint32_t)take_amount(w, rates, UINT32_MAX)) == 0) problem = rate;
    } else if (take(w, "up")) {
        twice = l->up_per_s != 0;
        if ((l->up_per_s = (uint32_t)take_amount(w, rates, UINT32_MAX)) == 0) problem = rate;
    } else if (take(w, "requests")) {
        twice = l->requests_a_minute != 0;
        if ((l->requests_a_minute = (uint16_t)take_amount(w, per, UINT16_MAX)) == 0)
            problem = "a number of requests as 120/min or 2/s, 1/min to 65535/min";
    } else if (take(w, "burst")) {
        uint16_t count = (uint16_t)take_amount(w, requests, UINT16_MAX);
        uint32_t octets = count == 0 ? (uint32_t)take_amount(w, sizes, UINT32_MAX) : 0;
        twice = count != 0 ? l->request_burst != 0 : l->burst != 0;
        if (count != 0) l->request_burst = count;
        else if (octets != 0) l->burst = octets;
        else problem = "octets as 64 kB or 64 KiB, or a number of requests as 20 requests";
    } else if (take(w, "at")) {
        twice = l->at_once != 0;
        if (!take(w, "once")) problem = "\"once\" after at, and a number";
        else if ((l->at_once = (uint16_t)take_amount(w, plain, UINT16_MAX)) == 0)
            problem = "a number of transactions at once, 1 to 65535";
    } else {
        problem = "from, users, down, up, burst, requests, at once or the end of the line";
    }
    if (problem != NULL) expected(s, w, problem);
    else if (twice) complain(s, word->place, NULL, "expected \"%s\" only once in a limit", word->text);
    return problem == NULL && !twice;
}

static bool take_share(struct source *s, struct words *w, struct miniproxy_limit *l)
{
    if (take(w, "each")) {
        l->share = MINIPROXY_EACH_CLIENT;
        if (take(w, "client")) return true;
        l->share = MINIPROXY_EACH_USER;
        if (take(w, "user")) return true;
    } else if (take(w, "all")) {
        l->share = MINIPROXY_ALL_TOGETHER;
        if (take(w, "together")) return true;
    }
    expected(s, w, "each client, each user or all together: who has so much");
    return false;
}

static bool is_complete(struct source *s, struct words *w, const struct written_limit *limit)
{
    const struct miniproxy_limit *l = &limit->limit;
    const char *missing = NULL;
    if (l->down_per_s == 0 && l->up_per_s == 0 && l->requests_a_minute == 0 && l->at_once == 0)
        missing = "what is limited: down, up, requests or at once";
    else if (l->burst != 0 && l->down_per_s == 0 && l->up_per_s == 0) missing = "down or up with a burst of octets";
    else if (l->request_burst != 0 && l->requests_a_minute == 0) missing = "requests with a burst of requests";
    if (missing == NULL) return true;
    expected(s, w, missing);
    return false;
}

void limit_statement(struct source *s, struct words *w)
{
    struct written_limit *limit = arena_take(s->arena, sizeof *limit);
    limit->place = w->list[0].place;
    limit->text = text_of(s, w, 0, w->count - 1);
    if (!take_share(s, w, &limit->limit)) return;
    while (here(w)->type != TOKEN_END) {
        enum slot slot = slot_here(w);
        if (slot == SLOT_FROM || slot == SLOT_USERS ? !take_clause(s, w, limit->clauses, slot, "limit")
                                                    : !take_limit_part(s, w, &limit->limit))
            return;
    }
    if (!is_complete(s, w, limit)) return;
    if (s->limit_count++ == WAYS_MAX) {
        complain(s, limit->place, NULL, "expected at most %d limits", WAYS_MAX);
        return;
    }
    *s->limits_end = limit;
    s->limits_end = &limit->next;
}
