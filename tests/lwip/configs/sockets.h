/* SPDX-License-Identifier: MIT
 *
 * The sockets port for four sessions, no larger than it asks for. Headers with "sockets" in their name are about that port.
 */
#ifndef SOCKETS_H
#define SOCKETS_H

#include <sys/time.h> /* before lwIP's fd_set */

#define MINIPROXY_SESSIONS 4
#define MINIPROXY_WITH_IPV6 0
#define NO_SYS 0
#define SYS_LIGHTWEIGHT_PROT 1
#define LWIP_SOCKET 1
#define LWIP_SOCKET_POLL 1
#define LWIP_COMPAT_SOCKETS 0
#define LWIP_ERRNO_STDINCLUDE 1
#define LWIP_TIMEVAL_PRIVATE 0
#define LWIP_IPV6 0
#define LWIP_DNS 1
#ifndef TCP_LISTEN_BACKLOG
#define TCP_LISTEN_BACKLOG 1
#endif
#define MEM_ALIGNMENT 4
#define TCP_MSS 536
#define TCP_WND (2 * TCP_MSS)
#define TCP_SND_BUF (2 * TCP_MSS)
#define MEMP_NUM_TCP_PCB 9  /* 2 * 4 sessions, 1 reserved */
#define MEMP_NUM_NETCONN 15 /* those, a listener, the wake, and 4 that wait */
#define MEMP_NUM_UDP_PCB 2
#define DEFAULT_ACCEPTMBOX_SIZE 4
#define DEFAULT_TCP_RECVMBOX_SIZE 3
#define DEFAULT_UDP_RECVMBOX_SIZE 1

#endif
