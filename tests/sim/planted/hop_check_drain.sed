# SPDX-License-Identifier: MIT
# A drain lets checks go on.
# variant routes
/^static void begin_drain/,/^}/s/ && is_check(s)) cut/ \&\& is_check(s) \&\& p->draining == 0) cut/
