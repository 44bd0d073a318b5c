# SPDX-License-Identifier: MIT
# A session that ends does not leave the queue of logins.
# variant roomy
/^static void leave_login/,/^}/s/    take_out(p, &p->logins, s);/    if (p->logins.head == number_of(p, s)) &/
