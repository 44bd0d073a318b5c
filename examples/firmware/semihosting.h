/* SPDX-License-Identifier: MIT
 *
 * Semihosting: an emulator or a debugger serves the program. Tests end by it and read their command line through it. A
 * product is built without (FIRMWARE_SEMIHOSTING 0): on a board without debugger its calls are faults.
 */
#ifndef SEMIHOSTING_H
#define SEMIHOSTING_H

#ifndef FIRMWARE_SEMIHOSTING
#define FIRMWARE_SEMIHOSTING 0
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if FIRMWARE_SEMIHOSTING

static inline int32_t semihosting_call(uint32_t operation, void *block)
{
    register uint32_t r0 __asm("r0") = operation;
    register void *r1 __asm("r1") = block;
    __asm volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return (int32_t)r0;
}

/* End the emulator with an exit status. */
static inline void semihosting_exit(int status)
{
    uint32_t block[2] = {0x20026, (uint32_t)status}; /* the application has exited */
    semihosting_call(0x20, block);
}

/* The command line of the emulator's -append or -semihosting-config arg=, NUL-terminated. False: none, or too long. */
static inline bool semihosting_command_line(char *out, size_t len)
{
    struct {
        char *text;
        size_t len;
    } block = {out, len};
    return semihosting_call(0x15, &block) == 0;
}

/* Octets of the random source of the machine that runs the emulator. */
static inline bool semihosting_random(void *out, size_t len)
{
    static const char name[] = "/dev/urandom";
    struct {
        const char *name;
        uint32_t mode; /* 1: rb */
        size_t len;
    } open = {name, 1, sizeof name - 1};
    struct {
        int32_t file;
        void *out;
        size_t len;
    } read = {semihosting_call(0x01, &open), out, len};
    bool done;
    if (read.file < 0) return false;
    done = semihosting_call(0x06, &read) == 0; /* octets that are missing */
    semihosting_call(0x02, &read.file);
    return done;
}

#else

static inline void semihosting_exit(int status)
{
    (void)status;
}

#endif
#endif
