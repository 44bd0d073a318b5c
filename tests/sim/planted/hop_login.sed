# SPDX-License-Identifier: MIT
# A request that is sent again by another parent has the login of the first one.
# variant routes
/^static bool renew_login/,/^}/s/if (s->login_at == 0) return true;/return true;/
