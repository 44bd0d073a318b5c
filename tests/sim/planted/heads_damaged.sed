# SPDX-License-Identifier: MIT
# What a mark has covered of a line is lost.
# variant routes
/if (hides) memcpy(secret, saved, LEN);/d
