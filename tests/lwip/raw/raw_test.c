/* SPDX-License-Identifier: MIT
 *
 * The raw port: the conformance tests. Arguments: the suite's name, the results file.
 */
#include "raw_world.h"

#include <stdio.h>

static FILE *results;
static const char *suite = "port-lwip-raw";

static void report(struct conformance_world *w, const char *result, const char *name, const char *ids, const char *why)
{
    (void)w;
    printf("%s: %s%s%s\n", result, name, why != NULL ? ": " : "", why != NULL ? why : "");
    fprintf(results, "%s\t%s\t%s\t%s\n", result, suite, name, ids);
    fflush(results);
}

int main(int argc, char **argv)
{
    bool ok;

    if (argc > 1) suite = argv[1];
    results = argc > 2 ? fopen(argv[2], "w") : stdout;
    if (results == NULL || !raw_world_begin(1)) return 2;
    raw_world.report = report;
    ok = conformance_run(&raw_world);
    return ok ? 0 : 1;
}
