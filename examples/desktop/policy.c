/* SPDX-License-Identifier: MIT
 *
 * The options, or the file of --policy, as the core's tables.
 */
#define _GNU_SOURCE
#include "desktop.h"
#include "policy.h"

#include <stdlib.h>
#include <string.h>

enum { ALL_BUT_CONNECT = (MINIPROXY_OTHER << 1) - 1 - MINIPROXY_CONNECT };

static const struct miniproxy_net4 loopback4 = {{127, 0, 0, 0}, 8};
static const struct miniproxy_net6 loopback6 = {{[15] = 1}, 128};
static const struct miniproxy_nets loopback = {&loopback4, &loopback6, 1, 1};

/* Without users and without --clients only programs on this machine are served. */
static const struct miniproxy_nets *clients_of(const struct options *o)
{
    if (o->clients.text != NULL) return &o->clients.nets;
    return options_have_users(o) ? NULL : &loopback;
}

static void add_rule(struct tables *t, const struct options *o, struct miniproxy_rule rule)
{
    rule.verdict = MINIPROXY_ALLOW;
    rule.users = options_have_users(o) ? MINIPROXY_AUTHENTICATED : 0;
    rule.clients = clients_of(o);
    if (o->private_nets.text != NULL) {
        rule.special_purpose = 1;
        rule.to = &o->private_nets.nets;
        t->rules[t->policy.rule_count++] = rule;
        rule.special_purpose = 0;
        rule.to = NULL;
    }
    rule.special_purpose = o->allow_private;
    t->rules[t->policy.rule_count++] = rule;
}

#if MINIPROXY_WITH_PAC

/* Without a login, for a browser has none before it knows the proxy. */
static void add_pac_rule(struct tables *t, const struct options *o)
{
    static const char *const list[] = {"/proxy.pac", "/wpad.dat"};
    static const struct miniproxy_texts paths = {list, 2};
    static const struct miniproxy_also also = {.paths = &paths};
    if (!o->serves_pac) return;
    t->rules[t->policy.rule_count++] = (struct miniproxy_rule){
        .verdict = MINIPROXY_ALLOW, .methods = MINIPROXY_PAGES, .clients = clients_of(o), .also = &also};
}

#else

static void add_pac_rule(struct tables *t, const struct options *o)
{
    (void)t, (void)o;
}

#endif

/* Who may see pages of the proxy's own. The last rules, so that the others keep their numbers. */
static void add_page_rules(struct tables *t, const struct options *o)
{
    if (!MINIPROXY_WITH_PAGES) return;
    if (!o->no_pages)
        t->rules[t->policy.rule_count++] =
            (struct miniproxy_rule){.verdict = MINIPROXY_ALLOW,
                                    .methods = MINIPROXY_PAGES,
                                    .clients = o->pages.text != NULL ? &o->pages.nets : &loopback};
    add_pac_rule(t, o);
}

bool policy_has_password(const struct miniproxy_user *user)
{
    return user->digest != NULL || user->password != NULL;
}

bool policy_has_passwords(const struct miniproxy_policy *policy, unsigned groups)
{
    for (unsigned i = 0; i < policy->user_count; i++) {
        const struct miniproxy_user *u = &policy->users[i];
        if ((groups & (u->groups | MINIPROXY_AUTHENTICATED)) != 0 && policy_has_password(u)) return true;
    }
    return false;
}

/* Users whom nobody can be: their rules match nothing. */
static void warn_of_certificates(const struct miniproxy_policy *policy, const struct options *o)
{
    if (o->tls_client_ca != NULL) return;
    for (unsigned i = 0; i < policy->user_count; i++) {
        if (policy_has_password(&policy->users[i])) continue;
        say("warning: user %s comes by a certificate, which no client is asked for without --tls-client-ca",
            policy->users[i].name);
        return;
    }
}

/* What is wrong with it is told as all else: stderr itself may have a reader that has stopped. */
static struct compiled *read_policy(const char *file)
{
    char *text = NULL;
    size_t len = 0;
    FILE *errors = open_memstream(&text, &len);
    struct compiled *compiled = errors != NULL ? policy_read(file, errors) : NULL;
    if (errors != NULL && fclose(errors) == 0) say_lines(text, len);
    free(text);
    return compiled;
}

