/* SPDX-License-Identifier: MIT
 *
 * What the cooperative system has beyond lwIP's interface (lwip/sys.h).
 */
#ifndef FIRMWARE_SYS_ARCH_H
#define FIRMWARE_SYS_ARCH_H

#include <stdint.h>

/* Octets of the stack of lwIP's thread that have never been used. */
uint32_t sys_stack_unused(void);

/* Let lwIP's thread have a turn, without sleep: for a task with work of its own left. */
void sys_turn(void);

#endif
