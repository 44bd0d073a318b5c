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
#include <sys/stat.h>
#include <unistd.h>

enum { STATUS_FINE = 0, STATUS_FOUND = 1, STATUS_WRONG = 2 };

static const char usage[] =
    "Usage: miniproxy policy check FILE\n"
    "       miniproxy policy compile FILE [--name NAME] [--hits] [-o OUT] [--blob SET=OUT]...\n"
    "       miniproxy policy explain FILE CLIENT USER METHOD URL [--address ADDRESS] [--agent TEXT] [--type TYPE]\n"
    "                        [--time \"mon 14:30\"]   URL /PATH: a page of the proxy itself\n"
    "       miniproxy policy lint FILE\n"
    "       miniproxy policy diff OLD NEW\n"
    "\n"
    "  check    say what is wrong with FILE, or what it takes in flash\n"
    "  compile  write the tables as C that defines \"const struct miniproxy_policy NAME\" (default policy);\n"
    "           --hits: with counters in RAM where MINIPROXY_WITH_HITS is 1\n"
    "           --blob: the names of the hosts SET go to a binary file of their own, for a flash partition that is\n"
    "           updated without the program. The C file refers to NAME_SET_blob, an array that the linker or the\n"
    "           program puts there, and wants NAME_SET_ROOM, in capitals, defined as the partition's octets. A rule\n"
    "           that names SET together with other hosts keeps a copy of the names\n"
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
    "  methods reading = GET, HEAD  or POST, PUT, DELETE, OPTIONS, TRACE, CONNECT, other; pages: see below\n"
    "  paths   setup   = \"/admin\", \"/settings\"       beginnings of path and query, of http:// only,\n"
    "                               as sent: /%61dmin, //admin and /x/../admin do not begin with /admin\n"
    "  types   video   = video/*, text/html           Content-Type of the response, of http:// only\n"
    "  agents  old     = \"MSIE \", \"curl/\"            parts of User-Agent, in any case\n"
    "  times   hours   = mon-fri 08:00-18:00, daily 22:00-06:00      local time; over midnight into the next day\n"
    "\n"
    "Users: the right-hand side is what \"miniproxy hash NAME\" prints behind the name\n"
    "  user    anna    = pbkdf2:ROUNDS:SALT:DIGEST, or sha256:SALT:DIGEST, or clear \"PASSWORD\"\n"
    "  user    kiosk   = certificate   no password: a client of TLS whose certificate has this common name, or whose\n"
    "                               shared key has this identity; names may stand in quotes\n"
    "  group   staff   = anna, ben\n"
    "\n"
    "Rules: allow or deny, then clauses in any order, all of which must match; values in place of sets if you like\n"
    "  from NETS     the client        hosts HOSTS      the name asked for     agents AGENTS    User-Agent\n"
    "  users USERS   who logged in     ports PORTS      its port               types TYPES      of the response\n"
    "  to NETS       the address that  methods METHODS  of the request         times TIMES      now\n"
    "                it resolves to    paths PATHS      of the request         literals         target is an address\n"
    "  from NETS or users USERS: one of the two is enough. users any: everybody who logged in or has a certificate.\n"
    "  Who could be allowed by a password is asked for it (407); where only a certificate could help, nobody is (403).\n"
    "\n"
    "  allow opens special-purpose addresses (loopback, private, ...) only if `to` names a network that lies inside\n"
    "  them: `to any` and `to 0.0.0.0/0` do not. CONNECT without `ports` goes to port 443 only; `ports any` opens\n"
    "  all. While the time is unknown, deny with times matches, allow does not.\n"
    "\n"
    "Pages of the proxy itself (/, /metrics, /log, /health, /proxy.pac): allow shows them only if it names the method\n"
    "pages. They have no host, address, port or type: rules that ask for one are not about them, all other deny rules\n"
    "are (`to any`, and `ports any` in a deny, ask for nothing).\n"
    "  allow from 10.0.0.0/8 methods pages\n"
    "  allow users admin methods pages paths \"/metrics\"\n"
    "\n"
    "Maintenance: new requests are answered by 503 with this message, pages go on, and so does what runs already\n"
    "  maintenance \"Back at 14:00.\"\n";

