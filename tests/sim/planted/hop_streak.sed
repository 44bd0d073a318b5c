# SPDX-License-Identifier: MIT
# Failures count as ones in a row although something went well between them.
# variant routes
/^static void note_hop_success/,/^}/s/if (!h->down) h->streak = 0;/if (!h->down) return;/
