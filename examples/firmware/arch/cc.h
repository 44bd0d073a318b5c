/* SPDX-License-Identifier: MIT
 *
 * What lwIP wants to know about compiler and platform.
 */
#ifndef ARCH_CC_H
#define ARCH_CC_H

#include <stdint.h>
#include <sys/time.h>

#include "random.h"

/* No stdio: lwIP's formats are those of console_printf. */
#define LWIP_NO_INTTYPES_H 1
#define X8_F "x"
#define U16_F "u"
#define S16_F "d"
#define X16_F "x"
#define U32_F "u"
#define S32_F "d"
#define X32_F "x"
#define SZT_F "u"
#define LWIP_NO_CTYPE_H 1
#define LWIP_NO_UNISTD_H 1
#define LWIP_ERRNO_STDINCLUDE 1
#define LWIP_TIMEVAL_PRIVATE 0

void console_printf(const char *format, ...);
_Noreturn void cpu_panic(const char *why);

#define LWIP_PLATFORM_DIAG(message) \
    do {                            \
        console_printf message;     \
    } while (0)
/* lwIP 2.2.1 asserts what a peer with a small window makes untrue, and the code behind goes on rightly all the same: a
 * probe of one octet that was the last (tcp_slowtmr), and a segment divided at the end of the heap (mem_trim; mem.c has two
 * more with these words, which are passed over with it). */
#define LWIP_IS_UNTRUE(message)                                                                  \
    (__builtin_strcmp(message, "tcp_slowtimr: persist ticking with empty send buffer") == 0 ||   \
     __builtin_strcmp(message, "invalid next ptr") == 0)
#define LWIP_PLATFORM_ASSERT(message)                                  \
    do {                                                               \
        if (!LWIP_IS_UNTRUE(message)) cpu_panic("lwIP: " message);     \
    } while (0)

/* lwIP 2.2.1 takes its first local port from this, and must not begin with the last one: behind that comes none, and then
 * those from 1 on. */
static inline uint32_t lwip_rand(void)
{
    uint32_t x = random_u32();
    return (x & 0x3fff) == 0x3fff ? x - 1 : x;
}
#define LWIP_RAND() lwip_rand()

typedef int sys_prot_t;

#endif
