# SPDX-License-Identifier: MIT
# A password that was checked in slices stays in memory.
# variant roomy
/^static void leave_login/,/^}/s/^    wipe_credentials(&c);//
