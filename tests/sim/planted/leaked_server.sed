# SPDX-License-Identifier: MIT
# The connection to the origin is forgotten when a session ends.
/^static enum next end_session/,/^}/s/close_servers(p, s, hard);/s->servers_open = 0;/
