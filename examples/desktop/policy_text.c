/* SPDX-License-Identifier: MIT
 *
 * The policy language: files, lines, words and statements. `miniproxy policy help` (policy_command.c) describes it.
 */
#define _GNU_SOURCE
#include "desktop.h"
#include "policy_source.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const char *const kind_words[KIND_COUNT] = {"net",   "hosts",  "ports", "methods", "paths",
                                            "types", "agents", "times", "group"};

/* ---- Memory */

struct chunk {
    struct chunk *next;
    max_align_t data[];
};

enum { CHUNK_OCTETS = 1 << 16, ALIGN = sizeof(max_align_t) };

void *arena_take(struct arena *a, size_t size)
{
    void *taken;
    size = (size + ALIGN - 1) / ALIGN * ALIGN;
    if (size > a->left) {
        size_t room = size > CHUNK_OCTETS ? size : CHUNK_OCTETS;
        struct chunk *chunk = calloc(1, sizeof *chunk + room);
        if (chunk == NULL) longjmp(*a->no_memory, 1);
        chunk->next = a->chunks;
        a->chunks = chunk;
        a->at = (char *)chunk->data;
        a->left = room;
    }
    taken = a->at;
    a->at += size;
    a->left -= size;
    return taken;
}

char *arena_text(struct arena *a, const char *text, size_t len)
{
    char *copy = arena_take(a, len + 1);
    memcpy(copy, text, len);
    return copy;
}

void arena_free(struct arena *a)
{
    while (a->chunks != NULL) {
        struct chunk *chunk = a->chunks;
        a->chunks = chunk->next;
        free(chunk);
    }
    free(a);
}

void names_add(struct arena *a, struct names *names, const char *name)
{
    if (names->count == names->room) {
        size_t room = names->room == 0 ? 16 : 2 * names->room;
        const char **list = arena_take(a, room * sizeof *list);
        if (names->count > 0) memcpy(list, names->list, names->count * sizeof *list);
        names->list = list;
        names->room = room;
    }
    names->list[names->count++] = name;
}

/* ---- Errors */

void complain(struct source *s, struct place place, const char *found, const char *format, ...)
{
    va_list arguments;
    s->error_count++;
    if (s->error_count > ERRORS_MAX + 1) return;
    if (s->error_count > ERRORS_MAX) {
        fprintf(s->errors, "%s:%u:%u: further errors are not shown\n", place.file, place.line, place.column);
        return;
    }
    fprintf(s->errors, "%s:%u:%u: ", place.file, place.line, place.column);
    va_start(arguments, format);
    vfprintf(s->errors, format, arguments);
    va_end(arguments);
    fprintf(s->errors, "%s%s\n", found != NULL ? ", found " : "", found != NULL ? found : "");
}

/* ---- Files */

const char *path_beside(struct source *s, const char *file, struct place place)
{
    const char *slash = strrchr(place.file, '/');
    char *path;
    if (file[0] == '/' || slash == NULL) return file;
    path = arena_take(s->arena, (size_t)(slash - place.file) + strlen(file) + 2);
    memcpy(path, place.file, (size_t)(slash - place.file) + 1);
    strcat(path, file);
    return path;
}

static char *read_open(struct source *s, FILE *f, size_t *len)
{
    size_t room = CHUNK_OCTETS / 2, got;
    char *text = arena_take(s->arena, room);
    *len = 0;
    while ((got = fread(text + *len, 1, room - 1 - *len, f)) > 0) {
        *len += got;
        if (*len > FILE_MAX_OCTETS) {
            errno = EFBIG;
            return NULL;
        }
        if (*len == room - 1) {
            char *more = arena_take(s->arena, 2 * room);
            memcpy(more, text, *len);
            text = more;
            room *= 2;
        }
    }
    return ferror(f) ? NULL : text;
}

