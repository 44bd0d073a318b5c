# SPDX-License-Identifier: MIT
# A kept connection is used although its hop is down.
# variant routes
/^static bool can_reuse_hop/,/^}/s/ || s->policy->health\[at\].down) return false;/) return false;/
