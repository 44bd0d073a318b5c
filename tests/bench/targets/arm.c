/* SPDX-License-Identifier: MIT
 *
 * Start-up for counting instructions on QEMU's mps2-an385, a Cortex-M3 whose memory begins at 0; code for a Cortex-M0
 * runs there too. The emulator loads all sections and clears .bss. main's result becomes the emulator's exit status.
 */
#include <stdint.h>

enum { SYS_EXIT_EXTENDED = 0x20, ADP_STOPPED_APPLICATION_EXIT = 0x20026, FAULT_STATUS = 99 };

int main(void);
extern uint32_t stack_top[];

static _Noreturn void stop(uint32_t status)
{
    const uint32_t block[2] = {ADP_STOPPED_APPLICATION_EXIT, status};
    register uint32_t operation __asm__("r0") = SYS_EXIT_EXTENDED;
    register const uint32_t *parameter __asm__("r1") = block;
    for (;;) __asm__ volatile("bkpt 0xab" : : "r"(operation), "r"(parameter) : "memory");
}

static void reset(void)
{
    stop((uint32_t)main());
}

static void fault(void)
{
    stop(FAULT_STATUS);
}

/* initial stack pointer, reset, NMI, hard fault, and the faults of a Cortex-M3 */
struct vectors {
    uint32_t *stack;
    void (*handler[6])(void);
};
extern const struct vectors vectors;
__attribute__((section(".start"), used))
const struct vectors vectors = {stack_top, {reset, fault, fault, fault, fault, fault}};
