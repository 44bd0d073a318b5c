/* SPDX-License-Identifier: MIT
 *
 * The example messages of FIPS 180, and every length around the ends of a block. Argument: the results file.
 */
#include "port/miniproxy_sha256.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static FILE *results;
static int failed;

static void expect(const char *name, const void *data, size_t len, const char *hex)
{
    uint8_t digest[32];
    char text[65];
    bool ok;

    miniproxy_sha256(digest, data, len);
    for (size_t i = 0; i < sizeof digest; i++) snprintf(text + 2 * i, 3, "%02x", (unsigned)digest[i]);
    ok = strcmp(text, hex) == 0;
    failed += !ok;
    fprintf(results, "%s\tsha256\t%s\tA13\n", ok ? "pass" : "fail", name);
    printf("%s %s%s%s\n", ok ? "pass" : "FAIL", name, ok ? "" : ": ", ok ? "" : text);
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
    return fclose(results) != 0 || failed > 0;
}
