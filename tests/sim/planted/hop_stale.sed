# SPDX-License-Identifier: MIT
# Kept connections to hops of a former policy stay in use.
# variant routes
/^static void forget_hops/,/^}/s/for (unsigned i = 0; i < p->slots_used; i++)/for (unsigned i = p->slots_used; i < p->slots_used; i++)/
