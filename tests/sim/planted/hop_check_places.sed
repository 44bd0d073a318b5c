# SPDX-License-Identifier: MIT
# A check that fails keeps its place.
# variant routes
/^static void end_check/,/^}/s/    p->checks--;/    if (cause == MINIPROXY_CAUSE_NONE) p->checks--;/