static const char language_of_ways[] =
    "\n"
    "Ways: the first route that matches leads the request; if none does, it goes to its host directly\n"
    "  parent  office  = http://NAME:PASSWORD@proxy.example:3128      or https://..., socks5://...; what is odd in a\n"
    "                               login is percent-encoded; without a port 3128, 443, 1080; in quotes if it has =\n"
    "  origins shop    = 10.0.0.1:8080, [fd00::1]:8080                servers that are each as good as the other\n"
    "                               Behind both may stand: check every 10s (a connection opens), or check\n"
    "                               \"http://shop.example/health\" every 10s (by HEAD); rise N: so many good checks\n"
    "                               in a row make it up; fall N: so many failures in a row make it down (both 2)\n"
    "  route hosts intranet directly                                  clauses as in rules: from, users, hosts, to\n"
    "  route from lab users staff via office, backup                  the first of them that is up\n"
    "  route hosts shop.example via shop in turn                      each connection by the next\n"
    "  What is asked for by name is resolved by the parent: rules do not see addresses then, and rules that name\n"
    "  networks do not match. `resolve` at the end of a route lets rules see the address that the name has here.\n"
    "\n"
    "Limits: all that match hold, the first two of them\n"
    "  limit each client from guests down 1 Mbit/s up 500 kbit/s burst 64 kB requests 120/min burst 20 requests at "
    "once 8\n"
    "  limit each user users staff down 2 MB/s                        or all together; bit/s, B/s with k, M, G, Ki, "
    "Mi\n";

enum { REPEATED_MAX = 8 };

/* The words of a command, and its options. */
struct arguments {
    const char *words[5];
    unsigned count;
    const char *name, *out, *address, *agent, *type, *time;
    const char *blobs[REPEATED_MAX];
    unsigned blob_count;
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
    unsigned *count; /* of value[0..REPEATED_MAX), for an option that may be repeated */
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
        if (o->count != NULL && *o->count == REPEATED_MAX) return wrong_usage("fewer of this option", argv[i]);
        o->value[o->count != NULL ? (*o->count)++ : 0] = argv[++i];
    }
    return a->count == want ? -1 : wrong_usage("more words", NULL);
}

static const struct option_word no_options[] = {{NULL, NULL, NULL, NULL}};

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
    printf("%s: %u rules, %u in the tables; %u users; %zu host names", a.words[0], c->written_rules,
           c->policy.rule_count, c->policy.user_count, names);
    if (c->policy.route_count > 0) printf("; %u routes", c->policy.route_count);
    if (c->policy.limit_count > 0) printf("; %u limits", c->policy.limit_count);
    if (c->policy.maintenance != NULL) printf("; maintenance: 503 for all but pages");
    putchar('\n');
    sum = policy_print_size(c, stdout);
    printf("  %-10s %7s %9zu bytes of flash on a 32-bit target\n", "all", "", sum);
    policy_free(c);
    return stdout_has_all() ? STATUS_FINE : STATUS_WRONG;
}

/* ---- compile */

static bool is_c_name(const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";
    /* and what <stdbool.h> and C23 make one */
    static const char keywords[] =
        " alignas alignof asm auto bool break case char const constexpr continue default do double else enum extern "
        "false float for goto if inline int long nullptr register restrict return short signed sizeof static "
        "static_assert struct switch thread_local true typedef typeof typeof_unqual union unsigned void volatile while ";
    size_t len = strlen(name);
    for (const char *at = keywords; len > 0 && (at = strstr(at, name)) != NULL; at++)
        if (at[-1] == ' ' && at[len] == ' ') return false;
    return len > 0 && len <= 64 && strspn(name, letters) == len && (name[0] < '0' || name[0] > '9');
}

/* What is written to a file, and how. */
struct output {
    const struct compiled *c;
    const struct arguments *a;
    const struct blob_elsewhere *elsewhere;
    const uint8_t *blob; /* NULL: tables */
    uint32_t blob_len;
};

static bool write_output(const struct output *o, FILE *out)
{
    if (o->blob != NULL) return fwrite(o->blob, 1, o->blob_len, out) == o->blob_len;
    return policy_write_c(o->c, o->a->name, o->a->hits, o->elsewhere, o->a->blob_count, out);
}

/* A file appears when it is complete. What is none, as /dev/null, is written to. */
static int write_file(const struct output *o, const char *path)
{
    struct stat now;
    bool in_place = stat(path, &now) == 0 && !S_ISREG(now.st_mode), ok = false;
    size_t room = strlen(path) + 5;
    char *part = malloc(room);
    FILE *out;
    if (part == NULL) return STATUS_WRONG;
    snprintf(part, room, "%s%s", path, in_place ? "" : ".tmp");
    out = fopen(part, "wb");
    if (out != NULL) {
        ok = write_output(o, out);
        ok = fclose(out) == 0 && ok && (in_place || rename(part, path) == 0);
    }
    if (!ok) {
        say("policy compile: expected to be able to write %s: %s", path, strerror(errno));
        if (out != NULL && !in_place) unlink(part);
    }
    free(part);
    return ok ? STATUS_FINE : STATUS_WRONG;
}

