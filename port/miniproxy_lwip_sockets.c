/* SPDX-License-Identifier: MIT
 *
 * 1 requirements · 2 addresses and errors · 3 inside the stack · 4 names · 5 waiting: by poll, by select · 6 the port
 * table · 7 API.
 *
 * A connection's handle is its socket + 1. lwIP runs in a thread of its own. Whatever touches its PCBs, and the
 * queries, which its thread answers, is a "job" of section 3: tcpip_api_call runs it with the core locked, or in lwIP's
 * thread when it is built without that lock, and returns when it is done. Everything else runs in the task of the main
 * loop and touches nothing that lwIP's thread writes.
 *
 * errno is not used to decide anything: where the C library keeps one for all tasks, another task may change it between
 * the return from lwIP and a look at it.
 */
#include "miniproxy_lwip_sockets.h"

#include "lwip/sockets.h" /* before anything of libc that has POLLOUT or O_NONBLOCK, which would silently differ */

#include "lwip/api.h"
#include "lwip/dns.h"
#include "lwip/ip.h"
#include "lwip/netif.h"
#include "lwip/priv/sockets_priv.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/priv/tcpip_priv.h"
#include "lwip/sys.h"
#include "lwip/tcp.h"
#include "lwip/udp.h"

#include <string.h>

/* ==== 1  Requirements ============================================================================== */

#if NO_SYS
#error "NO_SYS is 1 in lwipopts.h: there are no sockets; use port/miniproxy_lwip_raw.c"
#endif
#if !LWIP_SOCKET || !LWIP_TCP || !LWIP_UDP
#error "LWIP_SOCKET, LWIP_TCP and LWIP_UDP must be 1 in lwipopts.h"
#endif
#if !TCP_LISTEN_BACKLOG
#error "TCP_LISTEN_BACKLOG must be 1 in lwipopts.h: without it lwIP resets clients that find no netconn, or no place to wait"
#endif
#if !LWIP_DNS
#error "LWIP_DNS must be 1 in lwipopts.h: requests name their destinations"
#endif
#if MINIPROXY_LWIP_SOCKETS_SELECT && !LWIP_SOCKET_SELECT
#error "set LWIP_SOCKET_POLL or LWIP_SOCKET_SELECT to 1 in lwipopts.h"
#endif
#if !MINIPROXY_LWIP_SOCKETS_SELECT && !LWIP_SOCKET_POLL
#error "set LWIP_SOCKET_POLL to 1 in lwipopts.h, or MINIPROXY_LWIP_SOCKETS_SELECT to 1"
#endif
#if LWIP_MPU_COMPATIBLE
#error "LWIP_MPU_COMPATIBLE must be 0: lwIP's thread reads and writes memory of the proxy's task"
#endif
#if !SYS_LIGHTWEIGHT_PROT
#error "SYS_LIGHTWEIGHT_PROT must be 1 in lwipopts.h: two threads use the stack"
#endif
#if MINIPROXY_LWIP_SOCKETS_LISTENERS < 1 || MINIPROXY_LWIP_SOCKETS_LISTENERS > 8
#error "MINIPROXY_LWIP_SOCKETS_LISTENERS must be 1..8: each has one bit of accept_ready"
#endif
#if MINIPROXY_LWIP_SOCKETS_QUERIES < 1 || MINIPROXY_LWIP_SOCKETS_QUERIES > 250
#error "MINIPROXY_LWIP_SOCKETS_QUERIES must be 1..250: every name needs one"
#endif
#if MINIPROXY_LWIP_SOCKETS_LINGER_S < 1 || MINIPROXY_LWIP_SOCKETS_LINGER_S > 3600
#error "MINIPROXY_LWIP_SOCKETS_LINGER_S must be 1..3600"
#endif
#if DEFAULT_ACCEPTMBOX_SIZE < 1 || DEFAULT_TCP_RECVMBOX_SIZE < 1 || DEFAULT_UDP_RECVMBOX_SIZE < 1
#error "set DEFAULT_ACCEPTMBOX_SIZE, DEFAULT_TCP_RECVMBOX_SIZE and DEFAULT_UDP_RECVMBOX_SIZE in lwipopts.h"
#endif
#if MINIPROXY_LWIP_SOCKETS_BACKLOG < 1 || MINIPROXY_LWIP_SOCKETS_BACKLOG > DEFAULT_ACCEPTMBOX_SIZE || \
    MINIPROXY_LWIP_SOCKETS_BACKLOG > 255
#error "MINIPROXY_LWIP_SOCKETS_BACKLOG must be 1..DEFAULT_ACCEPTMBOX_SIZE: lwIP resets what does not fit into that box"
#endif
/* A full receive box makes lwIP refuse a segment, drop all that follow and try again after up to 250 ms. */
#if DEFAULT_TCP_RECVMBOX_SIZE < (TCP_WND + TCP_MSS - 1) / TCP_MSS + 1
#error "DEFAULT_TCP_RECVMBOX_SIZE is too small for TCP_WND: raise it to the window in segments and 1, or lower TCP_WND"
#endif

/* A session with its origin, those that are only refused, the listeners, and the wake. */
#define NETCONNS_MIN (2 * MINIPROXY_SESSIONS + MINIPROXY_RESERVED + MINIPROXY_LWIP_SOCKETS_LISTENERS + 1)
#if MEMP_NUM_NETCONN < NETCONNS_MIN
#error "MEMP_NUM_NETCONN is too small: raise it to 2 * MINIPROXY_SESSIONS + MINIPROXY_RESERVED + listeners + 1"
#endif
/* lwIP resets a client for which there is a PCB and no netconn. So further connection attempts of a session leave some
 * to those who wait to be accepted. */
#define NETCONNS_ALL_WAIT (MINIPROXY_LWIP_SOCKETS_LISTENERS * MINIPROXY_LWIP_SOCKETS_BACKLOG)
#if MEMP_NUM_NETCONN - NETCONNS_MIN >= NETCONNS_ALL_WAIT
#define NETCONNS_WAITING NETCONNS_ALL_WAIT
#elif !MEMP_MEM_MALLOC && MEMP_NUM_NETCONN > MEMP_NUM_TCP_PCB + MINIPROXY_LWIP_SOCKETS_LISTENERS
#define NETCONNS_WAITING (MEMP_NUM_NETCONN - NETCONNS_MIN)
#else
#error "MEMP_NUM_NETCONN is too small for clients that wait: listeners * MINIPROXY_LWIP_SOCKETS_BACKLOG more, or \
MEMP_NUM_TCP_PCB + listeners + 1"
#endif
#if !MEMP_MEM_MALLOC && MEMP_NUM_TCP_PCB < 2 * MINIPROXY_SESSIONS + MINIPROXY_RESERVED
#error "MEMP_NUM_TCP_PCB is too small: raise it to 2 * MINIPROXY_SESSIONS + MINIPROXY_RESERVED, better more"
#endif
#if !MEMP_MEM_MALLOC && MEMP_NUM_TCP_PCB_LISTEN < MINIPROXY_LWIP_SOCKETS_LISTENERS
#error "MEMP_NUM_TCP_PCB_LISTEN is too small: raise it to MINIPROXY_LWIP_SOCKETS_LISTENERS"
#endif
#if !MEMP_MEM_MALLOC && MEMP_NUM_UDP_PCB < 2 + LWIP_DHCP
#error "MEMP_NUM_UDP_PCB is too small: DNS, DHCP and the port need one each"
#endif

