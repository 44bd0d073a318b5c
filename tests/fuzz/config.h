/* SPDX-License-Identifier: MIT */
/* Small limits, so that short inputs reach them, and asserts that the fuzzer sees. */
#include <stdlib.h>

#define MINIPROXY_SESSIONS 2
#define MINIPROXY_BUFFERS 3
#define MINIPROXY_BUFFER_SIZE 600
#define MINIPROXY_LINE_KEEP 40
#define MINIPROXY_FIELDS_MAX 12
#define MINIPROXY_TRAILER_MAX 100
#define MINIPROXY_CHUNK_EXT_MAX 64
#define MINIPROXY_INTERIM_MAX 3
#define MINIPROXY_ASSERT(condition) ((condition) ? (void)0 : abort())
#define MINIPROXY_WITH_CONDITIONS 1
#define MINIPROXY_WITH_HTML 1