char *read_whole(struct source *s, const char *file, struct place place, size_t *len)
{
    struct stat about;
    FILE *f = fopen(file, "r");
    char *text = NULL;
    jmp_buf *outer = s->arena->no_memory, here;
    int reason;
    if (f == NULL) {
        reason = errno;
    } else if (fstat(fileno(f), &about) == 0 && S_ISDIR(about.st_mode)) {
        reason = EISDIR;
    } else {
        if (setjmp(here) != 0) { /* the file must be closed, whatever happens */
            fclose(f);
            longjmp(*outer, 1);
        }
        s->arena->no_memory = &here;
        text = read_open(s, f, len);
        reason = errno;
        s->arena->no_memory = outer;
    }
    if (f != NULL) fclose(f);
    if (text == NULL) complain(s, place, NULL, "expected a file that can be read: %s: %s", file, strerror(reason));
    return text;
}

/* A file that is being read, and those that include it. */
struct file {
    const struct file *parent;
    const char *name, *at, *end;
    unsigned line, depth;
    dev_t device;
    ino_t inode;
};

/* ---- Words */

static void add_token(struct source *s, struct words *w, struct token t)
{
    if (w->count == w->room) {
        size_t room = w->room == 0 ? 32 : 2 * w->room;
        struct token *list = arena_take(s->arena, room * sizeof *list);
        if (w->count > 0) memcpy(list, w->list, w->count * sizeof *list);
        w->list = list;
        w->room = room;
    }
    w->list[w->count++] = t;
}

/* Columns are of characters, as editors count them. */
static struct place place_at(const struct file *f, const char *line, const char *at)
{
    struct place place = {f->name, f->line, 1};
    for (; line < at; line++)
        if (((unsigned char)*line & 0xc0) != 0x80) place.column++;
    return place;
}

/* A text in quotes from *at on; \" and \\ stand for " and \. */
static bool take_text(struct source *s, const struct file *f, const char *line, const char **at, const char *end,
                      struct token *t)
{
    const char *p = *at + 1;
    char *text = arena_take(s->arena, (size_t)(end - p) + 1);
    size_t len = 0;
    for (; p < end && *p != '"'; p++) {
        if (*p == '\\' && p + 1 < end && (p[1] == '"' || p[1] == '\\')) p++;
        text[len++] = *p;
    }
    *t = (struct token){TOKEN_TEXT, text, place_at(f, line, *at)};
    *at = p + 1;
    if (p < end) return true;
    complain(s, t->place, NULL, "expected a second \" at the end of the text");
    return false;
}

static bool take_words(struct source *s, const struct file *f, const char *line, const char *end, struct words *w)
{
    for (const char *p = line; p < end && *p != '#';) {
        struct token t = {.place = place_at(f, line, p)};
        size_t len;
        if (*p == ' ' || *p == '\t') {
            p++;
            continue;
        }
        if (*p == '"') {
            if (!take_text(s, f, line, &p, end, &t)) return false;
        } else if (*p == ',' || *p == '=') {
            t.type = *p == ',' ? TOKEN_COMMA : TOKEN_EQUALS;
            t.text = *p++ == ',' ? "," : "=";
        } else {
            for (len = 0; p + len < end && strchr(" \t\",=#", p[len]) == NULL; len++) {
            }
            t.type = TOKEN_WORD;
            t.text = arena_text(s->arena, p, len);
            p += len;
        }
        add_token(s, w, t);
    }
    return true;
}

/* Nothing that an editor does not show. */
static bool is_plain(struct source *s, const struct file *f, const char *line, const char *end)
{
    char found[16];
    if (end - line > LINE_MAX_OCTETS) {
        complain(s, place_at(f, line, line), NULL, "expected a line of at most %d octets, found %zu", LINE_MAX_OCTETS,
                 (size_t)(end - line));
        return false;
    }
    for (const char *p = line; p < end; p++) {
        unsigned char c = (unsigned char)*p;
        if ((c >= 0x20 && c != 0x7f) || c == '\t') continue;
        snprintf(found, sizeof found, "octet 0x%02x", c);
        complain(s, place_at(f, line, p), found, "expected text without control characters");
        return false;
    }
    return true;
}

