/* SPDX-License-Identifier: MIT
 *
 * In place of POSIX's: signals are octets that the UART receives. See ../posix.c.
 */
#ifndef IMAGE_SIGNAL_H
#define IMAGE_SIGNAL_H

#include <sys/types.h>

#ifndef _SIGSET_T_DECLARED
#define _SIGSET_T_DECLARED
typedef unsigned long sigset_t;
#endif

enum { SIGHUP = 1, SIGINT = 2, SIGABRT = 6, SIGPIPE = 13, SIGALRM = 14, SIGTERM = 15, SIGUSR1 = 30, SIGUSR2 = 31, SIGXFSZ = 25 };
enum { SIG_BLOCK = 1 };

typedef void (*signal_function)(int);
#define SIG_IGN ((signal_function)1)

static inline int sigemptyset(sigset_t *set)
{
    *set = 0;
    return 0;
}

static inline int sigaddset(sigset_t *set, int number)
{
    *set |= 1ul << number;
    return 0;
}

/* Only sigwait takes signals. */
static inline int pthread_sigmask(int how, const sigset_t *set, sigset_t *before)
{
    (void)how;
    (void)set;
    (void)before;
    return 0;
}

static inline signal_function signal(int number, signal_function function)
{
    (void)number;
    return function;
}

int sigwait(const sigset_t *set, int *number);

#endif
