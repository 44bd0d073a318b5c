/* SPDX-License-Identifier: MIT */
#define MINIPROXY_WITH_ROUTES 1
