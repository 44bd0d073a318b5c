# SPDX-License-Identifier: MIT
# Any request is repeated when a kept connection turns out dead.
# variant roomy
/s->up.source == SOURCE_NONE)$/{N;s/s->up.source == SOURCE_NONE)\n *s->flags |= IS_REPEATABLE;/true)\n        s->flags |= IS_REPEATABLE;/};s/MINIPROXY_GET | MINIPROXY_HEAD | MINIPROXY_OPTIONS | MINIPROXY_TRACE | MINIPROXY_PUT |$/0xffffu |/