#define WITH_IPV6 (LWIP_IPV6 && MINIPROXY_WITH_IPV6)
#if !LWIP_IPV4 && !WITH_IPV6
#error "LWIP_IPV4, or LWIP_IPV6 and MINIPROXY_WITH_IPV6, must be 1"
#endif

/* Half seconds. */
#define TIME_WAIT_TICKS (2000u / TCP_SLOW_INTERVAL)

/* How often to look at what has no event, and how long a name's second family is waited for (RFC 8305 section 3). */
#define LOOK_AGAIN_MS 50u

/* Bits of conn->port_flags. */
enum {
    FLAG_RESOLVING = 1, /* among the open connections because of a name */
    FLAG_ASKED = 2,     /* and with a query, not waiting for one */
    FLAG_CONNECTING = 4,
    FLAG_FIN = 8,      /* the peer's FIN has arrived, perhaps with octets before it that are not yet read */
    FLAG_EOF = 16,     /* it has been read */
    FLAG_LOST = 32,    /* a reset has been read */
    FLAG_FINISHED = 64 /* FIN sent */
};

/* ==== 2  Addresses and errors ====================================================================== */

#if LWIP_IPV4
static struct miniproxy_addr addr_of_ip4(const ip4_addr_t *ip, uint16_t port)
{
    struct miniproxy_addr a = {.family = 4, .port = port};

    memcpy(a.ip, &ip->addr, 4);
    return a;
}
#endif

#if LWIP_IPV6
/* An IPv4 address inside an IPv6 one becomes family 4, what cannot be represented family 0. */
static struct miniproxy_addr addr_of_ip6(const ip6_addr_t *ip, uint16_t port)
{
    static const uint8_t mapping[12] = {[10] = 0xff, 0xff};
    const uint8_t *octets = (const uint8_t *)ip->addr;
    bool mapped = memcmp(octets, mapping, sizeof mapping) == 0;
    struct miniproxy_addr a = {.family = mapped ? 4 : WITH_IPV6 ? 6 : 0, .port = port};

    memcpy(a.ip, octets + (mapped ? 12 : 0), mapped ? 4 : MINIPROXY_IP_LEN);
    return a;
}
#endif

static struct miniproxy_addr addr_of(const ip_addr_t *ip, uint16_t port)
{
#if LWIP_IPV4 && LWIP_IPV6
    return IP_IS_V6(ip) ? addr_of_ip6(ip_2_ip6(ip), port) : addr_of_ip4(ip_2_ip4(ip), port);
#elif LWIP_IPV6
    return addr_of_ip6(ip, port);
#else
    return addr_of_ip4(ip, port);
#endif
}

/* The other way. False for a family that this build does not have. */
static bool ip_of(ip_addr_t *ip, const struct miniproxy_addr *a)
{
    memset(ip, 0, sizeof *ip);
#if LWIP_IPV4
    if (a->family == 4) {
        memcpy(&ip_2_ip4(ip)->addr, a->ip, 4);
        IP_SET_TYPE(ip, IPADDR_TYPE_V4);
        return true;
    }
#endif
#if WITH_IPV6
    if (a->family == 6) {
        memcpy(ip_2_ip6(ip)->addr, a->ip, MINIPROXY_IP_LEN);
        IP_SET_TYPE(ip, IPADDR_TYPE_V6);
        return true;
    }
#endif
    return false;
}

static size_t addr_len(const struct miniproxy_addr *a)
{
    return a->family == 4 ? 4 : MINIPROXY_IP_LEN;
}

static bool addr_is_unspecified(const struct miniproxy_addr *a)
{
    static const uint8_t zeros[MINIPROXY_IP_LEN];

    return memcmp(a->ip, zeros, addr_len(a)) == 0;
}

static bool addr_is_loopback(const struct miniproxy_addr *a)
{
    static const uint8_t one[16] = {[15] = 1};

    return a->family == 4 ? a->ip[0] == 127 : memcmp(a->ip, one, MINIPROXY_IP_LEN) == 0;
}

static bool addr_is_same_host(const struct miniproxy_addr *a, const struct miniproxy_addr *b)
{
    return a->family == b->family && memcmp(a->ip, b->ip, addr_len(a)) == 0;
}

/* What a connection to `to` really leads to: an unspecified address means this host. */
static struct miniproxy_addr destination_of(const struct miniproxy_addr *to)
{
    struct miniproxy_addr a = {.family = 0};
    ip_addr_t ip;

    if (!ip_of(&ip, to)) return a;
    a = addr_of(&ip, to->port);
    if (addr_is_unspecified(&a)) {
        a.ip[addr_len(&a) - 1] = 1;
        if (a.family == 4) a.ip[0] = 127;
    }
    return a;
}

static int error_of(err_t error)
{
    switch (error) {
    case ERR_MEM:
    case ERR_BUF: /* no local port is left */
    case ERR_USE: return MINIPROXY_ERESOURCES;
    case ERR_RTE:
    case ERR_IF: return MINIPROXY_EUNREACHABLE;
    case ERR_ABRT: /* lwIP gave up: after retransmissions, keepalive probes, the loss of its address */
    case ERR_TIMEOUT: return MINIPROXY_ETIMEDOUT;
    case ERR_RST:
    case ERR_CLSD:
    case ERR_CONN: return MINIPROXY_ERESET;
    default: return MINIPROXY_EFAIL;
    }
}

static int fd_of(const struct miniproxy_conn *c)
{
    return (int)(c->handle - 1);
}

/* What is behind a socket of our own. It stays there until the socket is closed. */
static struct netconn *netconn_of(int fd)
{
    return lwip_socket_dbg_get_socket(fd)->conn;
}

/* ==== 3  Inside the stack ========================================================================== */

enum state { STATE_OPEN, STATE_CONNECTING, STATE_FIN, STATE_DEAD };

struct job {
    struct tcpip_api_call_data call; /* first: a job is found by it */
    struct netconn *conn;
    struct miniproxy_lwip_sockets *sockets;
    struct miniproxy_conn *c;
    struct miniproxy_addr *addr; /* in: an address; out: a list */
    const char *host;
    int result;
    uint8_t flags;
    bool hard, partial;
};

static struct job *job_of(struct tcpip_api_call_data *call)
{
    return (struct job *)(void *)call;
}

/* False: not even a semaphore could be had (without LWIP_TCPIP_CORE_LOCKING only), and nothing was done. */
static bool do_job(tcpip_api_call_fn work, struct job *job)
{
    return tcpip_api_call(work, &job->call) == ERR_OK;
}

