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

CHECK(MINIPROXY_SESSIONS, 1, 20000);
CHECK(MINIPROXY_RESERVED, 1, 1000);
CHECK(MINIPROXY_BUFFER_SIZE, 512, 65000);
CHECK(MINIPROXY_BUFFERS, 2, 65000);
CHECK(MINIPROXY_LINE_KEEP, 16, 4000);
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

/* ==== 3  Heads ===================================================================================== */

enum head_end { HEAD_MORE, HEAD_COMPLETE, HEAD_LONE_LF };

/* Search for the empty line from where the last search stopped. Lines end in CRLF; a lone LF is refused at once rather
 * than waited upon (RFC 9112 section 2.2 lets a recipient choose). */
static enum head_end scan_head(struct miniproxy_buffer *b)
{
    const unsigned char *start = b->u.data + b->in, *end = b->u.data + b->in_end, *p = b->u.data + b->scan;
    while ((p = memchr(p, '\n', (size_t)(end - p))) != NULL) {
        if (p == start || p[-1] != '\r') return HEAD_LONE_LF;
        if (p - start >= 3 && p[-2] == '\n') {
            b->scan = u16((size_t)(p + 1 - b->u.data));
            return HEAD_COMPLETE;
        }
        if (++p == end) break;
    }
    b->scan = b->in_end;
    return HEAD_MORE;
}

/* A field name's role. */
enum {
    HOP = 1,          /* never copied: regenerated where it is needed (RFC 9110 section 7.6.1) */
    KEPT = 2,         /* Connection cannot strip it */
    NO_TRAILER = 4,   /* framing, routing, authentication, content: not in trailers (RFC 9110 section 6.5.1) */
    HARMLESS = 8      /* Connection may nominate it without further work */
};

enum field_id {
    F_OTHER,
    F_CONNECTION,
    F_CONTENT_LENGTH,
    F_DATE,
    F_EXPECT,
    F_HOST,
    F_MAX_FORWARDS,
    F_PROXY_AUTHORIZATION,
    F_TRANSFER_ENCODING,
    F_UPGRADE,
    F_VIA
};

static const struct {
    const char name[26];
    uint8_t len, id, role;
} fields[] = {
#define FIELD(text, id, role) {text, sizeof text - 1, id, role}
    FIELD("te", F_OTHER, HOP | HARMLESS | NO_TRAILER),
    FIELD("via", F_VIA, KEPT),
    FIELD("date", F_DATE, 0),
    FIELD("host", F_HOST, HOP | KEPT | NO_TRAILER),
    FIELD("close", F_OTHER, HARMLESS),
    FIELD("cookie", F_OTHER, NO_TRAILER),
    FIELD("expect", F_EXPECT, NO_TRAILER),
    FIELD("trailer", F_OTHER, NO_TRAILER),
    FIELD("upgrade", F_UPGRADE, HOP | HARMLESS | NO_TRAILER),
    FIELD("connection", F_CONNECTION, HOP | KEPT | HARMLESS | NO_TRAILER),
    FIELD("keep-alive", F_OTHER, HOP | HARMLESS | NO_TRAILER),
    FIELD("set-cookie", F_OTHER, NO_TRAILER),
    FIELD("content-type", F_OTHER, NO_TRAILER),
    FIELD("max-forwards", F_MAX_FORWARDS, NO_TRAILER),
    FIELD("authorization", F_OTHER, NO_TRAILER),
    FIELD("content-range", F_OTHER, NO_TRAILER),
    FIELD("content-length", F_CONTENT_LENGTH, KEPT | NO_TRAILER),
    FIELD("content-encoding", F_OTHER, NO_TRAILER),
    FIELD("proxy-connection", F_OTHER, HOP | HARMLESS | NO_TRAILER),
    FIELD("www-authenticate", F_OTHER, NO_TRAILER),
    FIELD("transfer-encoding", F_TRANSFER_ENCODING, KEPT | NO_TRAILER),
    FIELD("proxy-authenticate", F_OTHER, HOP | NO_TRAILER),
    FIELD("proxy-authorization", F_PROXY_AUTHORIZATION, HOP | NO_TRAILER),
    FIELD("proxy-authentication-info", F_OTHER, HOP | NO_TRAILER),
#undef FIELD
};

/* One field line. */
struct line {
    const unsigned char *start, *end; /* end: behind its CRLF */
    const unsigned char *value;       /* without surrounding blanks */
    uint16_t name_len, value_len;
    uint8_t id, role;
};

static void classify(struct line *l)
{
    l->id = F_OTHER;
    l->role = 0;
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        if (fields[i].len != l->name_len || !is_word(l->start, l->name_len, fields[i].name)) continue;
        l->id = fields[i].id;
        l->role = fields[i].role;
        return;
    }
}

/* Parse the field line at p; a complete line ends before `end`. blank_ok accepts blanks before the colon, which a response may
 * have and which are then taken out (RFC 9112 section 5.1). Folded lines begin with a blank and so have no name. */
