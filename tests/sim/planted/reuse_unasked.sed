# SPDX-License-Identifier: MIT
# The policy is not asked about a request on a kept connection.
/^static bool can_reuse/,/^}/s/if (ask(s, b, pl, \&s->server_addr, pl->port, \&rule) != MINIPROXY_ALLOWED) return false;//
