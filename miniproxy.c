/* SPDX-License-Identifier: MIT
 *
 * miniproxy: the core. See miniproxy.h for how to use it; this file is about how it works.
 *
 * ==== 0  How it works ==============================================================================
 *
 * A session is one client connection with, at times, one connection to an origin. It is always in one state:
 *
 *            ┌──────────────────────── kept alive ───────────────────────┐
 *   FREE → HEAD → RESOLVE → CONNECT → AWAIT → RELAY → IDLE → HEAD …      │
 *            │       │         │  └──→ TUNNEL → FREE                     │
 *            └───────┴─────────┴────────→ REPLY → LINGER → FREE ─────────┘ (REPLY → IDLE)
 *
 * HEAD collects a request head; RESOLVE and CONNECT find the origin; AWAIT sends the request and waits for the head
 * of the response; RELAY passes its body; TUNNEL passes everything; REPLY sends an answer of the proxy's own; LINGER
 * reads on for a while after it, because a reset would destroy the answer before the client has read it.
 *
 * Bytes. Each direction ("pipe") borrows at most one buffer of the pool, while bytes are in flight. In it
 *
 *        0        out        out_end      in         in_end      size
 *        |  free  |  may be sent  |  gap  |  received  |   free   |
 *
 * received bytes become sendable in place: heads by rewriting, bodies by their framing (advance()). Rewriting
 * works in place because a head is received MINIPROXY_HEADROOM behind the start and grows by less.
 *
 * Decisions. A head is searched for its end as it arrives, then parsed once. What the decision needs (host, addresses,
 * where the fields are) stands in a `struct plan` that lives in the buffer of the other direction until the
 * connection stands; so a session record holds no text but the line for the log.
 *
 * Time. One queue for every kind of timeout; all its entries have the same duration, so it is sorted by itself: arming is
 * appending, and only the heads of the queues are looked at. The oldest entry of the IDLE queue is the connection
 * to evict when all sessions are in use.
 *
 * Work. miniproxy_wake() puts a session on a run list, miniproxy_poll() visits it. A visit moves at most one buffer a
 * direction, then sessions with more to do queue again, bulk behind small exchanges.
 *
 * Invariants: out <= out_end <= in <= in_end in every buffer; only enter() changes a state; only refuse(), cut() and
 * report() end a transaction; a connection is closed exactly once.
 */
#include "miniproxy.h"

#include <string.h>

/* ==== 1  Configuration checks ====================================================================== */