/* The set of hosts of a name, or NULL: said. Two names of one set cannot part ways when one of them is updated. */
static const struct miniproxy_hosts *find_hosts(const struct compiled *c, const char *name, size_t len)
{
    const struct miniproxy_hosts *set = NULL;
    for (size_t i = 0; i < c->set_count; i++) {
        const struct set_name *n = c->sets + i;
        if (strcmp(n->kind, "hosts") == 0 && strlen(n->name) == len && memcmp(n->name, name, len) == 0) set = n->set;
    }
    if (set == NULL) {
        say("policy compile: expected behind --blob a set of hosts that a rule names by itself, found %.*s", (int)len,
            name);
        return NULL;
    }
    for (size_t i = 0; i < c->set_count; i++) {
        const struct set_name *n = c->sets + i;
        if (n->set != set || (strlen(n->name) == len && memcmp(n->name, name, len) == 0)) continue;
        say("policy compile: expected names in %.*s that are not exactly those of %s", (int)len, name, n->name);
        return NULL;
    }
    return set;
}

/* A short set has no blob yet. NULL: said. */
static uint8_t *make_blob(const struct compiled *c, const struct miniproxy_hosts *set, uint32_t *len)
{
    const char *problem = "memory";
    uint8_t *blob = NULL;
    for (size_t i = 0; i < c->host_count && set->blob == NULL; i++)
        if (c->hosts[i].set == set)
            blob = hostset_build(BLOB_EXACT, c->hosts[i].names, c->hosts[i].count, NULL, 0, len, &problem);
    if (set->blob != NULL && (blob = malloc(set->blob_len)) != NULL) memcpy(blob, set->blob, *len = set->blob_len);
    if (blob == NULL) say("policy compile: expected names that a blob can hold: %s", problem);
    return blob;
}

/* One --blob. */
static int write_blob(const struct compiled *c, const struct arguments *a, const char *text, struct blob_elsewhere *e)
{
    const char *mark = strchr(text, '=');
    struct output o = {c, a, NULL, NULL, 0};
    size_t len = mark != NULL ? (size_t)(mark - text) : 0;
    uint8_t *blob;
    int status;
    if (len == 0 || len >= sizeof e->word || mark[1] == '\0') return wrong_usage("SET=OUT behind --blob", text);
    e->set = find_hosts(c, text, len);
    if (e->set == NULL) return STATUS_WRONG;
    for (size_t i = 0; i < len; i++) e->word[i] = text[i];
    e->word[len] = '\0';
    for (char *p = e->word; *p != '\0'; p++)
        if (*p == '-' || *p == '.') *p = '_';
    blob = make_blob(c, e->set, &e->len);
    if (blob == NULL) return STATUS_WRONG;
    o.blob = blob;
    o.blob_len = e->len;
    status = write_file(&o, mark + 1);
    free(blob);
    return status;
}

static int write_all(const struct compiled *c, const struct arguments *a)
{
    struct blob_elsewhere elsewhere[REPEATED_MAX];
    struct output o = {c, a, elsewhere, NULL, 0};
    for (unsigned i = 0; i < a->blob_count; i++) {
        int status = write_blob(c, a, a->blobs[i], elsewhere + i);
        if (status != STATUS_FINE) return status;
    }
    if (strcmp(a->out, "-") != 0) return write_file(&o, a->out);
    if (write_output(&o, stdout)) return STATUS_FINE;
    say("policy compile: expected to be able to write: %s", strerror(errno));
    return STATUS_WRONG;
}

static int compile(int argc, char **argv)
{
    struct arguments a = {.name = "policy", .out = "-"};
    const struct option_word options[] = {{"--name", &a.name, NULL, NULL},
                                          {"-o", &a.out, NULL, NULL},
                                          {"--hits", NULL, &a.hits, NULL},
                                          {"--blob", a.blobs, NULL, &a.blob_count},
                                          {NULL, NULL, NULL, NULL}};
    int status = take_arguments(&a, 1, options, argc, argv);
    struct compiled *c;
    if (status >= 0) return status;
    if (!is_c_name(a.name)) return wrong_usage("a name that C can use", a.name);
    c = policy_read(a.words[0], stderr);
    if (c == NULL) return STATUS_WRONG;
    status = write_all(c, &a);
    policy_free(c);
    return status;
}

/* ---- explain, lint, diff */

static int explain(int argc, char **argv)
{
    struct arguments a = {0};
    const struct option_word options[] = {{"--address", &a.address, NULL, NULL},
                                          {"--agent", &a.agent, NULL, NULL},
                                          {"--type", &a.type, NULL, NULL},
                                          {"--time", &a.time, NULL, NULL},
                                          {NULL, NULL, NULL, NULL}};
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
    return stdout_has_all() ? status : STATUS_WRONG;
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
    return stdout_has_all() ? status : STATUS_WRONG;
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
    return stdout_has_all() ? status : STATUS_WRONG;
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
        fputs(language_of_ways, stdout);
        return stdout_has_all() ? STATUS_FINE : STATUS_WRONG;
    }
    return wrong_usage("check, compile, explain, lint or diff", argc > 0 ? argv[0] : NULL);
}
