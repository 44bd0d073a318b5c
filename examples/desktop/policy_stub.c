/* SPDX-License-Identifier: MIT
 *
 * In place of the audit until it is there.
 */
#include "policy.h"

__attribute__((weak)) unsigned policy_lint(const struct compiled *c, FILE *out)
{
    (void)c;
    fputs("lint: not in this build\n", out);
    return 1;
}

__attribute__((weak)) unsigned policy_diff(const struct compiled *before, const struct compiled *after, FILE *out)
{
    (void)before, (void)after;
    fputs("diff: not in this build\n", out);
    return 1;
}

__attribute__((weak)) bool policy_explain(const struct compiled *c, const struct request_text *request, FILE *out,
                                          bool *allowed)
{
    (void)c, (void)request, (void)allowed;
    fputs("explain: not in this build\n", out);
    return false;
}
