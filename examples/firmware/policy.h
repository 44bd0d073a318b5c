/* SPDX-License-Identifier: MIT
 *
 * Who may reach what: this product's answer.
 */
#ifndef POLICY_H
#define POLICY_H

#include "miniproxy.h"

extern const struct miniproxy_policy policy;

#endif
