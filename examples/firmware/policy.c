/* SPDX-License-Identifier: MIT
 *
 * The product's tables, in flash. This one is a gateway in front of a small network, 10.0.2.0/24 (in the emulator:
 * 10.0.2.2 is the PC), for two users: the operator may do everything there and browse the Internet, the display may
 * only read.
 *
 * First match decides, and what no rule names is refused. An ALLOW rule covers private addresses only if it says
 * special_purpose, and CONNECT to other ports than 443 only if it names ports. The numbers of the rules are those in
 * the log.
 */
#include "policy.h"

enum { OPERATORS = 1 << 0, DISPLAYS = 1 << 1 };

/* ---- Users
 *
 * `build/miniproxy hash operator` on a PC prints salt and digest of a password; here it is "swordfish". The display's
 * password is in clear: shorter, and readable for everybody who can read the flash. */

static const uint8_t operator_digest[MINIPROXY_SALT_LEN + MINIPROXY_DIGEST_LEN] = {
    0xe7, 0x2c, 0xfe, 0x79, 0x22, 0xa8, 0x64, 0x79, /* salt */
    0x90, 0xb2, 0xb3, 0xa9, 0x87, 0x5a, 0xb3, 0x96, 0x2f, 0x19, 0x4e, 0x53, 0x37, 0xdf, 0xf9, 0xd7,
    0x4c, 0x0c, 0x9b, 0xf4, 0x3f, 0x69, 0x51, 0xa9, 0x9e, 0xee, 0xd2, 0xa5, 0x86, 0x52, 0x88, 0xa4,
};

static const struct miniproxy_user users[] = {
    {.name = "operator", .digest = operator_digest, .groups = OPERATORS},
    {.name = "display", .password = "view", .groups = DISPLAYS},
};

/* ---- Networks and names */

static const struct miniproxy_net4 site_v4[] = {{{10, 0, 2, 0}, 24}};
static const struct miniproxy_nets site = {.v4 = site_v4, .v4_count = 1};

/* A controller in there that nobody reaches by the proxy. */
static const struct miniproxy_net4 controller_v4[] = {{{10, 0, 2, 40}, 32}};
static const struct miniproxy_nets controller = {.v4 = controller_v4, .v4_count = 1};

static const char *const blocked_names[] = {".ads.example", "tracker.example"};
static const struct miniproxy_hosts blocked = {.names = blocked_names, .count = 2};

static const char *const settings_paths[] = {"/settings"};
static const struct miniproxy_texts settings = {settings_paths, 1};
static const struct miniproxy_also on_settings = {.paths = &settings};

/* ---- Rules */

static const struct miniproxy_rule rules[] = {
    /* 0 */ {.verdict = MINIPROXY_DENY, .hosts = &blocked},
    /* 1 */ {.verdict = MINIPROXY_DENY, .to = &controller},
    /* 2 */ {.verdict = MINIPROXY_DENY, .port = {25, 25}}, /* nobody sends mail from here */
    /* 3 */ {.verdict = MINIPROXY_DENY, .users = DISPLAYS, .also = &on_settings},
    /* 4 */
    {.verdict = MINIPROXY_ALLOW,
     .users = DISPLAYS,
     .methods = MINIPROXY_GET | MINIPROXY_HEAD,
     .to = &site,
     .special_purpose = 1},
    /* 5 */
    {.verdict = MINIPROXY_ALLOW, .users = OPERATORS, .to = &site, .special_purpose = 1, .port = {1, 65535}},
    /* 6 */ {.verdict = MINIPROXY_ALLOW, .users = OPERATORS},
};

const struct miniproxy_policy policy = {
    .rules = rules,
    .users = users,
    .rule_count = sizeof rules / sizeof *rules,
    .user_count = sizeof users / sizeof *users,
};
