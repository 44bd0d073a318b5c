# SPDX-License-Identifier: MIT
# The same, but only where the hop was chosen after the policy had been replaced.
# variant routes
/^static enum next leave_by_hop/,/^}/s/if (s->policy != p->config.policy) s->origin_len = 0;//
