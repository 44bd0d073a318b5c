/* SPDX-License-Identifier: MIT
 *
 * The system that lwIP's sockets need, without one: two threads, main and lwIP's, that run until one of them waits. A
 * wait lets the other thread run; when both wait, frames are looked for, then the core sleeps. With an RTOS its own
 * sys_arch takes the place of this file.
 */
#include <string.h>

#include "cpu.h"
#include "net.h"
#include "sys_arch.h"

#include "lwip/opt.h"
#include "lwip/sys.h"
#include "lwip/tcpip.h"

enum { THREADS = 2, SLEEP_MS = 10 };

struct thread {
    uint32_t *sp; /* while another one runs */
    lwip_thread_fn function;
    void *argument;
};

static struct thread threads[THREADS]; /* 0: main, on the start-up stack */
static unsigned current, thread_count = 1, turns_in_vain;
static bool progress; /* somebody has got or given something since the last turn */
static uint32_t stack[TCPIP_THREAD_STACKSIZE / 4] __attribute__((aligned(8)));

/* ---- Threads */

/* Push what a function must preserve, change stacks, pop. */
void switch_stack(uint32_t **save, uint32_t *load);
__attribute__((naked, noinline)) void switch_stack(__attribute__((unused)) uint32_t **save,
                                                   __attribute__((unused)) uint32_t *load)
{
    __asm volatile("push {r3-r11, lr}\n"
                   "str sp, [r0]\n"
                   "mov sp, r1\n"
                   "pop {r3-r11, pc}\n");
}

/* A frame may be what a thread waits for. */
static void idle(void)
{
    if (!net_poll() && !progress) cpu_sleep(SLEEP_MS, net_wanted);
}

static void yield(void)
{
    unsigned from = current;
    turns_in_vain = progress ? 0 : turns_in_vain + 1;
    progress = false;
    if (turns_in_vain >= thread_count) {
        turns_in_vain = 0;
        idle();
    }
    current = (current + 1) % thread_count;
    if (current != from) switch_stack(&threads[from].sp, threads[current].sp);
}

void sys_turn(void)
{
    net_poll();
    progress = true;
    yield();
}

static void begin(void)
{
    threads[current].function(threads[current].argument);
    cpu_panic("a thread has returned");
}

/* The first switch pops ten words: r3-r11, and where to begin. */
sys_thread_t sys_thread_new(const char *name, lwip_thread_fn function, void *argument, int size, int priority)
{
    uint32_t *top = stack + sizeof stack / sizeof *stack;
    (void)name;
    (void)size;
    (void)priority;
    if (thread_count == THREADS) cpu_panic("too many threads");
    cpu_stack_paint(stack, top);
    top -= 10;
    memset(top, 0, 10 * sizeof *top);
    top[9] = (uint32_t)(uintptr_t)begin;
    threads[thread_count] = (struct thread){.sp = top, .function = function, .argument = argument};
    return (sys_thread_t)thread_count++;
}

uint32_t sys_stack_unused(void)
{
    return cpu_paint_left(stack, stack + sizeof stack / sizeof *stack);
}

void sys_init(void)
{
}

/* Threads do not preempt each other, and interrupt handlers do not call lwIP. */
sys_prot_t sys_arch_protect(void)
{
    return 0;
}

void sys_arch_unprotect(sys_prot_t before)
{
    (void)before;
}

static bool is_over(u32_t began_ms, u32_t timeout_ms)
{
    return timeout_ms != 0 && sys_now() - began_ms >= timeout_ms;
}

/* ---- Semaphores */

err_t sys_sem_new(sys_sem_t *s, u8_t count)
{
    *s = (sys_sem_t){.valid = true, .count = count};
    return ERR_OK;
}

void sys_sem_free(sys_sem_t *s)
{
    s->valid = false;
}

int sys_sem_valid(sys_sem_t *s)
{
    return s->valid;
}

void sys_sem_set_invalid(sys_sem_t *s)
{
    s->valid = false;
}

void sys_sem_signal(sys_sem_t *s)
{
    s->count++;
    progress = true;
}

u32_t sys_arch_sem_wait(sys_sem_t *s, u32_t timeout_ms)
{
    u32_t began_ms = sys_now();
    while (s->count == 0) {
        if (is_over(began_ms, timeout_ms)) return SYS_ARCH_TIMEOUT;
        yield();
    }
    s->count--;
    progress = true;
    return sys_now() - began_ms;
}

/* ---- Mutexes */

err_t sys_mutex_new(sys_mutex_t *m)
{
    return sys_sem_new(m, 1);
}

void sys_mutex_free(sys_mutex_t *m)
{
    sys_sem_free(m);
}

void sys_mutex_lock(sys_mutex_t *m)
{
    while (m->count == 0) yield();
    m->count = 0;
}

void sys_mutex_unlock(sys_mutex_t *m)
{
    m->count = 1;
}

int sys_mutex_valid(sys_mutex_t *m)
{
    return m->valid;
}

void sys_mutex_set_invalid(sys_mutex_t *m)
{
    m->valid = false;
}

/* ---- Mailboxes */

err_t sys_mbox_new(sys_mbox_t *m, int size)
{
    LWIP_ASSERT("SYS_MBOX_SLOTS is too small", size <= SYS_MBOX_SLOTS);
    *m = (sys_mbox_t){.valid = true};
    return ERR_OK;
}

void sys_mbox_free(sys_mbox_t *m)
{
    m->valid = false;
}

int sys_mbox_valid(sys_mbox_t *m)
{
    return m->valid;
}

void sys_mbox_set_invalid(sys_mbox_t *m)
{
    m->valid = false;
}

err_t sys_mbox_trypost(sys_mbox_t *m, void *message)
{
    if ((uint8_t)(m->in - m->out) >= SYS_MBOX_SLOTS) return ERR_MEM;
    m->slot[m->in++ % SYS_MBOX_SLOTS] = message;
    progress = true;
    return ERR_OK;
}

err_t sys_mbox_trypost_fromisr(sys_mbox_t *m, void *message)
{
    return sys_mbox_trypost(m, message);
}

void sys_mbox_post(sys_mbox_t *m, void *message)
{
    while (sys_mbox_trypost(m, message) != ERR_OK) yield();
}

u32_t sys_arch_mbox_tryfetch(sys_mbox_t *m, void **message)
{
    void *got;
    if (m->in == m->out) return SYS_MBOX_EMPTY;
    got = m->slot[m->out++ % SYS_MBOX_SLOTS];
    if (message != NULL) *message = got;
    progress = true;
    return 0;
}

u32_t sys_arch_mbox_fetch(sys_mbox_t *m, void **message, u32_t timeout_ms)
{
    u32_t began_ms = sys_now();
    while (sys_arch_mbox_tryfetch(m, message) != 0) {
        if (is_over(began_ms, timeout_ms)) {
            if (message != NULL) *message = NULL;
            return SYS_ARCH_TIMEOUT;
        }
        yield();
    }
    return sys_now() - began_ms;
}
