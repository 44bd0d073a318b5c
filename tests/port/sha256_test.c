/* SPDX-License-Identifier: MIT
 *
 * The example messages of FIPS 180, and every length around the ends of a block; PBKDF2 by the examples of RFC 7914
 * section 11, in pieces of every size, and against another implementation. Argument: the results file.
 */
#include "port/miniproxy_sha256.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static FILE *results;
static int failed;

static void expect_digest(const char *name, const uint8_t digest[32], const char *hex)
{
    char text[65];
    bool ok;

    for (size_t i = 0; i < 32; i++) snprintf(text + 2 * i, 3, "%02x", (unsigned)digest[i]);
    ok = strcmp(text, hex) == 0;
    failed += !ok;
    fprintf(results, "%s\tsha256\t%s\tA13\n", ok ? "pass" : "fail", name);
    printf("%s %s%s%s\n", ok ? "pass" : "FAIL", name, ok ? "" : ": ", ok ? "" : text);
}

static void expect(const char *name, const void *data, size_t len, const char *hex)
{
    uint8_t digest[32];

    miniproxy_sha256(digest, data, len);
    expect_digest(name, digest, hex);
}

/* The digest of the digests of 0..299 octets: every way that a message can end. */
static void every_length(void)
{
    static uint8_t digests[300][32], data[300];

    for (size_t len = 0; len < 300; len++) {
        data[len] = (uint8_t)(len * 7);
        miniproxy_sha256(digests[len], data, len);
    }
    expect("every length from 0 to 299", digests, sizeof digests, 
           "f65f14b090e805017546322e618401d41f0710c213e013a5131eb38bbe8f367f");
}

/* Rounds 2 to rounds in pieces of so many, and a look at the result in between, which must not disturb it. */
static void pbkdf2(uint8_t digest[32], const char *password, const char *salt, uint32_t rounds, uint32_t piece)
{
    const struct miniproxy_pbkdf2_functions *f = &miniproxy_sha256_pbkdf2;
    struct miniproxy_pbkdf2 state;

    f->begin(&state, password, strlen(password), (const uint8_t *)salt, strlen(salt));
    for (uint32_t left = rounds - 1, n; left > 0; left -= n) {
        n = left < piece ? left : piece;
        f->go_on(&state, n);
        f->conclude(&state, digest);
    }
    f->conclude(&state, digest);
}

static void pbkdf2_examples(void)
{
    static const char second[] = "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56";
    static const uint32_t pieces[] = {1, 2, 3, 7, 16, 255, 256, 10000, 79998, 79999, 80000, UINT32_MAX};
    uint8_t digest[32];
    char name[64];

    pbkdf2(digest, "passwd", "salt", 1, 1);
    expect_digest("PBKDF2, one round", digest, "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc");
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        pbkdf2(digest, "Password", "NaCl", 80000, pieces[i]);
        snprintf(name, sizeof name, "PBKDF2, 80000 rounds, %lu at once", (unsigned long)pieces[i]);
        expect_digest(name, digest, second);
    }
}

/* The digest of the digests that Python's hashlib finds for passwords of 0..199 octets, salts of 0..51, 1..5 rounds. */
static void pbkdf2_every_length(void)
{
    static uint8_t digests[200][32], data[300];
    struct miniproxy_pbkdf2 state;

    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)(i * 7);
    for (size_t len = 0; len < 200; len++) {
        miniproxy_sha256_pbkdf2.begin(&state, data, len, data + 100, len % 52);
        miniproxy_sha256_pbkdf2.go_on(&state, (uint32_t)(len % 5));
        miniproxy_sha256_pbkdf2.conclude(&state, digests[len]);
    }
    expect("PBKDF2, every length of password and salt", digests, sizeof digests,
           "abc672775167447f39dba6226dd6d50c960a35b227678005bbb843ca6cd11ea8");
}

int main(int argc, char **argv)
{
    static const char two_blocks[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    static char million[1000000];

    results = argc > 1 ? fopen(argv[1], "w") : stdout;
    if (results == NULL) return 2;
    memset(million, 'a', sizeof million);
    expect("empty", "", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    expect("abc", "abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    expect("448 bits", two_blocks, strlen(two_blocks),
           "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    expect("a million times a", million, sizeof million,
           "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    every_length();
    pbkdf2_examples();
    pbkdf2_every_length();
    return fclose(results) != 0 || failed > 0;
}
