# SPDX-License-Identifier: MIT
# Nobody goes on with a login until something else happens.
# variant roomy
s/^    if (run_logins(p)) return 0;/    run_logins(p);/
