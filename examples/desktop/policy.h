/* SPDX-License-Identifier: MIT
 *
 * A policy in text, and what it becomes: the core's tables, with the names and places that people know them by.
 *
 *   policy_text.c     reads the language              policy_lists.c    reads lists of host names
 *   policy_tables.c   makes tables of it              policy_c.c        writes them as C
 *   hostset.c         makes blobs of host names       policy_space.c    compares all requests of two policies
 *   policy_audit.c    explain, lint, diff             policy_command.c  `miniproxy policy …`
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
 * known by their address, which is a struct miniproxy_nets, _hosts, _ranges, _texts or _times. */
struct set_name {
    const void *set;
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

/* A policy that has been read. Everything belongs to it. */
struct compiled {
    struct miniproxy_policy policy;
    struct rule_origin *origins; /* policy.rule_count of them */
    struct set_name *sets;
    size_t set_count;
    struct host_names *hosts;
    size_t host_count;
    char *const *group_names; /* 15, of struct miniproxy_user.groups: the users that a rule names, or NULL */
    struct arena *arena;      /* all memory */
};

/* Read a policy, with all files it includes. NULL: lines on `errors` have said where and why, "FILE:LINE:COLUMN:
 * expected …" each. */
struct compiled *policy_read(const char *file, FILE *errors);
void policy_free(struct compiled *c);

/* Write the tables as one C file that defines `const struct miniproxy_policy NAME`. */
bool policy_write_c(const struct compiled *c, const char *name, FILE *out);

/* The audit. Each writes its findings to `out` and returns how many there are. */
unsigned policy_lint(const struct compiled *c, FILE *out);
unsigned policy_diff(const struct compiled *before, const struct compiled *after, FILE *out);

/* One request, as `miniproxy policy explain` takes it. */
struct request_text {
    const char *client, *user, *method, *url; /* user "-": not logged in */
    const char *address;                      /* that the name resolves to, or NULL: explain for all that matter */
    const char *agent, *type, *time;          /* User-Agent, Content-Type of the response, "mon 14:30"; or NULL */
};
/* False: a line on `out` says what was expected. *allowed: the final verdict. */
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
