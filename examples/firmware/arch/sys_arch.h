/* SPDX-License-Identifier: MIT
 *
 * Types of the cooperative system in sys_arch.c. Included by lwIP.
 */
#ifndef ARCH_SYS_ARCH_H
#define ARCH_SYS_ARCH_H

#include <stdbool.h>
#include <stdint.h>

struct sys_semaphore {
    bool valid;
    uint8_t count;
};

struct sys_mailbox {
    bool valid;
    uint8_t in, out; /* counters; their difference is what is in it */
    void *slot[SYS_MBOX_SLOTS];
};

typedef struct sys_semaphore sys_sem_t;
typedef struct sys_semaphore sys_mutex_t;
typedef struct sys_mailbox sys_mbox_t;
typedef int sys_thread_t;

#endif
