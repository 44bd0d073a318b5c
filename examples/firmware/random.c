/* SPDX-License-Identifier: MIT */
#include "random.h"

#include <string.h>

#include "cpu.h"
#include "port/miniproxy_sha256.h"

enum { DIGEST = 32 };

static uint8_t state[DIGEST];
static uint8_t pool[DIGEST]; /* numbers not yet given away, from pool_left down */
static unsigned pool_left;

static void step(uint8_t out[DIGEST], uint8_t purpose, const void *data, size_t len)
{
    uint8_t text[DIGEST + 1 + 4 + 16];
    uint32_t cycles = cpu_cycles();
    if (len > 16) len = 16;
    memcpy(text, state, DIGEST);
    text[DIGEST] = purpose;
    memcpy(text + DIGEST + 1, &cycles, 4);
    memcpy(text + DIGEST + 5, data, len);
    miniproxy_sha256(out, text, DIGEST + 5 + len);
}

void random_mix(const void *data, size_t len)
{
    const uint8_t *from = data;
    do {
        size_t part = len < 16 ? len : 16;
        step(state, 0, from, part);
        from += part;
        len -= part;
    } while (len > 0);
    pool_left = 0;
}

uint32_t random_u32(void)
{
    uint32_t value;
    if (pool_left == 0) {
        step(pool, 1, "", 0);
        step(state, 2, "", 0);
        pool_left = DIGEST / sizeof value;
    }
    memcpy(&value, pool + --pool_left * sizeof value, sizeof value);
    return value;
}

void random_fill(void *out, size_t len)
{
    uint8_t *to = out;
    while (len > 0) {
        uint32_t value = random_u32();
        size_t part = len < sizeof value ? len : sizeof value;
        memcpy(to, &value, part);
        to += part;
        len -= part;
    }
}

uint32_t random_tcp_isn(uint32_t local, uint16_t local_port, uint32_t remote, uint16_t remote_port)
{
    static uint8_t secret[DIGEST];
    struct {
        uint8_t secret[DIGEST];
        uint32_t local, remote;
        uint16_t local_port, remote_port;
    } text = {.local = local, .remote = remote, .local_port = local_port, .remote_port = remote_port};
    uint8_t digest[DIGEST];
    uint32_t offset;
    if (secret[0] == 0 && secret[1] == 0) step(secret, 3, "", 0);
    memcpy(text.secret, secret, DIGEST);
    miniproxy_sha256(digest, &text, sizeof text);
    memcpy(&offset, digest, sizeof offset);
    return offset + cpu_now_ms() * 250; /* 4 us a number */
}
