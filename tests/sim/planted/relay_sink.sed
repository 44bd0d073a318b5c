# SPDX-License-Identifier: MIT
# A sink that failed while the port passed octets on is taken for one without room.
/^static enum pumped relay(/,/^}/s/return PUMP_STUCK;/return PUMP_ON;/
