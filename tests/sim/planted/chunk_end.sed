# SPDX-License-Identifier: MIT
# A chunked response that is cut off is passed on as complete.
s/if (!is_framed(pipe, SOURCE_EOF)) return PUMP_EOF;/if (pipe->source == SOURCE_LENGTH) return PUMP_EOF;/
