# SPDX-License-Identifier: MIT
# The response of an origin ends without close_notify, too.
/^static int read_result/,/^}/s/ && (s->flags & IS_ORIGIN) == 0//
