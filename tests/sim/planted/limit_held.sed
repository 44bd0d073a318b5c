# SPDX-License-Identifier: MIT
# What a transaction held is not given back.
# variant limits
/^static void drop_hold(/,/^}/s/if (--b->holders != 0) return;/if (p->counters.requests % 3 == 0 || --b->holders != 0) return;/