static bool fill_from_text(struct tables *t, const struct options *o)
{
    t->compiled = read_policy(o->policy_file);
    if (t->compiled == NULL) return false;
    t->policy = t->compiled->policy;
    warn_of_certificates(&t->policy, o);
    return !policy_has_passwords(&t->policy, MINIPROXY_AUTHENTICATED) || options_allow_logins(o);
}

static bool fill(struct tables *t, const struct options *o)
{
    if (o->policy_file != NULL) return fill_from_text(t, o);
    t->policy.rules = t->rules;
    for (unsigned i = 0; i < o->port_count; i++) {
        const struct port_range *r = &o->ports[i];
        add_rule(t, o, (struct miniproxy_rule){.methods = MINIPROXY_CONNECT, .port = {r->first, r->last}});
    }
    add_rule(t, o, (struct miniproxy_rule){.methods = ALL_BUT_CONNECT});
    add_page_rules(t, o);
    if (!users_copy(&t->users, &o->users)) return false;
    if (o->users_file != NULL && !users_load(&t->users, o->users_file)) return false;
    t->policy.users = t->users.list;
    t->policy.user_count = t->users.count;
    return true;
}

#if MINIPROXY_WITH_ROUTES

/* The parents of the command line are the last route. */
static bool add_parents(struct tables *t, const struct options *o)
{
    struct miniproxy_policy *p = &t->policy;
    if (o->parent_count == 0) return true;
    t->routes = calloc(p->route_count + 1u, sizeof *t->routes);
    t->hops = calloc(p->hop_count + o->parent_count, sizeof *t->hops);
    if (t->routes == NULL || t->hops == NULL) {
        say("no memory for the policy");
        return false;
    }
    if (p->route_count > 0) memcpy(t->routes, p->routes, p->route_count * sizeof *t->routes);
    if (p->hop_count > 0) memcpy(t->hops, p->hops, p->hop_count * sizeof *t->hops);
    t->routes[p->route_count++] = (struct miniproxy_route){.first = p->hop_count, .count = (uint8_t)o->parent_count};
    memcpy(t->hops + p->hop_count, o->parents, o->parent_count * sizeof *t->hops);
    p->hop_count = (uint16_t)(p->hop_count + o->parent_count);
    p->routes = t->routes;
    p->hops = t->hops;
    return true;
}

static void free_routes(struct tables *t)
{
    free(t->routes);
    free(t->hops);
}

#else

static bool add_parents(struct tables *t, const struct options *o)
{
    (void)t, (void)o;
    return true;
}

static void free_routes(struct tables *t)
{
    (void)t;
}

#endif

struct tables *tables_build(const struct options *o)
{
    struct tables *t = calloc(1, sizeof *t);
    if (t == NULL) {
        say("no memory for the policy");
        return NULL;
    }
    atomic_init(&t->holders, 1);
    if (!fill(t, o) || !add_parents(t, o)) {
        tables_release(t);
        return NULL;
    }
    return t;
}

void tables_hold(struct tables *t)
{
    atomic_fetch_add(&t->holders, 1);
}

void tables_release(struct tables *t)
{
    if (atomic_fetch_sub(&t->holders, 1) > 1) return;
    if (t->compiled != NULL) policy_free(t->compiled);
    users_free(&t->users);
    free_routes(t);
    free(t);
}

static void describe_port(const struct miniproxy_rule *r, FILE *out)
{
    if (r->port[0] == 1 && r->port[1] == UINT16_MAX) fputs("any port", out);
    else if (r->port[0] == r->port[1]) fprintf(out, "port %u", r->port[0]);
    else fprintf(out, "ports %u-%u", r->port[0], r->port[1]);
}

/* The beginning of one that is too long for a line. */
static void print_origin(const struct rule_origin *origin, FILE *out)
{
    enum { SHOWN_MAX = 160 };
    size_t len = strlen(origin->text), shown = len;
    if (len > SHOWN_MAX)
        for (shown = SHOWN_MAX; shown > 0 && ((unsigned char)origin->text[shown] & 0xc0) == 0x80; shown--) {
        }
    fprintf(out, "%s:%u: %.*s%s\n", origin->place.file, origin->place.line, (int)shown, origin->text,
            shown < len ? " …" : "");
}

enum { SHOWN_MAX = 50 };

#if MINIPROXY_WITH_ROUTES
#define ROUTES_OF(policy) ((policy).route_count)
#else
#define ROUTES_OF(policy) 0u
#endif
#if MINIPROXY_WITH_LIMITS
#define LIMITS_OF(policy) ((policy).limit_count)
#else
#define LIMITS_OF(policy) 0u
#endif

