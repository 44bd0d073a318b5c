# SPDX-License-Identifier: MIT
# An origin connection is kept although octets followed the response.
s/if (has_received(b) || (s->flags \& (KEEPS_SERVER | UP_DONE)) != /if ((s->flags \& (KEEPS_SERVER | UP_DONE)) != /
