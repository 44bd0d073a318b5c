# SPDX-License-Identifier: MIT
# A login stands in a line of a head that is told.
# variant routes
s/{"authorization", "authentication-info"/{"authentication-info"/
