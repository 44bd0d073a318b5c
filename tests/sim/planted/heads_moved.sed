# SPDX-License-Identifier: MIT
# A line of a head is told when others may have moved into its place.
# variant routes
/tell_line(proxy, s, b, h->end, false); \/\* before it changes or moves \*\//d
s/^        note_condition(h, b, &l);/&\n        tell_line(proxy, s, b, h->end, false);/
