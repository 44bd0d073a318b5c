# SPDX-License-Identifier: MIT
# The end of the connection in the middle of a body by length is not noticed.
/^static enum pumped pump_eof/,/^}/s/return PUMP_EOF;/{ if (pipe->source != SOURCE_LENGTH) return PUMP_EOF; pipe->flags |= PIPE_COMPLETE; return PUMP_ON; }/
