# SPDX-License-Identifier: MIT
# A session that ends stays in the list of those with something to do.
s/^    unwatch(s);$//
