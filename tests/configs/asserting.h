/* SPDX-License-Identifier: MIT */
/* A product that stops at a bug. */
#define MINIPROXY_ASSERT(condition) ((condition) ? (void)0 : __builtin_trap())
