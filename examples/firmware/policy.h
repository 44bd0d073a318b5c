/* SPDX-License-Identifier: MIT
 *
 * Who may reach what: this product's answer. It is written in examples/policy/site.policy; firmware.mk makes tables of
 * it with `miniproxy policy compile`, in build/firmware/site_policy.c.
 */
#ifndef POLICY_H
#define POLICY_H

#include "miniproxy.h"

extern const struct miniproxy_policy policy;

/* What the policy's logins need of a configuration. After net_start, which feeds random.h. */
void policy_logins(struct miniproxy_config *config);

#endif