static bool pcb_is_among(const struct tcp_pcb *list, const struct tcp_pcb *pcb, const void *owner)
{
    for (; list != NULL; list = list->next)
        if (list == pcb) return pcb->callback_arg == owner;
    return false;
}

/* lwIP does not let a client that uses its port again out of TIME_WAIT (RFC 9293 section 3.6.1): its SYN would be
 * answered with an acknowledgement of the old connection for two minutes. So what a client opened stays there just long
 * enough to acknowledge its FIN once more. Called when nothing moves `tmr` any more. */
static void shorten_time_wait(struct tcp_pcb *pcb)
{
    const uint32_t whole = 2 * TCP_MSL / TCP_SLOW_INTERVAL;

    if (pcb->listener != NULL && whole > TIME_WAIT_TICKS) pcb->tmr = tcp_ticks - (whole - TIME_WAIT_TICKS);
}

/* lwIP forgets to tell a netconn when its PCB, which has seen both FINs, ends its TIME_WAIT, or has to leave it because
 * PCBs are short: the netconn's pointer then leads to somebody else's connection. Until our FIN is sent that cannot be.
 * True: the PCB has reached TIME_WAIT, and is parted from the netconn. */
static bool part_from_time_wait(struct netconn *conn)
{
    struct tcp_pcb *pcb = conn->pcb.tcp;

    if (pcb == NULL || pcb_is_among(tcp_active_pcbs, pcb, conn)) return false;
    if (pcb_is_among(tcp_tw_pcbs, pcb, conn)) {
        tcp_arg(pcb, NULL);
        shorten_time_wait(pcb);
    }
    conn->pcb.tcp = NULL;
    return true;
}

static bool fin_arrived(const struct tcp_pcb *pcb)
{
    return pcb->refused_data == NULL &&
           (pcb->state == CLOSE_WAIT || pcb->state == LAST_ACK || pcb->state == CLOSING || pcb->state == TIME_WAIT);
}

static err_t job_look(struct tcpip_api_call_data *call)
{
    struct job *job = job_of(call);
    struct netconn *conn = job->conn;
    const struct tcp_pcb *pcb;

    if ((job->flags & FLAG_FINISHED) && part_from_time_wait(conn)) job->flags |= FLAG_FIN;
    pcb = conn->pcb.tcp;
    if (pcb == NULL) job->result = STATE_DEAD;
    else if (conn->state == NETCONN_CONNECT) job->result = STATE_CONNECTING;
    else job->result = fin_arrived(pcb) ? STATE_FIN : STATE_OPEN;
    return ERR_OK;
}

/* What the socket functions do not tell: has the connection ended? */
static enum state look(struct miniproxy_conn *c)
{
    struct job job = {.conn = netconn_of(fd_of(c)), .flags = c->port_flags};

    if (!do_job(job_look, &job)) return c->port_flags & FLAG_CONNECTING ? STATE_CONNECTING : STATE_OPEN;
    if (job.result == STATE_FIN) job.flags |= FLAG_FIN;
    c->port_flags = job.flags;
    return (enum state)job.result;
}

/* Both FINs are there: it goes to TIME_WAIT, or is there. */
static void end_soon(struct tcp_pcb *pcb)
{
    if (pcb->state != CLOSING && pcb->state != TIME_WAIT) return;
    tcp_shutdown(pcb, 1, 0); /* so that lwIP does not move `tmr` */
    shorten_time_wait(pcb);
}

/* lwIP 2.2.1 puts a FIN on the last segment that waits to be sent. If it then has to divide that one because the peer's
 * window is small, both parts keep the FIN, and the peer takes the first for the end: octets would be lost. So nothing
 * may wait; if it does, an acknowledgement is sure to come. */
static err_t send_fin(void *arg, struct tcp_pcb *pcb, uint16_t len)
{
    (void)arg, (void)len;
    tcp_sent(pcb, pcb->unsent != NULL ? send_fin : NULL);
    /* Without memory for it lwIP tries again by itself. Once it has been sent this does nothing. */
    if (pcb->unsent == NULL) tcp_shutdown(pcb, 0, 1);
    return ERR_OK;
}

static err_t job_finish(struct tcpip_api_call_data *call)
{
    struct job *job = job_of(call);
    struct tcp_pcb *pcb = job->conn->pcb.tcp;

    job->result = pcb != NULL;
    if (pcb != NULL) send_fin(NULL, pcb, 0);
    return ERR_OK;
}

/* What a connection that was closed still receives is dropped, without the reset that lwIP would answer it with. */
static err_t on_dropped(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t error)
{
    (void)arg, (void)error;
    if (p != NULL) {
        tcp_recved(pcb, p->tot_len);
        pbuf_free(p);
    } else {
        end_soon(pcb);
    }
    return ERR_OK;
}

/* Every second for a connection that was closed: its argument counts. Once the peer has acknowledged all and our FIN,
 * lwIP ends it by itself when it receives nothing any more. */
static err_t on_linger(void *arg, struct tcp_pcb *pcb)
{
    uintptr_t seconds = (uintptr_t)arg + 1;

    if (seconds > MINIPROXY_LWIP_SOCKETS_LINGER_S) {
        tcp_abort(pcb);
        return ERR_ABRT;
    }
    tcp_arg(pcb, (void *)seconds);
    if (pcb->state == FIN_WAIT_2) tcp_shutdown(pcb, 1, 0);
    return ERR_OK;
}

/* lwIP's own close would reset the connection over unread octets, or over those that come after it, and so destroy what
 * was sent. */
static void leave(struct tcp_pcb *pcb)
{
    uint32_t unread = TCP_WND_MAX(pcb) - pcb->rcv_wnd;

    tcp_arg(pcb, NULL);
    tcp_recv(pcb, on_dropped);
    tcp_sent(pcb, NULL);
    tcp_err(pcb, NULL);
    tcp_poll(pcb, NULL, 0);
    if (pcb->state == CLOSED || pcb->state == SYN_SENT) {
        tcp_close(pcb);
        return;
    }
    if (pcb->refused_data != NULL) unread -= pcb->refused_data->tot_len;
    for (; unread > 0; unread -= LWIP_MIN(unread, 0xffffu)) tcp_recved(pcb, (uint16_t)LWIP_MIN(unread, 0xffffu));
    tcp_setprio(pcb, TCP_PRIO_MIN); /* goes first when PCBs are short */
    tcp_poll(pcb, on_linger, 2);
    send_fin(NULL, pcb, 0);
    end_soon(pcb);
}

/* Take the PCB from a netconn that is going to be deleted. lwip_close then has nothing to wait for. */
static err_t job_release(struct tcpip_api_call_data *call)
{
    struct job *job = job_of(call);
    struct netconn *conn = job->conn;
    struct tcp_pcb *pcb;

    if (job->flags & FLAG_FINISHED) part_from_time_wait(conn);
    pcb = conn->pcb.tcp;
    if (pcb == NULL) return ERR_OK;
    if (job->hard) tcp_abort(pcb);
    else leave(pcb);
    conn->pcb.tcp = NULL;
    conn->state = NETCONN_NONE;
    return ERR_OK;
}

