/* SPDX-License-Identifier: MIT
 *
 * Lists of host names as the world has them: files in the form of /etc/hosts, AdBlock filters, plain lists. Which of
 * these a line is, is told for each line.
 */
#define _GNU_SOURCE
#include "desktop.h"
#include "policy_source.h"

#include <string.h>

/* One line without its blanks and comment, NUL-terminated, in the file's own copy. */
struct list {
    struct source *s;
    struct host_list_note *note;
    struct names *names;
    struct place place;
    const char *line; /* where it begins */
    bool adblock, with_subdomains;
};

static void skip(struct list *l)
{
    l->note->skipped++;
}

/* `found` is in the line. */
static void wrong(struct list *l, const char *what, const char *found)
{
    struct token t = {TOKEN_WORD, found, l->place};
    l->place.column = (unsigned)(found - l->line) + 1;
    complain(l->s, l->place, token_shown(l->s, &t), "expected %s", what);
}

static void add_name(struct list *l, const char *name, bool below)
{
    if (below && name[0] != '.') {
        size_t len = strlen(name);
        char *dotted = arena_take(l->s->arena, len + 2);
        dotted[0] = '.';
        memcpy(dotted + 1, name, len);
        name = dotted;
    }
    l->note->names++;
    names_add(l->s->arena, l->names, name);
}

/* ---- AdBlock */

/* Options that leave a rule what it is: true of every request to the host. */
static bool is_unconditional(const char *options)
{
    while (*options != '\0') {
        size_t len = strcspn(options, ",");
        if (!(len == 9 && memcmp(options, "important", 9) == 0) && !(len == 3 && memcmp(options, "all", 3) == 0))
            return false;
        options += len + (options[len] == ',');
    }
    return true;
}

/* ||name^ with nothing else that counts. */
static void adblock_line(struct list *l, char *line)
{
    char *name = line + 2, *end = strchr(name, '^');
    struct miniproxy_addr a;
    bool whole = end != NULL && (end[1] == '\0' || (end[1] == '$' && is_unconditional(end + 2)));
    if (whole) *end = '\0';
    if (!whole || name[0] == '.' || miniproxy_addr_parse(&a, name, strlen(name)) || tidy_host(name) != NULL) skip(l);
    else add_name(l, name, true);
}

/* Does a line hide elements, or change pages in another way? */
static bool is_cosmetic(const char *line)
{
    static const char *const marks[] = {"##", "#@#", "#?#", "#$#", "#%#"};
    const char *at;
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++) {
        at = strstr(line, marks[i]);
        /* "## Title" and "#####" are comments */
        if (at != NULL && (at > line || strchr(" \t#", at[strlen(marks[i])]) == NULL)) return true;
    }
    return false;
}

/* ---- Hosts files */

static bool is_of_the_machine(const char *name)
{
    static const char *const names[] = {"localhost",
                                        "localhost.localdomain",
                                        "local",
                                        "broadcasthost",
                                        "localhost4",
                                        "localhost6",
                                        "localhost4.localdomain4",
                                        "localhost6.localdomain6"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcasecmp(name, names[i]) == 0) return true;
    return strncasecmp(name, "ip6-", 4) == 0;
}

static bool is_nowhere(const struct miniproxy_addr *a)
{
    static const uint8_t zero[15] = {0};
    if (a->family == 4) return a->ip[0] == 127 || memcmp(a->ip, zero, 4) == 0;
    return memcmp(a->ip, zero, 15) == 0 && a->ip[15] <= 1;
}

/* Names behind an address. Those of a real host are no block-list. */
static void hosts_line(struct list *l, const struct miniproxy_addr *address, char *rest)
{
    bool skipped = !is_nowhere(address);
    char *save = NULL;
    rest[strcspn(rest, "#")] = '\0'; /* a comment needs no blank before it here: hosts(5) */
    for (char *name = strtok_r(rest, " \t", &save); name != NULL; name = strtok_r(NULL, " \t", &save)) {
        struct miniproxy_addr a;
        const char *problem;
        if (skipped || is_of_the_machine(name) || miniproxy_addr_parse(&a, name, strlen(name))) continue;
        problem = name[0] == '.' ? "a host name" : tidy_host(name);
        if (problem != NULL) {
            wrong(l, problem, name);
            return;
        }
        add_name(l, name, l->with_subdomains);
    }
    if (skipped) skip(l);
}

/* ---- Any line */

