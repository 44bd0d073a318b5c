/* SPDX-License-Identifier: MIT
 *
 * LAN9118 Ethernet controller: FIFOs of 32-bit words without DMA, MAC and PHY behind indirect registers. Its receive
 * FIFO holds 10,560 octets and then drops frames: the sum of the TCP windows in use should not be much larger.
 */
#include "board.h"

#include "cpu.h"
#include "fifo.h"
#include "net.h"

#include "lwip/netif.h"
#include "netif/ethernet.h"

#define CHIP(offset) REGISTER(0x40200000 + (offset))

enum {
    RX_DATA = 0x00,
    TX_DATA = 0x20,
    RX_STATUS = 0x40,
    TX_STATUS = 0x48,
    IRQ_CONFIG = 0x54,
    INTERRUPTS = 0x58,
    INTERRUPT_ENABLE = 0x5C,
    BYTE_TEST = 0x64,
    FIFO_LEVELS = 0x68,
    RX_CONFIG = 0x6C,
    TX_CONFIG = 0x70,
    HARDWARE_CONFIG = 0x74,
    RX_FIFO = 0x7C, /* bits 16-23: frames waiting */
    TX_FIFO = 0x80, /* bits 0-15: octets free; 16-23: frames sent */
    MAC_COMMAND = 0xA4,
    MAC_DATA = 0xA8
};
enum { MAC_CONTROL = 1, MAC_ADDRESS_HIGH = 2, MAC_ADDRESS_LOW = 3, MAC_PHY_ACCESS = 6, MAC_PHY_DATA = 7 };
enum { INTERRUPT = 13, RECEIVED = 8, CHECKSUM = 4, HEADER = 14, PATIENCE = 100000 };

#define BUSY 0x80000000u

void ethernet_interrupt(void);
void ethernet_interrupt(void)
{
    CHIP(INTERRUPT_ENABLE) = 0;
}

/* ---- Registers behind registers */

static void mac_wait(void)
{
    for (unsigned i = 0; i < PATIENCE && CHIP(MAC_COMMAND) & BUSY; i++) {}
}

static void mac_write(uint32_t number, uint32_t value)
{
    CHIP(MAC_DATA) = value;
    CHIP(MAC_COMMAND) = BUSY | number;
    mac_wait();
}

static uint32_t mac_read(uint32_t number)
{
    CHIP(MAC_COMMAND) = BUSY | 1u << 30 | number;
    mac_wait();
    return CHIP(MAC_DATA);
}

static uint32_t phy_read(uint32_t number)
{
    enum { PHY = 1 << 11, PHY_BUSY = 1 };
    mac_write(MAC_PHY_ACCESS, PHY | number << 6 | PHY_BUSY);
    for (unsigned i = 0; i < 1000 && mac_read(MAC_PHY_ACCESS) & PHY_BUSY; i++) {}
    return mac_read(MAC_PHY_DATA);
}

/* A loss of the link is latched until it has been read once. */
bool ethernet_link(void)
{
    enum { STATUS = 1, LINK = 1 << 2 };
    (void)phy_read(STATUS);
    return (phy_read(STATUS) & LINK) != 0;
}

/* ---- Frames */

/* Two command words, then the frame, of which the chip skips the padding. */
static err_t transmit(struct netif *netif, struct pbuf *p)
{
    uint32_t len = (uint32_t)p->tot_len - ETH_PAD_SIZE;
    (void)netif;
    for (unsigned i = 0; (CHIP(TX_FIFO) & 0xffff) < len + 16; i++)
        if (i == PATIENCE) return ERR_TIMEOUT;
    CHIP(TX_DATA) = (uint32_t)ETH_PAD_SIZE << 16 | 0x3000 | len; /* first and last part of the frame */
    CHIP(TX_DATA) = len;
    (void)pbuf_to_fifo(&CHIP(TX_DATA), p);
    while (CHIP(TX_FIFO) >> 16 & 0xff) (void)CHIP(TX_STATUS);
    return ERR_OK;
}

struct pbuf *ethernet_receive(void)
{
    enum { BROKEN = 1 << 15 };
    while (ethernet_pending()) {
        uint32_t status = CHIP(RX_STATUS), len = status >> 16 & 0x3fff;
        size_t words = (len + ETH_PAD_SIZE + 3) / 4;
        struct pbuf *p = NULL;
        if (!(status & BROKEN) && len > HEADER + CHECKSUM) p = net_frame_alloc(len - CHECKSUM + ETH_PAD_SIZE);
        if (p != NULL) {
            fifo_to_pbuf(&CHIP(RX_DATA), p, 0);
            words -= ((size_t)p->tot_len + 3) / 4;
        }
        while (words-- > 0) (void)CHIP(RX_DATA);
        if (p != NULL) return p;
    }
    return NULL;
}

bool ethernet_pending(void)
{
    return (CHIP(RX_FIFO) >> 16 & 0xff) != 0;
}

void ethernet_arm(void)
{
    CHIP(INTERRUPTS) = 0xffffffff;
    CHIP(INTERRUPT_ENABLE) = RECEIVED;
}

bool ethernet_init(struct netif *netif)
{
    uint32_t low, high;
    if (CHIP(BYTE_TEST) != 0x87654321) return false;
    CHIP(HARDWARE_CONFIG) = 1; /* reset */
    for (unsigned i = 0; i < PATIENCE && CHIP(HARDWARE_CONFIG) & 1; i++) {}
    CHIP(HARDWARE_CONFIG) = 5u << 16 | 1u << 20; /* 5 KB for sending; store and forward */
    CHIP(TX_CONFIG) = 2;                         /* on */
    CHIP(RX_CONFIG) = ETH_PAD_SIZE << 8;         /* padding in front of each frame */
    low = mac_read(MAC_ADDRESS_LOW);
    high = mac_read(MAC_ADDRESS_HIGH);
    for (unsigned i = 0; i < ETH_HWADDR_LEN; i++)
        netif->hwaddr[i] = (uint8_t)(i < 4 ? low >> 8 * i : high >> 8 * (i - 4));
    netif->mtu = 1500;
    netif->linkoutput = transmit;
    mac_write(MAC_CONTROL, 0x0010000C); /* full duplex, transmitter, receiver */
    CHIP(FIFO_LEVELS) = 0;              /* interrupt at the first frame */
    CHIP(INTERRUPT_ENABLE) = 0;
    CHIP(INTERRUPTS) = 0xffffffff;
    CHIP(IRQ_CONFIG) = 0x111; /* on, active high, push-pull: the other way it would interrupt without end */
    cpu_interrupt_enable(INTERRUPT);
    return true;
}
