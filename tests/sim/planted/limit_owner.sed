# SPDX-License-Identifier: MIT
# All clients share what each may have.
# variant limits
/^static void name_owner(/,/^}/s/who\[1\] = ip4_number(ip4);/who[1] = 0;/
