# SPDX-License-Identifier: MIT
# Proxy-Authorization reaches the origin.
s/X("proxy-authorization", F_PROXY_AUTHORIZATION, HOP | NO_TRAILER)/X("proxy-authorization", F_PROXY_AUTHORIZATION, NO_TRAILER)/
