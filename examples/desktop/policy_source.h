/* SPDX-License-Identifier: MIT
 *
 * A policy between text and tables: its statements, with the place of every word. policy_text.c, policy_values.c and
 * policy_lists.c make it, policy_tables.c uses it up.
 */
#ifndef DESKTOP_POLICY_SOURCE_H
#define DESKTOP_POLICY_SOURCE_H

#include "policy.h"

#include <setjmp.h>

/* ---- Memory: taken piece by piece, given back all at once */

struct chunk;
struct arena {
    struct chunk *chunks;
    char *at;
    size_t left;
    jmp_buf *no_memory; /* where arena_take goes when there is none */
};

void *arena_take(struct arena *a, size_t size); /* zeroed */
char *arena_text(struct arena *a, const char *text, size_t len);
void arena_free(struct arena *a);

/* A list that grows by doubling. */
struct names {
    const char **list;
    size_t count, room;
};
void names_add(struct arena *a, struct names *names, const char *name);

/* ---- Statements */

enum {
    FILE_MAX_OCTETS = 1 << 28,
    LINE_MAX_OCTETS = 65536, /* of one line */
    TEXT_MAX_OCTETS = 1000,  /* of a path, an agent, … */
    NAME_MAX_OCTETS = 64,    /* of a set's name */
    INCLUDE_DEPTH_MAX = 16,
    NESTING_MAX = 64, /* sets within sets */
    ERRORS_MAX = 20,  /* shown of one policy */
    NAME_BUCKETS = 1024,
    RULES_MAX = 32767, /* what an event can name */
    WAYS_MAX = 1000,   /* parents and groups of origins; routes; limits */
};

/* What sets are of. */
enum kind {
    KIND_NET,
    KIND_HOSTS,
    KIND_PORTS,
    KIND_METHODS,
    KIND_PATHS,
    KIND_TYPES,
    KIND_AGENTS,
    KIND_TIMES,
    KIND_GROUP,
    KIND_COUNT
};
extern const char *const kind_words[KIND_COUNT]; /* as statements begin */

/* The names of a file, or of none. */
struct host_source {
    struct names names, good;
    bool hashed;
};

struct net {
    uint8_t ip[16], bits, family;
};

struct person;
struct named;

/* One value of a set or of a clause. */
struct value {
    struct value *next;
    struct place place;
    const char *name;    /* of a set or user; NULL: the value is one of those below */
    bool quoted;         /* the name stood in quotes: no group, no `any` */
    struct named *set;   /* what the name means, */
    struct person *user; /* or this */
    bool any, is_file;
    union {
        struct net net;
        const char *text; /* host, path, type, agent: as the core wants them */
        const struct host_source *file;
        struct miniproxy_range ports;
        struct miniproxy_time time;
        unsigned method;
    } u;
};

/* A set with a name. */
struct named {
    struct named *next, *beside; /* in order; of those with the same hash */
    enum kind kind;
    const char *name;
    struct place place;
    struct value *values;
    unsigned depth;       /* of sets in it; 0: not looked at yet */
    bool busy;            /* is being looked at: met again, it contains itself */
    bool used, builtin;   /* by a rule; not of the text */
    unsigned stamp;       /* of the last walk that met it */
    const void *table[3]; /* what it has become: of a `net` up to three */
};

struct person {
    struct person *next, *beside;
    const char *name;
    struct place place;
    const uint8_t *digest;
    const char *password;
    uint32_t rounds;
    unsigned number; /* in the order of the text */
};

enum slot {
    SLOT_FROM,
    SLOT_USERS,
    SLOT_TO,
    SLOT_HOSTS,
    SLOT_PORTS,
    SLOT_METHODS,
    SLOT_PATHS,
    SLOT_TYPES,
    SLOT_AGENTS,
    SLOT_TIMES,
    SLOT_COUNT
};

struct clause {
    struct value *values; /* NULL: not given */
    const char *text;
    struct place place;
};

struct written_rule {
    struct written_rule *next;
    struct place place;
    const char *text;
    bool allow, literals, either;
    struct clause clauses[SLOT_COUNT];
};

