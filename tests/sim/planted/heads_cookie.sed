# SPDX-License-Identifier: MIT
# A cookie stands in a line of a head that is told.
# variant socks
s/"cookie", "token"/"token"/
