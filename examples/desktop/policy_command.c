/* SPDX-License-Identifier: MIT
 *
 * `miniproxy policy …`: check, compile, explain, lint, diff.
 */
#define _GNU_SOURCE
#include "desktop.h"
#include "policy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STATUS_FINE = 0, STATUS_FOUND = 1, STATUS_WRONG = 2 };

static const char usage[] =
    "Usage: miniproxy policy check FILE\n"
    "       miniproxy policy compile FILE [--name NAME] [--hits] [-o OUT]\n"
    "       miniproxy policy explain FILE CLIENT USER METHOD URL [--address ADDRESS] [--agent TEXT] [--type TYPE]\n"
    "                        [--time \"mon 14:30\"]\n"
    "       miniproxy policy lint FILE\n"
    "       miniproxy policy diff OLD NEW\n"
    "\n"
    "  check    say what is wrong with FILE, or what it takes in flash\n"
    "  compile  write the tables as C that defines \"const struct miniproxy_policy NAME\" (default policy);\n"
    "           --hits: with counters in RAM where MINIPROXY_WITH_HITS is 1\n"
    "  explain  which rule decides a request, and why; USER - is nobody\n"
    "  lint     rules that never match, and others that may not mean what they say\n"
    "  diff     which decisions change, with a request for each\n"
    "\n"
    "Exit status: 0 fine, or allowed; 1 something found, denied, or different; 2 wrong usage, or an error in a file\n";

static const char language[] =
    "\n"
    "A policy is a text file. The first rule that matches a request decides; if none does, it is denied.\n"
    "One statement a line; # begins a comment; a line that ends with a comma or \\ goes on in the next.\n"
    "\n"
    "  include \"FILE\"              another file, beside this one\n"
    "\n"
    "Sets: a name (lower-case letter, then letters, digits, - or _), and values or other sets of the same kind\n"
    "  net     office  = 192.168.10.0/24, fd00:10::/64, 10.0.0.7\n"
    "                               built in: any, private, loopback, special (all special-purpose addresses)\n"
    "  hosts   work    = www.example, .office.example, \"printer\", file \"ads.hosts\"\n"
    "                               .NAME is that name and all below; names without a dot stand in quotes\n"
    "                               file: a hosts file, AdBlock rules ||name^ or one name a line. Behind it may\n"
    "                               stand: with subdomains; exact, or hashed [checked against \"FILE\"]\n"
    "  ports   web     = 80, 443, 8000-8099\n"
    "  methods reading = GET, HEAD  or POST, PUT, DELETE, OPTIONS, TRACE, CONNECT, other\n"
    "  paths   setup   = \"/admin\", \"/settings\"       beginnings of path and query, of http:// only\n"
    "  types   video   = video/*, text/html           Content-Type of the response, of http:// only\n"
    "  agents  old     = \"MSIE \", \"curl/\"            parts of User-Agent, in any case\n"
    "  times   hours   = mon-fri 08:00-18:00, daily 22:00-06:00      local time; over midnight into the next day\n"
    "\n"
    "Users: the right-hand side is what \"miniproxy hash NAME\" prints behind the name\n"
    "  user    anna    = pbkdf2:ROUNDS:SALT:DIGEST, or sha256:SALT:DIGEST, or clear \"PASSWORD\"\n"
    "  group   staff   = anna, ben\n"
    "\n"
    "Rules: allow or deny, then clauses in any order, all of which must match; values in place of sets if you like\n"
    "  from NETS     the client        hosts HOSTS      the name asked for     agents AGENTS    User-Agent\n"
    "  users USERS   who logged in     ports PORTS      its port               types TYPES      of the response\n"
    "  to NETS       the address that  methods METHODS  of the request         times TIMES      now\n"
    "                it resolves to    paths PATHS      of the request         literals         target is an address\n"
    "  from NETS or users USERS: one of the two is enough. users any: everybody who logged in.\n"
    "\n"
    "  allow opens special-purpose addresses (loopback, private, ...) only if `to` names a network that lies inside\n"
    "  them: `to any` and `to 0.0.0.0/0` do not. CONNECT without `ports` goes to port 443 only; `ports any` opens\n"
    "  all. While the time is unknown, deny with times matches, allow does not.\n";

