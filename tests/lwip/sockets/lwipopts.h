/* SPDX-License-Identifier: MIT
 *
 * lwIP for the tests of the sockets port: the unix port of lwIP's contrib. The netifs are in world.c, and lwIP's own
 * loopback is off: the port does not need it. All memory of lwIP comes from world.c, which counts it and can refuse it.
 * Variants: WORLD_CORE_LOCKING, WORLD_FULLDUPLEX.
 */
#ifndef LWIPOPTS_H
#define LWIPOPTS_H

#include <stddef.h>

#define NO_SYS 0
#define SYS_LIGHTWEIGHT_PROT 1
#ifdef WORLD_CORE_LOCKING
#define LWIP_TCPIP_CORE_LOCKING WORLD_CORE_LOCKING
#endif
#ifdef WORLD_FULLDUPLEX
#define LWIP_NETCONN_FULLDUPLEX WORLD_FULLDUPLEX
#define LWIP_NETCONN_SEM_PER_THREAD WORLD_FULLDUPLEX
#endif

/* Fails when a function of the stack is called in the wrong thread or without its lock. */
void sys_check_core_locking(void);
#define LWIP_ASSERT_CORE_LOCKED() sys_check_core_locking()

void *world_malloc(size_t size);
void *world_calloc(size_t count, size_t size);
void world_free(void *memory);
#define MEM_CUSTOM_ALLOCATOR 1
#define MEM_CUSTOM_MALLOC world_malloc
#define MEM_CUSTOM_CALLOC world_calloc
#define MEM_CUSTOM_FREE world_free
#define MEMP_MEM_MALLOC 1
#define MEM_ALIGNMENT 16
#define MEMP_NUM_NETCONN 600 /* sockets */

#define LWIP_IPV4 1
#define LWIP_IPV6 1
#define IPV6_FRAG_COPYHEADER 1
#define LWIP_IPV6_DUP_DETECT_ATTEMPTS 0
#define LWIP_IPV6_SEND_ROUTER_SOLICIT 0
#define LWIP_IPV6_MLD 1
#define LWIP_HAVE_LOOPIF 0
#define LWIP_NETIF_LOOPBACK 0
#define LWIP_ICMP 1

#define LWIP_TCP 1
#define TCP_MSS 1460
#define TCP_WND (8 * TCP_MSS)
#define TCP_SND_BUF (8 * TCP_MSS)
#define TCP_SND_QUEUELEN 64
#define TCP_LISTEN_BACKLOG 1
/* PCBs come back soon. But lwIP gives up who sent its FIN last and has heard nothing for twice that, which the soak on a busy
 * machine must not meet. */
#define TCP_MSL 2000UL
#define TCP_SYNMAXRTX 1
#define LWIP_TCP_KEEPALIVE 1

#define LWIP_DNS 1
#define DNS_TABLE_SIZE 20
#define DNS_MAX_RETRIES 3

#define LWIP_NETCONN 1
#define LWIP_SOCKET 1
#define LWIP_SOCKET_POLL 1
#define LWIP_SOCKET_SELECT 1
#ifndef LWIP_COMPAT_SOCKETS
#define LWIP_COMPAT_SOCKETS 0
#endif
#define LWIP_POSIX_SOCKETS_IO_NAMES 0
#define SO_REUSE 1
#define DEFAULT_TCP_RECVMBOX_SIZE 128 /* what the unix port's boxes hold, whatever is said here */
#define DEFAULT_UDP_RECVMBOX_SIZE 128
#define DEFAULT_ACCEPTMBOX_SIZE 100
#define TCPIP_MBOX_SIZE 256
#define MEMP_NUM_TCPIP_MSG_INPKT 256
#define TCPIP_THREAD_STACKSIZE 0

#define LWIP_STATS 0
#define LWIP_NOASSERT_ON_ERROR 1

#endif
