/* SPDX-License-Identifier: MIT
 *
 * evaluate POLICY <REQUESTS: reads a policy in text, then decides one request a line:
 *
 *   CLIENT USER METHOD HOST ADDRESS PORT PATH AGENT TYPE MINUTE, separated by tabs
 *
 * USER, PATH and AGENT may be "-" for none; HOST "-" for a target that is ADDRESS itself; METHOD "pages" asks for a page of
 * the proxy's own, which has no HOST, ADDRESS, PORT and TYPE. Prints the verdict that the core
 * comes to when it knows everything, and the place of the rule: "allowed FILE:LINE"; of a policy with routes, behind a
 * tab, that of the route which such a request takes when its address is known, or "-". On the way it asks as the core does,
 * first without the address, then without the type: what is certain then must stay so.
 */
#include "examples/desktop/policy.h"

#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 10 };

static void fail(const char *what, const char *line)
{
    fprintf(stderr, "evaluate: %s: %s\n", what, line);
    exit(2);
}

static uint16_t method_of(const char *name)
{
    static const char *const names[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT"};
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i], name) == 0) return (uint16_t)(1u << i);
    return strcmp(name, "pages") == 0 ? MINIPROXY_PAGES : MINIPROXY_OTHER;
}

static const struct miniproxy_user *user_of(const struct compiled *c, const char *name)
{
    if (strcmp(name, "-") == 0) return NULL;
    for (unsigned i = 0; i < c->policy.user_count; i++)
        if (strcmp(c->policy.users[i].name, name) == 0) return c->policy.users + i;
    fail("no such user", name);
    return NULL;
}

static const char *some(const char *text)
{
    return strcmp(text, "-") == 0 ? NULL : text;
}

/* What was said of less must hold for all. */
static void check_early(enum miniproxy_verdict early, enum miniproxy_verdict late, const char *line)
{
    bool denied = late == MINIPROXY_DENIED || late == MINIPROXY_NEEDS_USER;
    if (early == MINIPROXY_ALLOWED && late != MINIPROXY_ALLOWED) fail("allowed too early", line);
    if (early == MINIPROXY_DENIED && !denied) fail("denied too early", line);
    if (early == MINIPROXY_NEEDS_USER && !denied) fail("asks for a user too early", line);
}

/* Without its address the same route is found, or none for certain. */
static void print_route(const struct compiled *c, const struct miniproxy_question *known, const char *line)
{
    struct miniproxy_question q = *known;
    int route = miniproxy_find_route(&c->policy, &q), early;
    q.address = NULL;
    early = miniproxy_find_route(&c->policy, &q);
    if (early != -2 && early != route) fail("another route without address", line);
    if (route < 0) printf("\t-");
    else printf("\t%s:%u", c->route_origins[route].place.file, c->route_origins[route].place.line);
}

static void print_verdict(const struct compiled *c, enum miniproxy_verdict verdict, int rule)
{
    printf("%s", verdict == MINIPROXY_ALLOWED ? "allowed" : verdict == MINIPROXY_NEEDS_USER ? "login" : "denied");
    if (rule >= 0) printf(" %s:%u", c->origins[rule].place.file, c->origins[rule].place.line);
}

/* All is known of it, and no route leads it. */
static void evaluate_page(const struct compiled *c, struct miniproxy_question *q, const char *whole)
{
    enum miniproxy_verdict verdict;
    int rule = -1;
    q->host = "";
    q->port = 0;
    q->literal = false;
    verdict = miniproxy_decide(&c->policy, q, &rule);
    if (verdict == MINIPROXY_NEEDS_ADDRESS || verdict == MINIPROXY_NEEDS_TYPE) fail("a page needs nothing", whole);
    print_verdict(c, verdict, rule);
    puts(c->policy.route_count > 0 ? "\t-" : "");
}

static void evaluate(const struct compiled *c, char *line, const char *whole)
{
    char *column[COLUMNS];
    struct miniproxy_addr client = {.family = 0}, address = {.family = 0};
    struct miniproxy_question q = {.client = &client};
    enum miniproxy_verdict unresolved, unanswered, verdict;
    int rule = -1;
    for (unsigned i = 0; i < COLUMNS; i++) {
        column[i] = line;
        line += strcspn(line, "\t");
        if ((*line == '\0') != (i + 1 == COLUMNS)) fail("not ten columns", whole);
        *line++ = '\0';
    }
    if (!miniproxy_addr_parse(&client, column[0], strlen(column[0]))) fail("no address", column[0]);
    if (!miniproxy_addr_parse(&address, column[4], strlen(column[4]))) fail("no address", column[4]);
    q.user = user_of(c, column[1]);
    q.method = method_of(column[2]);
    q.literal = some(column[3]) == NULL;
    q.host = q.literal ? column[4] : column[3];
    q.port = (uint16_t)strtoul(column[5], NULL, 10);
    q.path = some(column[6]);
    q.path_len = q.path != NULL ? strlen(q.path) : 0;
    q.agent = some(column[7]);
    q.agent_len = q.agent != NULL ? strlen(q.agent) : 0;
    q.minute_of_week = atoi(column[9]);
    if (q.method == MINIPROXY_PAGES) {
        evaluate_page(c, &q, whole);
        return;
    }
    unresolved = miniproxy_decide(&c->policy, &q, NULL);
    q.address = &address;
    unanswered = miniproxy_decide(&c->policy, &q, NULL);
    q.type = column[8];
    q.type_len = strlen(q.type);
    verdict = miniproxy_decide(&c->policy, &q, &rule);
    check_early(unanswered, verdict, whole);
    if (!q.literal) check_early(unresolved, unanswered == MINIPROXY_NEEDS_TYPE ? verdict : unanswered, whole);
    print_verdict(c, verdict, rule);
    q.type = NULL;
    if (c->policy.route_count > 0) print_route(c, &q, whole);
    putchar('\n');
}

int main(int argc, char **argv)
{
    static char line[65536], whole[65536];
    struct compiled *c = argc == 2 ? policy_read(argv[1], stderr) : NULL;
    if (c == NULL) return 2;
    if (miniproxy_check_policy(&c->policy) >= 0) fail("the core refuses the tables", argv[1]);
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        strcpy(whole, line);
        evaluate(c, line, whole);
    }
    policy_free(c);
    return 0;
}
