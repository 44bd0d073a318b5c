/* SPDX-License-Identifier: MIT
 *
 * What a board provides. boards/NAME/board.c and boards/NAME/ethernet.c implement it, boards/NAME/memory.ld says where
 * its memories are: these three, and nothing else, are to be written for another Cortex-M board.
 */
#ifndef BOARD_H
#define BOARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct netif;
struct pbuf;

/* A hardware register. */
#define REGISTER(address) (*(volatile uint32_t *)(address))

extern const char board_name[];

/* Core clock after board_init. */
extern const uint32_t board_clock_hz;

/* Clocks, pins, UART: the console works afterwards. Called before main, with .data and .bss in place. */
void board_init(void);

/* Waits for room. */
void board_uart_put(uint8_t octet);

/* A received octet, or -1. */
int board_uart_get(void);

/* External interrupt `number` (0: the first after the core's own). */
void board_interrupt(unsigned number);

/* Whatever differs from boot to boot and is hard to guess goes into *out, and whatever differs from device to device.
 * True: it is real entropy, len octets of it. */
bool board_entropy(uint8_t *out, size_t len);

/* A reset follows unless fed again within about timeout_ms. */
void board_watchdog_start(uint32_t timeout_ms);
void board_watchdog_feed(void);

/* ---- Ethernet. net.c calls these, from the main loop only. */

/* Fill in hwaddr, mtu and linkoutput, and switch the receiver on. False: the chip does not answer. */
bool ethernet_init(struct netif *netif);

/* The cable is in. */
bool ethernet_link(void);

/* The next frame, ETH_PAD_SIZE octets in front, in a pbuf of net_frame_alloc; NULL when none is left. Frames without a
 * pbuf are taken out of the chip and lost. */
struct pbuf *ethernet_receive(void);

/* A frame waits. */
bool ethernet_pending(void);

/* Let the next frame interrupt, once: the handler only masks it again, and the main loop empties the chip. To be called
 * with interrupts off, and followed by a look at ethernet_pending: a frame may have come before. */
void ethernet_arm(void);

#endif