/* The next line of a file; its end of line, LF or CR LF, is left out. */
static bool next_line(struct file *f, const char **line, const char **end)
{
    if (f->at == f->end) return false;
    *line = f->at;
    *end = memchr(f->at, '\n', (size_t)(f->end - f->at));
    if (*end == NULL) *end = f->end;
    f->at = *end < f->end ? *end + 1 : f->end;
    if (*end > *line && (*end)[-1] == '\r') (*end)--;
    f->line++;
    return true;
}

/* A backslash at the end of a line joins it with the next. */
static bool take_backslash(const char *line, const char **end)
{
    const char *p = *end;
    while (p > line && (p[-1] == ' ' || p[-1] == '\t')) p--;
    if (p == line || p[-1] != '\\' || memchr(line, '#', (size_t)(p - line)) != NULL) return false;
    *end = p - 1;
    return true;
}

/* The words of the next statement, TOKEN_END last. False: the file has ended. *ok: nothing was wrong with them. */
static bool next_statement(struct source *s, struct file *f, struct words *w, bool *ok)
{
    const char *line, *end;
    bool more = true, any = false;
    w->count = w->at = 0;
    *ok = true;
    while (more && next_line(f, &line, &end)) {
        bool joined;
        any = true;
        if (!is_plain(s, f, line, end)) {
            *ok = false;
            more = false;
            continue;
        }
        joined = take_backslash(line, &end);
        if (!take_words(s, f, line, end, w)) *ok = false;
        more = joined || (w->count > 0 && w->list[w->count - 1].type == TOKEN_COMMA);
        if (!more) add_token(s, w, (struct token){.place = place_at(f, line, end), .text = ""});
    }
    if (any && more) add_token(s, w, (struct token){.place = {f->name, f->line, 1}, .text = ""});
    return any;
}

/* ---- Statements */

const struct token *here(const struct words *w)
{
    return &w->list[w->at];
}

bool take(struct words *w, const char *word)
{
    if (!is_word(here(w), word)) return false;
    w->at++;
    return true;
}

void expected(struct source *s, const struct words *w, const char *what)
{
    complain(s, here(w)->place, token_shown(s, here(w)), "expected %s", what);
}

bool at_end(struct source *s, const struct words *w, const char *what)
{
    if (here(w)->type == TOKEN_END) return true;
    expected(s, w, what);
    return false;
}

/* The statement as one line, from a token on. */
const char *text_of(struct source *s, const struct words *w, size_t from, size_t to)
{
    size_t len = 0;
    char *text, *p;
    for (size_t i = from; i < to; i++) len += 2 * strlen(w->list[i].text) + 4;
    p = text = arena_take(s->arena, len + 1);
    for (size_t i = from; i < to; i++) {
        const struct token *t = &w->list[i];
        if (i > from && t->type != TOKEN_COMMA) *p++ = ' ';
        if (t->type == TOKEN_TEXT) *p++ = '"';
        for (const char *c = t->text; *c != '\0'; c++) {
            if (t->type == TOKEN_TEXT && (*c == '"' || *c == '\\')) *p++ = '\\';
            *p++ = *c;
        }
        if (t->type == TOKEN_TEXT) *p++ = '"';
    }
    return text;
}

static unsigned hash_of(const char *name)
{
    uint32_t hash = 2166136261u;
    for (; *name != '\0'; name++) hash = (hash ^ (unsigned char)*name) * 16777619u;
    return hash % NAME_BUCKETS;
}

static struct named *find_set(const struct source *s, enum kind kind, const char *name)
{
    struct named *set = s->sets_by_hash[hash_of(name)];
    while (set != NULL && (set->kind != kind || strcmp(set->name, name) != 0)) set = set->beside;
    return set;
}

void add_set(struct source *s, struct named *set)
{
    struct named **first = &s->sets_by_hash[hash_of(set->name)];
    set->beside = *first;
    *first = set;
    *s->sets_end = set;
    s->sets_end = &set->next;
}

