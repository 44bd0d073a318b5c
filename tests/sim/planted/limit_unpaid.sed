# SPDX-License-Identifier: MIT
# Octets that the port passes on by itself are not paid for.
# variant limits
/^static enum pumped relay(/,/^}/s/taken(p, s, pipe, n);/taken(p, s, pipe, 0);/
