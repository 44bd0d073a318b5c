/* SPDX-License-Identifier: MIT
 *
 * In place of POSIX's: what examples/desktop needs of it, on two stacks that take turns. See ../posix.c.
 */
#ifndef IMAGE_PTHREAD_H
#define IMAGE_PTHREAD_H

#include <sys/types.h>

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument);
int pthread_join(pthread_t thread, void **result);
pthread_t pthread_self(void);
int pthread_kill(pthread_t thread, int signal);

/* Nothing interrupts anything. */
static inline int pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes)
{
    (void)attributes;
    *mutex = 0;
    return 0;
}

static inline int pthread_mutex_lock(pthread_mutex_t *mutex)
{
    (void)mutex;
    return 0;
}

static inline int pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    (void)mutex;
    return 0;
}

#endif
