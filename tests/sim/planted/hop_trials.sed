# SPDX-License-Identifier: MIT
# Everybody tries a hop that is down, not one request.
# variant routes
/^static int pick_hop/,/^}/s/if (h->down) postpone_trial(p, hop, h);//
