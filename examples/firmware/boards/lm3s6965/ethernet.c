/* SPDX-License-Identifier: MIT
 *
 * Ethernet of the LM3S6965: a FIFO each way, in 32-bit words, without DMA. A frame in it has two octets of length in
 * front; ETH_PAD_SIZE 2 gives a pbuf the same layout, and IP headers their alignment.
 */
#include "board.h"

#include "cpu.h"
#include "fifo.h"
#include "net.h"

#include "lwip/netif.h"
#include "netif/ethernet.h"

#define MAC(offset) REGISTER(0x40048000 + (offset))

enum {
    INTERRUPTS = 0x00, /* read: pending; write: acknowledge */
    INTERRUPT_MASK = 0x04,
    RECEIVE = 0x08,  /* 1 on, 2 all multicasts, 8 frames with a wrong checksum are dropped, 16 empty the FIFO */
    TRANSMIT = 0x0C, /* 1 on, 2 pad short frames, 4 append the checksum, 8 full duplex */
    DATA = 0x10,
    ADDRESS_LOW = 0x14,
    ADDRESS_HIGH = 0x18,
    FRAMES = 0x34, /* received and not yet read */
    SEND = 0x38    /* 1: a frame is under way */
};
enum {
    INTERRUPT = 42,
    RECEIVED = 1,
    ALL_INTERRUPTS = 0x7F,
    FRAMES_MASK = 0x3F,
    CHECKSUM = 4,
    HEADER = 14,
    SHORTEST = 60
};

_Static_assert(ETH_PAD_SIZE == 2, "the chip's length field takes the place of the padding");

void ethernet_interrupt(void);
void ethernet_interrupt(void)
{
    MAC(INTERRUPT_MASK) = 0;
}

/* The length that the chip wants in front is that of the data behind the header. */
static err_t transmit(struct netif *netif, struct pbuf *p)
{
    size_t len = (size_t)p->tot_len - ETH_PAD_SIZE, data = (len < SHORTEST ? SHORTEST : len) - HEADER, words;
    uint8_t *front = p->payload;
    (void)netif;
    for (unsigned i = 0; MAC(SEND) & 1; i++)
        if (i == 100000) return ERR_TIMEOUT;
    front[0] = (uint8_t)data;
    front[1] = (uint8_t)(data >> 8);
    words = pbuf_to_fifo(&MAC(DATA), p);
    while (words++ < (ETH_PAD_SIZE + HEADER + data + 3) / 4) MAC(DATA) = 0;
    MAC(SEND) = 1;
    return ERR_OK;
}

/* The length counts itself and the checksum. All words of a frame must be read, or the next cannot be found. */
struct pbuf *ethernet_receive(void)
{
    while (ethernet_pending()) {
        uint32_t first = MAC(DATA), len = first & 0xffff;
        size_t words = (len + 3) / 4 - 1;
        struct pbuf *p = len > ETH_PAD_SIZE + HEADER + CHECKSUM ? net_frame_alloc(len - CHECKSUM) : NULL;
        if (p != NULL) {
            *(uint32_t *)p->payload = first;
            fifo_to_pbuf(&MAC(DATA), p, sizeof first);
            words -= ((size_t)p->tot_len + 3) / 4 - 1;
        }
        while (words-- > 0) (void)MAC(DATA);
        if (p != NULL) return p;
    }
    return NULL;
}

bool ethernet_pending(void)
{
    return (MAC(FRAMES) & FRAMES_MASK) != 0;
}

void ethernet_arm(void)
{
    MAC(INTERRUPTS) = ALL_INTERRUPTS;
    MAC(INTERRUPT_MASK) = RECEIVED;
}

/* The PHY knows, behind the MAC's management registers, which the emulator does not have. */
bool ethernet_link(void)
{
    return true;
}

bool ethernet_init(struct netif *netif)
{
    uint32_t low = MAC(ADDRESS_LOW), high = MAC(ADDRESS_HIGH);
    for (unsigned i = 0; i < ETH_HWADDR_LEN; i++)
        netif->hwaddr[i] = (uint8_t)(i < 4 ? low >> 8 * i : high >> 8 * (i - 4));
    netif->mtu = 1500;
    netif->linkoutput = transmit;
    MAC(INTERRUPT_MASK) = 0;
    MAC(RECEIVE) = 0x10;
    MAC(INTERRUPTS) = ALL_INTERRUPTS;
    MAC(TRANSMIT) = 0x0F;
    MAC(RECEIVE) = 0x0B;
    cpu_interrupt_enable(INTERRUPT);
    return true;
}
