# SPDX-License-Identifier: MIT
# An alert is sent after finish.
s/if ((s->flags & FINISHED) != 0) return MBEDTLS_ERR_SSL_CONN_EOF;//
