# SPDX-License-Identifier: MIT
# The end of a stream is told by FIN alone.
s/s->state != STATE_OPEN || (s->flags & NOTIFIED) != 0/s != NULL/
