# SPDX-License-Identifier: MIT
# An origin may have a certificate from anybody.
/MBEDTLS_SSL_IS_CLIENT/,/^}/s/MBEDTLS_SSL_VERIFY_REQUIRED/MBEDTLS_SSL_VERIFY_OPTIONAL/