/* Routes, limits. */
static void describe_some(const char *what, const struct rule_origin *origins, unsigned count, FILE *out)
{
    for (unsigned i = 0; i < count && i < SHOWN_MAX; i++) {
        fprintf(out, "  %s %u: ", what, i);
        print_origin(&origins[i], out);
    }
    if (count > SHOWN_MAX) fprintf(out, "  and %u more %ss\n", count - SHOWN_MAX, what);
}

#if MINIPROXY_WITH_MAINTENANCE
#define MAINTENANCE_OF(policy) ((policy).maintenance)
#else
#define MAINTENANCE_OF(policy) ((const char *)NULL)
#endif

static void describe_text(const struct compiled *c, FILE *out)
{
    const unsigned count = c->policy.rule_count;
    for (unsigned i = 0; i < count && i < SHOWN_MAX; i++) {
        fprintf(out, "  rule %u: ", i);
        print_origin(&c->origins[i], out);
    }
    if (count > SHOWN_MAX) fprintf(out, "  and %u more rules\n", count - SHOWN_MAX);
    fputs("  everything else is refused\n", out);
    describe_some("route", c->route_origins, ROUTES_OF(c->policy), out);
    describe_some("limit", c->limit_origins, LIMITS_OF(c->policy), out);
    if (MAINTENANCE_OF(c->policy) != NULL)
        fprintf(out, "  maintenance: all but pages is answered by 503, \"%s\"\n", MAINTENANCE_OF(c->policy));
}

#if MINIPROXY_WITH_ROUTES
static void describe_parents(const struct options *o, FILE *out)
{
    for (unsigned i = 0; i < o->parent_count; i++) {
        char text[HOP_TEXT_MAX];
        hop_text(&o->parents[i], text);
        fprintf(out,
                i > 0                    ? ", or %s"
                : o->policy_file != NULL ? "  all that no route leads goes via %s"
                                         : "  all goes via %s",
                text);
    }
    if (o->parent_count > 0) fputc('\n', out);
}
#else
static void describe_parents(const struct options *o, FILE *out)
{
    (void)o, (void)out;
}
#endif

void tables_print_hits(const struct tables *t, const uint64_t *hits, FILE *out)
{
    const unsigned count = t->policy.rule_count;
    for (unsigned i = 0; i < count; i++) {
        fprintf(out, "miniproxy: hits rule=%u count=%llu ", i, (unsigned long long)hits[i]);
        print_origin(&t->compiled->origins[i], out);
    }
    fprintf(out, "miniproxy: hits rule=none count=%llu\n", (unsigned long long)hits[count]);
}

static void describe_target(const struct miniproxy_rule *r, const struct options *o, FILE *out)
{
    if (r->methods == MINIPROXY_CONNECT) {
        fputs("CONNECT to ", out);
        describe_port(r, out);
    } else {
        fputs("http:// to any port", out);
    }
    if (r->to != NULL) fprintf(out, " of %s", o->private_nets.text);
    else fputs(r->special_purpose ? " of all addresses" : " of public addresses", out);
}

static void describe_options(const struct tables *t, const struct options *o, FILE *out)
{
    for (unsigned i = 0; i < t->policy.rule_count; i++) {
        const struct miniproxy_rule *r = &t->rules[i];
        const char *nets = r->clients == &o->clients.nets ? o->clients.text
                           : r->clients == &o->pages.nets ? o->pages.text
                                                          : NULL;
        fprintf(out, "  rule %u: ", i);
        if (r->methods == MINIPROXY_PAGES) fputs(r->also != NULL ? "/proxy.pac and /wpad.dat" : "pages of its own", out);
        else describe_target(r, o, out);
        if (nets != NULL) fprintf(out, ", for clients in %s", nets);
        else fputs(r->clients != NULL ? ", for clients on this machine" : ", for clients anywhere", out);
        fputs(r->users != 0 ? " who log in\n" : "\n", out);
    }
    fputs("  everything else is refused", out);
    if (!o->allow_private && o->private_nets.text == NULL)
        fputs("; --allow-private opens private and other special-purpose addresses", out);
    fputc('\n', out);
}

/* The rules with the numbers that the log names. */
void tables_describe(const struct tables *t, const struct options *o, FILE *out)
{
    if (t->compiled != NULL) describe_text(t->compiled, out);
    else describe_options(t, o, out);
    describe_parents(o, out);
}
