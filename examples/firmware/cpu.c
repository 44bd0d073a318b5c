/* SPDX-License-Identifier: MIT
 *
 * Clock, sleep and interrupts of a Cortex-M. SysTick interrupts every 10 ms; between ticks its counter is read. A
 * product that runs on a battery replaces the tick by a timer that is set to the deadline: cpu_sleep is the place for
 * that.
 */
#include "cpu.h"

#include "board.h"

enum { TICK_MS = 10, TICK_PENDING = 1 << 26 };

#define SYSTICK_CONTROL REGISTER(0xE000E010)
#define SYSTICK_RELOAD REGISTER(0xE000E014)
#define SYSTICK_VALUE REGISTER(0xE000E018)
#define NVIC_ENABLE(n) REGISTER(0xE000E100 + 4 * (n))
#define INTERRUPT_STATE REGISTER(0xE000ED04)
#define RESET_CONTROL REGISTER(0xE000ED0C)

static volatile uint32_t ticks;
void tick_handler(void);

void tick_handler(void)
{
    ticks++;
}

static uint32_t interrupts_off(void)
{
    uint32_t before;
    __asm volatile("mrs %0, primask\n cpsid i" : "=r"(before)::"memory");
    return before;
}

static void interrupts_restore(uint32_t before)
{
    __asm volatile("msr primask, %0" ::"r"(before) : "memory");
}

void cpu_clock_start(void)
{
    SYSTICK_RELOAD = board_clock_hz / 1000 * TICK_MS - 1;
    SYSTICK_VALUE = 0;
    SYSTICK_CONTROL = 7; /* core clock, interrupt, on */
}

/* Ticks, and what has been counted since. */
static uint32_t clock_read(uint32_t *since)
{
    uint32_t before = interrupts_off(), value = SYSTICK_VALUE, count = ticks;
    /* The counter has wrapped and its interrupt is not served yet; value may be from before that. */
    if (INTERRUPT_STATE & TICK_PENDING) {
        value = SYSTICK_VALUE;
        count++;
    }
    interrupts_restore(before);
    *since = SYSTICK_RELOAD - value;
    return count;
}

/* Never runs backwards: counter and interrupt are not seen at the same instant by every core and emulator. */
uint32_t cpu_now_ms(void)
{
    static uint32_t latest_ms;
    uint32_t since, count = clock_read(&since), now_ms = count * TICK_MS + since / (board_clock_hz / 1000);
    if ((int32_t)(now_ms - latest_ms) > 0) latest_ms = now_ms;
    return latest_ms;
}

uint32_t cpu_cycles(void)
{
    uint32_t since, count = clock_read(&since);
    return count * (SYSTICK_RELOAD + 1) + since;
}

/* WFI also wakes by an interrupt that PRIMASK holds back: between the question and the sleep nothing gets lost. */
void cpu_sleep(uint32_t ms, bool (*wanted)(void))
{
    uint32_t began_ms = cpu_now_ms();
    while (cpu_now_ms() - began_ms < ms) {
        uint32_t before = interrupts_off();
        bool stay = !wanted();
        if (stay) __asm volatile("dsb\n wfi" ::: "memory");
        interrupts_restore(before);
        __asm volatile("isb");
        if (!stay) break;
    }
}

void cpu_interrupt_enable(unsigned number)
{
    NVIC_ENABLE(number / 32) = 1u << (number % 32);
}

void cpu_reset(void)
{
    RESET_CONTROL = 0x05FA0004;
    for (;;) {}
}
