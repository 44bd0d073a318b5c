# SPDX-License-Identifier: MIT
# What becomes readable during a visit is forgotten.
/^static enum pumped pump(/,/^}/s/(source_of(s, pipe)->ready \& MINIPROXY_RD) != 0 \&\& s->wait_lane == 0) p->more = true;/s->wait_lane == 0) source_of(s, pipe)->ready \&= (uint8_t)~MINIPROXY_RD;/
