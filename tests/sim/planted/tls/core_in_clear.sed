# SPDX-License-Identifier: MIT
# A request for https is sent in clear.
/^static int secure(/,/^}/s/if ((s->flags & IS_SECURE) == 0) return/return/
