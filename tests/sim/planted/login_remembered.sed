# SPDX-License-Identifier: MIT
# A failed login is remembered as if it had been right.
# variant roomy
/^static void go_on_login/,/^}/s/l->cause = MINIPROXY_CAUSE_LOGIN_FAILED;/remember(p, l->tag), &/
