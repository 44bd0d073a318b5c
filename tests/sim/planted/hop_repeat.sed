# SPDX-License-Identifier: MIT
# Any request without a body is sent again by another hop when one ends without a word.
# variant routes
s/MINIPROXY_GET | MINIPROXY_HEAD | MINIPROXY_OPTIONS | MINIPROXY_TRACE | MINIPROXY_PUT |$/0xffffu |/
