/* SPDX-License-Identifier: MIT
 *
 * A policy in text, and what it becomes: the core's tables, with the names and places that people know them by.
 *
 *   policy_text.c     reads statements                policy_ways.c     those of parents, routes and limits
 *   policy_values.c   reads their values              policy_lists.c    reads lists of host names
 *   policy_tables.c   makes tables of all that        policy_c.c        writes the tables as C
 *   hostset.c         makes blobs of host names       policy_space.c    all requests of two policies
 *   policy_explain.c  one request, rule by rule       policy_audit.c    lint, diff
 *   policy_words.c    both in words                   policy_command.c  `miniproxy policy …`
 */
#ifndef DESKTOP_POLICY_H
#define DESKTOP_POLICY_H

#include "miniproxy.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Where something stands in a text; line and column begin at 1. */
struct place {
    const char *file;
    unsigned line, column;
};

/* The name of a set in the text, or of none: a set written within a rule has its text instead. Sets of the tables are
 * known by their address, which is a struct miniproxy_nets, _hosts, _ranges, _texts or _times. Equal sets share one
 * address, of which the first name in the list is as good as any. One `net` that opens special-purpose addresses and
 * others too is two sets of the same name. */
struct set_name {
    const void *set;  /* NULL: no rule uses a set of this name, neither by itself nor in another set */
    const char *kind; /* "net", "hosts", …, "group", "parent", "origins": the word that its statement begins with */
    const char *name;
    struct place place;
};

/* The names behind a set of hosts, in the notation of struct miniproxy_hosts: those of its blob cannot be read back. */
struct host_names {
    const struct miniproxy_hosts *set;
    const char *const *names;
    size_t count;
};

/* A rule of the tables and the rule of the text that it comes from. One rule of the text can become several. */
struct rule_origin {
    struct place place;
    const char *text; /* the rule as written, on one line */
};

/* A hop of the tables and the parent or group of origins that it is of. One can stand there more than once: the hops of
 * each route are neighbours. */
struct hop_origin {
    const char *name;
    struct place place;
};

/* What a file of host names had beside them. */
struct host_list_note {
    struct host_list_note *next;
    const char *file;
    size_t names;      /* that it gave, repeated ones included */
    size_t skipped;    /* lines that say nothing about whole hosts */
    size_t exceptions; /* of those: lines that begin with @@ */
};

/* A policy that has been read. Everything belongs to it. */
struct compiled {
    struct miniproxy_policy policy;
    const char *file; /* as named to policy_read */
    struct rule_origin *origins; /* policy.rule_count of them */
    struct rule_origin *route_origins, *limit_origins;
    struct hop_origin *hop_origins;
    struct set_name *sets;
    size_t set_count;
    struct host_names *hosts;
    size_t host_count;
    const char *group_names[15]; /* of the bits of struct miniproxy_user.groups: the users that a rule names, or NULL */
    unsigned written_rules;      /* in the text */
    const struct host_list_note *notes;
    struct place maintenance_place; /* of the statement, if there is one */
    struct arena *arena; /* all memory */
};

/* Read a policy, with all files it includes. NULL: lines on `errors` have said where and why, "FILE:LINE:COLUMN:
 * expected …" each. */
struct compiled *policy_read(const char *file, FILE *errors);
void policy_free(struct compiled *c);

/* A set of hosts whose blob is not part of the C file but lies elsewhere, in an array NAME_WORD_blob of NAME_WORD_ROOM
 * octets, the latter in capitals. */
struct blob_elsewhere {
    const struct miniproxy_hosts *set;
    char word[64]; /* for C */
    uint32_t len;  /* of the blob as it is now */
};

/* Has a user a password, or else only a certificate (or shared key)? And has anybody in one of these groups one? */
bool policy_has_password(const struct miniproxy_user *user);
bool policy_has_passwords(const struct miniproxy_policy *policy, unsigned groups);

/* Write the tables as one C file that defines `const struct miniproxy_policy NAME`, with an array for hits or without.
 * False: writing failed. */
bool policy_write_c(const struct compiled *c, const char *name, bool hits, const struct blob_elsewhere *elsewhere,
                    size_t elsewhere_count, FILE *out);

/* Say what the tables take in the flash of a 32-bit target. Returns the sum, in octets. */
size_t policy_print_size(const struct compiled *c, FILE *out);

/* The audit. Each writes its findings to `out` and returns how many there are; notes of lint do not count. */
unsigned policy_lint(const struct compiled *c, FILE *out);
unsigned policy_diff(const struct compiled *before, const struct compiled *after, FILE *out);

/* One request, as `miniproxy policy explain` takes it. */
struct request_text {
    const char *client, *user, *method, *url; /* user "-": not logged in */
    const char *address;                      /* that the name resolves to, or NULL: explain for all that matter */
    const char *agent;                        /* User-Agent, or NULL: none */
    const char *type; /* Content-Type of the response; "": none, "-": no content; NULL: explain for all that matter */
    const char *time; /* "mon 14:30"; "-": the clock is not set; NULL: explain for all that matter */
};
/* False: a line on `out` says what was expected. *allowed: the verdict, in every case that what is not given leaves open;
 * of the addresses of a name only public ones count then. */
bool policy_explain(const struct compiled *c, const struct request_text *request, FILE *out, bool *allowed);

/* ---- Blobs of host names */

enum blob_format { BLOB_EXACT, BLOB_HASHED };

/* Names in the notation of struct miniproxy_hosts, in any order, repeated ones and those that others cover allowed. The
 * blob is allocated with malloc. `good`: names that a hashed blob must not match, unless one of `names` does. NULL: no
 * memory, or (said in *problem) names that cannot be encoded. */
uint8_t *hostset_build(enum blob_format format, const char *const *names, size_t count, const char *const *good,
                       size_t good_count, uint32_t *len, const char **problem);

/* `miniproxy policy WORD…`; returns the exit status. */
int policy_command(int argc, char **argv);

#endif