/* A parent, or a group of origins. */
struct written_hops {
    struct written_hops *next;
    const char *name;
    struct place place;
    bool origins, used;
    struct miniproxy_hop *hops; /* NULL: said what is wrong with them */
    unsigned count;
};

struct written_route {
    struct written_route *next;
    struct place place;
    const char *text;
    struct clause clauses[SLOT_COUNT];
    bool directly, in_turn, resolve;
    struct value *via; /* names */
};

struct written_limit {
    struct written_limit *next;
    struct place place;
    const char *text;
    struct clause clauses[SLOT_COUNT];
    struct miniproxy_limit limit;
};

struct source {
    const char *file; /* the first one */
    struct arena *arena;
    FILE *errors;
    unsigned error_count;
    struct named *sets, **sets_end, *sets_by_hash[NAME_BUCKETS];
    struct person *users, **users_end, *users_by_hash[NAME_BUCKETS];
    struct written_rule *rules, **rules_end;
    struct written_hops *hops, **hops_end;
    struct written_route *routes, **routes_end;
    struct written_limit *limits, **limits_end;
    const char *maintenance; /* message, or NULL */
    struct place maintenance_place;
    unsigned user_count, rule_count, hops_count, route_count, limit_count;
    unsigned nesting; /* of sets, while their names are looked up */
    struct host_list_note *notes, **notes_end;
};

/* ---- policy_text.c */

void add_set(struct source *s, struct named *set);

/* Say that something is wrong; "found" is said too unless it is NULL. */
void complain(struct source *s, struct place place, const char *found, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The whole file, with a NUL behind it. NULL: said, at `place`. */
char *read_whole(struct source *s, const char *file, struct place place, size_t *len);
/* `file` as seen from the file that `place` is in. */
const char *path_beside(struct source *s, const char *file, struct place place);

/* The one with this name, or NULL. */
struct written_hops *find_hops(const struct source *s, const char *name);

/* ---- policy_values.c */

struct token {
    enum { TOKEN_END, TOKEN_WORD, TOKEN_TEXT, TOKEN_COMMA, TOKEN_EQUALS } type;
    const char *text; /* of TOKEN_TEXT what the quotes hold */
    struct place place;
};

/* The tokens of a statement, TOKEN_END last. */
struct words {
    struct token *list;
    size_t count, room, at;
};

/* Values separated by commas. NULL: said. */
struct value *parse_values(struct source *s, enum kind kind, struct words *w);
const char *token_shown(struct source *s, const struct token *t);
bool is_word(const struct token *t, const char *word);
bool is_set_name(const char *text);
/* The number that the whole of text[0..len) is, at most max. */
bool number(const char *text, size_t len, unsigned max, unsigned *value);
/* Of `word` the nearest of the words of a list that ends with NULL, or NULL. */
const char *nearest(const char *word, const char *const *list);
void add_builtin_sets(struct source *s);

/* ---- policy_ways.c */

/* The statements `parent`, `origins`, `route` and `limit`, from behind these words on. */
void parent_statement(struct source *s, struct words *w);
void origins_statement(struct source *s, struct words *w);
void route_statement(struct source *s, struct words *w);
void limit_statement(struct source *s, struct words *w);
/* What the names behind `via` mean. */
void resolve_ways(struct source *s);

/* ---- policy_text.c, for policy_ways.c */

const struct token *here(const struct words *w);
bool take(struct words *w, const char *word);
void expected(struct source *s, const struct words *w, const char *what);
bool at_end(struct source *s, const struct words *w, const char *what);
const char *text_of(struct source *s, const struct words *w, size_t from, size_t to);
bool is_reserved(const char *name);
/* The clause that begins here, SLOT_COUNT: none does. */
enum slot slot_here(const struct words *w);
bool take_clause(struct source *s, struct words *w, struct clause *clauses, enum slot slot, const char *of);

/* ---- policy_lists.c */

/* Names of a file. False: said. */
bool read_host_list(struct source *s, const char *file, struct place place, bool with_subdomains, struct names *names);

/* ---- policy_tables.c */

/* Tables of a source without errors. NULL: said. */
struct compiled *make_tables(struct source *s);

#endif
