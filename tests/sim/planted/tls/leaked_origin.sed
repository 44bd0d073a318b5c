# SPDX-License-Identifier: MIT
# The session of an origin that is closed hard is not given back.
/^static void port_close/,/^}/s/if (s != NULL) {/if (s != NULL \&\& !(hard \&\& s->state == STATE_OPEN \&\& (s->flags \& IS_ORIGIN) != 0)) {/
