/* SPDX-License-Identifier: MIT
 *
 * Users: the file, the hash command, and random bytes for salts and names.
 */
#define _GNU_SOURCE
#include "desktop.h"
#include "port/miniproxy_sha256.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

enum { ENTRY_LEN = MINIPROXY_SALT_LEN + MINIPROXY_DIGEST_LEN };

#define TEXT_OF(value) #value
#define NUMBER(macro) TEXT_OF(macro)

static const char hash_expected[] = "expected pbkdf2:ROUNDS:SALT:DIGEST or sha256:SALT:DIGEST behind the name, as "
                                    "\"miniproxy hash NAME\" prints it";

bool random_bytes(void *out, size_t len)
{
    FILE *f = fopen("/dev/urandom", "rb");
    bool ok = f != NULL && fread(out, 1, len, f) == len;
    if (f != NULL) fclose(f);
    return ok;
}

static void wipe(void *secret, size_t len)
{
    volatile unsigned char *p = secret;
    while (len-- > 0) *p++ = 0;
}

static bool has_control(const char *text)
{
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f) return true;
    return false;
}

static const char *name_problem(const char *name)
{
    if (name[0] == '\0') return "expected a user name that is not empty";
    if (name[0] == '#' || name[0] == ' ') return "expected a user name that does not begin with # or a blank";
    if (strchr(name, ':') != NULL) return "expected a user name without colon";
    return has_control(name) ? "expected a user name without control characters" : NULL;
}

/* SHA-256 of salt, name and password. */
static void hash_fast(uint8_t entry[ENTRY_LEN], const char *name, const char *password)
{
    size_t name_len = strlen(name), password_len = strlen(password);
    uint8_t text[MINIPROXY_SALT_LEN + MINIPROXY_CREDENTIALS_MAX];
    memcpy(text, entry, MINIPROXY_SALT_LEN);
    memcpy(text + MINIPROXY_SALT_LEN, name, name_len);
    text[MINIPROXY_SALT_LEN + name_len] = ':';
    memcpy(text + MINIPROXY_SALT_LEN + name_len + 1, password, password_len);
    miniproxy_sha256(entry + MINIPROXY_SALT_LEN, text, MINIPROXY_SALT_LEN + name_len + 1 + password_len);
    wipe(text, sizeof text);
}

static void hash_slowly(uint8_t entry[ENTRY_LEN], const char *password, uint32_t rounds)
{
    const struct miniproxy_pbkdf2_functions *f = &miniproxy_sha256_pbkdf2;
    struct miniproxy_pbkdf2 state;
    f->begin(&state, password, strlen(password), entry, MINIPROXY_SALT_LEN);
    f->go_on(&state, rounds - 1);
    f->conclude(&state, entry + MINIPROXY_SALT_LEN);
    wipe(&state, sizeof state);
}

/* Salt and digest as in struct miniproxy_user. NULL, or what would have been right. */
static const char *make_entry(uint8_t entry[ENTRY_LEN], uint32_t rounds, const char *name, const char *password)
{
    size_t name_len = strlen(name), password_len = strlen(password);
    const char *problem = name_problem(name);
    if (problem != NULL) return problem;
    if (password_len == 0) return "expected a password that is not empty";
    if (has_control(password)) return "expected a password without control characters";
    if (name_len + 1 + password_len > MINIPROXY_CREDENTIALS_MAX)
        return "expected name and password of at most " NUMBER(MINIPROXY_CREDENTIALS_MAX) " octets together";
    if (!random_bytes(entry, MINIPROXY_SALT_LEN)) return "expected random bytes from /dev/urandom";
    if (rounds > 0) hash_slowly(entry, password, rounds);
    else hash_fast(entry, name, password);
    return NULL;
}

/* Each user is one block: entry, then name. The list grows at powers of two. */
const char *users_add(struct users *users, const char *name, const uint8_t entry[], uint32_t rounds)
{
    size_t size = strlen(name) + 1, count = users->count;
    const char *problem = name_problem(name);
    struct miniproxy_user *list = users->list;
    uint8_t *block;
    if (problem != NULL) return problem;
    if (count == USERS_MAX) return "expected no more users: the list is full";
    for (size_t i = 0; i < count; i++)
        if (strcmp(list[i].name, name) == 0) return "expected another name: this one is there already";
    if ((count & (count - 1)) == 0) list = realloc(list, (count == 0 ? 1 : 2 * count) * sizeof *list);
    if (list == NULL) return "expected more memory";
    users->list = list;
    block = malloc(ENTRY_LEN + size);
    if (block == NULL) return "expected more memory";
    memcpy(block, entry, ENTRY_LEN);
    memcpy(block + ENTRY_LEN, name, size);
    list[count] = (struct miniproxy_user){.name = (char *)block + ENTRY_LEN, .digest = block, .rounds = rounds};
    users->count++;
    return NULL;
}

