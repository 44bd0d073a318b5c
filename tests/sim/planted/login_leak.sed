# SPDX-License-Identifier: MIT
# Proxy-Authorization reaches the origin.
s/if (from_client && l.id == F_PROXY_AUTHORIZATION) leave(h, b, &l);/if (l.id == F_PROXY_AUTHORIZATION) keep(h, b, \&l);/
