# SPDX-License-Identifier: MIT
# A kept connection serves https and http alike.
s/if (is_https(pl) != ((s->flags & IS_SECURE) != 0)) return false;//
