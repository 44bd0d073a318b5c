# SPDX-License-Identifier: MIT
# Hops in turn are not: each request takes the first one.
# variant routes
/^static int pick_hop/,/^}/s/first->turn = u16(i + 1);/first->turn = 0;/
