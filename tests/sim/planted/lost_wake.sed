# SPDX-License-Identifier: MIT
# What becomes readable during a visit is forgotten.
/^static enum pumped pump(/,/^}/s/^        p->more = true;/        source_of(s, pipe)->ready \&= (uint8_t)~MINIPROXY_RD;/
