# SPDX-License-Identifier: MIT
# An origin may have a certificate for any name.
s/mbedtls_ssl_set_hostname(&s->ssl, is_literal ? NULL : name)/mbedtls_ssl_set_hostname(\&s->ssl, NULL)/
