# SPDX-License-Identifier: MIT
# A client is taken for the one whose session it got.
/^static struct miniproxy_tls_session \*take_session/,/^}/s/s->psk = NULL;//
