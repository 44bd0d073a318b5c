/* SPDX-License-Identifier: MIT */
/* Rules ask for more than a target, and are counted. */
#define MINIPROXY_WITH_CONDITIONS 1
#define MINIPROXY_WITH_HITS 1
