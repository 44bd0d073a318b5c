/* SPDX-License-Identifier: MIT
 *
 * In place of the desktop's policy language: an image has no file system to read policies from.
 */
#include "examples/desktop/desktop.h"
#include "examples/desktop/policy.h"

struct compiled *policy_read(const char *file, FILE *errors)
{
    fprintf(errors, "%s:1:1: expected a build with files\n", file);
    return NULL;
}

void policy_free(struct compiled *c)
{
    (void)c;
}

int policy_command(int argc, char **argv)
{
    (void)argc, (void)argv;
    say("policy: expected a build with files");
    return EXIT_USAGE;
}
