# SPDX-License-Identifier: MIT
# A check that went well does not count.
# variant routes
/^static void end_check/,/^}/s/if (cause == MINIPROXY_CAUSE_NONE) note_hop_success/if (cause == MINIPROXY_CAUSE_COUNT) note_hop_success/
