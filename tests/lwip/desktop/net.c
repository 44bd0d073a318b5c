/* SPDX-License-Identifier: MIT
 *
 * The environment variable MINIPROXY_NET: see stack.h.
 */
#define _GNU_SOURCE
#include "stack.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "address" or "address/bits" */
static bool read_address(struct miniproxy_addr *a, unsigned *bits, const char *text)
{
    char copy[64];
    char *slash;

    if (strlen(text) >= sizeof copy) return false;
    strcpy(copy, text);
    slash = strchr(copy, '/');
    if (slash != NULL) {
        *slash = '\0';
        if (bits == NULL) return false;
        *bits = (unsigned)atoi(slash + 1);
    }
    a->family = strchr(copy, ':') != NULL ? 6 : 4;
    if (a->family == 6 && !MINIPROXY_WITH_IPV6) return false;
    return inet_pton(a->family == 6 ? AF_INET6 : AF_INET, copy, a->ip) == 1;
}

static bool read_routes(struct stack_net *net, char *text)
{
    char *rest = NULL;

    for (char *word = strtok_r(text, ",", &rest); word != NULL; word = strtok_r(NULL, ",", &rest)) {
        struct stack_route *route = &net->routes[net->route_count];

        if (net->route_count == STACK_ROUTES_MAX) return false;
        route->bits = 32;
        if (!read_address(&route->net, &route->bits, word) || route->net.family != 4 || route->bits > 32) return false;
        net->route_count++;
    }
    return true;
}

static bool read_word(struct stack_net *net, const char *name, char *value)
{
    if (strcmp(name, "tap") == 0) return snprintf(net->tap, sizeof net->tap, "%s", value) < (int)sizeof net->tap;
    if (strcmp(name, "ip4") == 0) return read_address(&net->ip4, &net->bits4, value);
    if (strcmp(name, "gw4") == 0) return read_address(&net->gw4, NULL, value);
    if (strcmp(name, "ip6") == 0) return read_address(&net->ip6, NULL, value);
    if (strcmp(name, "gw6") == 0) return read_address(&net->gw6, NULL, value);
    if (strcmp(name, "dns") == 0) return read_address(&net->dns, NULL, value);
    if (strcmp(name, "routes") == 0) return read_routes(net, value);
    if (strcmp(name, "pcbs") == 0) return (net->pcbs = (unsigned)atoi(value)) > 0;
    return false;
}

bool stack_net_read(struct stack_net *net)
{
    const char *given = getenv("MINIPROXY_NET");
    char *text, *rest = NULL;
    bool ok = true;

    if (given == NULL) {
        fprintf(stderr, "miniproxy: lwIP needs a network: set MINIPROXY_NET (tests/lwip/desktop/stack.h)\n");
        return false;
    }
    text = strdup(given);
    for (char *word = text == NULL ? NULL : strtok_r(text, " ", &rest); word != NULL && ok;
         word = strtok_r(NULL, " ", &rest)) {
        char *value = strchr(word, '=');

        ok = value != NULL;
        if (ok) *value++ = '\0';
        ok = ok && read_word(net, word, value);
        if (!ok) fprintf(stderr, "miniproxy: MINIPROXY_NET: cannot read \"%s\"\n", word);
    }
    free(text);
    return ok && net->tap[0] != '\0' && net->ip4.family == 4 && net->gw4.family == 4;
}
