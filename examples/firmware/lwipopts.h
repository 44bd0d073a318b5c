/* SPDX-License-Identifier: MIT
 *
 * lwIP's configuration, with and without an operating system (NO_SYS is given by the makefile). What is not mentioned
 * has lwIP's default. How the numbers hang together:
 *
 *   sessions (config.h) -> TCP_PCBs -> what all windows together may bring in (PBUF_POOL) and send out (MEM_SIZE)
 *
 * The pools are smaller than the sum of all windows. When they are used up, frames with data are dropped and sent again
 * by their peers; those that free memory, acknowledgements, always get in: see net_frame_alloc in net.c.
 */
#ifndef LWIPOPTS_H
#define LWIPOPTS_H

#include "config.h"
#include "miniproxy.h"

#ifndef NO_SYS
#define NO_SYS 1
#endif

/* ---- What is in */

#define LWIP_IPV4 1
#define LWIP_IPV6 0
#define LWIP_TCP 1
#define LWIP_UDP 1 /* DHCP and DNS */
#define LWIP_DNS 1
#define LWIP_ICMP 1 /* answers to ping */
#define LWIP_RAW 0
#define LWIP_NETIF_HOSTNAME 1
#define LWIP_NETIF_LOOPBACK 0 /* what a request to the device's own address would need; the port refuses those */

/* A static address needs no DHCP client: -DFIRMWARE_ADDRESS='"192.168.1.9"' and so on, see net.h. */
#ifdef FIRMWARE_ADDRESS
#define LWIP_DHCP 0
#else
#define LWIP_DHCP 1
#endif
#define LWIP_ACD 0 /* probing the address first would delay the start by seconds; DHCP servers do it */
#define LWIP_DHCP_DOES_ACD_CHECK 0

/* TCP sends no fragments and DNS answers fit into a frame: who sends fragments wants the memory. */
#define IP_REASSEMBLY 0
#define IP_FRAG 0

/* ---- Layout */

#define MEM_ALIGNMENT 4
#define ETH_PAD_SIZE 2                 /* aligns the IP header; and the Ethernet chips have something to put there */
#define SYS_LIGHTWEIGHT_PROT (!NO_SYS) /* nothing calls lwIP from an interrupt */

#define LWIP_SUPPORT_CUSTOM_PBUF 1 /* for the reserve in net.c */

/* ---- TCP
 *
 * A small segment and a window of a few: the receive FIFOs of these chips hold about 10 KB, and more in flight than
 * they hold is dropped. Larger ones were not faster. With few pbufs a window of one segment is faster than one of two:
 * what the pool cannot take has to be sent again. */
#ifndef TCP_MSS
#define TCP_MSS 536 /* every IPv4 host takes this much (RFC 9293 section 3.7.1) */
#endif
#ifndef TCP_WND
#define TCP_WND ((!FIRMWARE_TIGHT ? 4 : MINIPROXY_SESSIONS >= 8 ? 2 : 1) * TCP_MSS)
#endif
#ifndef TCP_SND_BUF
#define TCP_SND_BUF ((FIRMWARE_TIGHT ? 2 : 4) * TCP_MSS)
#endif
#define TCP_SND_QUEUELEN (FIRMWARE_TIGHT ? 12 : 24) /* pbufs; a segment passed on without copying has up to four */
#define TCP_OVERSIZE (FIRMWARE_TIGHT ? 0 : 128)     /* a full segment for every short write would cost too much */
/* Segments behind a gap are kept. Were they sent again instead, one lost frame could hold a transfer up for minutes:
 * senders of today put new data in between while they repeat (RFC 5682), and what is dropped of that is the next gap, of
 * which they learn by a timer that doubles each time. When the pool is empty lwIP gives these segments up first; a tight
 * one cannot hold them. */
#define TCP_QUEUE_OOSEQ (!FIRMWARE_TIGHT && TCP_WND > TCP_MSS)
#define TCP_OOSEQ_MAX_PBUFS 4
/* Asked after each of them has been queued; mends the queue first: see guard.c. */
#define TCP_OOSEQ_BYTES_LIMIT(pcb) guard_tcp_ooseq_limit(pcb)
struct tcp_pcb;
unsigned guard_tcp_ooseq_limit(struct tcp_pcb *pcb);
#define TCP_LISTEN_BACKLOG 1
#define LWIP_TCP_KEEPALIVE (!FIRMWARE_TIGHT) /* times of keepalive; 0: it is on, with two hours */
#define TCP_SYNMAXRTX 4                      /* 3 + 6 + 12 s: longer than the core waits for a connection */

#define LWIP_HOOK_FILENAME "lwiphooks.h"

/* Segments that lwIP cannot bear are dropped, and who does not read may not have the whole pool: net.c. */
#define LWIP_HOOK_TCP_INPACKET_PCB(pcb, header, options_len, options1_len, options2, data) \
    (net_tcp_admits(pcb, header, options_len, (options2) != NULL, data) ? ERR_OK : ERR_MEM)

/* A frame that waits for ARP is copied unless it is lwIP's own. The raw port passes received pbufs on without copying: when
 * the connection that they went to is reset, they are free for what others receive. */
#define PBUF_NEEDS_COPY(p) (((p)->type_internal & PBUF_TYPE_FLAG_STRUCT_DATA_CONTIGUOUS) == 0)

/* Sequence numbers by RFC 6528: random.c. */
#define LWIP_HOOK_TCP_ISN(local, local_port, remote, remote_port) \
    random_tcp_isn(ip_2_ip4(local)->addr, local_port, ip_2_ip4(remote)->addr, remote_port)

/* ---- Pools. RAM on a 32-bit core in brackets. */

