/* SPDX-License-Identifier: MIT */
#include "guard.h"

#include "lwip/priv/tcp_priv.h"
#include "lwip/prot/tcp.h"

/* ---- Segments that make lwIP fail an assertion, or send more than a frame holds
 *
 * - the size of a segment (MSS) told anywhere but in a SYN: lwIP takes it for a new one;
 * - octets beyond a FIN that came before them. */

enum { OPTION_END, OPTION_NOTHING, OPTION_MSS };

static bool tells_mss(const struct tcp_hdr *header, unsigned len)
{
    const uint8_t *at = (const uint8_t *)(header + 1), *end = at + len;
    while (at < end && *at != OPTION_END) {
        if (*at == OPTION_MSS) return true;
        if (*at == OPTION_NOTHING) at++;
        else if (end - at < 2 || at[1] < 2) break;
        else at += at[1];
    }
    return false;
}

#if TCP_QUEUE_OOSEQ
static bool is_beyond_fin(const struct tcp_pcb *pcb, const struct tcp_hdr *header, const struct pbuf *data)
{
    const struct tcp_seg *s = pcb->state != LISTEN ? pcb->ooseq : NULL; /* a listener's is a shorter struct */
    for (; s != NULL; s = s->next)
        if ((TCPH_FLAGS(s->tcphdr) & TCP_FIN) && TCP_SEQ_GT(header->seqno + data->tot_len, s->tcphdr->seqno + s->len))
            return true;
    return false;
}
#else
static bool is_beyond_fin(const struct tcp_pcb *pcb, const struct tcp_hdr *header, const struct pbuf *data)
{
    (void)pcb, (void)header, (void)data;
    return false;
}
#endif

/* ---- Windows that open later
 *
 * lwIP's largest segment is half of the largest window that the peer has told, or all that its MSS allows as long as that
 * half is nothing. So after a SYN with a window of 0 or 1 (Linux' SYNPROXY sends 0 for every host behind it) the next window
 * would make it smaller, and an assertion fails if longer ones wait to be sent. Here, before lwIP looks at a window, the
 * largest becomes one that allows the MSS. How much may be sent at once is another field. */

static void keep_segment_size(struct tcp_pcb *pcb)
{
    if (pcb->state != LISTEN && pcb->snd_wnd_max < 2) pcb->snd_wnd_max = UINT16_MAX;
}

bool guard_tcp_admits(struct tcp_pcb *pcb, const struct tcp_hdr *header, unsigned options, const struct pbuf *data)
{
    if (TCPH_FLAGS(header) & TCP_SYN) return true;
    keep_segment_size(pcb);
    return !tells_mss(header, options) && !is_beyond_fin(pcb, header, data);
}

/* ---- Segments behind a gap
 *
 * lwIP does not always cut them where the window ends, and fails an assertion when the gap is filled. Those that go beyond
 * the window are dropped here; an honest peer sends none. */

#if TCP_QUEUE_OOSEQ
unsigned guard_tcp_ooseq_limit(struct tcp_pcb *pcb)
{
    const uint32_t end = pcb->rcv_nxt + pcb->rcv_wnd;
    struct tcp_seg **at = &pcb->ooseq;
    while (*at != NULL && TCP_SEQ_LEQ((*at)->tcphdr->seqno + TCP_TCPLEN(*at), end)) at = &(*at)->next;
    tcp_segs_free(*at);
    *at = NULL;
    return TCP_WND;
}
#endif
