# SPDX-License-Identifier: MIT
# The connection is closed right behind a refusal.
/^OUTLINED static enum next on_linger/,/^}/s/if ((n < 0 \&\& n != MINIPROXY_AGAIN) || /if ((s->flags \& FIN_SENT) != 0 || /
