/* SPDX-License-Identifier: MIT
 *
 * For the tests of the raw port: connections enough for the conformance tests.
 */
#define MINIPROXY_SESSIONS 8
#define MINIPROXY_LWIP_RAW_BACKLOG 8
#define MINIPROXY_LWIP_RAW_LISTENERS 4
