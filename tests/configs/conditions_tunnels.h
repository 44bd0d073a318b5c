/* SPDX-License-Identifier: MIT */
/* The same where there are only tunnels, for logins that nobody makes. */
#define MINIPROXY_WITH_CONDITIONS 1
#define MINIPROXY_WITH_HITS 1
#define MINIPROXY_WITH_FORWARDING 0
#define MINIPROXY_WITH_AUTH 0
