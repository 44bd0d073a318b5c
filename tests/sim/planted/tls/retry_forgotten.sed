# SPDX-License-Identifier: MIT
# A send that is repeated with more octets counts more than the record has.
s/s->retry = (uint16_t)len;/s->retry = 0;/
