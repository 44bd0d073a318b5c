/* SPDX-License-Identifier: MIT
 *
 * LM3S6965 evaluation board: Cortex-M3 at 50 MHz, 256 KB flash, 64 KB RAM, UART0 at 115200 baud.
 * (qemu-system-arm -M lm3s6965evb)
 */
#include "board.h"

#include "cpu.h"
#include "semihosting.h"

const char board_name[] = "lm3s6965evb";
const uint32_t board_clock_hz = 50000000;

enum { ETHERNET_INTERRUPT = 42 };
void ethernet_interrupt(void); /* ethernet.c */

#define WATCHDOG(offset) REGISTER(0x40000000 + (offset))
#define GPIO_A(offset) REGISTER(0x40004000 + (offset))
#define UART0(offset) REGISTER(0x4000C000 + (offset))
#define SYSTEM(offset) REGISTER(0x400FE000 + (offset))

enum {
    RAW_INTERRUPTS = 0x050, /* SYSTEM: bit 6, the PLL has locked */
    CLOCK = 0x060,
    GATE0 = 0x100, /* clocks of peripherals: bit 3 the watchdog */
    GATE1 = 0x104, /* bit 0 UART0 */
    GATE2 = 0x108, /* bit 0 GPIO A, 5 GPIO F, 28 the Ethernet MAC, 30 its PHY */
};
enum {
    UART_DATA = 0,
    UART_FLAGS = 0x18,
    UART_DIVISOR = 0x24,
    UART_FRACTION = 0x28,
    UART_LINE = 0x2C,
    UART_CONTROL = 0x30
};
enum { WATCHDOG_LOAD = 0, WATCHDOG_CONTROL = 8, WATCHDOG_CLEAR = 0xC };

/* 8 MHz crystal, PLL, 200 MHz divided by 4. The PLL is bypassed until it has locked. */
static void clock_init(void)
{
    enum { SETTINGS = 0x01CE1380, BYPASS = 1 << 11, LOCKED = 1 << 6 };
    SYSTEM(CLOCK) = SETTINGS | BYPASS;
    for (unsigned i = 0; i < 100000 && !(SYSTEM(RAW_INTERRUPTS) & LOCKED); i++) {}
    SYSTEM(CLOCK) = SETTINGS;
}

void board_init(void)
{
    enum { ALTERNATE = 0x420, DIGITAL = 0x51C, UART_PINS = 3 };
    clock_init();
    SYSTEM(GATE0) |= 1u << 3;
    SYSTEM(GATE1) |= 1u;
    SYSTEM(GATE2) |= 1u << 30 | 1u << 28 | 1u << 5 | 1u;
    GPIO_A(ALTERNATE) |= UART_PINS;
    GPIO_A(DIGITAL) |= UART_PINS;
    UART0(UART_DIVISOR) = 27; /* 50 MHz / (16 * 115200) = 27 + 8/64 */
    UART0(UART_FRACTION) = 8;
    UART0(UART_LINE) = 0x70; /* 8 bits, FIFOs */
    UART0(UART_CONTROL) = 0x301;
}

void board_uart_put(uint8_t octet)
{
    while (UART0(UART_FLAGS) & 1 << 5) {}
    UART0(UART_DATA) = octet;
}

int board_uart_get(void)
{
    return UART0(UART_FLAGS) & 1 << 4 ? -1 : (int)(UART0(UART_DATA) & 0xff);
}

void board_interrupt(unsigned number)
{
    if (number == ETHERNET_INTERRUPT) ethernet_interrupt();
    else cpu_panic("unexpected interrupt");
}

#if FIRMWARE_HOST_RANDOM

/* In the emulator alone: the machine it runs on has a source. A product with TLS must have one of its own here: a chip
 * with a generator, or a seed that was put into the device when it was made and that is replaced at every start. */
bool board_entropy(uint8_t *out, size_t len)
{
    return semihosting_random(out, len);
}

#else

/* This chip has no random source. What there is: how long the boot took up to now, and the MAC address, which net.c
 * mixes in. A product has something better here: see random.h. */
bool board_entropy(uint8_t *out, size_t len)
{
    uint32_t cycles = cpu_cycles();
    for (size_t i = 0; i < len; i++) out[i] = (uint8_t)(cycles >> 8 * (i % 4));
    return false;
}

#endif

/* The first timeout only raises an interrupt, which is not enabled; the second resets. */
void board_watchdog_start(uint32_t timeout_ms)
{
    WATCHDOG(WATCHDOG_LOAD) = board_clock_hz / 1000 * (timeout_ms / 2);
    WATCHDOG(WATCHDOG_CONTROL) = 3; /* interrupt, reset: locked until the next reset */
}

void board_watchdog_feed(void)
{
    WATCHDOG(WATCHDOG_CLEAR) = 1;
}
