/* SPDX-License-Identifier: MIT
 *
 * server PORT PARENT_PORT
 *
 * A proxy with pages of its own, on loopback; says its port on stdout, which it chooses if PORT is 0. What is below
 * parent.test goes by a parent at PARENT_PORT. SIGUSR1 begins maintenance and ends it, SIGTERM ends the program.
 */
#define _POSIX_C_SOURCE 200809L
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "port/miniproxy_posix.h"

static const char *const forbidden_names[] = {".forbidden.test"}, *const parent_names[] = {".parent.test"};
static const struct miniproxy_hosts forbidden = {.names = forbidden_names, .count = 1},
                                    behind = {.names = parent_names, .count = 1};
static const struct miniproxy_rule rules[] = {
    {.verdict = MINIPROXY_ALLOW, .methods = MINIPROXY_PAGES, .special_purpose = 1},
    {.verdict = MINIPROXY_DENY, .hosts = &forbidden},
    {.verdict = MINIPROXY_DENY, .methods = MINIPROXY_DELETE},
    {.verdict = MINIPROXY_ALLOW, .special_purpose = 1, .port = {1, 65535}},
};
static const struct miniproxy_route routes[] = {{.hosts = &behind, .first = 0, .count = 1}};
static uint32_t hits[sizeof rules / sizeof *rules + 1];
static struct miniproxy_hop hops[] = {{.host = "127.0.0.1", .fall = 1}};
static struct miniproxy_health health[1];
static const struct miniproxy_policy policy = {
    .rules = rules,
    .rule_count = sizeof rules / sizeof *rules,
    .hits = hits,
    .routes = routes,
    .route_count = 1,
    .hops = hops,
    .hop_count = 1,
    .health = health,
};

static struct miniproxy proxy;
static struct miniproxy_posix posix;
static volatile sig_atomic_t maintained, ended;

static void on_signal(int number)
{
    if (number == SIGUSR1) maintained = !maintained;
    else ended = 1;
    miniproxy_posix_interrupt(&posix);
}

/* As a product would: a family with labels, which stands together, and one without. */
static size_t own_metrics(void *app, unsigned at, char *out, size_t room)
{
    static const char *const groups[] = {
        "# TYPE tank_level gauge\n# HELP tank_level Is a tank full?\ntank_level{tank=\"left\"} 3\n",
        "tank_level{tank=\"right\"} 5\n",
        "# TYPE tank_limit gauge\n# HELP tank_limit When is it?\ntank_limit{tank=\"left\"} 8\ntank_limit{tank=\"right\"} 8\n",
        "# TYPE board_uptime_seconds gauge\n# UNIT board_uptime_seconds seconds\n# HELP board_uptime_seconds Since.\nboard_uptime_seconds 4217.5\n",
        "# TYPE board_nap_seconds gauge\n# UNIT board_nap_seconds seconds\n# HELP board_nap_seconds The last.\n"
        "board_nap_seconds 5\n",
    };
    (void)app;
    if (at >= sizeof groups / sizeof *groups) return 0;
    return (size_t)snprintf(out, room, "%s", groups[at]);
}

int main(int argc, char **argv)
{
    struct miniproxy_addr at = {.ip = {127, 0, 0, 1}, .family = 4};
    const struct miniproxy_config config = {.port = &miniproxy_posix_port,
                                            .port_data = &posix,
                                            .policy = &policy,
                                            .name = "watched",
                                            .metrics = own_metrics};
    const struct sigaction action = {.sa_handler = on_signal};
    if (argc != 3) return 1;
    at.port = (uint16_t)atoi(argv[1]);
    hops[0].port = (uint16_t)atoi(argv[2]);
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (!miniproxy_posix_init(&posix, &proxy) || !miniproxy_init(&proxy, &config)) return 1;
    printf("%d\n", miniproxy_posix_listen(&posix, &at, false));
    fflush(stdout);
    while (!ended) {
        miniproxy_maintain(&proxy, maintained ? "Back at noon." : NULL);
        miniproxy_posix_wait(&posix, miniproxy_poll(&proxy, miniproxy_posix_now_ms()));
    }
    miniproxy_stop(&proxy);
    miniproxy_posix_end(&posix);
    return 0;
}