/* A new connection's socket. */
static err_t job_prepare(struct tcpip_api_call_data *call)
{
    struct netconn *conn = job_of(call)->conn;

    netconn_set_nonblocking(conn, 1);
    if (conn->pcb.tcp == NULL) return ERR_OK;
    tcp_nagle_disable(conn->pcb.tcp);
    ip_set_option(conn->pcb.tcp, SOF_KEEPALIVE);
#if SO_REUSE
    ip_set_option(conn->pcb.tcp, SOF_REUSEADDR);
#endif
    return ERR_OK;
}

static tcp_accept_fn accept_of_lwip; /* the same for all listeners */

/* Without a PCB the client repeats its SYN. lwIP would put a note into the box, where connections then find no place:
 * it resets those. */
static err_t on_accept(void *arg, struct tcp_pcb *pcb, err_t error)
{
    return pcb != NULL ? accept_of_lwip(arg, pcb, error) : ERR_MEM;
}

static err_t job_accept(struct tcpip_api_call_data *call)
{
    struct tcp_pcb *pcb = job_of(call)->conn->pcb.tcp;

    accept_of_lwip = ((struct tcp_pcb_listen *)(void *)pcb)->accept;
    tcp_accept(pcb, on_accept);
    return ERR_OK;
}

static err_t on_refused(void *arg, struct tcp_pcb *pcb, err_t error)
{
    (void)arg, (void)pcb, (void)error;
    return ERR_VAL; /* lwIP resets it */
}

/* From now on a listener's connections are refused. */
static err_t job_refuse(struct tcpip_api_call_data *call)
{
    tcp_accept(job_of(call)->conn->pcb.tcp, on_refused);
    return ERR_OK;
}

/* Is it an address of this device? */
static bool is_own(const struct miniproxy_addr *a)
{
    struct netif *netif;

    if (addr_is_loopback(a)) return true;
    NETIF_FOREACH(netif)
    {
        struct miniproxy_addr own;

#if LWIP_IPV4
        own = addr_of_ip4(netif_ip4_addr(netif), 0);
        if (addr_is_same_host(&own, a)) return true;
#endif
#if LWIP_IPV6
        for (s8_t i = 0; i < LWIP_IPV6_NUM_ADDRESSES; i++) {
            own = addr_of_ip6(netif_ip6_addr(netif, i), 0);
            if (ip6_addr_isvalid(netif_ip6_addr_state(netif, i)) && addr_is_same_host(&own, a)) return true;
        }
#endif
    }
    return false;
}

/* Does the address lead to that listener, in a family that it takes? The PCB is asked, not the caller of listen: when the
 * address of its netif changes, by DHCP for example, lwIP moves a listener along. */
static err_t job_leads_to(struct tcpip_api_call_data *call)
{
    struct job *job = job_of(call);
    struct miniproxy_addr at = addr_of(&job->conn->pcb.ip->local_ip, 0);

    job->result = addr_is_unspecified(&at) ? is_own(job->addr) : addr_is_same_host(&at, job->addr);
    return ERR_OK;
}

/* Make the wake's socket readable by the event that lwIP itself would raise: needs no packet and no memory, and ends a
 * poll or select as surely as data does. Called with the core locked. */
static void raise_wake(struct miniproxy_lwip_sockets *sockets)
{
    struct netconn *conn = netconn_of(sockets->wake_fd);

    if (sockets->woken) return;
    sockets->woken = true;
    conn->callback(conn, NETCONN_EVT_RCVPLUS, 0);
}

static err_t job_raise_wake(struct tcpip_api_call_data *call)
{
    raise_wake(job_of(call)->sockets);
    return ERR_OK;
}

static err_t job_clear_wake(struct tcpip_api_call_data *call)
{
    struct miniproxy_lwip_sockets *sockets = job_of(call)->sockets;
    struct netconn *conn = netconn_of(sockets->wake_fd);

    if (sockets->woken) conn->callback(conn, NETCONN_EVT_RCVMINUS, 0);
    sockets->woken = false;
    return ERR_OK;
}

/* ==== 4  Names =====================================================================================
 *
 * lwIP's resolver tells one address of one family, so with IPv6 a name takes two queries. It cannot be told to forget
 * one: it keeps a pointer to the query until it has an answer or gives up. Therefore the queries are static, and one
 * whose connection has gone is free only after that. All of it is used in jobs only.
 */
struct query {
    struct miniproxy_lwip_sockets *sockets;
    struct miniproxy_conn *c;    /* NULL: nobody waits any more */
    struct miniproxy_addr found; /* family 0: no address */
    uint32_t since_ms;           /* answered */
    bool used, asked;            /* asked: lwIP has the pointer */
    bool silent;                 /* no server has answered */
};

static struct query queries[MINIPROXY_LWIP_SOCKETS_QUERIES];

/* lwIP does not tell "no such name" from "no answer". But while it works on an answer, which it does with the core locked
 * whichever thread has brought it, there is a current netif, and while it gives up there is none. The time tells nothing: a
 * question for a name that is under way shares its end, and a second server may be asked after the first was silent. */
static void answer(struct query *query, const ip_addr_t *ip)
{
    if (ip != NULL) query->found = addr_of(ip, 0);
    query->silent = ip == NULL && ip_current_input_netif() == NULL;
    query->since_ms = sys_now();
    query->asked = false;
    query->used = query->c != NULL;
}

/* lwIP's thread calls this, with the core locked. */
static void on_found(const char *name, const ip_addr_t *ip, void *arg)
{
    struct query *query = arg;

    (void)name;
    answer(query, ip);
    if (query->used) raise_wake(query->sockets);
}

/* OK: it is on its way, or there. ERESOURCES: later. */
static int ask(struct job *job, uint8_t type)
{
    struct query *query = NULL;
    ip_addr_t ip;
    err_t error;

    for (size_t i = 0; i < MINIPROXY_LWIP_SOCKETS_QUERIES && query == NULL; i++)
        if (!queries[i].used) query = &queries[i];
    if (query == NULL) return MINIPROXY_ERESOURCES;
    *query = (struct query){.sockets = job->sockets, .c = job->c, .used = true, .asked = true};
    error = dns_gethostbyname_addrtype(job->host, &ip, on_found, query, type);
    if (error == ERR_INPROGRESS) return MINIPROXY_OK;
    if (error == ERR_OK) {
        answer(query, &ip);
        return MINIPROXY_OK;
    }
    query->used = query->asked = false;
    if (error == ERR_MEM) return MINIPROXY_ERESOURCES;
    return error == ERR_ARG ? MINIPROXY_ENAME : MINIPROXY_EDNS; /* too long; or there is no server */
}

