# SPDX-License-Identifier: MIT
# A handshake that waits for nobody is not gone on with.
s/s->flags |= GO_ON;//
