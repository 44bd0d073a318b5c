/* SPDX-License-Identifier: MIT
 *
 * A tap device: a cable between a network stack in this process and the kernel's.
 */
#ifndef TAP_H
#define TAP_H

#include <stdbool.h>
#include <stddef.h>

enum { TAP_FRAME_MAX = 1514 };

/* Attach to a device that exists. Non-blocking. -1: errno says why. */
int tap_open(const char *name);

/* One frame. 0: none is waiting, or the device is gone. */
size_t tap_read(int fd, void *frame, size_t room);

/* A frame that the device cannot take is lost, as on a cable. */
void tap_write(int fd, const void *frame, size_t len);

#endif
