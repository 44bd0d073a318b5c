/* SPDX-License-Identifier: MIT
 *
 * Threads, signals and memory as examples/desktop uses them, on bare metal: so that its main.c and worker.c are part of
 * the image as they are.
 *
 * There are two stacks: main's, which waits in sigwait, and the worker's, which runs until it waits for the network. It
 * then looks at the UART, and gives way to main when a signal has come. Signals are octets: T, I, H, 1 for SIGTERM,
 * SIGINT, SIGHUP and SIGUSR1; P prints what is in use, C mends the cable.
 */
#define _GNU_SOURCE
#include "desktop.h"
#include "posix.h"

#include "board.h"
#include "cpu.h"
#include "image.h"
#include "link.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MAIN = 1, WORKER = 2 };

static uint32_t worker_stack[IMAGE_WORKER_STACK / 4] __attribute__((aligned(8)));
static uint32_t *main_sp, *worker_sp;
static struct {
    void *(*run)(void *);
    void *argument;
    bool ended;
} worker;

static uint32_t pending; /* a bit a signal */
static int octet = -1;   /* received and not yet understood */

/* ---- Two stacks */

/* Push what a function must preserve, change stacks, pop. */
__attribute__((naked, noinline)) static void switch_stack(uint32_t **save __attribute__((unused)),
                                                          uint32_t *load __attribute__((unused)))
{
    __asm volatile("push {r3-r11, lr}\n"
                   "str sp, [r0]\n"
                   "mov sp, r1\n"
                   "pop {r3-r11, pc}\n");
}

static void begin(void)
{
    worker.run(worker.argument);
    worker.ended = true;
    for (;;) switch_stack(&worker_sp, main_sp);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument)
{
    uint32_t *top = worker_stack + sizeof worker_stack / sizeof *worker_stack;

    (void)attributes;
    if (worker.run != NULL) return EAGAIN;
    *thread = WORKER;
    cpu_stack_paint(worker_stack, top);
    top -= 10;
    memset(top, 0, 10 * sizeof *top);
    top[9] = (uint32_t)(uintptr_t)begin;
    worker_sp = top;
    worker.run = run;
    worker.argument = argument;
    return 0;
}

int pthread_join(pthread_t thread, void **result)
{
    (void)thread;
    (void)result;
    while (!worker.ended) switch_stack(&main_sp, worker_sp);
    return 0;
}

pthread_t pthread_self(void)
{
    return MAIN;
}

unsigned posix_stack_unused(void)
{
    return cpu_paint_left(worker_stack, worker_stack + sizeof worker_stack / sizeof *worker_stack);
}

/* ---- Signals */

static void raise_signal(int number)
{
    pending |= UINT32_C(1) << (unsigned)number;
}

int pthread_kill(pthread_t thread, int number)
{
    (void)thread;
    raise_signal(number);
    return 0;
}

bool posix_signal_waits(void)
{
    if (octet < 0) octet = board_uart_get();
    return octet >= 0;
}

static void read_signals(void)
{
    while (posix_signal_waits()) {
        switch (octet) {
        case 'T': raise_signal(SIGTERM); break;
        case 'I': raise_signal(SIGINT); break;
        case 'H': raise_signal(SIGHUP); break;
        case '1': raise_signal(SIGUSR1); break;
        case 'P': image_print_pools(); break;
        case 'C': link_mend(); break;
        default: break;
        }
        octet = -1;
    }
}

bool posix_take_signals(void)
{
    read_signals();
    if (pending == 0) return false;
    switch_stack(&worker_sp, main_sp);
    return true;
}

int sigwait(const sigset_t *set, int *number)
{
    (void)set;
    while (pending == 0) switch_stack(&main_sp, worker_sp);
    *number = __builtin_ctz(pending);
    pending &= pending - 1;
    return 0;
}

/* ---- Memory */

void *mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset)
{
    static struct worker block IMAGE_LARGE; /* zeros: .bss, or external memory as the emulator gives it */
    static bool taken;

    (void)at;
    (void)protection;
    (void)flags;
    (void)fd;
    (void)offset;
    errno = ENOMEM;
    if (taken || len > sizeof block) return MAP_FAILED;
    taken = true;
    return &block;
}

int munmap(void *block, size_t len)
{
    (void)block;
    (void)len;
    return 0;
}

/* What the program writes into memory first, to have it on standard error in one piece, goes there at once: it may need
 * more memory than there is. In place of open_memstream. */

static ssize_t write_stderr(void *cookie, const char *data, size_t len)
{
    (void)cookie;
    return write(STDERR_FILENO, data, len);
}

FILE *posix_open_stderr(char **text, size_t *len);
FILE *posix_open_stderr(char **text, size_t *len)
{
    static char buffer[64];
    FILE *file = fopencookie(NULL, "w", (cookie_io_functions_t){.write = write_stderr});

    *text = NULL;
    *len = 0;
    if (file != NULL) setvbuf(file, buffer, _IOFBF, sizeof buffer);
    return file;
}

/* ---- 64-bit atomics, which this core does not have */

unsigned long long __atomic_fetch_add_8(volatile void *at, unsigned long long n, int order);
unsigned long long __atomic_fetch_add_8(volatile void *at, unsigned long long n, int order)
{
    volatile unsigned long long *value = at;
    unsigned long long before = *value;

    (void)order;
    *value += n;
    return before;
}

unsigned long long __atomic_load_8(const volatile void *at, int order);
unsigned long long __atomic_load_8(const volatile void *at, int order)
{
    (void)order;
    return *(const volatile unsigned long long *)at;
}
