# SPDX-License-Identifier: MIT
# A password by SOCKS5 that is not looked at stays in memory.
# variant socks
/^static enum next end_session/,/^}/s/if (is_socks(s)) forget_socks_login(s);//;/^static enum next refuse(/,/^}/s/if (is_socks(s)) forget_socks_login(s);//
