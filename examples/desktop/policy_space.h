/* SPDX-License-Identifier: MIT
 *
 * All requests there are, as far as the rules of one or two policies can tell them apart.
 *
 * Each property of a request is cut into atoms: values that no condition of any rule tells apart, with one of them as
 * the example. A box is a set of atoms for each dimension, and stands for the requests that can be made of them. What a
 * rule matches is one box; what it decides is that box without those of the rules before it. So all questions about
 * policies become: is there a request in these boxes and in none of those?
 */
#ifndef DESKTOP_POLICY_SPACE_H
#define DESKTOP_POLICY_SPACE_H

#include "policy.h"

#if !MINIPROXY_WITH_ROUTES || !MINIPROXY_WITH_LIMITS
#error "policies are audited with all there is: MINIPROXY_WITH_ROUTES and _LIMITS must be 1"
#endif
#if !MINIPROXY_WITH_PAGES || !MINIPROXY_WITH_MAINTENANCE
#error "policies are audited with all there is: MINIPROXY_WITH_PAGES and _MAINTENANCE must be 1"
#endif
#if !MINIPROXY_WITH_CONDITIONS || !MINIPROXY_WITH_AUTH || !MINIPROXY_WITH_IPV6
#error "policies are audited with all there is: MINIPROXY_WITH_CONDITIONS, _AUTH and _IPV6 must be 1"
#endif

/* Properties of a request. Two of them always come in pairs, so that a rule is one box: clients with users (either is
 * enough for some rules), methods with ports (CONNECT has other ports than the rest). */
enum property {
    PROPERTY_CLIENT,
    PROPERTY_USER,
    PROPERTY_METHOD,
    PROPERTY_PORT,
    PROPERTY_HOST,
    PROPERTY_ADDRESS,
    PROPERTY_PATH,
    PROPERTY_AGENT,
    PROPERTY_TYPE,
    PROPERTY_TIME,
    PROPERTIES
};
enum dimension { DIM_WHO, DIM_WHAT, DIM_HOST, DIM_ADDRESS, DIM_PATH, DIM_AGENT, DIM_TYPE, DIM_TIME, DIMENSIONS };

/* Does this condition of a rule, taken alone, match? True if the rule has none. The core is asked. Not for users,
 * methods and literals. */
bool rule_covers(const struct miniproxy_rule *r, enum property property, const struct miniproxy_question *q);

/* Does a name that this route leads stay unresolved? Its address is not asked of the rules then. */
bool route_hides_address(const struct miniproxy_policy *policy, const struct miniproxy_route *r);
/* Is this a name that an ALLOW does not cover then, for it means whoever resolves it? */
bool name_is_local(const char *host);
/* What a route or a limit matches, as a rule: a DENY with the same conditions. Routes lead no pages. */
struct miniproxy_rule route_as_rule(const struct miniproxy_route *r);
struct miniproxy_rule limit_as_rule(const struct miniproxy_limit *l);

/* Atoms that are the same in every space. */
enum {
    USER_NOBODY = 0,  /* PROPERTY_USER: not logged in */
    HOST_LITERAL = 0, /* PROPERTY_HOST: an IP literal */
    TYPE_NOTHING = 0, /* PROPERTY_TYPE: the response has no content, and its type is not asked for: allowed if a type
                         could be. Tunnels and HEAD have nothing else */
    METHODS = 10,
    METHOD_OTHER = 8,
    METHOD_PAGES = 9 /* a page of the proxy's own: no host, no address, no port, no type */
};

/* The example of an atom. */
struct value {
    struct miniproxy_addr addr; /* client, address */
    const char *text;           /* user, host, path, agent, type; NULL: none */
    int number;                 /* port, minute of the week */
    int user[2];                /* index into the users of each policy, -1: not logged in */
    unsigned rank;              /* the lower, the better as an example */
};

/* One request that stands for all others in the same atoms. */
struct witness {
    unsigned atom[PROPERTIES];
    struct miniproxy_addr client, address;
    char literal[MINIPROXY_ADDR_TEXT];
    const char *user;                   /* NULL: not logged in */
    struct miniproxy_question question; /* but for the user; type NULL: no content */
    const struct miniproxy_user *users[2];
};

enum found { FOUND_NONE, FOUND, FOUND_TOO_MUCH /* not decided within the budget */ };

struct space;

/* The space of one or two policies, which must stay. NULL: no memory, or (said in *problem) more atoms than can be
 * dealt with. */
struct space *space_new(const struct compiled *const *policies, unsigned count, const char **problem);
void space_free(struct space *s);

unsigned space_atoms(const struct space *s, enum property kind);
const struct value *space_value(const struct space *s, enum property kind, unsigned atom);

/* Boxes belong to the space. What a rule matches; requests without a login that it would allow to some user. */
const uint64_t *space_matches(const struct space *s, unsigned policy, unsigned rule);
const uint64_t *space_asks(const struct space *s, unsigned policy, unsigned rule);
/* What a route, or a limit, matches, those before it left aside. */
const uint64_t *space_route(const struct space *s, unsigned policy, unsigned route);
const uint64_t *space_limit(const struct space *s, unsigned policy, unsigned limit);
/* A copy to be cut down, and the atoms of a property that it is cut down to: those for which `keep` is true. */
uint64_t *space_copy(struct space *s, const uint64_t *box);
uint64_t *space_all(struct space *s);
void space_cut(const struct space *s, uint64_t *box, enum property kind, bool (*keep)(const void *data, unsigned atom),
               const void *data);
/* Cut a box down to what another has too. */
void space_meet(const struct space *s, uint64_t *box, const uint64_t *with);
/* The same box, but open to all atoms of a dimension. */
void space_open(const struct space *s, uint64_t *box, enum dimension dimension);
bool space_has_requester(const struct space *s, const uint64_t *box, unsigned client, unsigned user);
bool space_is_empty(const struct space *s, const uint64_t *box);
bool space_contains(const struct space *s, const uint64_t *outer, const uint64_t *inner);
/* The atom that a value lies in; of PROPERTY_HOST, its text is no literal. Not for users and methods. */
unsigned space_atom_of(const struct space *s, enum property property, const struct value *v);
/* Is this the address of a name that a policy does not get to see, for a parent resolves it? */
bool space_is_hidden(const struct space *s, unsigned policy, unsigned address_atom);
bool space_is_special(const struct space *s, unsigned address_atom);

/* A request in all boxes of `in`, and in none of `out`. used (may be NULL): out_count of them; those that were needed
 * to prove that there is none become true. */
enum found space_find(struct space *s, const uint64_t *const *in, unsigned in_count, const uint64_t *const *out,
                      unsigned out_count, bool *used, struct witness *w);

/* What the core decides on it: ALLOWED, DENIED or NEEDS_USER, with the rule as miniproxy_decide tells it. */
enum miniproxy_verdict space_verdict(const struct space *s, unsigned policy, const struct witness *w, int *rule);

/* Where two policies differ. */
struct outcome {
    enum miniproxy_verdict verdict; /* ALLOWED, DENIED, NEEDS_USER */
    int rule;                       /* -1: none */
};
struct difference {
    struct outcome outcome[2];
    enum found found; /* FOUND or TOO_MUCH */
    struct witness witness;
};

/* Calls `tell` once for each pair of outcomes with other verdicts. False: no memory. */
bool space_compare(struct space *s, void (*tell)(void *data, const struct difference *d), void *data);

#endif
