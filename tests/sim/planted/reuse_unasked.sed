# SPDX-License-Identifier: MIT
# The policy is not asked about a request on a kept connection.
/^static bool can_reuse/,/^}/s/if (ask(p, s, b, \&s->server_addr, \&rule) != MINIPROXY_ALLOWED) return false;//
