/* SPDX-License-Identifier: MIT
 *
 * Text forms of addresses, and which of them are special-purpose.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>

#include "../../miniproxy.c"
#include "unit.h"

static bool parse(struct miniproxy_addr *a, const char *text)
{
    memset(a, 0, sizeof *a);
    return miniproxy_addr_parse(a, text, strlen(text));
}

static void check_text(const char *text, const char *expected)
{
    struct miniproxy_addr a;
    char out[MINIPROXY_ADDR_TEXT];
    if (!parse(&a, text)) fail_msg("%s is not accepted", text);
    assert_int_equal(miniproxy_addr_format(&a, out), strlen(expected));
    assert_string_equal(out, expected);
}

static void ip4_text(const void *data)
{
    static const char *const same[] = {"0.0.0.0", "1.2.3.4", "10.20.30.40", "127.0.0.1", "255.255.255.255",
                                       "192.168.100.200"};
    (void)data;
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) check_text(same[i], same[i]);
}

static void ip4_malformed(const void *data)
{
    static const char *const bad[] = {
        "",           ".",          "1",          "1.2",        "1.2.3",      "1.2.3.",       ".1.2.3",
        "1.2.3.4.",   ".1.2.3.4",   "1.2.3.4.5",  "1..3.4",     "01.2.3.4",   "1.2.3.04",     "1.2.3.00",
        "256.1.1.1",  "1.2.3.256",  "1.2.3.999",  "1.2.3.1000", "0x7f.0.0.1", "0x7f000001",   "017700000001",
        "2130706433", "127.1",      "127.0.1",    " 1.2.3.4",   "1.2.3.4 ",   "1.2.3.4\n",    "1.2.3.4/8",
        "1.2.3.4:80", "+1.2.3.4",   "-1.2.3.4",   "1.2.3.a",    "1,2,3,4",    "\xd9\xa1.2.3.4", "1.2.3.4x"};
    struct miniproxy_addr a;
    (void)data;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (parse(&a, bad[i])) fail_msg("accepted: %s", bad[i]);
    assert_false(miniproxy_addr_parse(&a, "1.2.3.4\0", 8));
    assert_true(miniproxy_addr_parse(&a, "1.2.3.45", 7)); /* len counts, not a NUL */
    assert_int_equal(a.ip[3], 4);
}

static void parse_keeps_the_port_and_failure_changes_nothing(const void *data)
{
    struct miniproxy_addr a = {.port = 8080}, before;
    (void)data;
    assert_true(miniproxy_addr_parse(&a, "9.8.7.6", 7));
    assert_int_equal(a.port, 8080);
    assert_int_equal(a.family, 4);
    before = a;
    assert_false(miniproxy_addr_parse(&a, "1.2.3.x", 7));
    assert_memory_equal(&a, &before, sizeof a);
}

static void no_address_has_no_text(const void *data)
{
    struct miniproxy_addr a = {.family = 0};
    char out[MINIPROXY_ADDR_TEXT] = "x";
    (void)data;
    assert_int_equal(miniproxy_addr_format(&a, out), 0);
    assert_string_equal(out, "");
}

#if MINIPROXY_WITH_IPV6

static void ip6_text(const void *data)
{
    static const char *const pairs[][2] = {
        {"::", "::"},
        {"::1", "::1"},
        {"1::", "1::"},
        {"0:0:0:0:0:0:0:0", "::"},
        {"2001:DB8::1", "2001:db8::1"},
        {"2001:0db8:0000:0000:0001:0000:0000:0001", "2001:db8::1:0:0:1"}, /* RFC 5952 section 4.2.3: first of equals */
        {"2001:db8:0:0:1:0:0:0", "2001:db8:0:0:1::"},                     /* the longest run */
        {"2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"},                 /* one group stays */
        {"2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1"},
        {"1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"},
        {"::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"},
        {"0:0:3:4:5:6:0:0", "::3:4:5:6:0:0"},
        {"1:0:0:0:0:0:0:0", "1::"},
        {"fe80::abCD", "fe80::abcd"},
        {"64:ff9b::1.2.3.4", "64:ff9b::102:304"},
        {"::ffff:1.2.3.4", "::ffff:1.2.3.4"}, /* RFC 5952 section 5 */
        {"::FFFF:102:304", "::ffff:1.2.3.4"},
        {"::ffff:0.0.0.0", "::ffff:0.0.0.0"},
        {"0:0:0:0:0:ffff:255.255.255.255", "::ffff:255.255.255.255"},
        {"1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:102:304"},
        {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}};
    (void)data;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) check_text(pairs[i][0], pairs[i][1]);
}

