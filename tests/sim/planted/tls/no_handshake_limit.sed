# SPDX-License-Identifier: MIT
# A handshake may take as long as it likes.
s/(int32_t)(now_ms - s->due_ms) >= 0/false/
