# SPDX-License-Identifier: MIT
# After a partial send the next one begins one octet too far.
s/    b->out = u16(b->out + (size_t)n);/    b->out = u16(b->out + (size_t)n + (b->out_end - b->out > n + 1));/
