/* SPDX-License-Identifier: MIT
 *
 * Start-up for counting instructions on QEMU's RV32 machine "virt" with -bios none: it jumps to the begin of memory.
 * The emulator loads all sections and clears .bss. main's result becomes the emulator's exit status.
 */
#include <stdint.h>

/* A word written to the test device ends the emulator: 0x5555 with status 0, 0x3333 with the status above it. */
enum { TEST_DEVICE = 0x100000, PASS = 0x5555, FAIL = 0x3333, FAULT_STATUS = 99 };

int main(void);
_Noreturn void start(void);
_Noreturn void fault(void);

__asm__(".section .start, \"ax\"\n"
        "    .option arch, +zicsr\n"
        "    la sp, stack_top\n"
        "    la t0, fault\n"
        "    csrw mtvec, t0\n"
        "    j start\n"
        ".text\n");

static _Noreturn void stop(uint32_t status)
{
    volatile uint32_t *test_device = (volatile uint32_t *)(uintptr_t)TEST_DEVICE;
    *test_device = status == 0 ? PASS : status << 16 | FAIL;
    for (;;) {
    }
}

_Noreturn void start(void)
{
    stop((uint32_t)main());
}

__attribute__((aligned(4))) _Noreturn void fault(void)
{
    stop(FAULT_STATUS);
}
