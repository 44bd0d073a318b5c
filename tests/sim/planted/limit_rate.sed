# SPDX-License-Identifier: MIT
# Requests are counted, but never too many.
# variant limits
/^static enum miniproxy_cause may_begin(/,/^}/s/b->requests >= REQUEST/true/
