/* SPDX-License-Identifier: MIT
 *
 * Names looked up in a blob, each between phase_begin and phase_end, to count instructions; tests/bench/hosts.py writes
 * HOSTS_DATA: the blob's file and the names. The result of main is 0, or how many answers were not `expected`.
 */
#include "miniproxy.h"

#include HOSTS_DATA

bool hosts_lookup(const struct miniproxy_hosts *hosts, const char *name);
int main(void);
void phase_begin(void);
void phase_end(void);

__attribute__((noinline)) void phase_begin(void)
{
    __asm__ volatile("");
}

__attribute__((noinline)) void phase_end(void)
{
    __asm__ volatile("");
}

__asm__(".section .rodata\n.global blob, blob_end\nblob: .incbin \"" HOSTS_BLOB "\"\nblob_end: .byte 0\n.text\n");
extern const uint8_t blob[], blob_end[];

static const char *const names[] = {HOSTS_NAMES};

int main(void)
{
    const struct miniproxy_hosts hosts = {.blob = blob, .blob_len = (uint32_t)(blob_end - blob)};
    int wrong = 0;
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        bool found;
        phase_begin();
        found = hosts_lookup(&hosts, names[i]);
        phase_end();
        wrong += found != (i < HOSTS_HITS);
    }
    return wrong > 99 ? 99 : wrong;
}