/* One name; "*.name", as ".name", is all below it, and itself. */
static void plain_line(struct list *l, char *line)
{
    char *name = strncmp(line, "*.", 2) == 0 ? line + 1 : line;
    const char *problem;
    bool is_part = l->adblock && strchr("-_.", name[0]) != NULL; /* of an URL */
    problem = tidy_host(name);
    if (problem == NULL && !is_part) add_name(l, name, l->with_subdomains);
    else if (l->adblock) skip(l);
    else wrong(l, problem, line);
}

/* Cut a comment off: # at the beginning or behind a blank. */
static void cut_comment(char *line)
{
    for (char *p = line; *p != '\0'; p++)
        if (*p == '#' && (p == line || p[-1] == ' ' || p[-1] == '\t')) *p = '\0';
    for (size_t len = strlen(line); len > 0 && (line[len - 1] == ' ' || line[len - 1] == '\t'); len--)
        line[len - 1] = '\0';
}

static void list_line(struct list *l, char *line)
{
    struct miniproxy_addr a;
    size_t len;
    l->line = line;
    while (*line == ' ' || *line == '\t') line++;
    if (line[0] == '!' || (line[0] == '[' && strncasecmp(line, "[adblock", 8) == 0)) return;
    if (l->adblock && is_cosmetic(line)) {
        skip(l);
        return;
    }
    cut_comment(line);
    len = strcspn(line, " \t");
    if (line[0] == '\0') return;
    if (strncmp(line, "||", 2) == 0) {
        adblock_line(l, line);
    } else if (strncmp(line, "@@", 2) == 0) {
        l->note->exceptions++;
        skip(l);
    } else if (line[len] != '\0' && miniproxy_addr_parse(&a, line, strcspn(line, "% \t"))) {
        hosts_line(l, &a, line + len);
    } else {
        plain_line(l, line);
    }
}

/* A line of an AdBlock file can be many things; elsewhere it is a name or wrong. */
static bool is_adblock(const char *text, size_t len)
{
    for (const char *at = text, *end = text + len; at != NULL && at < end;) {
        while (at < end && (*at == ' ' || *at == '\t')) at++;
        if (end - at >= 2 && (*at == '!' || memcmp(at, "||", 2) == 0 || memcmp(at, "@@", 2) == 0)) return true;
        if (end - at >= 8 && strncasecmp(at, "[adblock", 8) == 0) return true;
        at = memchr(at, '\n', (size_t)(end - at));
        if (at != NULL) at++;
    }
    return false;
}

static bool is_sound_line(struct list *l, const char *line, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char found[16];
        unsigned char c = (unsigned char)line[i];
        if ((c >= 0x20 && c != 0x7f) || c == '\t') continue;
        snprintf(found, sizeof found, "octet 0x%02x", c);
        l->place.column = (unsigned)i + 1;
        complain(l->s, l->place, found, "expected text without control characters");
        return false;
    }
    if (len <= LINE_MAX_OCTETS) return true;
    complain(l->s, l->place, NULL, "expected a line of at most %d octets, found %zu", LINE_MAX_OCTETS, len);
    return false;
}

static void read_lines(struct list *l, char *text, size_t len)
{
    char *at = text, *end = text + len;
    while (at < end && l->s->error_count <= ERRORS_MAX) {
        char *eol = memchr(at, '\n', (size_t)(end - at)), *next;
        if (eol == NULL) eol = end; /* a NUL stands there */
        next = eol < end ? eol + 1 : end;
        if (eol > at && eol[-1] == '\r') eol--;
        *eol = '\0';
        l->place.line++;
        l->place.column = 1;
        if (is_sound_line(l, at, (size_t)(eol - at))) list_line(l, at);
        at = next;
    }
}

bool read_host_list(struct source *s, const char *file, struct place place, bool with_subdomains, struct names *names)
{
    struct list l = {.s = s, .names = names, .place = {file, 0, 1}, .with_subdomains = with_subdomains};
    unsigned errors = s->error_count;
    size_t len;
    char *text = read_whole(s, file, place, &len);
    if (text == NULL) return false;
    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
        text += 3;
        len -= 3;
    }
    l.note = arena_take(s->arena, sizeof *l.note);
    l.note->file = file;
    *s->notes_end = l.note;
    s->notes_end = &l.note->next;
    l.adblock = is_adblock(text, len);
    read_lines(&l, text, len);
    if (s->error_count != errors) return false;
    if (l.note->names > 0) return true;
    complain(s, place, NULL, "expected a list with host names, found none in %s", file);
    return false;
}
