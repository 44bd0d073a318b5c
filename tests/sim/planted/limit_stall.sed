# SPDX-License-Identifier: MIT
# Who has got its turn is not told.
# variant limits
/^static void serve(/,/^}/s/if (pay(p, s, way, i + 1)) run_soon(p, s, 0);/(void)pay(p, s, way, i + 1);/
