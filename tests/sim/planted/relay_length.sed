# SPDX-License-Identifier: MIT
# What the port passes on of a body is not counted.
/^static enum pumped relay(/,/^}/s/pipe->left -= (unsigned)n;/;/
