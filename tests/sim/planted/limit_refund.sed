# SPDX-License-Identifier: MIT
# What was paid for and has not come is paid back twice.
# variant limits
/^static void taken(/,/^}/s/^    refund(.*/&\n    refund(p, s, way, 1, t->octets - (n > 0 ? (unsigned)n : 0));/
