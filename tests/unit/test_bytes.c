/* SPDX-License-Identifier: MIT
 *
 * Characters, numbers, time and secrets.
 */
#include "../../miniproxy.c"
#include "unit.h"

static void tokens(const void *data)
{
    (void)data;
    for (unsigned c = 0; c < 256; c++) { /* RFC 9110 section 5.6.2 */
        static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        bool tchar = c != 0 && (strchr("!#$%&'*+-.^_`|~0123456789", (int)c) != NULL || strchr(letters, (int)c) != NULL);
        if (is_token((unsigned char)c) != tchar) fail_msg("octet %u", c);
    }
}

static void field_text(const void *data)
{
    (void)data;
    for (unsigned c = 0; c < 256; c++) { /* RFC 9110 section 5.5: VCHAR, obs-text, SP, HTAB */
        bool text = (c >= 0x21 && c <= 0x7e) || c >= 0x80 || c == ' ' || c == '\t';
        if (is_text((unsigned char)c) != text) fail_msg("octet %u", c);
        assert_int_equal(is_blank((unsigned char)c), c == ' ' || c == '\t');
        assert_int_equal(is_digit((unsigned char)c), c >= '0' && c <= '9');
        assert_int_equal(lower((unsigned char)c), c >= 'A' && c <= 'Z' ? c + 32 : c);
    }
}

/* Words of text are looked at as a whole: each octet at each place, behind each alignment. */
static void text_ends(const void *data)
{
    enum { LEN = 5 * sizeof(size_t) };
    static const unsigned char fill[] = {'c', ' ', '~', '\t', 0x80, 0xff};
    unsigned char room[LEN + sizeof(size_t)];
    (void)data;
    for (unsigned f = 0; f < sizeof fill; f++) {
        for (unsigned begin = 0; begin < sizeof(size_t); begin++) {
            unsigned char *p = room + begin;
            memset(room, 0, sizeof room);
            memset(p, fill[f], LEN);
            for (unsigned len = 0; len <= LEN; len++) assert_ptr_equal(skip_text(p, p + len), p + len);
            for (unsigned i = 0; i < LEN * 256; i++) {
                unsigned at = i / 256, c = i % 256;
                p[at] = (unsigned char)c;
                if (skip_text(p, p + LEN) != p + (is_text((unsigned char)c) ? LEN : at)) fail_msg("%u at %u", c, at);
                p[at] = fill[f];
            }
        }
    }
}

/* The one field that a name is, in any case; nothing that differs from it in one octet. */
static void known_names(const void *data)
{
    static const struct {
        const char *name;
        uint8_t id, role;
    } known[] = {
#define X(name, id, role) {name, id, role},
        FIELDS(X)
#undef X
    };
    (void)data;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        unsigned char text[32];
        size_t len = strlen(known[i].name);
        struct line l = {.start = text, .name_len = (uint16_t)len};
        for (unsigned round = 0; round < 100; round++) {
            size_t at = unit_random((unsigned)len);
            for (size_t k = 0; k < len; k++) {
                unsigned char c = (unsigned char)known[i].name[k];
                text[k] = is_letter(c) && unit_random(2) != 0 ? (unsigned char)(c - 32) : c;
            }
            classify(&l);
            if (l.id != known[i].id || l.role != known[i].role) fail_msg("%s is another", known[i].name);
            text[at] = (unsigned char)(text[at] ^ (1u << unit_random(5)));
            classify(&l);
            if (l.id != F_OTHER || l.role != 0) fail_msg("%.*s is known", (int)len, (char *)text);
        }
    }
}

static void hex_digits(const void *data)
{
    static const char digits[] = "0123456789abcdef", capitals[] = "0123456789ABCDEF";
    (void)data;
    for (unsigned c = 0; c < 256; c++) {
        const char *at = c != 0 ? strchr(digits, (int)c) : NULL, *other = c != 0 ? strchr(capitals, (int)c) : NULL;
        int value = at != NULL ? (int)(at - digits) : other != NULL ? (int)(other - capitals) : -1;
        assert_int_equal(hex_value((unsigned char)c), value);
    }
}

static bool number(const char *text, uint64_t *value)
{
    return parse_number((const unsigned char *)text, strlen(text), value);
}

static void numbers(const void *data)
{
    static const char *const bad[] = {"",  "+5", "-1",  " 5",  "5 ",   "5,5", "0x5", "5a", "a5", "5.0", "1e3", "\t5",
                                      "5\n", ".5", "--5", "\xd9\xa5", "18446744073709551616", "18446744073709551621",
                                      "36893488147419103237", "99999999999999999999",
                                      "340282366920938463463374607431768211456"};
    uint64_t value;
    (void)data;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        value = 42;
        if (number(bad[i], &value)) fail_msg("accepted: %s", bad[i]);
        assert_int_equal(value, 42);
    }
    assert_true(number("0", &value) && value == 0);
    assert_true(number("007", &value) && value == 7);
    assert_true(number("4294967296", &value) && value == 4294967296u);
    assert_true(number("9223372036854775807", &value) && value == INT64_MAX);
    assert_true(number("10000000000000000000", &value) && value == 10000000000000000000u);
    assert_true(number("0000000000000000000000000000005", &value) && value == 5);
    assert_true(parse_number((const unsigned char *)"123", 2, &value) && value == 12);
    assert_false(parse_number((const unsigned char *)"1\0" "2", 3, &value));
}