static bool parse_line(struct line *l, const unsigned char *p, const unsigned char *end, bool blank_ok)
{
    l->start = p;
    while (p < end && is_token(*p)) p++;
    l->name_len = u16((size_t)(p - l->start));
    if (l->name_len == 0) return false;
    while (blank_ok && p < end && is_blank(*p)) p++;
    if (p == end || *p != ':') return false;
    do p++;
    while (p < end && is_blank(*p));
    l->value = p;
    while (p < end && is_text(*p)) p++;
    if (end - p < 2 || p[0] != '\r' || p[1] != '\n') return false;
    l->end = p + 2;
    while (p > l->value && is_blank(p[-1])) p--;
    l->value_len = u16((size_t)(p - l->value));
    classify(l);
    return true;
}

/* The next element of a comma-separated list (RFC 9110 section 5.6.1), blanks and empty elements taken out. False at the end. */
static bool next_element(const unsigned char **p, const unsigned char *end, const unsigned char **at, size_t *len)
{
    const unsigned char *q = *p, *tail;
    while (q < end && (is_blank(*q) || *q == ',')) q++;
    *at = q;
    while (q < end && *q != ',') q++;
    *p = q;
    for (tail = q; tail > *at && is_blank(tail[-1]); tail--) {}
    *len = (size_t)(tail - *at);
    return *len > 0;
}

/* What a head says besides its first line. */
enum {
    HAS_HOST = 1 << 0,
    HAS_LENGTH = 1 << 1,
    HAS_CODING = 1 << 2,
    HAS_DATE = 1 << 3,
    HAS_EXPECT = 1 << 4,
    HAS_LOGIN = 1 << 5,
    HAS_MAX_FORWARDS = 1 << 6,
    SAYS_CLOSE = 1 << 7,
    SAYS_UPGRADE = 1 << 8,    /* as a Connection option */
    ASKS_WEBSOCKET = 1 << 9,  /* the Upgrade field names websocket, alone */
    LOOPS = 1 << 10,          /* Via holds our pseudonym */
    CODED_CHUNKED = 1 << 11,  /* chunked is the last coding */
    CODED_OTHERWISE = 1 << 12, /* there is another coding */
    NOMINATES = 1 << 13,      /* Connection nominates fields besides the usual ones */
    FROM_CLIENT = 1 << 14     /* this is a request */
};

enum body { BODY_NONE, BODY_LENGTH, BODY_CHUNKED, BODY_UNTIL_EOF };

struct span {
    uint16_t at, len; /* within the buffer's data */
};

struct head {
    uint64_t length;       /* of a BODY_LENGTH body */
    uint32_t max_forwards;
    uint16_t seen;
    uint16_t fields, end;  /* first field line; behind the empty line */
    uint16_t status;       /* response */
    struct span login;     /* value of Proxy-Authorization */
    struct span host;      /* value of Host */
    struct span nominated[NOMINATED_MAX];
    uint8_t nominations;
    uint8_t minor;         /* HTTP/1.minor */
    uint8_t body;          /* enum body */
};

static struct span span_of(const struct miniproxy_buffer *b, const unsigned char *p, size_t len)
{
    struct span s;
    s.at = u16((size_t)(p - b->u.data));
    s.len = u16(len);
    return s;
}

/* Connection: remember options and the fields that must not be forwarded. */
static bool see_connection(struct head *h, const struct miniproxy_buffer *b, const struct line *l)
{
    const unsigned char *p = l->value, *end = l->value + l->value_len, *at;
    struct line option;
    size_t len, i;
    while (next_element(&p, end, &at, &len)) {
        for (i = 0; i < len; i++)
            if (!is_token(at[i])) return false;
        if (is_word(at, len, "close")) h->seen |= SAYS_CLOSE;
        if (is_word(at, len, "upgrade")) h->seen |= SAYS_UPGRADE;
        option.start = at;
        option.name_len = u16(len);
        classify(&option);
        if ((option.role & (HARMLESS | KEPT | HOP)) != 0) continue;
        h->seen |= NOMINATES;
        if (h->nominations == NOMINATED_MAX) return false;
        h->nominated[h->nominations++] = span_of(b, at, len);
    }
    return true;
}

/* Content-Length: one number, or the same number repeated (RFC 9110 section 8.6). */
static bool see_length(struct head *h, const struct line *l)
{
    const unsigned char *p = l->value, *end = l->value + l->value_len, *at;
    uint64_t value;
    size_t len;
    bool any = false;
    while (next_element(&p, end, &at, &len)) {
        if (!parse_number(at, len, &value)) return false;
        if ((h->seen & HAS_LENGTH) != 0 && value != h->length) return false;
        h->length = value;
        h->seen |= HAS_LENGTH;
        any = true;
    }
    return any;
}

