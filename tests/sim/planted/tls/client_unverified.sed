# SPDX-License-Identifier: MIT
# A client may have a certificate from anybody, or none.
/^static const char \*set_server/,/^}/s/MBEDTLS_SSL_VERIFY_REQUIRED/MBEDTLS_SSL_VERIFY_OPTIONAL/
