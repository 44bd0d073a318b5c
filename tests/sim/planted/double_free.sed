# SPDX-License-Identifier: MIT
# A buffer is given back and stays in use.
/^static void give_back/,/^}/s/    pipe->buffer = NULL;/    if (p->counters.buffers % 5 != 4) pipe->buffer = NULL;/
