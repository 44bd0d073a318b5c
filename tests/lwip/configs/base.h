/* SPDX-License-Identifier: MIT
 *
 * What the configurations here have in common: lwIP without a system, for four sessions, no larger than the raw port
 * asks for. Each defines what it wants otherwise and includes this.
 */
#ifndef BASE_H
#define BASE_H

#ifndef MINIPROXY_SESSIONS
#define MINIPROXY_SESSIONS 4
#endif
#ifndef NO_SYS
#define NO_SYS 1
#endif
#define SYS_LIGHTWEIGHT_PROT 0
#define LWIP_SOCKET 0
#define LWIP_NETCONN 0
#ifndef LWIP_IPV6
#define LWIP_IPV6 0
#endif
#if !LWIP_IPV6 && !defined(MINIPROXY_WITH_IPV6)
#define MINIPROXY_WITH_IPV6 0
#endif
#ifndef LWIP_DNS
#define LWIP_DNS 1
#endif
#ifndef TCP_LISTEN_BACKLOG
#define TCP_LISTEN_BACKLOG 1
#endif
#define MEM_ALIGNMENT 4
#ifndef TCP_MSS
#define TCP_MSS 536
#endif
#ifndef TCP_WND
#define TCP_WND (2 * TCP_MSS)
#endif
#ifndef TCP_SND_BUF
#define TCP_SND_BUF (2 * TCP_MSS)
#endif
#ifndef MEMP_NUM_TCP_PCB
#define MEMP_NUM_TCP_PCB 9 /* 2 * 4 sessions, 1 reserved */
#endif
#ifndef PBUF_POOL_SIZE
#define PBUF_POOL_SIZE 28 /* (9 + 4) windows of 2 segments, 2 spare */
#endif
#ifndef MEM_SIZE
#define MEM_SIZE 3000
#endif
#ifndef TCP_QUEUE_OOSEQ
#define TCP_QUEUE_OOSEQ 0
#endif

#endif
