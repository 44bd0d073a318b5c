# SPDX-License-Identifier: MIT
# A refusal by SOCKS5 has the code of another cause.
# variant socks
s/case TYPE_connection_refused: return 5;/case TYPE_connection_refused: return 4;/
