# SPDX-License-Identifier: MIT
# What becomes readable during a visit is forgotten.
/^static enum pumped pump(/,/^}/s/^        v->more = true;/        from->ready \&= (uint8_t)~MINIPROXY_RD;/
