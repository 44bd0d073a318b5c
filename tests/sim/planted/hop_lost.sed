# SPDX-License-Identifier: MIT
# A request that a hop has swallowed does not go by another one.
# variant routes
/^static bool may_go_elsewhere/,/^}/s/return hop != NULL \&\& /return hop == NULL \&\& hop != NULL \&\& /