#if LWIP_IPV4 && WITH_IPV6
/* Without an IPv6 address that leads anywhere, such addresses of others are of no use. */
static bool has_ipv6(void)
{
    struct netif *netif;

    NETIF_FOREACH(netif)
    for (s8_t i = 0; i < LWIP_IPV6_NUM_ADDRESSES; i++)
        if (ip6_addr_isvalid(netif_ip6_addr_state(netif, i)) && !ip6_addr_islinklocal(netif_ip6_addr(netif, i)) &&
            !ip6_addr_isloopback(netif_ip6_addr(netif, i)))
            return true;
    return false;
}

static err_t job_ask(struct tcpip_api_call_data *call)
{
    struct job *job = job_of(call);

    job->result = ask(job, LWIP_DNS_ADDRTYPE_IPV4);
    if (job->result == MINIPROXY_OK && has_ipv6()) (void)ask(job, LWIP_DNS_ADDRTYPE_IPV6);
    return ERR_OK;
}
#else
static err_t job_ask(struct tcpip_api_call_data *call)
{
    struct job *job = job_of(call);

    job->result = ask(job, LWIP_IPV4 ? LWIP_DNS_ADDRTYPE_IPV4 : LWIP_DNS_ADDRTYPE_IPV6);
    return ERR_OK;
}
#endif

static void forget(const struct miniproxy_lwip_sockets *sockets, const struct miniproxy_conn *c)
{
    for (size_t i = 0; i < MINIPROXY_LWIP_SOCKETS_QUERIES; i++) {
        struct query *query = &queries[i];

        if (!query->used || query->sockets != sockets || (c != NULL && query->c != c)) continue;
        query->c = NULL;
        query->used = query->asked;
    }
}

/* Without a connection: those of all. */
static err_t job_forget(struct tcpip_api_call_data *call)
{
    forget(job_of(call)->sockets, job_of(call)->c);
    return ERR_OK;
}

/* The addresses of job->c, IPv6 first, into job->addr; their number or an error. AGAIN: wait; AGAIN and partial:
 * for LOOK_AGAIN_MS more at most, for one family has answered. Addresses and errors end the queries. */
static err_t job_answers(struct tcpip_api_call_data *call)
{
    struct job *job = job_of(call);
    bool waits = false, silent = false, late = false;

    job->result = 0;
    for (size_t i = 0; i < MINIPROXY_LWIP_SOCKETS_QUERIES; i++) {
        const struct query *query = &queries[i];

        if (!query->used || query->sockets != job->sockets || query->c != job->c) continue;
        if (query->asked) waits = true;
        else if (query->silent) silent = true;
        else if (sys_now() - query->since_ms >= LOOK_AGAIN_MS) late = true;
        if (query->found.family == 0) continue;
        if (query->found.family == 6) job->addr[1] = job->addr[0];
        job->addr[query->found.family == 6 ? 0 : job->result] = query->found;
        job->result++;
    }
    job->partial = job->result > 0;
    if (waits && !(job->partial && late)) job->result = MINIPROXY_AGAIN;
    else if (job->result == 0) job->result = silent ? MINIPROXY_EDNS : MINIPROXY_ENAME;
    return ERR_OK;
}

static bool is_answered(struct miniproxy_lwip_sockets *sockets, struct miniproxy_conn *c)
{
    struct miniproxy_addr list[2];
    struct job job = {.sockets = sockets, .c = c, .addr = list, .result = MINIPROXY_AGAIN};

    if ((c->port_flags & FLAG_ASKED) && do_job(job_answers, &job) && job.result != MINIPROXY_AGAIN) return true;
    if (!(c->port_flags & FLAG_ASKED) || job.partial) sockets->look_again = true;
    return false;
}

/* The names whose connections wait: wake those that are there, and those that wait for a query. */
static void wake_resolved(struct miniproxy_lwip_sockets *sockets)
{
    sockets->look_again = false;
    for (unsigned i = 0; i < sockets->open_used; i++) {
        struct miniproxy_conn *c = sockets->open[i];

        if (!(c->port_flags & FLAG_RESOLVING) || (c->ready & MINIPROXY_WR)) continue;
        if (is_answered(sockets, c) || !(c->port_flags & FLAG_ASKED)) miniproxy_wake(c, MINIPROXY_WR);
    }
}

/* ==== 5  Waiting ===================================================================================
 *
 * A set is made of what is not known to be ready. What is ready stays out: dead connections would be reported for ever.
 */
#if MINIPROXY_LWIP_SOCKETS_SELECT

struct set {
    fd_set read, write, except;
    int end;
};

static void set_clear(struct set *set)
{
    FD_ZERO(&set->read);
    FD_ZERO(&set->write);
    FD_ZERO(&set->except);
    set->end = 0;
}

static void set_add(struct set *set, int fd, unsigned want)
{
    if (want & MINIPROXY_RD) FD_SET(fd, &set->read);
    if (want & MINIPROXY_WR) FD_SET(fd, &set->write);
    FD_SET(fd, &set->except);
    if (fd >= set->end) set->end = fd + 1;
}

static bool set_wait(struct set *set, uint32_t wait_ms)
{
    struct timeval time = {.tv_sec = (int)(wait_ms / 1000), .tv_usec = (int)(wait_ms % 1000) * 1000};

    return lwip_select(set->end, &set->read, &set->write, &set->except, wait_ms == MINIPROXY_FOREVER ? NULL : &time) >=
           0;
}

/* What became ready. Called for the members in the order in which they were added. */
static unsigned set_result(struct set *set, int fd)
{
    unsigned ready = 0;

    if (FD_ISSET(fd, &set->read)) ready |= MINIPROXY_RD;
    if (FD_ISSET(fd, &set->write)) ready |= MINIPROXY_WR;
    if (FD_ISSET(fd, &set->except)) ready |= MINIPROXY_RD | MINIPROXY_WR | MINIPROXY_BROKEN;
    return ready;
}

#else

/* Every member has a netconn. */
struct set {
    struct pollfd polls[MEMP_NUM_NETCONN];
    unsigned used, next;
};

static void set_clear(struct set *set)
{
    set->used = set->next = 0;
}

static void set_add(struct set *set, int fd, unsigned want)
{
    struct pollfd *poll = &set->polls[set->used++];

    *poll = (struct pollfd){.fd = fd};
    if (want & MINIPROXY_RD) poll->events = (short)(poll->events | POLLIN);
    if (want & MINIPROXY_WR) poll->events = (short)(poll->events | POLLOUT);
}

static bool set_wait(struct set *set, uint32_t wait_ms)
{
    return lwip_poll(set->polls, set->used, wait_ms > INT32_MAX ? -1 : (int)wait_ms) >= 0;
}

