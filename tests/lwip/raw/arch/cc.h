/* SPDX-License-Identifier: MIT
 *
 * lwIP inside a test program: assertions end it, time and chance are the test's.
 */
#ifndef LWIP_ARCH_CC_H
#define LWIP_ARCH_CC_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

uint32_t test_rand(void);

#define LWIP_RAND() test_rand()
#define LWIP_PLATFORM_DIAG(x) \
    do {                      \
        printf x;             \
    } while (0)
#define LWIP_PLATFORM_ASSERT(x)                                       \
    do {                                                              \
        fprintf(stderr, "lwIP: %s (%s:%d)\n", x, __FILE__, __LINE__); \
        abort();                                                      \
    } while (0)

#endif
