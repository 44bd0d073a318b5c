# SPDX-License-Identifier: MIT
# A refused send is tried again and again.
/^static bool flush/,/^}/s/to->ready &= (uint8_t)~MINIPROXY_WR;/v->more = true;/
