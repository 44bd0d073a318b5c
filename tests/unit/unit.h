/* SPDX-License-Identifier: MIT
 *
 * What the unit tests share: a list of tests, run by cmocka, whose results are written down. A test's name may end in
 * the rules it proves: "a folded field is refused [M10,M06]".
 */
#ifndef UNIT_H
#define UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct unit_test {
    const char *name;
    void (*run)(const void *data);
    const void *data;
    bool passed;
};

/* A failed assertion jumps out of run(), so `passed` stays false. */
static void unit_one(void **state)
{
    struct unit_test *t = *state;
    t->run(t->data);
    t->passed = true;
}

static void unit_record(FILE *out, const struct unit_test *t)
{
    const char *open = strrchr(t->name, '['), *shut = strrchr(t->name, ']');
    bool has_ids = open != NULL && shut != NULL && open > t->name && shut > open;
    int name_len = (int)(has_ids ? open - t->name : (ptrdiff_t)strlen(t->name));
    while (name_len > 0 && t->name[name_len - 1] == ' ') name_len--;
    fprintf(out, "%s\tunit\t%.*s\t", t->passed ? "pass" : "fail", name_len, t->name);
    if (has_ids) fprintf(out, "%.*s\n", (int)(shut - open - 1), open + 1);
    else fprintf(out, "-\n");
}

/* Results go to build/results/unit_GROUP.tsv, or into the directory that MINIPROXY_RESULTS names. */
static int unit_run(const char *group, struct unit_test *tests, size_t count)
{
    const char *directory = getenv("MINIPROXY_RESULTS");
    struct CMUnitTest *list = calloc(count, sizeof *list);
    char path[512];
    FILE *out;
    int failed;
    if (list == NULL) return 2;
    for (size_t i = 0; i < count; i++) {
        list[i].name = tests[i].name;
        list[i].test_func = unit_one;
        list[i].initial_state = &tests[i];
    }
    failed = _cmocka_run_group_tests(group, list, count, NULL, NULL);
    free(list);
    snprintf(path, sizeof path, "%s/unit_%s.tsv", directory != NULL ? directory : "build/results", group);
    out = fopen(path, "w");
    if (out == NULL) {
        perror(path);
        return 2;
    }
    for (size_t i = 0; i < count; i++) unit_record(out, &tests[i]);
    return fclose(out) != 0 || failed != 0;
}

/* Repeatable random numbers (xorshift). */
static uint64_t unit_random_state = 88172645463325252u;

static inline uint32_t unit_random(uint32_t below)
{
    unit_random_state ^= unit_random_state << 13;
    unit_random_state ^= unit_random_state >> 7;
    unit_random_state ^= unit_random_state << 17;
    return (uint32_t)((unit_random_state >> 32) % below);
}

#endif
