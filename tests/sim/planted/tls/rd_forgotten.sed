# SPDX-License-Identifier: MIT
# What TLS has decrypted already is forgotten when nothing more arrives.
s/    if (mbedtls_ssl_get_bytes_avail(&s->ssl) > 0) c->ready |= MINIPROXY_RD;//
