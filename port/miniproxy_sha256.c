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

/* One block, as words, which are used up. */
static void mix(uint32_t hash[8], uint32_t w[16])
{
    uint32_t a = hash[0], b = hash[1], c = hash[2], d = hash[3], e = hash[4], f = hash[5], g = hash[6], h = hash[7];

    for (unsigned t = 0; t < 64; t++) {
        uint32_t big1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
        uint32_t choice = g ^ (e & (f ^ g));
        uint32_t big0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
        uint32_t majority = (a & b) | (c & (a | b));
        uint32_t t1 = h + big1 + choice + round_constant[t] + (t < 16 ? w[t] : schedule(w, t));

        h = g, g = f, f = e, e = d + t1;
        d = c, c = b, b = a, a = t1 + big0 + majority;
    }
    hash[0] += a, hash[1] += b, hash[2] += c, hash[3] += d;
    hash[4] += e, hash[5] += f, hash[6] += g, hash[7] += h;
}

static void compress(uint32_t hash[8], const uint8_t block[64])
{
    uint32_t w[16];

    for (unsigned t = 0; t < 16; t++) w[t] = load(block + 4 * t);
    mix(hash, w);
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

/* ---- PBKDF2-HMAC-SHA256 (RFC 8018, RFC 2104): a round is one HMAC of 32 octets under the password. What the password
 * turns the hash into before the octets and before their digest is kept, so that a round is two blocks. ---- */

/* The hash behind one block of the key, each octet of it changed so. */
static void begin_hmac(uint32_t hash[8], const uint8_t key[64], uint8_t change)
{
    uint8_t block[64];

    for (unsigned i = 0; i < 64; i++) block[i] = key[i] ^ change;
    memcpy(hash, initial, sizeof initial);
    compress(hash, block);
    wipe(block, sizeof block);
}

/* Go on from a hash that stands behind 64 octets, with 32 more, to the end: out may be the octets. */
static void finish_hash(uint32_t out[8], const uint32_t hash[8], const uint32_t octets[8])
{
    uint32_t w[16] = {[8] = 0x80000000, [15] = (64 + 32) * 8};

    memcpy(w, octets, 32);
    memcpy(out, hash, 32);
    mix(out, w);
}

static void pbkdf2_go_on(struct miniproxy_pbkdf2 *state, uint32_t rounds)
{
    for (; rounds > 0; rounds--) {
        finish_hash(state->last, state->inner, state->last);
        finish_hash(state->last, state->outer, state->last);
        for (unsigned i = 0; i < 8; i++) state->sum[i] ^= state->last[i];
    }
}

/* The first HMAC is one of the salt and the number of the block, 1 here. salt_len: at most 51, so that these and what
 * ends a message fit into one block. */
static void pbkdf2_begin(struct miniproxy_pbkdf2 *state, const void *password, size_t len, const uint8_t *salt,
                         size_t salt_len)
{
    uint8_t block[64] = {0};

    if (len > sizeof block) miniproxy_sha256(block, password, len);
    else if (len > 0) memcpy(block, password, len);
    begin_hmac(state->inner, block, 0x36);
    begin_hmac(state->outer, block, 0x5c);
    memset(block, 0, sizeof block);
    if (salt_len > 0) memcpy(block, salt, salt_len);
    block[salt_len + 3] = 1;
    block[salt_len + 4] = 0x80;
    store(block + 60, (uint32_t)(64 + salt_len + 4) * 8);
    memcpy(state->last, state->inner, sizeof state->last);
    compress(state->last, block);
    finish_hash(state->last, state->outer, state->last);
    memcpy(state->sum, state->last, sizeof state->sum);
}

static void pbkdf2_end(struct miniproxy_pbkdf2 *state, uint8_t digest[32])
{
    for (unsigned i = 0; i < 8; i++) store(digest + 4 * i, state->sum[i]);
}

const struct miniproxy_pbkdf2_functions miniproxy_sha256_pbkdf2 = {
    .begin = pbkdf2_begin, .go_on = pbkdf2_go_on, .conclude = pbkdf2_end};
