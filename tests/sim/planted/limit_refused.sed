# SPDX-License-Identifier: MIT
# A refused request counts as under way.
# variant limits
/^OUTLINED static enum miniproxy_cause hold_limits(/,/^}/s/^        let_go(p, s);/        s->buckets[0] = 0;/
