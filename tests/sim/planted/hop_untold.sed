# SPDX-License-Identifier: MIT
# Nobody is told that a hop has come up.
# variant routes
/^static void turn_hop/,/^}/s/if (p->config.hop != NULL)/if (down \&\& p->config.hop != NULL)/
