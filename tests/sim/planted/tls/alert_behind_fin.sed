# SPDX-License-Identifier: MIT
# An alert is sent after finish.
s/if (s->is_finished) return MBEDTLS_ERR_SSL_CONN_EOF;//
