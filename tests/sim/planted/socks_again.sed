# SPDX-License-Identifier: MIT
# The rest of an answer by SOCKS5 is never sent.
# variant socks
/^static int tell(/,/^}/s/while (s->reply_at < len)/if (s->reply_at < len)/
