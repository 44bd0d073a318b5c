/* SPDX-License-Identifier: MIT
 *
 * From startup.c to the main of examples/desktop: the command line and the environment come by semihosting.
 *
 * The launcher gives words with blanks between them: NAME=VALUE for the environment, a word "--", the arguments. In
 * each of them an octet that is no letter, digit or one of ./:_-= is %HH.
 */
#include "cpu.h"
#include "miniproxy.h"
#include "semihosting.h"

#include <stdlib.h>
#include <string.h>

enum { ARGUMENTS = 64 };

int desktop_main(int argc, char **argv);
int main(void);

static unsigned hex(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : c - 'A' + 10);
}

static void decode(char *word)
{
    char *to = word;

    for (; *word != '\0'; word++) {
        if (word[0] == '%' && word[1] != '\0' && word[2] != '\0') {
            *to++ = (char)(hex(word[1]) << 4 | hex(word[2]));
            word += 2;
        } else if (word[0] != '%') { /* alone it stands for an empty word */
            *to++ = *word;
        }
    }
    *to = '\0';
}

/* The next word of *text, or NULL. */
static char *next_word(char **text)
{
    char *word = *text, *end = strchr(word, ' ');

    if (*word == '\0') return NULL;
    *text = end != NULL ? end + 1 : word + strlen(word);
    if (end != NULL) *end = '\0';
    decode(word);
    return word;
}

int main(void)
{
    static char line[IMAGE_COMMAND_LINE], *arguments[ARGUMENTS + 1];
    static char name[] = "miniproxy";
    char *rest = line, *word;
    int count = 0;

    if (!semihosting_command_line(line, sizeof line)) cpu_panic("the command line is too long");
    while ((word = next_word(&rest)) != NULL && strcmp(word, "--") != 0) {
        char *value = strchr(word, '=');

        if (value == NULL) continue; /* the emulator begins with the name of the image */
        *value++ = '\0';
        if (setenv(word, value, 1) != 0) cpu_panic("no memory for the environment");
    }
    arguments[count++] = name;
    while ((word = next_word(&rest)) != NULL) {
        if (count == ARGUMENTS) cpu_panic("too many arguments");
        arguments[count++] = word;
    }
    exit(desktop_main(count, arguments));
}
