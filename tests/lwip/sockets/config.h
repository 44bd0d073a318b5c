/* SPDX-License-Identifier: MIT
 *
 * The proxy's configuration in the tests of the sockets port.
 */
#define MINIPROXY_SESSIONS 40
#define MINIPROXY_LWIP_SOCKETS_LISTENERS 4
#define MINIPROXY_LWIP_SOCKETS_BACKLOG 100
#define MINIPROXY_LWIP_SOCKETS_LINGER_S 3
