# SPDX-License-Identifier: MIT
# A SOCKS5 server that refuses is taken to have connected.
# variant routes
/^static enum miniproxy_cause socks_answer/,/^}/s/if (answer\[1\] != 0) return socks_cause(s, answer\[1\]);//