/* Transfer-Encoding, over all its lines. */
static bool see_coding(struct head *h, const struct line *l)
{
    const unsigned char *p = l->value, *end = l->value + l->value_len, *at;
    size_t len;
    h->seen |= HAS_CODING;
    while (next_element(&p, end, &at, &len)) {
        if ((h->seen & CODED_CHUNKED) != 0) return false; /* chunked twice, or not last */
        if (is_word(at, len, "chunked")) h->seen |= CODED_CHUNKED;
        else h->seen |= CODED_OTHERWISE;
    }
    return true;
}

/* Via: is one of the received-by our own pseudonym? */
static bool via_names(const struct line *l, const char *name)
{
    const unsigned char *p = l->value, *end = l->value + l->value_len, *at;
    size_t len, i, n;
    while (next_element(&p, end, &at, &len)) {
        for (i = 0; i < len && !is_blank(at[i]); i++) {}
        while (i < len && is_blank(at[i])) i++;
        for (n = i; n < len && !is_blank(at[n]); n++) {}
        if (n - i == strlen(name) && memcmp(at + i, name, n - i) == 0) return true;
    }
    return false;
}

static enum miniproxy_cause see_line(struct head *h, const struct miniproxy_buffer *b, const struct line *l,
                                     const char *name)
{
    uint64_t number;
    bool request = (h->seen & FROM_CLIENT) != 0;
    switch (l->id) {
    case F_CONNECTION:
        return see_connection(h, b, l) ? MINIPROXY_CAUSE_NONE : MINIPROXY_CAUSE_FIELD;
    case F_CONTENT_LENGTH:
        return see_length(h, l) ? MINIPROXY_CAUSE_NONE : MINIPROXY_CAUSE_LENGTH;
    case F_TRANSFER_ENCODING:
        return see_coding(h, l) ? MINIPROXY_CAUSE_NONE : MINIPROXY_CAUSE_CODING;
    case F_DATE:
        h->seen |= HAS_DATE;
        break;
    case F_EXPECT:
        if (!request || h->minor == 0) break;
        h->seen |= HAS_EXPECT;
        if (!is_word(l->value, l->value_len, "100-continue")) return MINIPROXY_CAUSE_EXPECTATION;
        break;
    case F_HOST:
        if (request && (h->seen & HAS_HOST) != 0) return MINIPROXY_CAUSE_HOST;
        h->seen |= HAS_HOST;
        h->host = span_of(b, l->value, l->value_len);
        break;
    case F_MAX_FORWARDS:
        if (!request) break;
        if ((h->seen & HAS_MAX_FORWARDS) != 0 || !parse_number(l->value, l->value_len, &number))
            number = 0; /* in doubt it goes no further */
        h->seen |= HAS_MAX_FORWARDS;
        h->max_forwards = number > UINT32_MAX ? UINT32_MAX : (uint32_t)number;
        break;
    case F_PROXY_AUTHORIZATION:
        if (request && (h->seen & HAS_LOGIN) != 0) return MINIPROXY_CAUSE_FIELD;
        h->seen |= HAS_LOGIN;
        h->login = span_of(b, l->value, l->value_len);
        break;
    case F_UPGRADE:
        if ((h->seen & ASKS_WEBSOCKET) != 0) h->seen &= (uint16_t)~ASKS_WEBSOCKET; /* two lines: not alone */
        else if (is_word(l->value, l->value_len, "websocket")) h->seen |= ASKS_WEBSOCKET;
        break;
    case F_VIA:
        if (request && via_names(l, name)) h->seen |= LOOPS;
        break;
    default:
        break;
    }
    return MINIPROXY_CAUSE_NONE;
}

/* All field lines from h->fields to the empty line, which scan_head has found. */
static enum miniproxy_cause parse_fields(struct head *h, const struct miniproxy_buffer *b, const char *name)
{
    const unsigned char *p = b->u.data + h->fields, *end = b->u.data + b->scan;
    struct line l;
    unsigned count = 0;
    enum miniproxy_cause cause;
    h->end = b->scan;
    while (end - p > 2) {
        if (++count > MINIPROXY_FIELDS_MAX) return MINIPROXY_CAUSE_HEAD_SIZE;
        if (!parse_line(&l, p, end, (h->seen & FROM_CLIENT) == 0)) return MINIPROXY_CAUSE_FIELD;
        cause = see_line(h, b, &l, name);
        if (cause != MINIPROXY_CAUSE_NONE) return cause;
        p = l.end;
    }
    return MINIPROXY_CAUSE_NONE;
}

/* "HTTP/1.x" (RFC 9112 section 2.3). */
static enum miniproxy_cause parse_version(struct head *h, const unsigned char *p, size_t len)
{
    if (len != 8 || memcmp(p, "HTTP/", 5) != 0 || !is_digit(p[5]) || p[6] != '.' || !is_digit(p[7]))
        return MINIPROXY_CAUSE_REQUEST_LINE;
    if (p[5] != '1') return MINIPROXY_CAUSE_VERSION;
    h->minor = p[7] == '0' ? 0 : 1;
    return MINIPROXY_CAUSE_NONE;
}
