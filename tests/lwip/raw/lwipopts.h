/* SPDX-License-Identifier: MIT
 *
 * lwIP under test: small, so that its ends are reached.
 */
#ifndef LWIPOPTS_H
#define LWIPOPTS_H

#define NO_SYS 1
#define SYS_LIGHTWEIGHT_PROT 0
#define LWIP_SOCKET 0
#define LWIP_NETCONN 0
#define LWIP_IPV4 1
#ifndef LWIP_IPV6
#define LWIP_IPV6 1
#endif
#define LWIP_ICMP6 LWIP_IPV6
#define LWIP_IPV6_MLD 0
#define LWIP_IPV6_AUTOCONFIG 0
#define LWIP_IPV6_FRAG 0
#define LWIP_IPV6_REASS 0
#define IP_REASSEMBLY 0
#define IP_FRAG 0
#define LWIP_ARP 0
#define LWIP_ETHERNET 0
#define LWIP_DHCP 0
#define LWIP_DNS 1
#define DNS_MAX_RETRIES 3

/* as the firmware has it */
struct pbuf;
struct tcp_hdr;
struct tcp_pcb;
_Bool guard_tcp_admits(struct tcp_pcb *pcb, const struct tcp_hdr *header, unsigned options, const struct pbuf *data);
#define LWIP_HOOK_TCP_INPACKET_PCB(pcb, header, options_len, options1_len, options2, data) \
    (guard_tcp_admits(pcb, header, options_len, data) ? ERR_OK : ERR_MEM)

#ifdef TEST_SMALL
#define DNS_TABLE_SIZE 8
#define MEM_SIZE 6000
#define MEMP_NUM_TCP_PCB 17
#define MEMP_NUM_TCP_SEG 24
#define TCP_WND (2 * TCP_MSS)
#define TCP_SND_BUF (2 * TCP_MSS)
#define PBUF_POOL_SIZE ((17 + 8) * 2 + 2)
#endif

#ifndef MEMP_MEM_MALLOC
#define MEMP_MEM_MALLOC 0
#endif
#define MEM_ALIGNMENT 8
#ifndef DNS_TABLE_SIZE
#define DNS_TABLE_SIZE 18 /* two for each of nine names */
#endif
#define MEMP_NUM_SYS_TIMEOUT (LWIP_NUM_SYS_TIMEOUT_INTERNAL + (LWIP_IPV6 ? DNS_TABLE_SIZE / 2 : 0))
#ifndef MEM_SIZE
#define MEM_SIZE 65536
#endif
#ifndef MEMP_NUM_TCP_PCB
#define MEMP_NUM_TCP_PCB 24
#endif
#define MEMP_NUM_TCP_PCB_LISTEN 4
#define MEMP_NUM_UDP_PCB 10
#define MEMP_NUM_PBUF 64
#ifndef MEMP_NUM_TCP_SEG
#define MEMP_NUM_TCP_SEG 128
#endif
#ifndef TCP_MSS
#define TCP_MSS 536
#endif
#ifndef TCP_WND
#define TCP_WND (4 * TCP_MSS)
#endif
#ifndef TCP_SND_BUF
#define TCP_SND_BUF (4 * TCP_MSS)
#endif
#ifndef PBUF_POOL_SIZE
#define PBUF_POOL_SIZE ((MEMP_MEM_MALLOC + 24 + 8) * 4 + 2) /* no more than the port asks for */
#endif
#ifndef TCP_QUEUE_OOSEQ
#define TCP_QUEUE_OOSEQ 0
#endif
#define TCP_LISTEN_BACKLOG 1
#define TCP_MSL 5000 /* so that PCBs come back soon */

#define LWIP_STATS 1
#define MEM_STATS 1
#define MEMP_STATS 1
#define LWIP_STATS_DISPLAY 0

#endif
