# SPDX-License-Identifier: MIT
# Proxy-Authorization reaches the origin.
s/FIELD("proxy-authorization", F_PROXY_AUTHORIZATION, HOP | NO_TRAILER)/FIELD("proxy-authorization", F_PROXY_AUTHORIZATION, NO_TRAILER)/
