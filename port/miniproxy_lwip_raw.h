/* SPDX-License-Identifier: MIT
 *
 * miniproxy on lwIP's raw API: no operating system needed (NO_SYS 1). All calls come from the loop that also feeds the
 * netif and calls sys_check_timeouts(). port/README.md has the notes and the memory that lwIP needs for it.
 */
#ifndef MINIPROXY_LWIP_RAW_H
#define MINIPROXY_LWIP_RAW_H

#include "miniproxy.h"

#include "lwip/ip_addr.h"
#include "lwip/opt.h"

/* Addresses an instance may listen on. Range 1..16. */
#ifndef MINIPROXY_LWIP_RAW_LISTENERS
#define MINIPROXY_LWIP_RAW_LISTENERS 2
#endif

/* Connections of one listener that may wait to be accepted; each takes a PCB. More SYNs are ignored, and clients repeat
 * them. Range 1..255. */
#ifndef MINIPROXY_LWIP_RAW_BACKLOG
#define MINIPROXY_LWIP_RAW_BACKLOG 4
#endif

/* Records, one a connection: those of the core, those that wait to be accepted, and those that the core has closed
 * while what was passed on to them without copying is not acknowledged. Range 1..254. */
#ifndef MINIPROXY_LWIP_RAW_RECORDS
#if MEMP_MEM_MALLOC
#define MINIPROXY_LWIP_RAW_RECORDS (2 * MINIPROXY_SESSIONS + MINIPROXY_RESERVED + MINIPROXY_LWIP_RAW_BACKLOG)
#else
#define MINIPROXY_LWIP_RAW_RECORDS MEMP_NUM_TCP_PCB
#endif
#endif

/* Lookups at the same time; more than lwIP can hold are of no use. A name takes one, or two where both families are
 * asked for. Range 1..255, with both families 2..255. */
#ifndef MINIPROXY_LWIP_RAW_LOOKUPS
#if defined DNS_MAX_REQUESTS && DNS_MAX_REQUESTS < DNS_TABLE_SIZE
#define MINIPROXY_LWIP_RAW_LOOKUPS DNS_MAX_REQUESTS
#else
#define MINIPROXY_LWIP_RAW_LOOKUPS DNS_TABLE_SIZE
#endif
#endif

/* Seconds without progress after which a closed connection is reset that still has octets to deliver. Range 1..120. */
#ifndef MINIPROXY_LWIP_RAW_LINGER_S
#define MINIPROXY_LWIP_RAW_LINGER_S 60
#endif

/* Octets of lwIP's heap that sending leaves alone, so that acknowledgements can be received and sent. */
#ifndef MINIPROXY_LWIP_RAW_SPARE
#define MINIPROXY_LWIP_RAW_SPARE 192
#endif

/* And octets of it that are left to connections of which little is under way, and that to a peer who reads, so that short
 * answers, refusals above all, get out when peers that do not read hold the rest. */
#ifndef MINIPROXY_LWIP_RAW_SPARE_FIRST
#define MINIPROXY_LWIP_RAW_SPARE_FIRST (MEM_LIBC_MALLOC || MEM_USE_POOLS ? 0 : MEM_SIZE < 6144 ? MEM_SIZE / 8 : 768)
#endif

/* 1: pass payload on without copying it (struct miniproxy_port.relay). Needs a netif that has done with a pbuf when its
 * linkoutput returns, or that copies. */
#ifndef MINIPROXY_LWIP_RAW_RELAY
#define MINIPROXY_LWIP_RAW_RELAY 1
#endif

/* Receive windows that the pbuf pool must be able to hold at once: one a connection and, where payload is passed on
 * without copying, a third one a session, of an origin that is gone while the client has not acknowledged what it sent.
 * With less, clients that stop reading can keep the pool from others until MINIPROXY_TIMEOUT_WRITE ends them, and the
 * netif's driver must take small frames from the heap (PBUF_RAM) when the pool is empty, or lwIP comes to a standstill.
 * At least 1. */
#ifndef MINIPROXY_LWIP_RAW_HOLDERS
#define MINIPROXY_LWIP_RAW_HOLDERS (MINIPROXY_LWIP_RAW_RECORDS + (MINIPROXY_LWIP_RAW_RELAY ? MINIPROXY_SESSIONS : 0))
#endif