static struct person *find_user(const struct source *s, const char *name)
{
    struct person *user = s->users_by_hash[hash_of(name)];
    while (user != NULL && strcmp(user->name, name) != 0) user = user->beside;
    return user;
}

static void add_user(struct source *s, struct person *user)
{
    struct person **first = &s->users_by_hash[hash_of(user->name)];
    user->number = s->user_count++;
    user->beside = *first;
    *first = user;
    *s->users_end = user;
    s->users_end = &user->next;
}

static const char *const reserved[] = {
    "any",   "or",    "from",    "to",    "users", "with",   "file",     "exact",   "hashed", "checked", "literals",
    "hosts", "ports", "methods", "paths", "types", "agents", "times",    "other",   "daily",  "mon",     "tue",
    "wed",   "thu",   "fri",     "sat",   "sun",   "via",    "directly", "resolve", "in",     "check",   NULL};

bool is_reserved(const char *name)
{
    for (const char *const *word = reserved; *word != NULL; word++)
        if (strcmp(*word, name) == 0) return true;
    return false;
}

/* Whether a name may be given here; of users and groups, which share their names, too. */
static bool is_free_name(struct source *s, enum kind kind, const struct token *t)
{
    const struct named *set = find_set(s, kind, t->text);
    const struct person *user = kind == KIND_GROUP ? find_user(s, t->text) : NULL;
    struct place place = set != NULL ? set->place : user != NULL ? user->place : (struct place){0};
    if (set == NULL && user == NULL) return true;
    if (set != NULL && set->builtin) complain(s, t->place, NULL, "expected another name, \"%s\" is built in", t->text);
    else
        complain(s, t->place, NULL, "expected another name, \"%s\" is taken at %s:%u", t->text, place.file, place.line);
    return false;
}

static void set_statement(struct source *s, enum kind kind, struct words *w)
{
    const struct token *name = here(w);
    struct named *set;
    struct value *values;
    if (name->type != TOKEN_WORD || !is_set_name(name->text)) {
        expected(s, w, "a name for the set: a lower-case letter, then letters, digits, - or _, at most 64");
        return;
    }
    if (is_reserved(name->text)) {
        expected(s, w, "a name for the set that is no word of the language");
        return;
    }
    if (!is_free_name(s, kind, name)) return;
    w->at++;
    if (here(w)->type != TOKEN_EQUALS) {
        expected(s, w, "= after the name of the set");
        return;
    }
    w->at++;
    set = arena_take(s->arena, sizeof *set); /* even if its values are wrong: its name is known then */
    *set = (struct named){.kind = kind, .name = name->text, .place = name->place};
    add_set(s, set);
    values = parse_values(s, kind, w);
    if (values != NULL && at_end(s, w, "a comma or the end of the line")) set->values = values;
}

static const char *name_problem(const char *name)
{
    if (name[0] == '\0') return "a user name that is not empty";
    return strlen(name) > MINIPROXY_CREDENTIALS_MAX - 2 ? "a shorter user name" : NULL;
}

/* What stands behind the = of a user. */
static bool take_secret(struct source *s, struct words *w, struct person *user)
{
    uint8_t *entry = arena_take(s->arena, MINIPROXY_SALT_LEN + MINIPROXY_DIGEST_LEN);
    const char *problem;
    if (take(w, "certificate")) return true;
    if (strchr(user->name, ':') != NULL) {
        complain(s, user->place, token_shown(s, &(struct token){TOKEN_WORD, user->name, user->place}),
                 "expected a user name without colon, or one of a certificate");
        return false;
    }
    if (take(w, "clear")) {
        if (here(w)->type != TOKEN_TEXT || here(w)->text[0] == '\0') {
            expected(s, w, "the password in quotes after clear");
            return false;
        }
        user->password = here(w)->text;
        if (strlen(user->name) + 1 + strlen(user->password) > MINIPROXY_CREDENTIALS_MAX) {
            complain(s, here(w)->place, NULL, "expected name and password of at most %d octets together",
                     MINIPROXY_CREDENTIALS_MAX);
            return false;
        }
        w->at++;
        return true;
    }
    problem = here(w)->type == TOKEN_WORD ? users_parse_hash(here(w)->text, entry, &user->rounds)
                                          : "expected a hash as \"miniproxy hash NAME\" prints it";
    if (problem != NULL) {
        /* what is there may be a password: it is not shown */
        complain(s, here(w)->place, NULL, "%s, or clear \"PASSWORD\", or certificate", problem);
        return false;
    }
    user->digest = entry;
    w->at++;
    return true;
}

