/* SPDX-License-Identifier: MIT
 *
 * lwIP under the desktop program, for the end-to-end tests: as generous as the desktop's configuration is.
 * STACK_SOCKETS 1: with threads and sockets; 0: raw API alone, no operating system. STACK_SMALL 1: what a small device
 * would have.
 */
#ifndef LWIPOPTS_H
#define LWIPOPTS_H

#ifndef STACK_SOCKETS
#error "STACK_SOCKETS must be 0 (raw API) or 1 (sockets)"
#endif
#ifndef STACK_SMALL
#define STACK_SMALL 0
#endif

/* ---- What is there */
#define NO_SYS (!STACK_SOCKETS)
#define SYS_LIGHTWEIGHT_PROT STACK_SOCKETS
#define LWIP_NETCONN STACK_SOCKETS
#define LWIP_SOCKET STACK_SOCKETS
#define LWIP_COMPAT_SOCKETS 0
#define LWIP_POSIX_SOCKETS_IO_NAMES 0
#define LWIP_IPV4 1
#define LWIP_IPV6 1
#define LWIP_ARP 1
#define LWIP_ETHERNET 1
#define LWIP_ICMP 1
#define LWIP_UDP 1
#define LWIP_TCP 1
#define LWIP_DNS 1
#define LWIP_RAW 0
#define LWIP_DHCP 0
#define LWIP_STATS 0
#define SO_REUSE 1
#define LWIP_TCP_KEEPALIVE 1
#define LWIP_SO_LINGER 1
#define TCP_LISTEN_BACKLOG 1
#define TCP_DEFAULT_LISTEN_BACKLOG 255

/* 127.0.0.0/8 is behind the cable here, and ::1 nowhere: the kernel at the other end has the servers of the tests. */
#define LWIP_HAVE_LOOPIF 0
#define LWIP_NETIF_LOOPBACK 0

/* IPv6 addresses are given, and so is the router. */
#define LWIP_IPV6_AUTOCONFIG 0
#define LWIP_IPV6_DUP_DETECT_ATTEMPTS 0
#define LWIP_IPV6_SEND_ROUTER_SOLICIT 0
#define LWIP_IPV6_MLD 0
#define IPV6_FRAG_COPYHEADER 1

#define DNS_LOCAL_HOSTLIST 1
#define DNS_LOCAL_HOSTLIST_INIT                                                \
    {                                                                          \
        DNS_LOCAL_HOSTLIST_ELEM("localhost", IPADDR4_INIT_BYTES(127, 0, 0, 1)) \
    }
#define LWIP_DNS_SECURE (LWIP_DNS_SECURE_RAND_XID | LWIP_DNS_SECURE_RAND_SRC_PORT)

#define LWIP_HOOK_FILENAME "hooks.h"

/* ---- How much of it. Elements are malloc's (memp.c), the numbers are limits only. */
#define MEM_ALIGNMENT 8
#define MEMP_MEM_MALLOC 1
#define MEM_CUSTOM_ALLOCATOR 1
#define MEM_CUSTOM_MALLOC heap_malloc
#define MEM_CUSTOM_CALLOC heap_calloc
#define MEM_CUSTOM_FREE heap_free
#define MEM_SIZE (64 * 1024 * 1024)
#ifndef __ASSEMBLER__
#include <stddef.h>
void *heap_malloc(size_t size);
void *heap_calloc(size_t count, size_t size);
void heap_free(void *block);
void stack_assertion(const char *what, const char *file, int line);
#endif

#define MEMP_NUM_UDP_PCB 120
#define MEMP_NUM_TCP_PCB_LISTEN 16
#define MEMP_NUM_NETBUF 200
#define MEMP_NUM_TCPIP_MSG_API 64
#define MEMP_NUM_TCPIP_MSG_INPKT 256
#define MEMP_NUM_ARP_QUEUE 200
#define ARP_QUEUEING 1
#define ARP_QUEUE_LEN 100
#define LWIP_ND6_QUEUEING 1
#define DNS_TABLE_SIZE 100
#define DNS_MAX_SERVERS 1
#define MEMP_NUM_SYS_TIMEOUT (LWIP_NUM_SYS_TIMEOUT_INTERNAL + DNS_TABLE_SIZE / 2) /* names wait by a timer */

#if STACK_SMALL
#define MEMP_NUM_TCP_PCB 40
#define MEMP_NUM_NETCONN 50
#define TCP_MSS 536
#define TCP_WND (4 * TCP_MSS)
#define TCP_SND_BUF (4 * TCP_MSS)
#define TCP_SND_QUEUELEN 16
#define MEMP_NUM_TCP_SEG 400
#define PBUF_POOL_SIZE 400
#else
#define MEMP_NUM_TCP_PCB 3600
#define MEMP_NUM_NETCONN 1000 /* libc's FD_SETSIZE allows no more than 1024 */
#define TCP_MSS 1460
#define TCP_WND (44 * TCP_MSS)
#define TCP_SND_BUF (44 * TCP_MSS)
#define TCP_SND_QUEUELEN 400
#define MEMP_NUM_TCP_SEG 100000
#define PBUF_POOL_SIZE 100000
#endif
#define MEMP_NUM_PBUF 100000
#define PBUF_POOL_BUFSIZE 1600

/* ---- Threads */
#define LWIP_TCPIP_CORE_LOCKING 1
#define LWIP_TCPIP_CORE_LOCKING_INPUT 1
#define TCPIP_MBOX_SIZE 256
#define DEFAULT_ACCEPTMBOX_SIZE 127 /* contrib's sys_arch.c has boxes of 127, whatever is said here */
#define DEFAULT_TCP_RECVMBOX_SIZE 127
#define DEFAULT_UDP_RECVMBOX_SIZE 64
#define LWIP_SOCKET_SELECT 0
#define LWIP_SOCKET_POLL 1
#define LWIP_NETCONN_FULLDUPLEX 0
#if STACK_SOCKETS && !defined(__ASSEMBLER__)
void sys_check_core_locking(void);
void sys_mark_tcpip_thread(void);
void sys_lock_tcpip_core(void);
void sys_unlock_tcpip_core(void);
#define LWIP_ASSERT_CORE_LOCKED() sys_check_core_locking()
#define LWIP_MARK_TCPIP_THREAD() sys_mark_tcpip_thread()
#define LOCK_TCPIP_CORE() sys_lock_tcpip_core()
#define UNLOCK_TCPIP_CORE() sys_unlock_tcpip_core()
#endif

/* A condition that lwIP relies on ends the program: standard output goes nowhere in the tests. */
#define LWIP_PLATFORM_ASSERT(what) stack_assertion(what, __FILE__, __LINE__)

#endif