/* The words of a command, and its options. */
struct arguments {
    const char *words[5];
    unsigned count;
    const char *name, *out, *address, *agent, *type, *time;
    bool hits;
};

static int wrong_usage(const char *problem, const char *word)
{
    say("policy: expected %s%s%s", problem, word != NULL ? ", found " : "", word != NULL ? word : "");
    fputs(usage, stderr);
    return STATUS_WRONG;
}

struct option_word {
    const char *word;
    const char **value; /* NULL: *flag is set */
    bool *flag;
};

/* -1: go on. */
static int take_arguments(struct arguments *a, unsigned want, const struct option_word *options, int argc, char **argv)
{
    bool only_words = false;
    for (int i = 0; i < argc; i++) {
        const struct option_word *o = options;
        if (argv[i][0] != '-' || argv[i][1] == '\0' || only_words) {
            if (a->count == want) return wrong_usage("no more words", argv[i]);
            a->words[a->count++] = argv[i];
            continue;
        }
        only_words = strcmp(argv[i], "--") == 0;
        if (only_words) continue;
        while (o->word != NULL && strcmp(o->word, argv[i]) != 0) o++;
        if (o->word == NULL) return wrong_usage("an option of this command", argv[i]);
        if (o->value == NULL) {
            *o->flag = true;
            continue;
        }
        if (i + 1 == argc) return wrong_usage("a value", argv[i]);
        *o->value = argv[++i];
    }
    return a->count == want ? -1 : wrong_usage("more words", NULL);
}

static const struct option_word no_options[] = {{NULL, NULL, NULL}};

/* ---- check */

static void print_notes(const struct compiled *c)
{
    for (const struct host_list_note *n = c->notes; n != NULL; n = n->next) {
        printf("%s: %zu names", n->file, n->names);
        if (n->skipped > 0) printf("; %zu lines say nothing about whole hosts and are left out", n->skipped);
        if (n->exceptions > 0) printf(", %zu of them exceptions (@@)", n->exceptions);
        putchar('\n');
    }
}

static int check(int argc, char **argv)
{
    struct arguments a = {0};
    int status = take_arguments(&a, 1, no_options, argc, argv);
    struct compiled *c;
    size_t names = 0, sum;
    if (status >= 0) return status;
    c = policy_read(a.words[0], stderr);
    if (c == NULL) return STATUS_WRONG;
    for (size_t i = 0; i < c->host_count; i++) names += c->hosts[i].count;
    print_notes(c);
    printf("%s: %u rules, %u in the tables; %u users; %zu host names\n", a.words[0], c->written_rules,
           c->policy.rule_count, c->policy.user_count, names);
    sum = policy_print_size(c, stdout);
    printf("  %-10s %7s %9zu bytes of flash on a 32-bit target\n", "all", "", sum);
    policy_free(c);
    return fflush(stdout) == 0 ? STATUS_FINE : STATUS_WRONG;
}

/* ---- compile */

static bool is_c_name(const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";
    size_t len = strlen(name);
    return len > 0 && len <= 64 && strspn(name, letters) == len && (name[0] < '0' || name[0] > '9');
}

/* The file appears when it is complete. */
static int write_file(const struct compiled *c, const struct arguments *a)
{
    size_t room = strlen(a->out) + 5;
    char *part = malloc(room);
    FILE *out;
    bool ok = false;
    if (part == NULL) return STATUS_WRONG;
    snprintf(part, room, "%s.tmp", a->out);
    out = fopen(part, "w");
    if (out != NULL) {
        ok = policy_write_c(c, a->name, a->hits, out);
        ok = fclose(out) == 0 && ok && rename(part, a->out) == 0;
    }
    if (!ok) {
        say("policy compile: expected to be able to write %s: %s", a->out, strerror(errno));
        if (out != NULL) unlink(part);
    }
    free(part);
    return ok ? STATUS_FINE : STATUS_WRONG;
}

