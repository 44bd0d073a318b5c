# SPDX-License-Identifier: MIT
# A request whose first hop has failed is not sent by another one.
# variant routes
/^static int pick_hop/,/^}/s/s->hops_left &= (uint16_t)~(1u << i);/s->hops_left = 0;/
