/* SPDX-License-Identifier: MIT */
/* What all variants of the simulation share: a false condition in the core is a violation, with the seed that shows it. */
#ifndef SIM_VARIANT_COMMON_H
#define SIM_VARIANT_COMMON_H

_Noreturn void sim_assert_failed(const char *condition, int line);
#define MINIPROXY_ASSERT(condition) ((condition) ? (void)0 : sim_assert_failed(#condition, __LINE__))

#endif
