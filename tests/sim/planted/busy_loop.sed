# SPDX-License-Identifier: MIT
# A refused send is tried again and again.
/^static int send_out/,/^}/s/to->ready &= (uint8_t)~MINIPROXY_WR;/p->more = true;/
