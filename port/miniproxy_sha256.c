/* SPDX-License-Identifier: MIT */
#include "miniproxy_sha256.h"

#include <string.h>

/* Fractional parts of the cube roots of the first 64 primes. */
static const uint32_t round_constant[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

/* Of the square roots of the first eight. */
static const uint32_t initial[8] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};

static uint32_t rotate(uint32_t x, unsigned bits)
{
    return x >> bits | x << (32 - bits);
}

static uint32_t load(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void store(uint8_t *p, uint32_t x)
{
    p[0] = (uint8_t)(x >> 24);
    p[1] = (uint8_t)(x >> 16);
    p[2] = (uint8_t)(x >> 8);
    p[3] = (uint8_t)x;
}

/* What is hashed is a password, as a rule: no copy of it stays on the stack. */
static void wipe(volatile void *data, size_t len)
{
    volatile uint8_t *p = data;

    while (len > 0) p[--len] = 0;
}

/* Word t of the message schedule; the last 16 are enough. */
static uint32_t schedule(uint32_t w[16], unsigned t)
{
    uint32_t a = w[(t + 1) & 15], b = w[(t + 14) & 15];
    uint32_t small0 = rotate(a, 7) ^ rotate(a, 18) ^ a >> 3;
    uint32_t small1 = rotate(b, 17) ^ rotate(b, 19) ^ b >> 10;

    w[t & 15] += small0 + w[(t + 9) & 15] + small1;
    return w[t & 15];
}

static void compress(uint32_t hash[8], const uint8_t block[64])
{
    uint32_t w[16], v[8];

    for (unsigned t = 0; t < 16; t++) w[t] = load(block + 4 * t);
    memcpy(v, hash, sizeof v);
    for (unsigned t = 0; t < 64; t++) {
        uint32_t big1 = rotate(v[4], 6) ^ rotate(v[4], 11) ^ rotate(v[4], 25);
        uint32_t choice = (v[4] & v[5]) ^ (~v[4] & v[6]);
        uint32_t big0 = rotate(v[0], 2) ^ rotate(v[0], 13) ^ rotate(v[0], 22);
        uint32_t majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);
        uint32_t t1 = v[7] + big1 + choice + round_constant[t] + (t < 16 ? w[t] : schedule(w, t));

        memmove(v + 1, v, 7 * sizeof v[0]);
        v[4] += t1;
        v[0] = t1 + big0 + majority;
    }
    for (unsigned i = 0; i < 8; i++) hash[i] += v[i];
    wipe(w, sizeof w);
}

void miniproxy_sha256(uint8_t digest[32], const void *data, size_t len)
{
    const uint8_t *p = data;
    uint8_t tail[128] = {0}; /* what is left, a one bit, zeros, the length in bits */
    size_t left = len % 64, tail_len = left < 56 ? 64 : 128;
    uint32_t hash[8];

    memcpy(hash, initial, sizeof hash);
    for (size_t blocks = len / 64; blocks > 0; blocks--, p += 64) compress(hash, p);
    if (left > 0) memcpy(tail, p, left);
    tail[left] = 0x80;
    store(tail + tail_len - 8, (uint32_t)((uint64_t)len >> 29));
    store(tail + tail_len - 4, (uint32_t)((uint64_t)len << 3));
    for (size_t at = 0; at < tail_len; at += 64) compress(hash, tail + at);
    wipe(tail, sizeof tail);
    for (unsigned i = 0; i < 8; i++) store(digest + 4 * i, hash[i]);
}