static void ip6_malformed(const void *data)
{
    static const char *const bad[] = {
        ":",          ":::",           "1:",           ":1",          "1:2:3:4:5:6:7",   "1:2:3:4:5:6:7:8:9",
        "1::2::3",    "::1::",         "1:::2",        "12345::",     "00001::",         "1:2:3:4:5:6:7:8::",
        "::1:2:3:4:5:6:7:8",           "1::2:3:4:5:6:7:8",            "[::1]",           "::1%eth0",
        "fe80::1%1",  "fe80::1%25lo",  "::1 ",         " ::1",        "::g",             "::1/64",
        "1.2.3.4::",  "::1.2.3.4:5",   "::1.2.3",      "::1.2.3.4.5", "::01.2.3.4",      "1:2:3:4:5:6:7:1.2.3.4",
        "::1.2.3.256", "1:2:3:4:5:1.2.3.4", "::-1",    "::+1",        "::0x1",           "1:2:3:4:5:6:7:"};
    struct miniproxy_addr a;
    (void)data;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (parse(&a, bad[i])) fail_msg("accepted: %s", bad[i]);
}

/* Text over the letters of addresses: whatever is accepted, the system accepts with the same value. */
static void random_text_agrees_with_the_system(const void *data)
{
    static const char letters[] = "0123456789abF:::...0";
    unsigned accepted = 0, strict = 0;
    (void)data;
    for (unsigned i = 0; i < 2000000; i++) {
        char text[24];
        unsigned char ip[16];
        struct miniproxy_addr a = {.family = 0};
        size_t len = unit_random(16);
        for (size_t k = 0; k < len; k++) text[k] = letters[unit_random(sizeof letters - 1)];
        text[len] = '\0';
        bool ours = miniproxy_addr_parse(&a, text, len);
        int family = strchr(text, ':') != NULL ? AF_INET6 : AF_INET;
        bool theirs = inet_pton(family, text, ip) == 1;
        if (ours && !theirs) fail_msg("only we accept %s", text);
        if (!ours && theirs) strict++;
        if (!ours) continue;
        accepted++;
        assert_int_equal(a.family, family == AF_INET ? 4 : 6);
        assert_memory_equal(a.ip, ip, family == AF_INET ? 4 : 16);
    }
    assert_true(accepted > 1000); /* or the test says nothing */
    if (strict > 0) fail_msg("%u texts are refused without reason", strict);
}

static void random_addresses_survive_a_round_trip(const void *data)
{
    (void)data;
    for (unsigned i = 0; i < 500000; i++) {
        struct miniproxy_addr a = {.family = 6}, b = {.family = 0};
        unsigned char ip[16];
        char out[MINIPROXY_ADDR_TEXT];
        for (unsigned k = 0; k < 16; k++) /* many zeros, so that every kind of gap occurs */
            a.ip[k] = (uint8_t)(unit_random(3) > 0 ? 0 : unit_random(256));
        if (unit_random(4) == 0) memset(a.ip, 0, 10), a.ip[10] = a.ip[11] = 0xff;
        if (unit_random(8) == 0) memset(a.ip + 4, 0, 12), a.family = 4;
        size_t len = miniproxy_addr_format(&a, out);
        assert_int_equal(len, strlen(out));
        assert_true(len < MINIPROXY_ADDR_TEXT);
        assert_int_equal(inet_pton(a.family == 4 ? AF_INET : AF_INET6, out, ip), 1);
        assert_memory_equal(ip, a.ip, a.family == 4 ? 4 : 16);
        assert_true(miniproxy_addr_parse(&b, out, len));
        assert_memory_equal(&a, &b, sizeof a);
    }
}

#endif

static void check_special(const char *text, bool special)
{
    struct miniproxy_addr a;
    if (!parse(&a, text)) fail_msg("%s is not accepted", text);
    if (miniproxy_addr_is_special(&a) != special) fail_msg("%s is %s special", text, special ? "not" : "");
}