static void user_statement(struct source *s, struct words *w)
{
    const struct token *name = here(w);
    struct person *user = arena_take(s->arena, sizeof *user);
    const char *problem = NULL;
    if (name->type != TOKEN_WORD && name->type != TOKEN_TEXT) problem = "a user name";
    if (problem == NULL) problem = name_problem(name->text);
    if (problem == NULL && is_word(name, "any"))
        problem = "a user name that is no word of the language, or one in quotes";
    if (problem != NULL) {
        expected(s, w, problem);
        return;
    }
    if (!is_free_name(s, KIND_GROUP, name)) return;
    if (s->user_count == USERS_MAX) {
        complain(s, name->place, NULL, "expected at most %d users", USERS_MAX);
        return;
    }
    *user = (struct person){.name = name->text, .place = name->place};
    w->at++;
    if (here(w)->type != TOKEN_EQUALS) {
        expected(s, w, "= after the name of the user");
        return;
    }
    w->at++;
    add_user(s, user);
    if (take_secret(s, w, user)) at_end(s, w, "the end of the line");
}

/* ---- Rules */

static const struct {
    const char *word;
    enum kind kind;
} slots[SLOT_COUNT] = {
    [SLOT_FROM] = {"from", KIND_NET},
    [SLOT_USERS] = {"users", KIND_GROUP},
    [SLOT_TO] = {"to", KIND_NET},
    [SLOT_HOSTS] = {"hosts", KIND_HOSTS},
    [SLOT_PORTS] = {"ports", KIND_PORTS},
    [SLOT_METHODS] = {"methods", KIND_METHODS},
    [SLOT_PATHS] = {"paths", KIND_PATHS},
    [SLOT_TYPES] = {"types", KIND_TYPES},
    [SLOT_AGENTS] = {"agents", KIND_AGENTS},
    [SLOT_TIMES] = {"times", KIND_TIMES},
};

enum slot slot_here(const struct words *w)
{
    unsigned i = 0;
    while (i < SLOT_COUNT && !is_word(here(w), slots[i].word)) i++;
    return (enum slot)i;
}

bool take_clause(struct source *s, struct words *w, struct clause *clauses, enum slot slot, const char *of)
{
    struct clause *clause = &clauses[slot];
    const size_t from = w->at + 1;
    if (clause->values != NULL) {
        complain(s, here(w)->place, NULL, "expected \"%s\" only once in a %s: separate its values by commas",
                 slots[slot].word, of);
        return false;
    }
    clause->place = here(w)->place;
    w->at++;
    clause->values = parse_values(s, slots[slot].kind, w);
    clause->text = text_of(s, w, from, w->at);
    return clause->values != NULL;
}

/* `or` stands between `from` and `users`, whichever comes first. */
static bool take_or(struct source *s, struct words *w, struct written_rule *rule, enum slot last)
{
    enum slot other = last == SLOT_FROM ? SLOT_USERS : SLOT_FROM;
    w->at++;
    if ((last == SLOT_FROM || last == SLOT_USERS) && slot_here(w) == other && !rule->either) {
        rule->either = true;
        return true;
    }
    w->at--;
    expected(s, w, "\"or\" only between \"from …\" and \"users …\"");
    return false;
}

