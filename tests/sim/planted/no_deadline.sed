# SPDX-License-Identifier: MIT
# The deadline of a response that pauses is never armed.
s/: MINIPROXY_TIMEOUT_FIRST_BYTE;/: MINIPROXY_TIMEOUT_FIRST_BYTE; if (kind == MINIPROXY_TIMEOUT_RESPONSE) { disarm(p, s, MINIPROXY_TIMER_PHASE); return; }/
