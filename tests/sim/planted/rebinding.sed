# SPDX-License-Identifier: MIT
# Addresses that the policy denies are connected all the same.
/^static void sort_addresses/,/^}/s/if (verdict == MINIPROXY_ALLOWED) pl->at/if (verdict != MINIPROXY_NEEDS_USER) pl->at/
