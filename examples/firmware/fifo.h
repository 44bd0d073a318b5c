/* SPDX-License-Identifier: MIT
 *
 * Between pbufs and a FIFO of 32-bit words, as many Ethernet chips have: for drivers.
 */
#ifndef FIFO_H
#define FIFO_H

#include "board.h"

#include "lwip/pbuf.h"

_Static_assert(MEM_ALIGNMENT == 4, "words of a frame must not cross pbufs of the pool");

/* Fill a pbuf of net_frame_alloc, all but the first `done` octets (a multiple of 4), which are there. Reads
 * ceil((tot_len - done) / 4) words. */
static inline void fifo_to_pbuf(volatile uint32_t *fifo, struct pbuf *p, size_t done)
{
    for (; p != NULL; p = p->next) {
        uint32_t *to = (uint32_t *)p->payload;
        size_t left = p->len;
        for (; done > 0 && left >= 4; done -= 4, left -= 4) to++;
        for (; left >= 4; left -= 4) *to++ = *fifo;
        if (left > 0) {
            uint32_t word = *fifo;
            for (uint8_t *octet = (uint8_t *)to; left > 0; left--, word >>= 8) *octet++ = (uint8_t)word;
        }
    }
}

/* A whole frame. Its pbufs may begin anywhere and have any length: what TCP sends is a header and somebody's data.
 * Returns the number of words written. */
static inline size_t pbuf_to_fifo(volatile uint32_t *fifo, const struct pbuf *p)
{
    uint32_t word = 0;
    unsigned octets = 0; /* in word */
    size_t words = 0;
    for (; p != NULL; p = p->next) {
        const uint8_t *from = p->payload;
        size_t left = p->len;
        if (octets == 0 && ((uintptr_t)from & 3) == 0)
            for (; left >= 4; left -= 4, from += 4, words++) *fifo = *(const uint32_t *)(const void *)from;
        for (; left > 0; left--) {
            word |= (uint32_t)*from++ << 8 * octets;
            if (++octets < 4) continue;
            *fifo = word;
            words++;
            word = octets = 0;
        }
    }
    if (octets > 0) *fifo = word;
    return words + (octets > 0);
}

#endif
