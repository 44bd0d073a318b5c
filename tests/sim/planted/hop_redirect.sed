# SPDX-License-Identifier: MIT
# A parent that answers CONNECT by 3xx is taken to have connected.
# variant routes
/^static enum miniproxy_cause tunnel_answer/,/^}/s/h->status < 300/h->status < 400/
