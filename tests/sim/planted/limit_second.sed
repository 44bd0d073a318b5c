# SPDX-License-Identifier: MIT
# Only the first of the limits that hold is paid.
# variant limits
/^static bool pay(/,/^}/s/i < MINIPROXY_LIMITS_EACH/i < 1/
