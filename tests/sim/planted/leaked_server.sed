# SPDX-License-Identifier: MIT
# The connection to the origin is forgotten when a session ends.
/^static void end_session/,/^}/s/close_servers(p, s, hard);/s->servers_open = 0;/