static int compile(int argc, char **argv)
{
    struct arguments a = {.name = "policy", .out = "-"};
    const struct option_word options[] = {
        {"--name", &a.name, NULL}, {"-o", &a.out, NULL}, {"--hits", NULL, &a.hits}, {NULL, NULL, NULL}};
    int status = take_arguments(&a, 1, options, argc, argv);
    struct compiled *c;
    if (status >= 0) return status;
    if (!is_c_name(a.name)) return wrong_usage("a name that C can use", a.name);
    c = policy_read(a.words[0], stderr);
    if (c == NULL) return STATUS_WRONG;
    if (strcmp(a.out, "-") != 0) {
        status = write_file(c, &a);
    } else {
        status = policy_write_c(c, a.name, a.hits, stdout) ? STATUS_FINE : STATUS_WRONG;
        if (status != STATUS_FINE) say("policy compile: expected to be able to write: %s", strerror(errno));
    }
    policy_free(c);
    return status;
}

/* ---- explain, lint, diff */

static int explain(int argc, char **argv)
{
    struct arguments a = {0};
    const struct option_word options[] = {{"--address", &a.address, NULL},
                                          {"--agent", &a.agent, NULL},
                                          {"--type", &a.type, NULL},
                                          {"--time", &a.time, NULL},
                                          {NULL, NULL, NULL}};
    int status = take_arguments(&a, 5, options, argc, argv);
    struct request_text request;
    struct compiled *c;
    bool allowed = false;
    if (status >= 0) return status;
    c = policy_read(a.words[0], stderr);
    if (c == NULL) return STATUS_WRONG;
    request = (struct request_text){a.words[1], a.words[2], a.words[3], a.words[4], a.address, a.agent, a.type, a.time};
    if (!policy_explain(c, &request, stdout, &allowed)) status = STATUS_WRONG;
    else status = allowed ? STATUS_FINE : STATUS_FOUND;
    policy_free(c);
    return status;
}

static int lint(int argc, char **argv)
{
    struct arguments a = {0};
    int status = take_arguments(&a, 1, no_options, argc, argv);
    struct compiled *c;
    if (status >= 0) return status;
    c = policy_read(a.words[0], stderr);
    if (c == NULL) return STATUS_WRONG;
    status = policy_lint(c, stdout) == 0 ? STATUS_FINE : STATUS_FOUND;
    policy_free(c);
    return status;
}

static int diff(int argc, char **argv)
{
    struct arguments a = {0};
    int status = take_arguments(&a, 2, no_options, argc, argv);
    struct compiled *before, *after;
    if (status >= 0) return status;
    before = policy_read(a.words[0], stderr);
    after = policy_read(a.words[1], stderr);
    if (before == NULL || after == NULL) status = STATUS_WRONG;
    else status = policy_diff(before, after, stdout) == 0 ? STATUS_FINE : STATUS_FOUND;
    if (before != NULL) policy_free(before);
    if (after != NULL) policy_free(after);
    return status;
}

int policy_command(int argc, char **argv)
{
    static const struct {
        const char *word;
        int (*run)(int argc, char **argv);
    } commands[] = {{"check", check}, {"compile", compile}, {"explain", explain}, {"lint", lint}, {"diff", diff}};
    for (size_t i = 0; argc > 0 && i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(argv[0], commands[i].word) == 0) return commands[i].run(argc - 1, argv + 1);
    if (argc > 0 && (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "help") == 0)) {
        fputs(usage, stdout);
        fputs(language, stdout);
        return STATUS_FINE;
    }
    return wrong_usage("check, compile, explain, lint or diff", argc > 0 ? argv[0] : NULL);
}
