/* SPDX-License-Identifier: MIT
 *
 * The configuration COUNTED_CONFIG, with buffers large enough for a request head of 700 octets.
 */
#include COUNTED_CONFIG

#if defined MINIPROXY_BUFFER_SIZE && MINIPROXY_BUFFER_SIZE < 1024
#undef MINIPROXY_BUFFER_SIZE
#define MINIPROXY_BUFFER_SIZE 1024
#endif