/* What became ready. Called for the members in the order in which they were added. */
static unsigned set_result(struct set *set, int fd)
{
    int events = set->polls[set->next++].revents;
    unsigned ready = 0;

    (void)fd;
    if (events & POLLIN) ready |= MINIPROXY_RD;
    if (events & POLLOUT) ready |= MINIPROXY_WR;
    if (events & (POLLERR | POLLNVAL)) ready |= MINIPROXY_RD | MINIPROXY_WR | MINIPROXY_BROKEN;
    return ready;
}

#endif

static unsigned wanted(const struct miniproxy_conn *c)
{
    return c->handle == 0 ? 0 : (MINIPROXY_RD | MINIPROXY_WR) & ~(unsigned)c->ready;
}

static bool listener_waits(const struct miniproxy_lwip_sockets *sockets, unsigned i)
{
    return !(sockets->accept_ready >> i & 1u);
}

static void fill_set(struct set *set, const struct miniproxy_lwip_sockets *sockets)
{
    set_clear(set);
    set_add(set, sockets->wake_fd, MINIPROXY_RD);
    for (unsigned i = 0; i < sockets->listeners_used; i++)
        if (listener_waits(sockets, i)) set_add(set, sockets->listeners[i].fd, MINIPROXY_RD);
    for (unsigned i = 0; i < sockets->open_used; i++) {
        const struct miniproxy_conn *c = sockets->open[i];

        if (wanted(c) != 0) set_add(set, fd_of(c), wanted(c));
    }
}

/* An end after our FIN is not told from an error. */
static void signal_conn(struct miniproxy_conn *c, unsigned ready)
{
    if (c->port_flags & (FLAG_FINISHED | FLAG_EOF)) ready &= ~MINIPROXY_BROKEN;
    if (ready != 0) miniproxy_wake(c, ready);
}

void miniproxy_lwip_sockets_wait(struct miniproxy_lwip_sockets *sockets, uint32_t wait_ms)
{
    struct set set;
    struct job job = {.sockets = sockets};

    if (sockets->look_again && wait_ms > LOOK_AGAIN_MS) wait_ms = LOOK_AGAIN_MS;
    fill_set(&set, sockets);
    if (!set_wait(&set, wait_ms)) {
        sys_msleep(LWIP_MIN(wait_ms, 10)); /* no memory even for a semaphore: do not spin */
        wake_resolved(sockets);
        return;
    }
    if (set_result(&set, sockets->wake_fd) & MINIPROXY_RD) {
        do_job(job_clear_wake, &job);
        sockets->look_again = true;
    }
    for (unsigned i = 0; i < sockets->listeners_used; i++) {
        if (!listener_waits(sockets, i) || set_result(&set, sockets->listeners[i].fd) == 0) continue;
        sockets->accept_ready |= (uint8_t)(1u << i);
        miniproxy_wake_accept(sockets->proxy);
    }
    for (unsigned i = 0; i < sockets->open_used; i++)
        if (wanted(sockets->open[i]) != 0) signal_conn(sockets->open[i], set_result(&set, fd_of(sockets->open[i])));
    if (sockets->look_again) wake_resolved(sockets);
}

/* ==== 6  The port table ============================================================================ */

static void open_add(struct miniproxy_lwip_sockets *sockets, struct miniproxy_conn *c)
{
    sockets->open[sockets->open_used++] = c;
}

static void open_remove(struct miniproxy_lwip_sockets *sockets, const struct miniproxy_conn *c)
{
    unsigned i = 0;

    while (sockets->open[i] != c) i++;
    sockets->open[i] = sockets->open[--sockets->open_used];
}

/* OK, or ESELF; ERESOURCES: it could not be found out. */
static int check_listeners(const struct miniproxy_lwip_sockets *sockets, struct miniproxy_addr *to)
{
    for (unsigned i = 0; i < sockets->listeners_used; i++) {
        const struct miniproxy_lwip_sockets_listener *listener = &sockets->listeners[i];
        struct job job = {.conn = netconn_of(listener->fd), .addr = to};

        if (listener->port != to->port || (listener->family != 0 && listener->family != to->family)) continue;
        if (!do_job(job_leads_to, &job)) return MINIPROXY_ERESOURCES;
        if (job.result) return MINIPROXY_ESELF;
    }
    return MINIPROXY_OK;
}

/* A connection's new socket, which must never block: all of the task would. */
static bool attach(struct miniproxy_lwip_sockets *sockets, struct miniproxy_conn *c, int fd)
{
    struct job job = {.conn = netconn_of(fd)};

    if (!do_job(job_prepare, &job)) {
        lwip_close(fd);
        return false;
    }
    c->handle = (intptr_t)fd + 1;
    c->port_flags = 0;
    open_add(sockets, c);
    return true;
}

static void release(int fd, uint8_t flags, bool hard)
{
    struct job job = {.conn = netconn_of(fd), .flags = flags, .hard = hard};

    do_job(job_release, &job);
    lwip_close(fd);
}

static void detach(struct miniproxy_lwip_sockets *sockets, struct miniproxy_conn *c, bool hard)
{
    release(fd_of(c), c->port_flags, hard);
    open_remove(sockets, c);
    c->handle = 0;
    c->port_flags = 0;
}

/* Are more sockets free than that? */
static bool sockets_are_free(unsigned more_than)
{
    unsigned count = 0;
    SYS_ARCH_DECL_PROTECT(level);

    for (int i = 0; i < MEMP_NUM_NETCONN && count <= more_than; i++) {
        const struct lwip_sock *sock = lwip_socket_dbg_get_socket(LWIP_SOCKET_OFFSET + i);

        SYS_ARCH_PROTECT(level);
        count += sock->conn == NULL;
        SYS_ARCH_UNPROTECT(level);
    }
    return count > more_than;
}

/* The listeners take turns. A connection that was reset while it waited has no address any more. */
static int lwip_sockets_accept(void *port, struct miniproxy_conn *c, struct miniproxy_addr *peer)
{
    struct miniproxy_lwip_sockets *sockets = port;

    for (unsigned tried = 0; tried < sockets->listeners_used;) {
        unsigned at = (sockets->listener_next + tried) % sockets->listeners_used;
        ip_addr_t ip;
        u16_t from;
        int fd;

        if (listener_waits(sockets, at)) {
            tried++;
            continue;
        }
        if (!sockets_are_free(0)) return MINIPROXY_ERESOURCES; /* lwip_accept would lose the connection */
        fd = lwip_accept(sockets->listeners[at].fd, NULL, NULL);
        if (fd < 0) {
            sockets->accept_ready &= (uint8_t) ~(1u << at);
            if (errno == ECONNABORTED) return MINIPROXY_ERESOURCES; /* lwIP had no netconn or PCB for one */
            continue;
        }
        sockets->listener_next = (uint8_t)(at + 1);
        if (!attach(sockets, c, fd)) return MINIPROXY_ERESOURCES;
        if (netconn_peer(netconn_of(fd), &ip, &from) != ERR_OK) {
            detach(sockets, c, true);
            return MINIPROXY_EFAIL;
        }
        *peer = addr_of(&ip, from);
        c->listener = (uint8_t)at;
        return MINIPROXY_OK;
    }
    return MINIPROXY_AGAIN;
}

