/* SPDX-License-Identifier: MIT */
/* Hashes that are no good but fast, and take time only in the simulated world. */
#include "sim.h"

#include <string.h>

#if MINIPROXY_WITH_PBKDF2

static void absorb(uint32_t h[8], const void *data, size_t len)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < len; i++)
        for (unsigned k = 0; k < 8; k++) h[k] = (h[k] ^ p[i] ^ k) * 16777619u;
}

void sim_sha256(uint8_t digest[MINIPROXY_DIGEST_LEN], const void *data, size_t len)
{
    uint32_t h[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    absorb(h, data, len);
    memcpy(digest, h, sizeof h);
}

static void begin(struct miniproxy_pbkdf2 *state, const void *password, size_t len, const uint8_t *salt,
                  size_t salt_len)
{
    memset(state, 0, sizeof *state);
    absorb(state->sum, password, len);
    absorb(state->sum, salt, salt_len);
    world.slices++;
}

static void go_on(struct miniproxy_pbkdf2 *state, uint32_t rounds)
{
    REQUIRE(PROPERTY_TIME, rounds > 0 && rounds <= MINIPROXY_PBKDF2_SLICE, "a slice of %u rounds", rounds);
    for (; rounds > 0; rounds--) absorb(state->sum, "round", 5);
    world.slices++;
}

static void end(struct miniproxy_pbkdf2 *state, uint8_t digest[MINIPROXY_DIGEST_LEN])
{
    memcpy(digest, state->sum, sizeof state->sum);
}

const struct miniproxy_pbkdf2_functions sim_pbkdf2 = {begin, go_on, end};

void sim_entry(uint8_t entry[], const char *password, uint32_t rounds)
{
    struct miniproxy_pbkdf2 state;
    memset(entry, 's', MINIPROXY_SALT_LEN);
    begin(&state, password, strlen(password), entry, MINIPROXY_SALT_LEN);
    while (--rounds > 0) absorb(state.sum, "round", 5);
    end(&state, entry + MINIPROXY_SALT_LEN);
}

#endif
