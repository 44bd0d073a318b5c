# SPDX-License-Identifier: MIT
# A hop that stays down is tried again and again at the same distance.
# variant routes
/^static void postpone_trial/,/^}/s/if (h->waits < 6) h->waits++;//
