# SPDX-License-Identifier: MIT
# What becomes readable during a visit is forgotten.
/^static enum pumped pump(/,/^}/s/(from->ready \& MINIPROXY_RD) != 0 \&\& s->wait_lane == 0) v->more = true;/s->wait_lane == 0) from->ready \&= (uint8_t)~MINIPROXY_RD;/