#define CHECK(name, low, high)                                                                                         \
    _Static_assert((name) >= (low) && (name) <= (high), #name " is out of range; see its comment in miniproxy.h")

CHECK(MINIPROXY_SESSIONS, 1, 60000);
CHECK(MINIPROXY_RESERVED, 1, 1000);
CHECK(MINIPROXY_BUFFER_SIZE, 512, 65000);
CHECK(MINIPROXY_BUFFERS, 2, 65000);
CHECK(MINIPROXY_LINE_KEEP, 0, 4000);
CHECK(MINIPROXY_FIELDS_MAX, 8, 1000);
CHECK(MINIPROXY_METHOD_MAX, 7, 200);
CHECK(MINIPROXY_ADDRESSES, 1, 16);
CHECK(MINIPROXY_ATTEMPTS, 1, 8);
CHECK(MINIPROXY_CREDENTIALS_MAX, 16, 255);
CHECK(MINIPROXY_THROTTLE_CLIENTS, 1, 1000);
CHECK(MINIPROXY_THROTTLE_FAILURES, 1, 200);
CHECK(MINIPROXY_SESSIONS_PER_CLIENT, 1, 60000);
CHECK(MINIPROXY_INTERIM_MAX, 1, 255);
CHECK(MINIPROXY_TRAILER_MAX, 64, 65000);
CHECK(MINIPROXY_CHUNK_EXT_MAX, 0, 65000);
CHECK(MINIPROXY_NAME_MAX, 1, 64);
_Static_assert((MINIPROXY_CLIENT_BUCKETS & (MINIPROXY_CLIENT_BUCKETS - 1)) == 0,
               "MINIPROXY_CLIENT_BUCKETS is not a power of two");
#ifdef MINIPROXY_RAM_BUDGET
_Static_assert(sizeof(struct miniproxy) <= MINIPROXY_RAM_BUDGET,
               "struct miniproxy is larger than MINIPROXY_RAM_BUDGET: lower MINIPROXY_SESSIONS, _BUFFERS or _BUFFER_SIZE");
#endif
_Static_assert(sizeof(unsigned) >= 4, "struct miniproxy_rule needs 32-bit bit-fields");

enum {
    HOST_MAX = 253,      /* octets of a DNS name (RFC 1035 section 2.3.4) */
    NOMINATED_MAX = 8,   /* fields that Connection may nominate besides the usual ones */
    BLANK_LINES_MAX = 8, /* empty lines before a request line (RFC 9112 section 2.2) */
    CHUNK_ROOM = 8,      /* for "ffff" CRLF before what becomes a chunk, and CRLF behind it */
    ACCEPT_RETRY_MS = 100,
    VISIT_STATES = 12 /* states one visit may pass through: more is a loop */
};

/* With fewer buffers than all sessions could borrow, requests leave some for responses and replies: what flows towards clients
 * frees buffers, so it must never wait for what flows the other way. */
#if MINIPROXY_BUFFERS >= 2 * MINIPROXY_SLOTS
#define BUFFER_RESERVE 0
#elif MINIPROXY_BUFFERS < 16
#define BUFFER_RESERVE 1
#else
#define BUFFER_RESERVE (MINIPROXY_BUFFERS / 8)
#endif

/* ==== 2  Bytes, time, secrets ====================================================================== */

static uint16_t u16(size_t value)
{
    MINIPROXY_ASSERT(value <= UINT16_MAX);
    return (uint16_t)value;
}

static bool time_reached(uint32_t now_ms, uint32_t due_ms)
{
    return (int32_t)(now_ms - due_ms) >= 0;
}

static unsigned char lower(unsigned char c)
{
    return (unsigned char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
}

static bool is_digit(unsigned char c)
{
    return c >= '0' && c <= '9';
}

/* tchar of RFC 9110 section 5.6.2, one bit a code. */
static bool is_token(unsigned char c)
{
    static const uint32_t set[4] = {0, 0x03FF6CFAu, 0xC7FFFFFEu, 0x57FFFFFFu};
    return c < 128 && (set[c >> 5] >> (c & 31) & 1u) != 0;
}

/* What a field value may hold: VCHAR, SP, HTAB, obs-text. */
static bool is_text(unsigned char c)
{
    return (c >= 0x20 && c != 0x7f) || c == '\t';
}

static bool is_blank(unsigned char c)
{
    return c == ' ' || c == '\t';
}

/* text against a lower-case string, ignoring the case of ASCII letters only. */
static bool is_word(const unsigned char *text, size_t len, const char *word)
{
    size_t i = 0;
    while (i < len && word[i] != '\0' && lower(text[i]) == (unsigned char)word[i]) i++;
    return i == len && word[i] == '\0';
}

static int hex_value(unsigned char c)
{
    if (is_digit(c)) return c - '0';
    c = lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The one parser of numbers: 1*DIGIT, no sign, no blanks, no overflow. */
static bool parse_number(const unsigned char *text, size_t len, uint64_t *value)
{
    uint64_t v = 0;
    if (len == 0) return false;
    for (size_t i = 0; i < len; i++) {
        if (!is_digit(text[i])) return false;
        if (v > (UINT64_MAX - 9) / 10) return false;
        v = v * 10 + (unsigned)(text[i] - '0');
    }
    *value = v;
    return true;
}

/* The same time whatever differs (RFC 9110 section 17.16.1 asks for care with credentials). */
static bool equal_secrets(const void *a, const void *b, size_t len)
{
    const volatile unsigned char *x = a, *y = b;
    unsigned char diff = 0;
    for (size_t i = 0; i < len; i++) diff = (unsigned char)(diff | (x[i] ^ y[i]));
    return diff == 0;
}

static void wipe(void *secret, size_t len)
{
    volatile unsigned char *p = secret;
    while (len-- > 0) *p++ = 0;
}

/* Decimal text of a small number; returns its length. */
static size_t decimal(unsigned value, char out[10])
{
    char reversed[10];
    size_t n = 0, i;
    do {
        reversed[n++] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    for (i = 0; i < n; i++) out[i] = reversed[n - 1 - i];
    return n;
}
