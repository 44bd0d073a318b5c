/* SPDX-License-Identifier: MIT
 *
 * lwIP in the image under test: the product's configuration, and where it differs.
 */
#ifndef IMAGE_LWIPOPTS_H
#define IMAGE_LWIPOPTS_H

#include "tests/firmware/image/config.h"

#include "../../../examples/firmware/lwipopts.h"

/* ---- IPv6. Addresses are given, and so is the router. */
#undef LWIP_IPV6
#define LWIP_IPV6 1
#define LWIP_IPV6_AUTOCONFIG 0
#define LWIP_IPV6_DUP_DETECT_ATTEMPTS 0
#define LWIP_IPV6_SEND_ROUTER_SOLICIT 0
#define LWIP_IPV6_MLD 0
#define LWIP_IPV6_FRAG 0
#define LWIP_IPV6_REASS 0
#define LWIP_ND6_QUEUEING 0

/* ---- 127.0.0.0/8 is behind the cable: the kernel at the other end has the servers of the tests. */
#define LWIP_HAVE_LOOPIF 0
#undef LWIP_HOOK_FILENAME
#define LWIP_HOOK_FILENAME "hooks.h"

#define DNS_LOCAL_HOSTLIST 1
#define DNS_LOCAL_HOSTLIST_INIT                                                \
    {                                                                          \
        DNS_LOCAL_HOSTLIST_ELEM("localhost", IPADDR4_INIT_BYTES(127, 0, 0, 1)) \
    }

/* names wait for their second address by a timer */
#undef MEMP_NUM_SYS_TIMEOUT
#define MEMP_NUM_SYS_TIMEOUT (LWIP_NUM_SYS_TIMEOUT_INTERNAL + DNS_TABLE_SIZE / 2)

/* ---- Sizes do not depend on IMAGE_SMALL. The tests' listeners are several. */
#undef MEMP_NUM_TCP_PCB_LISTEN
#define MEMP_NUM_TCP_PCB_LISTEN 4
#undef MEMP_NUM_TCP_PCB
#undef MEMP_NUM_TCP_SEG
#undef MEMP_NUM_PBUF
#undef PBUF_POOL_SIZE
#undef MEM_SIZE
#undef DNS_TABLE_SIZE
#undef DNS_MAX_REQUESTS
#undef TCP_DEFAULT_LISTEN_BACKLOG
#undef SYS_MBOX_SLOTS
#undef DEFAULT_ACCEPTMBOX_SIZE

#if IMAGE_TINY
#define MEMP_NUM_TCP_PCB 18
#define MEMP_NUM_TCP_SEG 48
#define MEMP_NUM_PBUF 24
#define PBUF_POOL_SIZE (NO_SYS ? 22 : 20)
#define MEM_SIZE 6144
#define DNS_TABLE_SIZE 4
#define DNS_MAX_REQUESTS 4
#define TCP_DEFAULT_LISTEN_BACKLOG 7
#define DEFAULT_ACCEPTMBOX_SIZE 7
#define SYS_MBOX_SLOTS 8
#define MINIPROXY_LWIP_RAW_BACKLOG 4
#else
#define MEMP_NUM_TCP_PCB 250
#define MEMP_NUM_TCP_SEG 4000
#define MEMP_NUM_PBUF 4000
#define PBUF_POOL_SIZE 2000
#define MEM_SIZE 1000000
#define DNS_TABLE_SIZE 100
#define DNS_MAX_REQUESTS 100
#define TCP_DEFAULT_LISTEN_BACKLOG 100
#define DEFAULT_ACCEPTMBOX_SIZE 100
#define SYS_MBOX_SLOTS 128
#define MINIPROXY_LWIP_RAW_BACKLOG 100
#endif

#endif