static void clause_expected(struct source *s, struct words *w, enum slot last)
{
    static const char *const words[] = {"from",  "users", "to",     "hosts", "ports",    "methods",
                                        "paths", "types", "agents", "times", "literals", NULL};
    const char *meant = here(w)->type == TOKEN_WORD ? nearest(here(w)->text, words) : NULL;
    const char *what = last == SLOT_COUNT ? "" : "a comma, ";
    if (meant != NULL) {
        complain(s, here(w)->place, token_shown(s, here(w)), "expected \"%s\"", meant);
        return;
    }
    complain(s, here(w)->place, token_shown(s, here(w)),
             "expected %sone of from, users, to, hosts, ports, methods, paths, types, agents, times, literals, or the "
             "end of the line",
             what);
}

static void rule_statement(struct source *s, bool allow, struct words *w)
{
    struct written_rule *rule = arena_take(s->arena, sizeof *rule);
    enum slot last = SLOT_COUNT;
    rule->place = w->list[0].place;
    rule->allow = allow;
    rule->text = text_of(s, w, 0, w->count - 1);
    while (here(w)->type != TOKEN_END) {
        enum slot slot = slot_here(w);
        if (take(w, "literals")) {
            rule->literals = true;
            last = SLOT_COUNT;
        } else if (is_word(here(w), "or")) {
            if (!take_or(s, w, rule, last)) return;
        } else if (slot == SLOT_COUNT) {
            clause_expected(s, w, last);
            return;
        } else {
            if (!take_clause(s, w, rule->clauses, slot, "rule")) return;
            last = slot;
        }
    }
    *s->rules_end = rule;
    s->rules_end = &rule->next;
    s->rule_count++;
}

/* A line of plain words, for people who had expected another page. */
static bool is_message(const char *text)
{
    for (const char *p = text; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f) return false;
    return text[0] != '\0' && strlen(text) <= TEXT_MAX_OCTETS;
}

static void maintenance_statement(struct source *s, struct words *w)
{
    const struct token *message = here(w);
    if (message->type != TOKEN_TEXT || !is_message(message->text)) {
        expected(s, w, "a message in quotes after maintenance, at most 1000 octets without control characters");
        return;
    }
    if (s->maintenance != NULL) {
        complain(s, w->list[0].place, NULL, "expected \"maintenance\" only once, it stands at %s:%u too",
                 s->maintenance_place.file, s->maintenance_place.line);
        return;
    }
    w->at++;
    if (!at_end(s, w, "the end of the line")) return;
    s->maintenance = message->text;
    s->maintenance_place = w->list[0].place;
}

static void read_file(struct source *s, const char *name, struct place place, const struct file *parent);

static void include_statement(struct source *s, const struct file *f, struct words *w)
{
    const struct token *name = here(w);
    if (name->type != TOKEN_TEXT || name->text[0] == '\0') {
        expected(s, w, "the name of a file in quotes after include");
        return;
    }
    w->at++;
    if (at_end(s, w, "the end of the line")) read_file(s, path_beside(s, name->text, name->place), name->place, f);
}

static void statement(struct source *s, const struct file *f, struct words *w)
{
    static const struct {
        const char *word;
        void (*read)(struct source *s, struct words *w);
    } others[] = {{"user", user_statement},
                  {"parent", parent_statement},
                  {"origins", origins_statement},
                  {"route", route_statement},
                  {"limit", limit_statement},
                  {"maintenance", maintenance_statement}};
    static const char *const words[] = {"allow", "deny",    "include", "user",  "net",    "hosts",
                                        "ports", "methods", "paths",   "types", "agents", "times",
                                        "group", "parent",  "origins", "route", "limit",  "maintenance",
                                        NULL};
    const char *meant;
    if (take(w, "allow")) {
        rule_statement(s, true, w);
    } else if (take(w, "deny")) {
        rule_statement(s, false, w);
    } else if (take(w, "include")) {
        include_statement(s, f, w);
    } else if (take(w, "users")) {
        set_statement(s, KIND_GROUP, w);
    } else {
        for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
            if (!take(w, others[i].word)) continue;
            others[i].read(s, w);
            return;
        }
        for (unsigned kind = 0; kind < KIND_COUNT; kind++) {
            if (!take(w, kind_words[kind])) continue;
            set_statement(s, (enum kind)kind, w);
            return;
        }
        meant = here(w)->type == TOKEN_WORD ? nearest(here(w)->text, words) : NULL;
        complain(s, here(w)->place, token_shown(s, here(w)), meant != NULL ? "expected \"%s\"" : "expected %s",
                 meant != NULL ? meant
                               : "allow, deny, net, hosts, ports, methods, paths, types, agents, times, user, "
                                 "group, parent, origins, route, limit, maintenance or include");
    }
}

