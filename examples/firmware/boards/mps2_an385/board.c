/* SPDX-License-Identifier: MIT
 *
 * MPS2 board with application note 385: Cortex-M3 at 25 MHz in an FPGA, 4 MB code, 4 MB data, UART0 at 115200 baud.
 * (qemu-system-arm -M mps2-an385)
 */
#include "board.h"

#include "cpu.h"
#include "semihosting.h"

const char board_name[] = "mps2-an385";
const uint32_t board_clock_hz = 25000000;

enum { ETHERNET_INTERRUPT = 13 };
void ethernet_interrupt(void); /* ethernet.c */

#define UART0(offset) REGISTER(0x40004000 + (offset))
#define WATCHDOG(offset) REGISTER(0x40008000 + (offset))
#define COUNTER_25MHZ REGISTER(0x40028018) /* runs from power-on */

enum { UART_DATA = 0, UART_STATE = 4, UART_CONTROL = 8, UART_DIVISOR = 0x10 };
enum { WATCHDOG_LOAD = 0, WATCHDOG_CONTROL = 8, WATCHDOG_CLEAR = 0xC };

void board_init(void)
{
    UART0(UART_DIVISOR) = board_clock_hz / 115200;
    UART0(UART_CONTROL) = 3; /* transmitter, receiver */
}

void board_uart_put(uint8_t octet)
{
    while (UART0(UART_STATE) & 1) {}
    UART0(UART_DATA) = octet;
}

int board_uart_get(void)
{
    return UART0(UART_STATE) & 2 ? (int)(UART0(UART_DATA) & 0xff) : -1;
}

void board_interrupt(unsigned number)
{
    if (number == ETHERNET_INTERRUPT) ethernet_interrupt();
    else cpu_panic("unexpected interrupt");
}

#if FIRMWARE_HOST_RANDOM

/* In the emulator alone: see boards/lm3s6965. */
bool board_entropy(uint8_t *out, size_t len)
{
    return semihosting_random(out, len);
}

#else

/* No random source here either. */
bool board_entropy(uint8_t *out, size_t len)
{
    uint32_t cycles = cpu_cycles(), counter = COUNTER_25MHZ;
    for (size_t i = 0; i < len; i++) out[i] = (uint8_t)((i & 4 ? cycles : counter) >> 8 * (i % 4));
    return false;
}

#endif

/* The first timeout is a non-maskable interrupt, which startup.c reports as a fault; the second resets. */
void board_watchdog_start(uint32_t timeout_ms)
{
    WATCHDOG(WATCHDOG_LOAD) = board_clock_hz / 1000 * (timeout_ms / 2);
    WATCHDOG(WATCHDOG_CONTROL) = 3;
}

void board_watchdog_feed(void)
{
    WATCHDOG(WATCHDOG_CLEAR) = 1;
}