/* First and last address of each network are special; `free` ones beside them are not. */
static void special_ip4_networks(const void *data)
{
    static const char *const special[] = {
        "0.0.0.0",      "0.255.255.255",   "10.0.0.0",     "10.255.255.255",  "100.64.0.0",   "100.127.255.255",
        "127.0.0.0",    "127.255.255.255", "169.254.0.0",  "169.254.255.255", "172.16.0.0",   "172.31.255.255",
        "192.0.0.0",    "192.0.0.255",     "192.0.2.0",    "192.0.2.255",     "192.88.99.0",  "192.88.99.255",
        "192.168.0.0",  "192.168.255.255", "198.18.0.0",   "198.19.255.255",  "198.51.100.0", "198.51.100.255",
        "203.0.113.0",  "203.0.113.255",   "224.0.0.0",    "239.255.255.255", "240.0.0.0",    "255.255.255.255"};
    static const char *const ordinary[] = {
        "1.0.0.0",      "9.255.255.255",  "11.0.0.0",     "100.63.255.255", "100.128.0.0",    "126.255.255.255",
        "128.0.0.0",    "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0",     "191.255.255.255",
        "192.0.1.0",    "192.0.3.0",      "192.88.98.255", "192.88.100.0",  "192.167.255.255", "192.169.0.0",
        "198.17.255.255", "198.20.0.0",   "198.51.99.255", "198.51.101.0",  "203.0.112.255",  "203.0.114.0",
        "223.255.255.255", "8.8.8.8"};
    (void)data;
    for (size_t i = 0; i < sizeof special / sizeof special[0]; i++) check_special(special[i], true);
    for (size_t i = 0; i < sizeof ordinary / sizeof ordinary[0]; i++) check_special(ordinary[i], false);
}

#if MINIPROXY_WITH_IPV6

static void special_ip6_networks(const void *data)
{
    static const char *const special[] = {
        "::",        "::1",         "64:ff9b:1::",   "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", "100::", "100::ffff",
        "2001::",    "2001::1",     "2001:1ff:ffff::", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
        "3fff::",    "3fff:fff::1", "5f00::1",       "fc00::",       "fdff:ffff::",         "fe80::1",
        "febf:ffff::", "fec0::1",   "feff:ffff::",   "ff00::",       "ff02::1",             "ffff:ffff::"};
    static const char *const ordinary[] = {
        "64:ff9b:2::1", "100:0:0:2::1", "2001:200::1",  "2001:db7:ffff::1", "2001:db9::1", "2003::1", "3ffe::1",
        "3fff:1000::1", "5eff::1",      "5f01::1",      "fbff::1",          "fe00::1",     "fe7f::1",
        "2606:4700:4700::1111", "2a00:1450:4001:80b::200e"};
    (void)data;
    for (size_t i = 0; i < sizeof special / sizeof special[0]; i++) check_special(special[i], true);
    for (size_t i = 0; i < sizeof ordinary / sizeof ordinary[0]; i++) check_special(ordinary[i], false);
}

static void ip4_inside_ip6(const void *data)
{
    static const char *const special[] = {
        "::ffff:127.0.0.1",  "::ffff:10.0.0.1",  "::ffff:169.254.169.254", "::127.0.0.1",  "::10.1.2.3",    "::0.0.0.2",
        "64:ff9b::127.0.0.1", "64:ff9b::192.168.0.1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::1", "2002:a00:1::",
        "2002:c0a8::1"};
    static const char *const ordinary[] = {"::ffff:8.8.8.8", "::8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"};
    (void)data;
    for (size_t i = 0; i < sizeof special / sizeof special[0]; i++) check_special(special[i], true);
    for (size_t i = 0; i < sizeof ordinary / sizeof ordinary[0]; i++) check_special(ordinary[i], false);
}

#else

static void ip6_is_unknown(const void *data)
{
    struct miniproxy_addr a;
    (void)data;
    assert_false(parse(&a, "::1"));
    assert_false(parse(&a, "2001:db8::1"));
    assert_int_equal(sizeof a.ip, 4);
}

#endif

int main(void)
{
    struct unit_test tests[] = {
        {.name = "dotted quads are read and written", .run = ip4_text},
        {.name = "only strict dotted quads are IPv4 addresses [T22]", .run = ip4_malformed},
        {.name = "parsing keeps the port, failing changes nothing",
         .run = parse_keeps_the_port_and_failure_changes_nothing},
        {.name = "no address has no text", .run = no_address_has_no_text},
        {.name = "special-purpose IPv4 networks, edge by edge [R02]", .run = special_ip4_networks},
#if MINIPROXY_WITH_IPV6
        {.name = "IPv6 text as RFC 5952 writes it", .run = ip6_text},
        {.name = "malformed IPv6 text and zones are refused [T22]", .run = ip6_malformed},
        {.name = "random text is read as the system reads it [T22]", .run = random_text_agrees_with_the_system},
        {.name = "random addresses survive a round trip", .run = random_addresses_survive_a_round_trip},
        {.name = "special-purpose IPv6 networks, edge by edge [R02]", .run = special_ip6_networks},
        {.name = "IPv4 inside IPv6 is found [R03]", .run = ip4_inside_ip6},
#else
        {.name = "without IPv6 its text is no address", .run = ip6_is_unknown},
#endif
    };
    return unit_run("addr", tests, sizeof tests / sizeof tests[0]);
}