static void read_file(struct source *s, const char *name, struct place place, const struct file *parent)
{
    struct file f = {.parent = parent, .name = name, .depth = parent != NULL ? parent->depth + 1 : 0};
    struct words w = {0};
    struct stat about;
    size_t len;
    bool ok;
    if (f.depth > INCLUDE_DEPTH_MAX) {
        complain(s, place, NULL, "expected at most %d files that include one another", INCLUDE_DEPTH_MAX);
        return;
    }
    if (stat(name, &about) == 0) {
        f.device = about.st_dev;
        f.inode = about.st_ino;
        for (const struct file *outer = parent; outer != NULL; outer = outer->parent) {
            if (outer->device != f.device || outer->inode != f.inode) continue;
            complain(s, place, NULL, "expected another file than %s, which is being read: a file cannot include itself",
                     name);
            return;
        }
    }
    f.at = read_whole(s, name, place, &len);
    if (f.at == NULL) return;
    f.end = f.at + len;
    if (len >= 3 && memcmp(f.at, "\xef\xbb\xbf", 3) == 0) f.at += 3;
    while (next_statement(s, &f, &w, &ok) && s->error_count <= ERRORS_MAX)
        if (ok && w.count > 1) statement(s, &f, &w);
}

/* ---- What names mean */

static const char *set_meant(const struct source *s, enum kind kind, const char *name)
{
    struct names all = {0};
    const char *meant;
    for (const struct named *set = s->sets; set != NULL; set = set->next)
        if (set->kind == kind) names_add(s->arena, &all, set->name);
    if (kind == KIND_GROUP)
        for (const struct person *user = s->users; user != NULL; user = user->next)
            names_add(s->arena, &all, user->name);
    names_add(s->arena, &all, NULL);
    meant = nearest(name, all.list);
    return meant;
}

/* What an unknown name could have been. */
static const char *const hints[KIND_COUNT] = {
    [KIND_NET] = "a network as 192.168.1.0/24, or a `net`: any, private, loopback, special or one of this policy",
    [KIND_HOSTS] = "a host name with a dot (one without stands in quotes), or a set of `hosts`",
    [KIND_PORTS] = "ports as 443 or 8000-8099, any, or a set of `ports`",
    [KIND_METHODS] =
        ("GET, HEAD, POST, PUT, DELETE, OPTIONS, TRACE, CONNECT, other (all others, as PATCH), pages (of the proxy "
         "itself), or a set of `methods`"),
    [KIND_PATHS] = "the beginning of a path in quotes, as \"/admin\", or a set of `paths`",
    [KIND_TYPES] = "a media type as video/* or text/html, or a set of `types`",
    [KIND_AGENTS] = "a part of User-Agent in quotes, or a set of `agents`",
    [KIND_TIMES] = "times as mon-fri 08:00-18:00, or a set of `times`",
    [KIND_GROUP] = "a user or a group of this policy, or any",
};