/* Every number that printf writes is read back; the last nine below 2^64 may be refused, never misread. */
static void numbers_up_to_the_limit(const void *data)
{
    char text[32];
    uint64_t value, n;
    (void)data;
    for (unsigned i = 0; i < 200000; i++) {
        n = ((uint64_t)unit_random(UINT32_MAX) << 32 | unit_random(UINT32_MAX)) >> unit_random(64);
        snprintf(text, sizeof text, "%llu", (unsigned long long)n);
        if (n <= UINT64_MAX - 16) assert_true(number(text, &value) && value == n);
    }
    for (n = UINT64_MAX - 16; n != 0; n++) {
        snprintf(text, sizeof text, "%llu", (unsigned long long)n);
        if (number(text, &value)) assert_true(value == n);
    }
}

static void decimals(const void *data)
{
    char out[10], expected[16];
    static const unsigned values[] = {0, 7, 10, 99, 100, 255, 65535, 1000000, 4294967295u};
    (void)data;
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        snprintf(expected, sizeof expected, "%u", values[i]);
        assert_int_equal(decimal(values[i], out), strlen(expected));
        assert_memory_equal(out, expected, strlen(expected));
    }
}

static void words(const void *data)
{
    (void)data;
    assert_true(is_word((const unsigned char *)"ChunKed", 7, "chunked"));
    assert_false(is_word((const unsigned char *)"chunke", 6, "chunked"));
    assert_false(is_word((const unsigned char *)"chunkedx", 8, "chunked"));
    assert_false(is_word((const unsigned char *)"chunked\0", 8, "chunked"));
    assert_false(is_word((const unsigned char *)"", 0, "chunked"));
    assert_true(is_word((const unsigned char *)"", 0, ""));
    assert_false(is_word((const unsigned char *)"\xc3\xb6k", 3, "\xc3\x96k")); /* only ASCII has case */
    assert_false(is_word((const unsigned char *)"@", 1, "`"));                 /* neighbours of the letters */
    assert_false(is_word((const unsigned char *)"[", 1, "{"));
}

static void secrets(const void *data)
{
    unsigned char a[32], b[32];
    (void)data;
    for (unsigned i = 0; i < sizeof a; i++) a[i] = b[i] = (unsigned char)(i * 7);
    assert_true(equal_secrets(a, b, sizeof a));
    assert_true(equal_secrets(a, b, 0));
    for (unsigned i = 0; i < sizeof a; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            b[i] ^= (unsigned char)(1u << bit);
            assert_false(equal_secrets(a, b, sizeof a));
            b[i] ^= (unsigned char)(1u << bit);
        }
    }
    b[31] ^= 1; /* equal before the length ends */
    assert_true(equal_secrets(a, b, 31));
    wipe(a, 31);
    for (unsigned i = 0; i < 31; i++) assert_int_equal(a[i], 0);
    assert_int_equal(a[31], 31 * 7);
}

static void time_wraps(const void *data)
{
    (void)data;
    assert_true(time_reached(5, 5));
    assert_true(time_reached(6, 5));
    assert_false(time_reached(4, 5));
    assert_true(time_reached(3, UINT32_MAX - 3));
    assert_false(time_reached(UINT32_MAX - 3, 3));
    assert_false(time_reached(UINT32_MAX, 0));
    assert_true(time_reached(1u << 30, 0));
    assert_false(time_reached(0, 1u << 30)); /* the longest timeout */
}

int main(void)
{
    struct unit_test tests[] = {
        {.name = "tokens are those of RFC 9110 [M06]", .run = tokens},
        {.name = "field values hold text and no control octets [M01,M07]", .run = field_text},
        {.name = "field values end at the first octet that is not text, wherever it stands [M01,M07]", .run = text_ends},
        {.name = "names of fields are found in any case, and no others [M01]", .run = known_names},
        {.name = "hexadecimal digits", .run = hex_digits},
        {.name = "numbers are digits that fit 64 bits [Z09,B09,B12]", .run = numbers},
        {.name = "numbers up to the limit are read as printed [Z09]", .run = numbers_up_to_the_limit},
        {.name = "decimal text", .run = decimals},
        {.name = "words compare without the case of ASCII letters [M01,B07]", .run = words},
        {.name = "secrets compare whole and are wiped [A13]", .run = secrets},
        {.name = "deadlines survive the wrap of the clock", .run = time_wraps},
    };
    return unit_run("bytes", tests, sizeof tests / sizeof tests[0]);
}
