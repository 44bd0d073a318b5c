/* SPDX-License-Identifier: MIT */
/* Nobody logs in. */
#define MINIPROXY_WITH_AUTH 0
