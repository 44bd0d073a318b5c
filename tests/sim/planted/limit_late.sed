# SPDX-License-Identifier: MIT
# The time of the next turn is forgotten.
# variant limits
s/^    if (MINIPROXY_WITH_LIMITS \&\& limits_left(p) < wait_ms) wait_ms = limits_left(p);//
