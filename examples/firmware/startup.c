/* SPDX-License-Identifier: MIT
 *
 * From reset to main, and what happens on a fault. For every Cortex-M; the board comes in by board_init and
 * board_interrupt, the memories by the linker script.
 *
 * The stack lies at the lowest address of RAM: one that overflows leaves RAM, which faults, instead of writing over
 * variables. It is painted at start, so that its deepest use can be read at any time.
 */
#include "board.h"
#include "console.h"
#include "cpu.h"
#include "semihosting.h"

enum { INTERRUPTS = 64 };

#define PAINT 0x5AFE57AC
#define TEXT_OF(value) #value
#define TEXT(macro) TEXT_OF(macro)

extern uint32_t stack_bottom[], stack_top[]; /* of common.ld */
extern uint32_t data_load[], data_start[], data_end[], bss_start[], bss_end[];

int main(void);
void tick_handler(void); /* cpu.c */
void reset_handler(void);
void start(void);
void fault_report(const uint32_t *frame, uint32_t exception);

/* ---- Stack */

void cpu_stack_paint(uint32_t *bottom, uint32_t *top)
{
    while (bottom < top) *bottom++ = PAINT;
}

uint32_t cpu_paint_left(const uint32_t *bottom, const uint32_t *top)
{
    const uint32_t *at = bottom;
    while (at < top && *at == PAINT) at++;
    return (uint32_t)(at - bottom) * sizeof *at;
}

uint32_t cpu_stack_unused(void)
{
    return cpu_paint_left(stack_bottom, stack_top);
}

uint32_t cpu_stack_size(void)
{
    return (uint32_t)(stack_top - stack_bottom) * sizeof *stack_top;
}

/* ---- Reset */

void start(void)
{
    for (uint32_t *to = data_start, *from = data_load; to < data_end;) *to++ = *from++;
    for (uint32_t *to = bss_start; to < bss_end;) *to++ = 0;
    board_init();
    cpu_clock_start();
    semihosting_exit(main());
    cpu_reset();
}

/* Paints here, where nothing lies on the stack yet. */
__attribute__((naked)) void reset_handler(void)
{
    __asm volatile("ldr r0, =stack_bottom\n"
                   "ldr r1, =stack_top\n"
                   "ldr r2, =" TEXT(PAINT) "\n"
                                           "1: str r2, [r0], #4\n"
                                           "cmp r0, r1\n"
                                           "blo 1b\n"
                                           "mov sp, r1\n"
                                           "b start\n");
}

/* ---- Faults */

_Noreturn static void stop(void)
{
    semihosting_exit(99);
    /* Without an emulator: nobody feeds the watchdog any more. */
    __asm volatile("cpsid i");
    for (;;) {}
}

void cpu_panic(const char *why)
{
    console_printf("\nPANIC %s\n", why);
    stop();
}

/* frame: r0-r3, r12, lr, pc and xpsr, as the core pushed them. */
void fault_report(const uint32_t *frame, uint32_t exception)
{
    bool frame_lost = (uintptr_t)frame < (uintptr_t)stack_bottom;
    console_printf("\nFAULT exception=%u cfsr=%x hfsr=%x bfar=%x sp=%x stack_unused=%u\n", exception,
                   REGISTER(0xE000ED28), REGISTER(0xE000ED2C), REGISTER(0xE000ED38), (uint32_t)(uintptr_t)frame,
                   cpu_stack_unused());
    if (frame_lost) console_printf("FAULT the stack has overflowed\n");
    else
        console_printf("FAULT pc=%x lr=%x psr=%x r0=%x r1=%x r2=%x r3=%x r12=%x\n", frame[6], frame[5], frame[7],
                       frame[0], frame[1], frame[2], frame[3], frame[4]);
    stop();
}

/* The report needs a stack that works, whatever happened to it: it starts again at the top. */
__attribute__((naked)) static void fault_handler(void)
{
    __asm volatile("tst lr, #4\n"
                   "ite eq\n"
                   "mrseq r0, msp\n"
                   "mrsne r0, psp\n"
                   "mrs r1, ipsr\n"
                   "ldr r2, =stack_bottom\n"
                   "add r2, #512\n"
                   "cmp r0, r2\n"
                   "bhi 1f\n"
                   "ldr r2, =stack_top\n"
                   "mov sp, r2\n"
                   "1: b fault_report\n");
}

static void external_handler(void)
{
    uint32_t number;
    __asm volatile("mrs %0, ipsr" : "=r"(number));
    board_interrupt((number & 0x1ff) - 16);
}

#define EIGHT(handler) handler, handler, handler, handler, handler, handler, handler, handler

/* Exceptions 1 to 15: reset, faults and what is not used, SysTick; then the external interrupts. */
__attribute__((section(".vectors"), used)) static const struct {
    uint32_t *stack;
    void (*handler[15 + INTERRUPTS])(void);
} vectors = {
    stack_top,
    {reset_handler, EIGHT(fault_handler), fault_handler, fault_handler, fault_handler, fault_handler, fault_handler,
     tick_handler, EIGHT(external_handler), EIGHT(external_handler), EIGHT(external_handler), EIGHT(external_handler),
     EIGHT(external_handler), EIGHT(external_handler), EIGHT(external_handler), EIGHT(external_handler)},
};
