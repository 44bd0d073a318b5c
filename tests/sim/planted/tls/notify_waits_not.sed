# SPDX-License-Identifier: MIT
# close_notify that could be sent in part only is given up.
s/== MBEDTLS_ERR_SSL_WANT_WRITE) return false;/== MBEDTLS_ERR_SSL_WANT_WRITE) return true;/