/* Without rounds: these are passwords that stand in a command line, and every start would take so long. */
const char *users_add_password(struct users *users, const char *name, const char *password)
{
    uint8_t entry[ENTRY_LEN];
    const char *problem = make_entry(entry, 0, name, password);
    return problem != NULL ? problem : users_add(users, name, entry, 0);
}

bool users_copy(struct users *users, const struct users *from)
{
    for (unsigned i = 0; i < from->count; i++) {
        const struct miniproxy_user *u = &from->list[i];
        if (users_add(users, u->name, u->digest, u->rounds) != NULL) return false;
    }
    return true;
}

void users_free(struct users *users)
{
    for (unsigned i = 0; i < users->count; i++) {
        void *block = (void *)(uintptr_t)users->list[i].digest;
        free(block);
    }
    free(users->list);
    *users = (struct users){0};
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static bool from_hex(uint8_t *out, size_t len, const char *text)
{
    for (size_t i = 0; i < len; i++) {
        int high = hex_digit(text[2 * i]), low = high < 0 ? -1 : hex_digit(text[2 * i + 1]);
        if (low < 0) return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

/* "ROUNDS:" at *text, which moves behind it. */
static bool parse_rounds(const char **text, uint32_t *rounds)
{
    const char *p = *text;
    uint32_t n = 0;
    for (; *p >= '0' && *p <= '9' && n <= USERS_ROUNDS_MAX; p++) n = 10 * n + (uint32_t)(*p - '0');
    if (*p != ':' || n == 0 || n > USERS_ROUNDS_MAX) return false;
    *text = p + 1;
    *rounds = n;
    return true;
}

const char *users_parse_hash(const char *text, uint8_t entry[], uint32_t *rounds)
{
    static const char fast[] = "sha256:", slow[] = "pbkdf2:";
    const size_t salt_len = 2 * MINIPROXY_SALT_LEN;
    *rounds = 0;
    if (strncmp(text, fast, sizeof fast - 1) == 0) {
        text += sizeof fast - 1;
    } else if (strncmp(text, slow, sizeof slow - 1) == 0) {
        text += sizeof slow - 1;
        if (!parse_rounds(&text, rounds)) return "expected 1 to " NUMBER(USERS_ROUNDS_MAX) " rounds behind pbkdf2:";
    } else {
        return hash_expected;
    }
    if (strlen(text) != salt_len + 1 + 2 * MINIPROXY_DIGEST_LEN || text[salt_len] != ':') return hash_expected;
    if (!from_hex(entry, MINIPROXY_SALT_LEN, text)) return hash_expected;
    return from_hex(entry + MINIPROXY_SALT_LEN, MINIPROXY_DIGEST_LEN, text + salt_len + 1) ? NULL : hash_expected;
}

/* One line of the file, which is changed. NULL, or what would have been right. */
static const char *add_line(struct users *users, char *line)
{
    uint8_t entry[ENTRY_LEN];
    uint32_t rounds;
    char *hash = strchr(line, ':');
    const char *problem;
    if (hash == NULL) return hash_expected;
    *hash++ = '\0';
    problem = users_parse_hash(hash, entry, &rounds);
    return problem != NULL ? problem : users_add(users, line, entry, rounds);
}

/* Take the end of line off. False: the line has a NUL inside, and is no text. */
static bool chop(char *line, size_t len)
{
    if (strlen(line) != len) return false;
    line[strcspn(line, "\r\n")] = '\0';
    return true;
}

bool users_load(struct users *users, const char *file)
{
    FILE *f = fopen(file, "r");
    char *line = NULL;
    const char *problem = NULL;
    size_t room = 0;
    unsigned number = 0, before = users->count;
    ssize_t len;
    if (f == NULL) {
        say("cannot read the users file %s: %s", file, strerror(errno));
        return false;
    }
    while (problem == NULL && (len = getline(&line, &room, f)) >= 0) {
        number++;
        if (!chop(line, (size_t)len)) problem = hash_expected;
        else if (line[strspn(line, " \t")] != '\0' && line[0] != '#') problem = add_line(users, line);
    }
    if (problem == NULL && ferror(f)) problem = strerror(errno);
    if (problem == NULL && users->count == before) {
        number++;
        problem = "expected at least one user, as \"miniproxy hash NAME\" prints it";
    }
    if (problem != NULL) say("%s:%u: %s", file, number, problem);
    free(line);
    fclose(f);
    return problem == NULL;
}

/* One line from standard input, on a terminal with a prompt and, for secrets, without echo. Without echo signals are
 * off too: ^C is a control character then and so refused, rather than leaving the terminal mute. */
static bool ask(const char *prompt, bool secret, char **line)
{
    struct termios old, mute;
    size_t room = 0;
    ssize_t len;
    bool tty = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &old) == 0;
    *line = NULL;
    if (tty) {
        fputs(prompt, stderr);
        mute = old;
        mute.c_lflag &= ~(tcflag_t)(ECHO | ISIG);
        if (secret) tcsetattr(STDIN_FILENO, TCSAFLUSH, &mute);
    }
    len = getline(line, &room, stdin);
    if (tty && secret) {
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &old);
        fputc('\n', stderr);
    }
    return len > 0 && chop(*line, (size_t)len);
}

static void free_secret(char *secret)
{
    if (secret != NULL) wipe(secret, strlen(secret));
    free(secret);
}

static const char *hash_password(const char *name, uint32_t rounds)
{
    uint8_t entry[ENTRY_LEN];
    char *password = NULL, *again = NULL;
    const char *problem = NULL;
    if (!ask("Password: ", true, &password)) problem = "expected a password on standard input";
    else if (isatty(STDIN_FILENO) && (!ask("Again: ", true, &again) || strcmp(password, again) != 0))
        problem = "expected the same password twice";
    if (problem == NULL) problem = make_entry(entry, rounds, name, password);
    free_secret(password);
    free_secret(again);
    if (problem != NULL) return problem;
    if (rounds > 0) printf("%s:pbkdf2:%lu:", name, (unsigned long)rounds);
    else printf("%s:sha256:", name);
    for (size_t i = 0; i < ENTRY_LEN; i++) printf("%s%02x", i == MINIPROXY_SALT_LEN ? ":" : "", entry[i]);
    printf("\n");
    return fflush(stdout) == 0 ? NULL : "expected room for the result on standard output";
}

/* --rounds N or --rounds=N at argv[*i]. */
static bool read_rounds(uint32_t *rounds, int argc, char **argv, int *i)
{
    static const char option[] = "--rounds";
    const size_t len = sizeof option - 1;
    const char *value = argv[*i] + len;
    size_t digits;
    if (strncmp(argv[*i], option, len) != 0) return false;
    if (*value == '\0' && *i + 1 < argc) value = argv[++*i];
    else if (*value++ != '=') return false;
    digits = strspn(value, "0123456789");
    if (digits == 0 || digits > 8 || value[digits] != '\0') return false;
    *rounds = (uint32_t)strtoul(value, NULL, 10);
    return *rounds <= USERS_ROUNDS_MAX;
}

int users_hash_command(int argc, char **argv)
{
    char *asked = NULL;
    const char *problem = NULL, *name = NULL;
    uint32_t rounds = USERS_ROUNDS_DEFAULT;
    for (int i = 0; i < argc && problem == NULL; i++) {
        if (strncmp(argv[i], "--", 2) != 0 && name == NULL) name = argv[i];
        else if (!read_rounds(&rounds, argc, argv, &i))
            problem = "expected at most one name, and --rounds N with 0 to " NUMBER(USERS_ROUNDS_MAX);
    }
    if (name == NULL && problem == NULL && !ask("Name: ", false, &asked))
        problem = "expected a user name on standard input";
    if (problem == NULL) problem = name_problem(name != NULL ? name : asked);
    if (problem == NULL) problem = hash_password(name != NULL ? name : asked, rounds);
    if (problem != NULL) say("hash: %s", problem);
    free(asked);
    return problem == NULL ? EXIT_DRAINED : EXIT_USAGE;
}
