/* SPDX-License-Identifier: MIT
 *
 * What the cooperative system has beyond lwIP's interface (lwip/sys.h).
 */
#ifndef FIRMWARE_SYS_ARCH_H
#define FIRMWARE_SYS_ARCH_H

#include <stdint.h>

/* Octets of the stack of lwIP's thread that have never been used. */
uint32_t sys_stack_unused(void);

#endif
