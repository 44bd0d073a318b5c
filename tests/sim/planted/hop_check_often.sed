# SPDX-License-Identifier: MIT
# Checks come twice as often as they should.
# variant routes
/^static void end_check/,/^}/s/check_s \* 1000u/check_s * 500u/
