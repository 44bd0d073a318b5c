/* SPDX-License-Identifier: MIT
 *
 * lwIP of the peers: a second stack in the same program, with memory enough.
 */
#ifndef LWIPOPTS_H
#define LWIPOPTS_H

#define NO_SYS 1
#define SYS_LIGHTWEIGHT_PROT 0
#define LWIP_SOCKET 0
#define LWIP_NETCONN 0
#define LWIP_IPV4 1
#define LWIP_IPV6 1
#define LWIP_IPV6_MLD 0
#define LWIP_IPV6_AUTOCONFIG 0
#define LWIP_IPV6_FRAG 0
#define LWIP_IPV6_REASS 0
#define IP_REASSEMBLY 0
#define IP_FRAG 0
#define LWIP_ARP 0
#define LWIP_ETHERNET 0
#define LWIP_DHCP 0
#define LWIP_DNS 0

#define MEM_ALIGNMENT 8
#define MEM_LIBC_MALLOC 1
#define MEMP_MEM_MALLOC 1
#define MEMP_NUM_TCP_PCB 200
#define MEMP_NUM_TCP_PCB_LISTEN 200
#define TCP_MSS 1460
#define TCP_WND (4 * TCP_MSS)
#define TCP_SND_BUF (4 * TCP_MSS)
#define TCP_QUEUE_OOSEQ 1
#define TCP_MSL 100 /* ports are taken again soon */
#define LWIP_TCP_PCB_NUM_EXT_ARGS 1 /* tells when a PCB is freed, also without a word to its callbacks */
#define LWIP_STATS 0

#endif
