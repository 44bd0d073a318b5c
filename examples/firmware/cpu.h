/* SPDX-License-Identifier: MIT
 *
 * The Cortex-M core: the same on every board. Start-up, faults, the millisecond clock, sleep, interrupts, the stack.
 */
#ifndef CPU_H
#define CPU_H

#include <stdbool.h>
#include <stdint.h>

/* Start SysTick. */
void cpu_clock_start(void);

/* Milliseconds since cpu_clock_start; wraps at 2^32. */
uint32_t cpu_now_ms(void);

/* Counts at the core's clock, for entropy and for measuring. */
uint32_t cpu_cycles(void);

/* Sleep until wanted() says that there is something to do, or until ms are over, at most a tick late. wanted is asked
 * with interrupts off, so that none can come between its answer and the sleep. */
void cpu_sleep(uint32_t ms, bool (*wanted)(void));

void cpu_interrupt_enable(unsigned number);
_Noreturn void cpu_reset(void);

/* Octets of the stack that have never been used since start. 0: it has overflowed. */
uint32_t cpu_stack_unused(void);
uint32_t cpu_stack_size(void);

/* The same for a stack of somebody else's, between two addresses. */
void cpu_stack_paint(uint32_t *bottom, uint32_t *top);
uint32_t cpu_paint_left(const uint32_t *bottom, const uint32_t *top);

/* Say why on the console and stop: exit of the emulator, or a wait for the watchdog. */
_Noreturn void cpu_panic(const char *why);

#endif