static int lwip_sockets_resolve(void *port, struct miniproxy_conn *c, const char *host, struct miniproxy_addr *out,
                                int max)
{
    struct miniproxy_lwip_sockets *sockets = port;
    struct miniproxy_addr list[2];
    struct job job = {.sockets = sockets, .c = c, .host = host, .addr = list, .result = MINIPROXY_ERESOURCES};

    if (!(c->port_flags & FLAG_RESOLVING)) {
        open_add(sockets, c);
        c->port_flags = FLAG_RESOLVING;
    }
    if (!(c->port_flags & FLAG_ASKED)) {
        do_job(job_ask, &job);
        if (job.result == MINIPROXY_OK) c->port_flags |= FLAG_ASKED;
    }
    if (c->port_flags & FLAG_ASKED) {
        job.result = MINIPROXY_AGAIN;
        do_job(job_answers, &job);
    }
    if (job.result == MINIPROXY_AGAIN || job.result == MINIPROXY_ERESOURCES) {
        if (job.result == MINIPROXY_ERESOURCES || job.partial) sockets->look_again = true;
        return MINIPROXY_AGAIN;
    }
    do_job(job_forget, &job);
    open_remove(sockets, c);
    c->port_flags = 0;
    if (job.result > max) job.result = max;
    if (job.result > 0) memcpy(out, list, (size_t)job.result * sizeof *list);
    return job.result;
}

static int connect_begin(struct miniproxy_lwip_sockets *sockets, struct miniproxy_conn *c,
                         const struct miniproxy_addr *to)
{
    struct miniproxy_addr destination = destination_of(to);
    ip_addr_t ip;
    err_t error;
    int fd, result;

    if (!ip_of(&ip, &destination)) return MINIPROXY_EUNREACHABLE;
    result = check_listeners(sockets, &destination);
    if (result != MINIPROXY_OK) return result;
    if (!ENABLE_LOOPBACK && addr_is_unspecified(to)) return MINIPROXY_EUNREACHABLE; /* nothing answers, or ever will */
    if (!sockets_are_free(NETCONNS_WAITING)) return MINIPROXY_ERESOURCES;
    fd = lwip_socket(destination.family == 4 ? AF_INET : AF_INET6, SOCK_STREAM, 0);
    if (fd < 0 || !attach(sockets, c, fd)) return MINIPROXY_ERESOURCES;
    error = netconn_connect(netconn_of(fd), &ip, destination.port);
    if (error == ERR_INPROGRESS) {
        c->port_flags |= FLAG_CONNECTING;
        return MINIPROXY_AGAIN;
    }
    if (error == ERR_OK) return MINIPROXY_OK;
    detach(sockets, c, false);
    return error_of(error);
}

static int lwip_sockets_connect(void *port, struct miniproxy_conn *c, const struct miniproxy_addr *to)
{
    enum state state;
    err_t error;

    if (c->handle == 0) return connect_begin(port, c, to);
    state = look(c);
    if (state == STATE_CONNECTING) return MINIPROXY_AGAIN;
    c->port_flags &= (uint8_t)~FLAG_CONNECTING;
    if (state != STATE_DEAD) return MINIPROXY_OK;
    error = netconn_err(netconn_of(fd_of(c)));
    detach(port, c, true);
    return error == ERR_RST ? MINIPROXY_EREFUSED : error_of(error);
}

static int end_of_stream(struct miniproxy_conn *c)
{
    c->port_flags |= FLAG_FIN | FLAG_EOF;
    if (c->port_flags & FLAG_FINISHED) (void)look(c); /* parts from the PCB */
    return MINIPROXY_EOF;
}

/* When lwip_recv has nothing: lwIP may have lost the FIN, for it does not try again when the box was full; and a reset
 * and an end are told once. What came between the two looks is still there. */
static int recv_nothing(struct miniproxy_conn *c, void *buf, size_t len)
{
    bool timed_out = errno == ECONNABORTED; /* no more than a hint */
    enum state state = look(c);
    int got;

    if (state == STATE_OPEN || state == STATE_CONNECTING) return MINIPROXY_AGAIN;
    got = (int)lwip_recv(fd_of(c), buf, len, MSG_DONTWAIT);
    if (got > 0) return got;
    if (got == 0 || (c->port_flags & FLAG_FIN)) return end_of_stream(c);
    c->port_flags |= FLAG_LOST;
    return timed_out ? MINIPROXY_ETIMEDOUT : MINIPROXY_ERESET;
}

static int lwip_sockets_recv(void *port, struct miniproxy_conn *c, void *buf, size_t len)
{
    int got;

    (void)port;
    if (c->port_flags & FLAG_EOF) return MINIPROXY_EOF;
    if (c->port_flags & FLAG_LOST) return MINIPROXY_ERESET;
    if (c->port_flags & FLAG_FINISHED) (void)look(c);
    got = (int)lwip_recv(fd_of(c), buf, len, MSG_DONTWAIT);
    if (got == 0) return end_of_stream(c);
    if (got < 0) return recv_nothing(c, buf, len);
    if ((size_t)got < len && look(c) == STATE_OPEN) c->ready &= (uint8_t)~MINIPROXY_RD;
    return got;
}

static int lwip_sockets_send(void *port, struct miniproxy_conn *c, const void *buf, size_t len)
{
    size_t sent = 0;
    err_t error = netconn_write_partly(netconn_of(fd_of(c)), buf, len, NETCONN_COPY | NETCONN_DONTBLOCK, &sent);

    (void)port;
    if (error == ERR_WOULDBLOCK || error == ERR_MEM || (error == ERR_OK && sent == 0)) return MINIPROXY_AGAIN;
    if (error != ERR_OK) return error_of(error) == MINIPROXY_ETIMEDOUT ? MINIPROXY_ETIMEDOUT : MINIPROXY_ERESET;
    if (sent < len) c->ready &= (uint8_t)~MINIPROXY_WR;
    return (int)sent;
}

static int lwip_sockets_finish(void *port, struct miniproxy_conn *c)
{
    struct job job = {.conn = netconn_of(fd_of(c))};

    (void)port;
    if (!do_job(job_finish, &job)) return MINIPROXY_AGAIN; /* the next poll finds it writable again */
    if (job.result == 0) return MINIPROXY_ERESET;
    c->port_flags |= FLAG_FINISHED;
    return MINIPROXY_OK;
}

static void lwip_sockets_close(void *port, struct miniproxy_conn *c, bool hard)
{
    struct miniproxy_lwip_sockets *sockets = port;
    struct job job = {.sockets = sockets, .c = c};

    if (c->port_flags & FLAG_RESOLVING) {
        do_job(job_forget, &job);
        open_remove(sockets, c);
        c->port_flags = 0;
    }
    if (c->handle != 0) detach(sockets, c, hard);
}