/* A client's and an origin's connection for every session, some that are refused, further attempts, and one that still
 * ends. lwIP gives those in TIME_WAIT up when it needs one. [164 each, 156 without LWIP_TCP_KEEPALIVE] */
#define MEMP_NUM_TCP_PCB (2 * MINIPROXY_SESSIONS + MINIPROXY_RESERVED + MINIPROXY_ATTEMPTS)
#ifndef MEMP_NUM_TCP_PCB_LISTEN
#define MEMP_NUM_TCP_PCB_LISTEN 1
#endif
#define MINIPROXY_LWIP_RAW_LISTENERS MEMP_NUM_TCP_PCB_LISTEN
/* Shared by all connections: unacknowledged or unsent. [16 each] */
#ifndef MEMP_NUM_TCP_SEG
#define MEMP_NUM_TCP_SEG (FIRMWARE_TIGHT ? 12 + 2 * MINIPROXY_SESSIONS : 24 + 6 * MINIPROXY_SESSIONS)
#endif
/* References to data that is passed on without copying. [16 each] */
#ifndef MEMP_NUM_PBUF
#define MEMP_NUM_PBUF (FIRMWARE_TIGHT ? 4 + 2 * MINIPROXY_SESSIONS : 8 + 4 * MINIPROXY_SESSIONS)
#endif

/* Received frames, one each. [TCP_MSS + 72 each] */
#ifndef PBUF_POOL_SIZE
#define PBUF_POOL_SIZE (FIRMWARE_TIGHT ? 3 * MINIPROXY_SESSIONS / 4 : 3 * MINIPROXY_SESSIONS)
#endif
/* So many peers that do not read can fill the pool. With the reserve in net.c that is no deadlock: it is over when the
 * core's MINIPROXY_TIMEOUT_WRITE has ended them. Its last quarter is for connections that hold nothing: net.c. */
#define MINIPROXY_LWIP_RAW_POOL_SPARE 1 /* the chips keep what is not yet received */
#define MINIPROXY_LWIP_RAW_HOLDERS ((PBUF_POOL_SIZE - MINIPROXY_LWIP_RAW_POOL_SPARE) * TCP_MSS / TCP_WND)

/* Everything that is sent: headers, and data that is copied; DHCP's state. */
#ifndef MEM_SIZE
#define MEM_SIZE (FIRMWARE_TIGHT ? 780 + 170 * MINIPROXY_SESSIONS : 1280 * MINIPROXY_SESSIONS)
#endif

/* Names looked up or remembered at the same time, and their length: longer ones do not resolve. [about 20 more than the
 * length each] */
#define DNS_TABLE_SIZE (FIRMWARE_TIGHT ? 2 + MINIPROXY_SESSIONS / 4 : MINIPROXY_SESSIONS)
#define DNS_MAX_NAME_LENGTH (FIRMWARE_TIGHT ? 128 : 256)
#define DNS_MAX_SERVERS 2
#define DNS_MAX_REQUESTS (FIRMWARE_TIGHT ? 2 + MINIPROXY_SESSIONS / 4 : 4)
/* Every request has a port of its own, against forged answers; one for DHCP, and one for syslog. [32 each] */
#ifdef FIRMWARE_SYSLOG
#define MEMP_NUM_UDP_PCB (DNS_MAX_REQUESTS + 2)
#else
#define MEMP_NUM_UDP_PCB (DNS_MAX_REQUESTS + 1)
#endif

/* Clients and the router. [24 each] */
#define ARP_TABLE_SIZE (FIRMWARE_TIGHT ? 6 : 12)

/* ---- Sockets */
#if NO_SYS

#define LWIP_SOCKET 0
#define LWIP_NETCONN 0

#else

#define LWIP_SOCKET 1
#define LWIP_NETCONN 1
#define LWIP_COMPAT_SOCKETS 0 /* lwip_send, not send: libc's headers have that name */
#define LWIP_POSIX_SOCKETS_IO_NAMES 0
#define LWIP_TCPIP_CORE_LOCKING 1 /* calls take a lock instead of sending a message */
#define LWIP_TCPIP_CORE_LOCKING_INPUT 1
#define LWIP_SOCKET_SELECT 1
#define LWIP_SOCKET_POLL 1
#define SO_REUSE 1
#define TCPIP_THREAD_STACKSIZE 1536
#define TCPIP_MBOX_SIZE 8
#define DEFAULT_TCP_RECVMBOX_SIZE 8
#define DEFAULT_UDP_RECVMBOX_SIZE 4
#define DEFAULT_ACCEPTMBOX_SIZE 8
#define SYS_MBOX_SLOTS 8 /* of sys_arch.h; not less than any of those */
#define MEMP_NUM_NETDB 0 /* getaddrinfo: not used */
#define MEMP_NUM_NETCONN (MEMP_NUM_TCP_PCB + MEMP_NUM_TCP_PCB_LISTEN + 2) /* two for UDP: wake-up */
#define MEMP_NUM_NETBUF 4
#define MEMP_NUM_TCPIP_MSG_INPKT 4
#define MEMP_NUM_TCPIP_MSG_API (4 + DNS_MAX_REQUESTS)

#endif

/* ---- Counters of the pools, for the report in log.c: 12 octets a pool. */
#define LWIP_STATS 1
#define LWIP_STATS_DISPLAY 0
#define MEM_STATS 1
#define MEMP_STATS 1
#define LINK_STATS 0
#define ETHARP_STATS 0
#define IP_STATS 0
#define ICMP_STATS 0
#define UDP_STATS 0
#define TCP_STATS 0
#define SYS_STATS 0

#endif
