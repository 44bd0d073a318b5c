/* SPDX-License-Identifier: MIT
 *
 * What the image's files know of posix.c.
 */
#ifndef IMAGE_POSIX_H
#define IMAGE_POSIX_H

#include <stdbool.h>

/* An octet that means a signal has come by the UART. For cpu_sleep. */
bool posix_signal_waits(void);

/* Called by the worker, where a real one could be interrupted: let the main thread answer what has come. True:
 * something had come, and the worker may have to look at what main has left for it. */
bool posix_take_signals(void);

/* Octets of the worker's stack that have never been used. */
unsigned posix_stack_unused(void);

#endif