const struct miniproxy_port miniproxy_lwip_sockets_port = {
    .accept = lwip_sockets_accept,
    .resolve = lwip_sockets_resolve,
    .connect = lwip_sockets_connect,
    .recv = lwip_sockets_recv,
    .send = lwip_sockets_send,
    .finish = lwip_sockets_finish,
    .close = lwip_sockets_close,
};

/* ==== 7  API ======================================================================================= */

/* A socket that can be written to must be said to be so: it is not when the values of POLLIN and POLLOUT, or the layout
 * of a set, are not lwIP's. */
static bool values_agree(int fd)
{
    struct set set;

    set_clear(&set);
    set_add(&set, fd, MINIPROXY_RD | MINIPROXY_WR);
    return set_wait(&set, 0) && set_result(&set, fd) == MINIPROXY_WR;
}

bool miniproxy_lwip_sockets_init(struct miniproxy_lwip_sockets *sockets, struct miniproxy *proxy)
{
    sockets->proxy = proxy;
    sockets->wake_fd = lwip_socket(LWIP_IPV4 ? AF_INET : AF_INET6, SOCK_DGRAM, 0);
    if (sockets->wake_fd < 0) return false;
    if (values_agree(sockets->wake_fd)) return true;
    lwip_close(sockets->wake_fd);
    return false;
}

static bool listen_on(struct miniproxy_lwip_sockets_listener *listener, const struct miniproxy_addr *at)
{
    struct netconn *conn = netconn_of(listener->fd);
    struct job job = {.conn = conn};
    ip_addr_t ip;
    u16_t port;

    if (!do_job(job_prepare, &job)) return false;
    if (at->family == 0) ip_addr_set_any(WITH_IPV6 || !LWIP_IPV4, &ip);
    else if (!ip_of(&ip, at)) return false;
#if LWIP_IPV6
    if (at->family == 6) netconn_set_ipv6only(conn, 1);
#endif
    if (netconn_bind(conn, &ip, at->port) != ERR_OK ||
        netconn_listen_with_backlog(conn, MINIPROXY_LWIP_SOCKETS_BACKLOG) != ERR_OK ||
        netconn_addr(conn, &ip, &port) != ERR_OK || !do_job(job_accept, &job))
        return false;
    listener->port = port;
    listener->family = at->family;
    return true;
}

int miniproxy_lwip_sockets_listen(struct miniproxy_lwip_sockets *sockets, const struct miniproxy_addr *at)
{
    struct miniproxy_lwip_sockets_listener *listener = &sockets->listeners[sockets->listeners_used];
    bool six = at->family == 6 || (at->family == 0 && (WITH_IPV6 || !LWIP_IPV4));

    if (sockets->listeners_used == MINIPROXY_LWIP_SOCKETS_LISTENERS) return -1;
    listener->fd = lwip_socket(six ? AF_INET6 : AF_INET, SOCK_STREAM, 0);
    if (listener->fd < 0) return -1;
    if (!listen_on(listener, at)) {
        lwip_close(listener->fd);
        return -1;
    }
    sockets->listeners_used++;
    return listener->port;
}

/* What still waits to be accepted is taken first: with LWIP_NETCONN_FULLDUPLEX lwIP 2.2.1 fails an assertion when it
 * closes a listener with such. */
static void close_listener(int fd)
{
    struct job job = {.conn = netconn_of(fd)};

    do_job(job_refuse, &job);
    for (int i = 0; i < DEFAULT_ACCEPTMBOX_SIZE; i++) {
        int waiting = lwip_accept(fd, NULL, NULL);
        if (waiting >= 0) release(waiting, 0, true);
    }
    lwip_close(fd);
}

void miniproxy_lwip_sockets_stop_listening(struct miniproxy_lwip_sockets *sockets)
{
    while (sockets->listeners_used > 0) close_listener(sockets->listeners[--sockets->listeners_used].fd);
    sockets->accept_ready = 0;
}

void miniproxy_lwip_sockets_interrupt(struct miniproxy_lwip_sockets *sockets)
{
    struct job job = {.sockets = sockets};

    do_job(job_raise_wake, &job);
}

void miniproxy_lwip_sockets_end(struct miniproxy_lwip_sockets *sockets)
{
    struct job job = {.sockets = sockets};

    miniproxy_lwip_sockets_stop_listening(sockets);
    do_job(job_forget, &job);
    lwip_close(sockets->wake_fd);
}

/* ---- Syslog: by lwIP's own functions, in its thread */

struct syslog_job {
    struct tcpip_api_call_data call; /* first: a job is found by it */
    struct miniproxy_lwip_sockets_syslog *syslog;
    const char *line;
    u16_t len;
};

static bool do_syslog_job(tcpip_api_call_fn work, struct syslog_job *job)
{
    return tcpip_api_call(work, &job->call) == ERR_OK;
}

static err_t job_syslog_open(struct tcpip_api_call_data *call)
{
    struct miniproxy_lwip_sockets_syslog *syslog = ((struct syslog_job *)(void *)call)->syslog;

    syslog->pcb = udp_new_ip_type(IP_GET_TYPE(&syslog->to));
    return syslog->pcb != NULL ? ERR_OK : ERR_MEM;
}

static err_t job_syslog_send(struct tcpip_api_call_data *call)
{
    struct syslog_job *job = (struct syslog_job *)(void *)call;
    struct pbuf *p = pbuf_alloc(PBUF_TRANSPORT, job->len, PBUF_RAM);
    err_t err;

    if (p == NULL) return ERR_MEM;
    memcpy(p->payload, job->line, job->len);
    err = udp_sendto(job->syslog->pcb, p, &job->syslog->to, job->syslog->port);
    pbuf_free(p);
    return err;
}

static err_t job_syslog_close(struct tcpip_api_call_data *call)
{
    udp_remove(((struct syslog_job *)(void *)call)->syslog->pcb);
    return ERR_OK;
}

bool miniproxy_lwip_sockets_syslog_open(struct miniproxy_lwip_sockets_syslog *syslog, const struct miniproxy_addr *to)
{
    struct syslog_job job = {.syslog = syslog};

    syslog->pcb = NULL;
    if (!ip_of(&syslog->to, to)) return false;
    syslog->port = to->port;
    syslog->dropped = 0;
    return do_syslog_job(job_syslog_open, &job);
}

void miniproxy_lwip_sockets_syslog_send(struct miniproxy_lwip_sockets_syslog *syslog, const char *line, size_t len)
{
    struct syslog_job job = {.syslog = syslog, .line = line, .len = (u16_t)(len < TCP_MSS ? len : TCP_MSS)};

    if (!do_syslog_job(job_syslog_send, &job)) syslog->dropped++;
}

void miniproxy_lwip_sockets_syslog_close(struct miniproxy_lwip_sockets_syslog *syslog)
{
    struct syslog_job job = {.syslog = syslog};

    if (syslog->pcb != NULL) do_syslog_job(job_syslog_close, &job);
    syslog->pcb = NULL;
}