/* Pbufs of the pool beyond those: what the driver's receive ring holds, and one to receive into. */
#ifndef MINIPROXY_LWIP_RAW_POOL_SPARE
#define MINIPROXY_LWIP_RAW_POOL_SPARE 2
#endif

struct miniproxy_lwip_raw;

/* The table for struct miniproxy_config.port; port_data is the struct miniproxy_lwip_raw. */
extern const struct miniproxy_port miniproxy_lwip_raw_port;

/* Prepare, after lwip_init and before miniproxy_init. *raw must be zeroed; it is the caller's (static storage). */
void miniproxy_lwip_raw_init(struct miniproxy_lwip_raw *raw, struct miniproxy *proxy);

/* Listen on an address of this device, or with family 0 on all of them. The port that was bound (of interest when 0 was
 * asked for), or -1: no PCB is left, or the address is in use. */
int miniproxy_lwip_raw_listen(struct miniproxy_lwip_raw *raw, const struct miniproxy_addr *at);

/* Close the listeners, and reset what has not been accepted: for a drain. */
void miniproxy_lwip_raw_stop_listening(struct miniproxy_lwip_raw *raw);

/* After miniproxy_stop. Resets what is still being delivered. *raw stays in use until the lookups under way have ended:
 * some seconds. */
void miniproxy_lwip_raw_end(struct miniproxy_lwip_raw *raw);

/* Lines for a syslog server, by UDP (RFC 5426): one datagram each, from the loop that runs the port; it may be in
 * struct miniproxy_config.event. A line that does not fit into TCP_MSS is cut, so that none is fragmented. What lwIP does
 * not take at once is dropped and counted; sending leaves alone what connections need of the heap. Takes a UDP PCB. */
struct miniproxy_lwip_raw_syslog {
    struct udp_pcb *pcb; /* NULL: not open */
    ip_addr_t to;
    uint16_t port;
    uint32_t dropped;
};

/* False: no PCB is left, or this build does not have the family. */
bool miniproxy_lwip_raw_syslog_open(struct miniproxy_lwip_raw_syslog *syslog, const struct miniproxy_addr *to);
void miniproxy_lwip_raw_syslog_send(struct miniproxy_lwip_raw_syslog *syslog, const char *line, size_t len);
void miniproxy_lwip_raw_syslog_close(struct miniproxy_lwip_raw_syslog *syslog);

/* ---- Private ---- */

/* Are names looked up in both families? */
#define MINIPROXY_LWIP_RAW_BOTH_FAMILIES (LWIP_IPV4 && LWIP_IPV6 && MINIPROXY_WITH_IPV6 && MINIPROXY_ADDRESSES > 1)

/* One connection as lwIP sees it. */
struct miniproxy_lwip_raw_record {
    struct miniproxy_conn *conn; /* NULL: not accepted yet, or closed */
    struct tcp_pcb *pcb;         /* NULL: lwIP has let go of it */
    struct pbuf *in;             /* received and not read; lengths are those of single pbufs, tot_len means nothing */
    struct pbuf *kept;           /* passed on to this connection and not acknowledged */
    uint16_t acked;              /* octets acknowledged, modulo 2^16; until accepted: when it came */
    uint16_t taken;              /* octets of the first pbuf in `in` that have been read */
    uint8_t state : 4;
    uint8_t eof : 1;
    uint8_t starved : 1; /* waits for memory of lwIP */
    uint8_t index;       /* in records */
    int8_t error;        /* enum miniproxy_result once the connection is lost */
    uint8_t idle;        /* half seconds without progress, when closed */
};

struct miniproxy_lwip_raw_lookup {
    struct miniproxy_conn *conn; /* NULL: nobody waits any more */
    ip_addr_t answer;
    int8_t result; /* 0: free; AGAIN: lwIP holds a pointer to this; 1: answered; or an error */
};

struct miniproxy_lwip_raw {
    struct miniproxy *proxy;
    struct tcp_pcb *listeners[MINIPROXY_LWIP_RAW_LISTENERS];
    struct miniproxy_lwip_raw_record records[MINIPROXY_LWIP_RAW_RECORDS];
    struct miniproxy_lwip_raw_lookup lookups[MINIPROXY_LWIP_RAW_LOOKUPS];
    uint16_t arrivals; /* counts connections that came */
    bool starved;      /* some record is */
};

#endif
