# SPDX-License-Identifier: MIT
# A wait for octets is rounded down.
# variant limits
/^static uint32_t wait_of(/,/^}/s/ + (missing % rate != 0)//
