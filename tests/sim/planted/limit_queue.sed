# SPDX-License-Identifier: MIT
# A session that ends stays in the queue of a bucket.
# variant limits
/^static void let_go(/,/^}/s/^            step_out(p, s, way);/            t->stage = 0;/