static void unknown_name(struct source *s, enum kind kind, const struct value *v)
{
    const char *meant = set_meant(s, kind, v->name);
    for (unsigned other = 0; other < KIND_COUNT; other++) {
        if (find_set(s, (enum kind)other, v->name) == NULL) continue;
        complain(s, v->place, NULL, "expected %s, found \"%s\", which is a set of `%s`", hints[kind], v->name,
                 kind_words[other]);
        return;
    }
    complain(s, v->place, NULL, "expected %s, found \"%s\"%s%s%s", hints[kind], v->name,
             meant != NULL ? " (did you mean \"" : "", meant != NULL ? meant : "", meant != NULL ? "\"?)" : "");
}

static void resolve_set(struct source *s, struct named *set);

/* Returns how deep sets are nested in these values. */
static unsigned resolve(struct source *s, enum kind kind, struct value *values)
{
    unsigned depth = 0;
    for (struct value *v = values; v != NULL; v = v->next) {
        if (v->name == NULL) continue;
        if (!v->quoted) v->set = find_set(s, kind, v->name);
        if (kind == KIND_GROUP && v->set == NULL) v->user = find_user(s, v->name);
        if (v->set == NULL && v->user == NULL) unknown_name(s, kind, v);
        if (v->set == NULL) continue;
        if (v->set->busy) {
            complain(s, v->place, NULL, "expected no loop: the set \"%s\" is part of itself", v->name);
            v->set = NULL;
            continue;
        }
        resolve_set(s, v->set);
        if (v->set->depth > depth) depth = v->set->depth;
    }
    return depth;
}

static void resolve_set(struct source *s, struct named *set)
{
    if (set->depth > 0) return;
    if (s->nesting == NESTING_MAX) {
        complain(s, set->place, NULL, "expected sets nested at most %d deep", NESTING_MAX);
        return;
    }
    s->nesting++;
    set->busy = true;
    set->depth = resolve(s, set->kind, set->values) + 1;
    set->busy = false;
    s->nesting--;
}

static void resolve_clauses(struct source *s, struct clause *clauses)
{
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++) resolve(s, slots[slot].kind, clauses[slot].values);
}

static void resolve_all(struct source *s)
{
    for (struct named *set = s->sets; set != NULL; set = set->next) resolve_set(s, set);
    for (struct written_rule *rule = s->rules; rule != NULL; rule = rule->next) resolve_clauses(s, rule->clauses);
    for (struct written_route *route = s->routes; route != NULL; route = route->next)
        resolve_clauses(s, route->clauses);
    for (struct written_limit *limit = s->limits; limit != NULL; limit = limit->next)
        resolve_clauses(s, limit->clauses);
    resolve_ways(s);
}

/* ---- The whole */

static struct compiled *read_policy(struct source *s, const char *file)
{
    const char *name = arena_text(s->arena, file, strlen(file));
    struct compiled *c;
    s->file = name;
    s->sets_end = &s->sets;
    s->users_end = &s->users;
    s->rules_end = &s->rules;
    s->hops_end = &s->hops;
    s->routes_end = &s->routes;
    s->limits_end = &s->limits;
    s->notes_end = &s->notes;
    add_builtin_sets(s);
    read_file(s, name, (struct place){name, 1, 1}, NULL);
    if (s->error_count <= ERRORS_MAX) resolve_all(s);
    c = s->error_count == 0 ? make_tables(s) : NULL;
    if (c != NULL) c->file = name;
    return c;
}

struct compiled *policy_read(const char *file, FILE *errors)
{
    struct arena *arena = calloc(1, sizeof *arena);
    struct source *s = arena != NULL ? calloc(1, sizeof *s) : NULL;
    struct compiled *volatile c = NULL;
    jmp_buf no_memory;
    if (s != NULL && setjmp(no_memory) == 0) {
        arena->no_memory = &no_memory;
        s->arena = arena;
        s->errors = errors;
        c = read_policy(s, file);
    } else {
        fprintf(errors, "%s:1:1: expected more memory\n", file);
    }
    free(s);
    if (c == NULL && arena != NULL) arena_free(arena);
    return c;
}

void policy_free(struct compiled *c)
{
    arena_free(c->arena);
}
