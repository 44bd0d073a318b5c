/* SPDX-License-Identifier: MIT
 *
 * miniproxy: the core. See miniproxy.h for how to use it; this file is about how it works. Read it from top to bottom:
 * bytes, heads, framing, rewriting, policy, replies, sessions and pipes, states, scheduler, API.
 *
 * ==== 0  How it works ==============================================================================
 *
 * A session is one client connection with, at times, one connection to an origin. It is always in one state:
 *
 *            ┌──────────────────────── kept alive ───────────────────────┐
 *   FREE → IDLE → HEAD → RESOLVE → CONNECT → AWAIT → RELAY → IDLE …      │
 *                  │        │         │ └──────┴─────→ TUNNEL → FREE     │
 *                  └────────┴─────────┴──→ REPLY → LINGER → FREE ────────┘ (REPLY → IDLE)
 *
 * IDLE waits for a first octet; HEAD collects a request head and decides; RESOLVE and CONNECT find the origin; AWAIT
 * sends the request and waits for the head of the response; RELAY passes its body; TUNNEL passes everything; REPLY
 * sends an answer of the proxy's own; LINGER reads on for a while after the last answer, because a reset would destroy
 * it before the client has read it.
 *
 * Bytes. Each direction ("pipe") borrows at most one buffer of the pool, while bytes are in flight. In it
 *
 *        0        out        out_end      in         in_end      size
 *        |  free  |  may be sent  |  gap  |  received  |   free   |
 *
 * received bytes become sendable in place: heads by rewriting, bodies by their framing (decode()). Rewriting
 * works in place because a head is received MINIPROXY_HEADROOM behind the start and grows by less. Once a direction
 * needs no looking at (tunnels, bodies with a known end) and its buffer is empty, a port that has `relay` passes it on
 * without any.
 *
 * SOCKS5. Its client is answered step by step in HEAD (LOGIN goes back there); what it asks for becomes the plan of a
 * CONNECT, and all that follows is that of one, but for what is said to the client.
 *
 * Decisions. A head is parsed line by line as it arrives, each octet once; lines to be forwarded move up to each
 * other meanwhile. What is learnt (`struct plan`: fields, host, addresses) stands in that free room in front of the
 * head until the origin is connected and the head is rewritten over it. So a session record holds no text but the line
 * for the log.
 *
 * TLS is a matter of the port. The core asks for it where a target is https (`secure`), keeps such a connection apart from
 * one in clear, and says what went wrong.
 *
 * Time. One queue for every kind of timeout; all its entries have the same duration, so it is in order by itself:
 * arming is appending, and only the heads of the queues are looked at.
 *
 * Work. miniproxy_wake() puts a session on a run list, miniproxy_poll() visits it. A visit moves at most one buffer a
 * direction; a session with more to do then queues again, behind those that were just woken, so that small exchanges
 * overtake bulk.
 *
 * Limits. Where octets come in, a direction first pays for them to the token buckets that its transaction holds; with too
 * few tokens it stands in a bucket's queue and is visited when its turn has come.
 *
 * Full house. A connection is always taken in, into a place of its own. When there is no room the longest idle session
 * goes; when nobody idles the newcomer is there to be refused, in one of MINIPROXY_RESERVED places.
 *
 * Invariants: out <= out_end <= in <= in_end in every buffer; only enter() changes a state; every transaction ends in
 * one report(); a connection is closed exactly once.
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
CHECK(MINIPROXY_PBKDF2_SLICE, 1, 10000);
CHECK(MINIPROXY_LOGIN_CACHE, 1, 65000);
CHECK(MINIPROXY_LIMIT_BUCKETS, 1, 65000);
_Static_assert(MINIPROXY_WITH_AUTH || !MINIPROXY_WITH_PBKDF2, "MINIPROXY_WITH_PBKDF2 needs MINIPROXY_WITH_AUTH");
CHECK(MINIPROXY_CHECKS, 1, 100);
_Static_assert(MINIPROXY_WITH_FORWARDING || !MINIPROXY_WITH_ROUTES,
               "MINIPROXY_WITH_ROUTES needs MINIPROXY_WITH_FORWARDING");
CHECK(MINIPROXY_SESSIONS_PER_CLIENT, 1, 60000);
CHECK(MINIPROXY_INTERIM_MAX, 1, 255);
CHECK(MINIPROXY_TRAILER_MAX, 64, 65000);
CHECK(MINIPROXY_CHUNK_EXT_MAX, 64, 65000);
CHECK(MINIPROXY_CONNECT_PORT, 1, 65535);
CHECK(MINIPROXY_RETRY_AFTER_S, 1, 86400);
CHECK(MINIPROXY_CONNS, 2, 65534); /* MINIPROXY_SESSIONS times one more than MINIPROXY_ATTEMPTS */
CHECK(MINIPROXY_HEAD_MAX, 256, 65000);
CHECK(MINIPROXY_NAME_MAX, 1, 64);
CHECK(MINIPROXY_RECORDS, 0, 1000);
_Static_assert(MINIPROXY_WITH_PAGES || !(MINIPROXY_WITH_STATUS || MINIPROXY_WITH_PAC),
               "MINIPROXY_WITH_STATUS and _PAC are pages: set MINIPROXY_WITH_PAGES to 1, too");
_Static_assert(MINIPROXY_WITH_METRICS || !MINIPROXY_WITH_STATUS,
               "MINIPROXY_WITH_STATUS draws what /metrics says: set MINIPROXY_WITH_METRICS to 1, too");
_Static_assert(MINIPROXY_CLIENT_BUCKETS > 0 && (MINIPROXY_CLIENT_BUCKETS & (MINIPROXY_CLIENT_BUCKETS - 1)) == 0,
               "MINIPROXY_CLIENT_BUCKETS is not a power of two");
_Static_assert(sizeof MINIPROXY_BODY_TYPE - 1 <= MINIPROXY_PAGE_TYPE_MAX,
               "MINIPROXY_BODY_TYPE is longer than MINIPROXY_PAGE_TYPE_MAX: a refusal might not fit into a buffer");
#ifdef MINIPROXY_RAM_BUDGET
_Static_assert(
    sizeof(struct miniproxy) <= MINIPROXY_RAM_BUDGET,
    "struct miniproxy is larger than MINIPROXY_RAM_BUDGET: lower MINIPROXY_SESSIONS, _BUFFERS or _BUFFER_SIZE");
#endif
_Static_assert(!MINIPROXY_WITH_SOCKS5 || MINIPROXY_HEAD_MAX >= 262,
               "MINIPROXY_BUFFER_SIZE is too small for a SOCKS5 request with the longest name");
_Static_assert(sizeof(unsigned) >= 4, "struct miniproxy_rule needs 32-bit bit-fields");

enum {
    HOST_MAX = 253,      /* octets of a DNS name (RFC 1035 section 2.3.4) */
    BLANK_LINES_MAX = 8, /* empty lines before a request line (RFC 9112 section 2.2) */
    CHUNK_ROOM = 8,      /* for "ffff" CRLF before what becomes a chunk, and CRLF behind it */
    REALM_MAX = 64,
    ATTEMPT_MIN_MS = 10, /* RFC 8305 section 5 */
    TIMEOUT_MAX_MS = 1 << 30,
    ACCEPT_RETRY_MS = 100, /* after the port ran out of resources */
    ACCEPTS_A_POLL = 16,
    EVICT_LOOKS = 16,    /* sessions looked at in each queue for one to evict */
    EVICT_AGE_MS = 1000, /* before that nobody is evicted but those who idle after a request */
    CHECK_RETRY_MS = 100, /* a health check finds no buffer */
    TRIAL_MIN_MS = 1000, /* until a hop that is down and not checked is tried again, at first and at most */
    TRIAL_MAX_MS = 60000,
    VISIT_STATES = 16    /* states one visit passes through before others have their turn */
};

/* For functions that a compiler should not build into their only caller: the frame of one function made of everything
 * is the sum of all, whichever way is taken, and it has too few registers. */
#ifdef __has_attribute
#if __has_attribute(noinline)
#define OUTLINED __attribute__((noinline))
#endif
#endif
#ifndef OUTLINED
#define OUTLINED
#endif

/* With fewer buffers than all sessions could borrow, requests leave some for responses and replies: what flows towards
 * clients frees buffers, so it must never wait for what flows the other way. */
#if MINIPROXY_BUFFERS >= 2 * (MINIPROXY_SLOTS - 1)
#define BUFFER_RESERVE 0
#elif MINIPROXY_BUFFERS < 16
#define BUFFER_RESERVE 1
#else
#define BUFFER_RESERVE (MINIPROXY_BUFFERS / 8)
#endif

/* ==== 2  Bytes, numbers, time ====================================================================== */

static uint16_t u16(size_t value)
{
    MINIPROXY_ASSERT(value <= UINT16_MAX);
    return (uint16_t)value;
}

static bool time_reached(uint32_t now_ms, uint32_t due_ms)
{
    return (int32_t)(now_ms - due_ms) >= 0;
}

static uint32_t time_left(uint32_t now_ms, uint32_t due_ms)
{
    return time_reached(now_ms, due_ms) ? 0 : due_ms - now_ms;
}

static bool is_letter(unsigned char c)
{
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

static unsigned char lower(unsigned char c)
{
    return (unsigned char)(is_letter(c) ? c | 0x20 : c);
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

/* The first octet in p[0..end) that no token has. Most are letters. */
static unsigned char *skip_token(unsigned char *p, const unsigned char *end)
{
    while (p < end && (is_letter(*p) || is_token(*p))) p++;
    return p;
}

/* What a field value may hold: VCHAR, SP, HTAB, obs-text. */
static bool is_text(unsigned char c)
{
    return (c >= 0x20 && c != 0x7f) || c == '\t';
}

/* A word that need not be aligned where the processor does not mind. So memcpy is one instruction: the compiler is told
 * what else it could not know. */
#ifdef __has_builtin
#if __has_builtin(__builtin_assume_aligned)
#define WORD_AT(p) __builtin_assume_aligned(p, MINIPROXY_ANY_ALIGNMENT ? 1 : sizeof(size_t))
#endif
#endif
#ifndef WORD_AT
#define WORD_AT(p) (p)
#endif

/* Has bit 0x80 in one of its octets if an octet of this word is below 0x20 or 0x7f, but for HTAB and obs-text, too. */
static size_t doubts(size_t word)
{
    const size_t ones = SIZE_MAX / 255;
    return (word - ones * 0x20) | (word + ones);
}

/* The first octet in p[0..end) that is not text. Most of every head passes through here, so it looks at two words at a
 * time, of which a Cortex-M3 makes 2 instructions an octet, and at octets only where there is a doubt. */
static unsigned char *skip_text(unsigned char *p, const unsigned char *end)
{
    const size_t mask = SIZE_MAX / 255 * 0x80;
    size_t first, second;
    for (;;) {
        for (; (size_t)(end - p) >= 2 * sizeof first; p += 2 * sizeof first) {
            if (!MINIPROXY_ANY_ALIGNMENT && (uintptr_t)p % sizeof first != 0) break;
            memcpy(&first, WORD_AT(p), sizeof first);
            memcpy(&second, WORD_AT(p + sizeof first), sizeof first);
            first = doubts(first);
            if (((first | doubts(second)) & mask) == 0) continue;
            if ((first & mask) == 0) p += sizeof first;
            break;
        }
        do {
            if (p == end || !is_text(*p)) return p;
            p++;
        } while ((uintptr_t)p % sizeof first != 0);
    }
}

static bool is_blank(unsigned char c)
{
    return c == ' ' || c == '\t';
}

/* text against a lower-case string, ignoring the case of ASCII letters only. */
static bool is_word(const unsigned char *text, size_t len, const char *word)
{
    size_t i = 0;
    for (; i < len && word[i] != '\0'; i++)
        if (text[i] != (unsigned char)word[i] && lower(text[i]) != (unsigned char)word[i]) return false;
    return i == len && word[i] == '\0';
}

/* text against a string, in one pass. */
static bool is_exactly(const unsigned char *text, size_t len, const char *string)
{
    size_t i = 0;
    while (i < len && string[i] != '\0' && (char)text[i] == string[i]) i++;
    return i == len && string[i] == '\0';
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

/* Beside a cause: what has arrived is right so far, and not complete. */
#define MORE MINIPROXY_CAUSE_COUNT

/* What becomes of a field: a role of its name. */
enum {
    HOP = 1,        /* never copied: regenerated where it is needed (RFC 9110 section 7.6.1) */
    KEPT = 2,       /* Connection cannot strip it */
    NO_TRAILER = 4, /* framing, routing, authentication, content: not in trailers (RFC 9110 section 6.5.1) */
    OPTION = 8      /* a connection option that is no field to strip */
};

enum field_id {
    F_OTHER,
    F_CONNECTION,
    F_CONTENT_LENGTH,
    F_DATE,
    F_TRANSFER_ENCODING,
    F_UPGRADE,
    F_CONTENT_TYPE,
    F_EXPECT, /* from here on of a request only */
    F_HOST,
    F_MAX_FORWARDS,
    F_PROXY_AUTHORIZATION,
    F_USER_AGENT,
    F_VIA,
    F_AUTHORIZATION,
    F_ACCEPT
};

#if MINIPROXY_WITH_CONDITIONS
#define USER_AGENT(X) X("user-agent", F_USER_AGENT, 0)
#else
#define USER_AGENT(X)
#endif
#define AUTHORIZATION (MINIPROXY_WITH_PAGES ? F_AUTHORIZATION : F_OTHER)
#if MINIPROXY_WITH_HTML
#define ACCEPT(X) X("accept", F_ACCEPT, 0)
#else
#define ACCEPT(X)
#endif

/* X(name, id, role), shortest name first. */
#define FIELDS(X)                                                           \
    X("te", F_OTHER, HOP | NO_TRAILER)                                      \
    X("via", F_VIA, KEPT)                                                   \
    X("date", F_DATE, 0)                                                    \
    X("host", F_HOST, KEPT | NO_TRAILER)                                    \
    X("close", F_OTHER, OPTION)                                             \
    ACCEPT(X)                                                               \
    X("cookie", F_OTHER, NO_TRAILER)                                        \
    X("expect", F_EXPECT, NO_TRAILER)                                       \
    X("trailer", F_OTHER, NO_TRAILER)                                       \
    X("upgrade", F_UPGRADE, HOP | NO_TRAILER)                               \
    X("connection", F_CONNECTION, HOP | KEPT | NO_TRAILER)                  \
    X("keep-alive", F_OTHER, HOP | NO_TRAILER)                              \
    X("set-cookie", F_OTHER, NO_TRAILER)                                    \
    USER_AGENT(X)                                                           \
    X("content-type", F_CONTENT_TYPE, NO_TRAILER)                           \
    X("max-forwards", F_MAX_FORWARDS, NO_TRAILER)                           \
    X("authorization", AUTHORIZATION, NO_TRAILER)                            \
    X("content-range", F_OTHER, NO_TRAILER)                                 \
    X("content-length", F_CONTENT_LENGTH, KEPT | NO_TRAILER)                \
    X("content-encoding", F_OTHER, NO_TRAILER)                              \
    X("proxy-connection", F_OTHER, HOP | NO_TRAILER)                        \
    X("www-authenticate", F_OTHER, NO_TRAILER)                              \
    X("transfer-encoding", F_TRANSFER_ENCODING, HOP | KEPT | NO_TRAILER)    \
    X("proxy-authenticate", F_OTHER, HOP | NO_TRAILER)                      \
    X("proxy-authorization", F_PROXY_AUTHORIZATION, HOP | NO_TRAILER)       \
    X("proxy-authentication-info", F_OTHER, HOP | NO_TRAILER)

/* One field line. */
struct line {
    unsigned char *start, *end; /* what may be forwarded of it, with its CRLF */
    unsigned char *value;       /* without surrounding blanks */
    unsigned char *next;        /* behind its CRLF */
    uint16_t name_len, value_len;
    uint8_t id, role;
};

/* The bit of a name in a set of names. */
#define NAME_BIT(first, last, len) (1u << (((unsigned)(first) + 4u * (unsigned)(last) + (unsigned)(len)) & 31))

/* Can it be one of FIELDS? Of the other names that heads have this says no to eight in nine, and so saves the search in
 * the table, which is 100 instructions and more. There are two sets, after a bit of the length; the compiler reckons
 * them. */
static bool may_be_known(const unsigned char *text, size_t len)
{
#define X(name, id, role) | ((sizeof name - 1) & 2 ? 0 : NAME_BIT(name[0], name[sizeof name - 2], sizeof name - 1))
    const uint32_t set = 0 FIELDS(X);
#undef X
#define X(name, id, role) | ((sizeof name - 1) & 2 ? NAME_BIT(name[0], name[sizeof name - 2], sizeof name - 1) : 0)
    const uint32_t other_set = 0 FIELDS(X);
#undef X
    return ((len & 2 ? other_set : set) & NAME_BIT(text[0] | 0x20, text[len - 1] | 0x20, len)) != 0;
}

static void classify(struct line *l)
{
    static const struct {
        uint8_t len, id, role;
    } fields[] = {
#define X(name, id, role) {sizeof name - 1, id, role},
        FIELDS(X)
#undef X
    };
    static const char names[] =
#define X(name, id, role) name "\0"
        FIELDS(X);
#undef X
    const char *name = names;
    l->id = F_OTHER;
    l->role = 0;
    if (!may_be_known(l->start, l->name_len)) return;
    for (size_t i = 0; i < sizeof fields / sizeof fields[0] && fields[i].len <= l->name_len; i++) {
        if (fields[i].len == l->name_len && is_word(l->start, l->name_len, name)) {
            l->id = fields[i].id;
            l->role = fields[i].role;
            return;
        }
        name += fields[i].len + 1;
    }
}

/* CRLF at p: NONE, MORE, or `wrong`. A lone CR or LF ends nothing (RFC 9112 section 2.2 lets a recipient choose). */
static enum miniproxy_cause parse_crlf(const unsigned char *p, const unsigned char *end, enum miniproxy_cause wrong)
{
    if (p < end && *p != '\r') return wrong;
    if (end - p < 2) return MORE;
    return p[1] == '\n' ? MINIPROXY_CAUSE_NONE : wrong;
}

/* Parse the field line at p, of which octets up to `end` are there: NONE, MORE or FIELD. blank_ok takes blanks before
 * the colon out, which a response may have (RFC 9112 section 5.1). A folded line begins with a blank and so has no
 * name. */
static enum miniproxy_cause parse_line(struct line *l, unsigned char *p, const unsigned char *end, bool blank_ok)
{
    unsigned char *name_end;
    enum miniproxy_cause cause;
    l->start = p;
    p = name_end = skip_token(p, end);
    while (blank_ok && p < end && is_blank(*p)) p++;
    if (name_end == l->start || (p < end && *p != ':')) return MINIPROXY_CAUSE_FIELD;
    if (p == end) return MORE;
    l->name_len = u16((size_t)(name_end - l->start));
    l->start = p - l->name_len;
    do p++;
    while (p < end && is_blank(*p));
    l->value = p;
    p = skip_text(p, end);
    cause = parse_crlf(p, end, MINIPROXY_CAUSE_FIELD);
    if (cause != MINIPROXY_CAUSE_NONE) return cause;
    l->end = l->next = p + 2;
    while (p > l->value && is_blank(p[-1])) p--;
    l->value_len = u16((size_t)(p - l->value));
    if (l->start + l->name_len != name_end) memmove(l->start, name_end - l->name_len, l->name_len);
    classify(l);
    return MINIPROXY_CAUSE_NONE;
}

/* Of its value only the first len octets are forwarded. */
static void shorten(struct line *l, size_t len)
{
    l->end = l->value + len;
    *l->end++ = '\r';
    *l->end++ = '\n';
}

/* A comma-separated list, and in it the element that was found last. */
struct list {
    unsigned char *next, *end;
    unsigned char *at;
    size_t len;
};

static struct list list_of(const struct line *l)
{
    struct list list = {l->value, l->value + l->value_len, NULL, 0};
    return list;
}

/* The next element (RFC 9110 section 5.6.1), blanks and empty elements taken out. False at the end. */
static bool next_element(struct list *list)
{
    unsigned char *p = list->next, *end = list->end, *tail;
    while (p < end && (is_blank(*p) || *p == ',')) p++;
    list->at = p;
    while (p < end && *p != ',') p++;
    list->next = p;
    for (tail = p; tail > list->at && is_blank(tail[-1]); tail--) {}
    list->len = (size_t)(tail - list->at);
    return list->len > 0;
}

/* What a head says besides its first line. */
enum {
    HAS_HOST = 1 << 0,
    HAS_LENGTH = 1 << 1,
    HAS_CODING = 1 << 2,
    HAS_DATE = 1 << 3,
    HAS_UPGRADE = 1 << 4,
    HAS_LOGIN = 1 << 5,
    HAS_MAX_FORWARDS = 1 << 6,
    SAYS_CLOSE = 1 << 7,
    SAYS_UPGRADE = 1 << 8,     /* as a Connection option */
    NAMES_WEBSOCKET = 1 << 9,  /* the Upgrade field names websocket, alone */
    LOOPS = 1 << 10,           /* Via holds our pseudonym */
    CODED_CHUNKED = 1 << 11,   /* chunked is the last coding */
    CODED_OTHERWISE = 1 << 12, /* there is another coding */
    NOMINATES = 1 << 13,       /* Connection nominates fields that are not hop-by-hop anyway */
    FROM_CLIENT = 1 << 14,     /* this is a request */
    NO_LENGTH = 1 << 15,       /* its Content-Length means nothing and is not forwarded */
    IS_LAST_HOP = 1 << 16,     /* Max-Forwards is 0 */
    ACCEPTS_HTML = 1 << 17,    /* Accept names it */
    HIDES = 1 << 18,           /* what is not told of its last line might go on in the next (WITH_HEADS) */
    NOTED_TWICE = 1 << 19,     /* there is more than one of what struct head's `noted` is the last of */
    EXPECTS = 1 << 20          /* the client may wait for 100 before it sends the body */
};

struct span {
    uint16_t at, len; /* within the buffer's data */
};

/* What is known of a head. It stands in front of it in its buffer, so that a head is parsed as it arrives. */
struct head {
    uint64_t length; /* Content-Length */
    uint32_t seen;
    uint16_t fields; /* first field line; 0: the line before it is not complete */
    uint16_t end;    /* behind the last line that was parsed, in the end behind the empty line */
    uint16_t kept;   /* behind the last line that is forwarded: these move up to each other */
    uint16_t count;  /* of field lines */
    uint16_t status; /* of a response */
    struct span hole;  /* one line among them that is not */
    struct span login; /* value of Proxy-Authorization */
#if MINIPROXY_WITH_CONDITIONS
    struct span noted; /* value of User-Agent in a request, of Content-Type in a response, the last one; at 0: none */
#endif
    uint8_t minor;     /* HTTP/1.minor */
    bool is_forwarded; /* or its lines are only looked at */
};

static struct span span_of(const struct miniproxy_buffer *b, const unsigned char *p, size_t len)
{
    struct span s;
    s.at = u16((size_t)(p - b->u.data));
    s.len = u16(len);
    return s;
}

/* Is this connection option a field that must be stripped, which would not be anyway? */
static bool is_nominated(const struct list *option)
{
    struct line l;
    l.start = option->at;
    l.name_len = u16(option->len);
    classify(&l);
    return (l.role & (OPTION | KEPT | HOP)) == 0;
}

/* Connection (RFC 9110 section 7.6.1): its options. One that nominates fields is left until these are taken out. */
static bool see_connection(struct head *h, struct line *l)
{
    struct list option = list_of(l);
    while (next_element(&option)) {
        if (skip_token(option.at, option.at + option.len) < option.at + option.len) return false;
        if (is_word(option.at, option.len, "close")) h->seen |= SAYS_CLOSE;
        if (is_word(option.at, option.len, "upgrade")) h->seen |= SAYS_UPGRADE;
        if (!MINIPROXY_WITH_FORWARDING || !is_nominated(&option)) continue;
        h->seen |= NOMINATES;
        l->role = 0;
    }
    return true;
}

/* Content-Length: one number, or the same number repeated (RFC 9110 section 8.6), of which one is left. */
static bool see_length(struct head *h, struct line *l)
{
    struct list list = list_of(l);
    bool repeated = (h->seen & (HAS_LENGTH | NO_LENGTH)) != 0;
    size_t len = 0;
    uint64_t value;
    while (next_element(&list)) {
        if (!parse_number(list.at, list.len, &value)) return false;
        if ((h->seen & HAS_LENGTH) != 0 && value != h->length) return false;
        if (len == 0) len = list.len;
        h->length = value;
        h->seen |= HAS_LENGTH;
    }
    if (len == 0 || *l->value == ',') return false;
    if (repeated) l->role = HOP;
    shorten(l, len);
    return true;
}

/* Transfer-Encoding, over all its lines. False: chunked twice or not last. */
static bool see_coding(struct head *h, const struct line *l)
{
    struct list list = list_of(l);
    h->seen |= HAS_CODING;
    while (next_element(&list)) {
        if ((h->seen & CODED_CHUNKED) != 0) return false;
        h->seen |= is_word(list.at, list.len, "chunked") ? CODED_CHUNKED : CODED_OTHERWISE;
    }
    return true;
}

/* Via: is one of the received-by our own pseudonym? */
static bool via_names(const struct line *l, const char *name)
{
    struct list list = list_of(l);
    size_t len = strlen(name);
    while (next_element(&list)) {
        const unsigned char *p = list.at, *end = p + list.len;
        while (p < end && !is_blank(*p)) p++;
        while (p < end && is_blank(*p)) p++;
        if ((size_t)(end - p) >= len && memcmp(p, name, len) == 0 && (p + len == end || is_blank(p[len]))) return true;
    }
    return false;
}

/* One hop less (RFC 9110 section 7.6.2). In doubt it goes no further. */
static void see_max_forwards(struct head *h, struct line *l)
{
    char digits[10];
    size_t len;
    uint64_t number;
    if ((h->seen & HAS_MAX_FORWARDS) != 0 || !parse_number(l->value, l->value_len, &number)) number = 0;
    h->seen |= HAS_MAX_FORWARDS;
    if (number == 0) {
        h->seen |= IS_LAST_HOP;
        return;
    }
    len = decimal(number > UINT32_MAX ? UINT32_MAX : (uint32_t)number - 1, digits);
    memcpy(l->value, digits, len);
    shorten(l, len);
}

#if MINIPROXY_WITH_HTML

/* The end of one part of an element of Accept: the semicolon or comma behind it that is not in a quoted string. */
static const unsigned char *skip_part(const unsigned char *p, const unsigned char *end)
{
    bool quoted = false;
    for (; p < end && (quoted || (*p != ';' && *p != ',')); p++) {
        if (*p == '"') quoted = !quoted;
        if (*p == '\\' && quoted && end - p > 1) p++;
    }
    return p;
}

static bool is_html(const unsigned char *p, const unsigned char *end)
{
    while (p < end && is_blank(*p)) p++;
    while (p < end && is_blank(end[-1])) end--;
    return is_word(p, (size_t)(end - p), "text/html") || is_word(p, (size_t)(end - p), "application/xhtml+xml");
}

/* Is this parameter a weight that is 0, or none at all: "q=0.00" (RFC 9110 section 12.4.2)? */
static bool is_no_weight(const unsigned char *p, const unsigned char *end)
{
    while (p < end && is_blank(*p)) p++;
    if (end - p < 2 || lower(*p) != 'q' || p[1] != '=') return false;
    for (p += 2; p < end; p++)
        if (*p >= '1' && *p <= '9') return false;
    return true;
}

/* Accept (RFC 9110 section 12.5.1): is HTML asked for by name? Programs that print what they get say that they take
 * anything. */
static void see_accept(struct head *h, const struct line *l)
{
    const unsigned char *p = l->value, *end = p + l->value_len;
    if (l->id != F_ACCEPT) return;
    while (p < end) {
        const unsigned char *q = skip_part(p, end);
        bool is_asked = is_html(p, q);
        while (q < end && *q == ';') {
            p = q + 1;
            q = skip_part(p, end);
            if (is_no_weight(p, q)) is_asked = false;
        }
        if (is_asked) h->seen |= ACCEPTS_HTML;
        p = q < end ? q + 1 : end;
    }
}

/* What a refusal is going to be depends on as much of the head as has come. */
static void note_accept(struct miniproxy_session *s, const struct head *h)
{
    s->takes_html = (h->seen & ACCEPTS_HTML) != 0;
}

static void forget_accept(struct miniproxy_session *s)
{
    s->takes_html = false;
}

#else

static void see_accept(struct head *h, const struct line *l)
{
    (void)h, (void)l;
}

static void note_accept(struct miniproxy_session *s, const struct head *h)
{
    (void)s, (void)h;
}

static void forget_accept(struct miniproxy_session *s)
{
    (void)s;
}

#endif

static bool is_host(const struct miniproxy_buffer *b, const unsigned char *p, size_t len);
static bool counts_hops(const struct miniproxy_buffer *b);
static bool asks_directly(const struct miniproxy_buffer *b);
static enum miniproxy_cause see_page_login(struct head *h, const struct miniproxy_buffer *b, const struct line *l);
static void see_page_host(const struct miniproxy_buffer *b, const struct line *l);

/* What a field line says. Its role becomes HOP if it is not forwarded. */
static enum miniproxy_cause see_line(struct head *h, const struct miniproxy_buffer *b, struct line *l, const char *name)
{
    switch (l->id) {
    case F_CONNECTION:
        return see_connection(h, l) ? MINIPROXY_CAUSE_NONE : MINIPROXY_CAUSE_FIELD;
    case F_CONTENT_LENGTH:
        return see_length(h, l) ? MINIPROXY_CAUSE_NONE : MINIPROXY_CAUSE_LENGTH;
    case F_TRANSFER_ENCODING:
        return see_coding(h, l) ? MINIPROXY_CAUSE_NONE : MINIPROXY_CAUSE_CODING;
    case F_DATE:
        h->seen |= HAS_DATE;
        break;
    case F_UPGRADE:
        if ((h->seen & HAS_UPGRADE) != 0) h->seen &= ~(uint32_t)NAMES_WEBSOCKET;
        else if (is_word(l->value, l->value_len, "websocket")) h->seen |= NAMES_WEBSOCKET;
        h->seen |= HAS_UPGRADE;
        break;
    case F_EXPECT:
        if (h->minor == 0) l->role = HOP; /* RFC 9110 section 10.1.1 */
        else if (!is_word(l->value, l->value_len, "100-continue")) return MINIPROXY_CAUSE_EXPECTATION;
        else h->seen |= EXPECTS;
        break;
    case F_HOST:
        if ((h->seen & HAS_HOST) != 0 || !is_host(b, l->value, l->value_len)) return MINIPROXY_CAUSE_HOST;
        h->seen |= HAS_HOST;
        l->role = HOP;
        see_page_host(b, l);
        break;
    case F_MAX_FORWARDS:
        if (counts_hops(b)) see_max_forwards(h, l);
        break;
    case F_AUTHORIZATION:
        return see_page_login(h, b, l);
    case F_PROXY_AUTHORIZATION:
        if (asks_directly(b)) break;
        if ((h->seen & HAS_LOGIN) != 0) return MINIPROXY_CAUSE_FIELD;
        h->seen |= HAS_LOGIN;
        h->login = span_of(b, l->value, l->value_len);
        break;
    case F_VIA:
        if (via_names(l, name)) h->seen |= LOOPS;
        break;
    default:
        see_accept(h, l);
        break;
    }
    return MINIPROXY_CAUSE_NONE;
}

static unsigned char *put_bytes(unsigned char *w, const void *from, size_t len);

/* This line is forwarded: it moves up to those before it. */
static void keep(struct head *h, struct miniproxy_buffer *b, const struct line *l)
{
    unsigned char *w = b->u.data + h->kept, *end = put_bytes(w, l->start, (size_t)(l->end - l->start));
    h->kept = u16((size_t)(end - b->u.data));
    /* A length is dropped if a coding follows. */
    if (l->id == F_CONTENT_LENGTH && (h->seen & FROM_CLIENT) == 0) h->hole = span_of(b, w, (size_t)(end - w));
}

/* This line is not forwarded, but needed until then. */
static void leave(struct head *h, const struct miniproxy_buffer *b, const struct line *l)
{
    h->hole.at = h->kept;
    h->kept = u16((size_t)(l->next - b->u.data));
    h->hole.len = u16((size_t)(h->kept - h->hole.at));
}

#if MINIPROXY_WITH_CONDITIONS
/* What a rule may ask for. The line has moved, if it is forwarded. */
static void note_condition(struct head *h, const struct miniproxy_buffer *b, const struct line *l)
{
    const unsigned char *value = l->value;
    if (l->id != ((h->seen & FROM_CLIENT) != 0 ? F_USER_AGENT : F_CONTENT_TYPE)) return;
    if (MINIPROXY_WITH_FORWARDING && h->is_forwarded) value = b->u.data + h->kept - (l->end - l->value);
    if (h->noted.at != 0) h->seen |= NOTED_TWICE;
    h->noted = span_of(b, value, l->value_len);
}
#else
static void note_condition(struct head *h, const struct miniproxy_buffer *b, const struct line *l)
{
    (void)h, (void)b, (void)l;
}
#endif

static struct head *head_of(const struct miniproxy_buffer *b);
static void tell_line(const struct miniproxy *p, const struct miniproxy_session *s, struct miniproxy_buffer *b,
                      unsigned line, bool is_last);

/* Field lines, as far as they are there, until the empty line. NONE, MORE or what is wrong. */
static enum miniproxy_cause parse_fields(const struct miniproxy *proxy, const struct miniproxy_session *s,
                                         struct miniproxy_buffer *b)
{
    struct head *h = head_of(b);
    unsigned char *p = b->u.data + h->end, *end = b->u.data + b->in_end;
    const char *name = proxy->config.name;
    bool from_client = (h->seen & FROM_CLIENT) != 0;
    struct line l;
    enum miniproxy_cause cause;
    for (;; p = l.next) {
        h->end = u16((size_t)(p - b->u.data));
        tell_line(proxy, s, b, h->end, false); /* before it changes or moves */
        if (p == end || *p == '\r') break;
        cause = parse_line(&l, p, end, !from_client);
        if (cause != MINIPROXY_CAUSE_NONE) return cause;
        if (++h->count > MINIPROXY_FIELDS_MAX) return MINIPROXY_CAUSE_HEAD_SIZE;
        if (l.id < F_EXPECT || from_client) cause = see_line(h, b, &l, name);
        if (cause != MINIPROXY_CAUSE_NONE) return cause;
        if (MINIPROXY_WITH_FORWARDING && h->is_forwarded) {
            if (from_client && l.id == F_PROXY_AUTHORIZATION) leave(h, b, &l);
            else if ((l.role & HOP) == 0) keep(h, b, &l);
        }
        note_condition(h, b, &l);
    }
    cause = parse_crlf(p, end, MINIPROXY_CAUSE_FIELD);
    if (cause == MINIPROXY_CAUSE_NONE) h->end = u16(h->end + 2u);
    return cause;
}

/* "HTTP/1.x" (RFC 9112 section 2.3). */
static enum miniproxy_cause parse_version(struct head *h, const unsigned char *p, const unsigned char *end)
{
    static const char form[] = "HTTP/0.0";
    for (const char *f = form; *f != '\0'; f++, p++) {
        if (p == end) return MORE;
        if (*f == '0' ? !is_digit(*p) : *p != (unsigned char)*f) return MINIPROXY_CAUSE_REQUEST_LINE;
    }
    h->minor = (uint8_t)(p[-1] - '0');
    return p[-3] == '1' ? MINIPROXY_CAUSE_NONE : MINIPROXY_CAUSE_VERSION;
}

/* The first line ends before p: field lines begin. */
static void begin_fields(struct head *h, const struct miniproxy_buffer *b, const unsigned char *p)
{
    h->fields = h->end = h->kept = h->hole.at = u16((size_t)(p - b->u.data));
}

/* Octets of a line that has been seen in part are looked at again only once it is complete: a line that comes octet by
 * octet would be work for its length's square. */
static bool is_still_part(struct miniproxy_buffer *b, size_t line)
{
    size_t seen = b->scan;
    b->scan = b->in_end;
    return seen > line && b->in_end < MINIPROXY_BUFFER_SIZE - 2 &&
           memchr(b->u.data + seen, '\n', b->in_end - seen) == NULL;
}

/* host[:port] as in a target or a Host field. */
struct authority {
    const unsigned char *host; /* of IPv6 without its brackets */
    size_t host_len;
    unsigned port; /* 0: none */
    bool literal;  /* addr is set */
    struct miniproxy_addr addr;
};

/* A name of the DNS, up to `end` or an octet that none has: letters, digits, hyphens and underscores in labels of 1..63
 * (RFC 1123 section 2.1); one trailing dot. What ends in a number must be an IPv4 address in dotted quads: others take
 * 0x7f.1 for one. Returns where it ends, or NULL. */
static const unsigned char *parse_name(struct authority *a, const unsigned char *end)
{
    const unsigned char *p = a->host, *label = p, *last = p, *stop;
    for (;;) {
        while (p < end && (is_letter(*p) || is_digit(*p) || *p == '-' || *p == '_')) p++;
        if (p == end || *p != '.') break;
        if (p == label || p - label > 63) return NULL;
        last = label;
        label = ++p;
    }
    a->host_len = (size_t)(p - a->host);
    stop = p > a->host && p == label ? p - 1 : p; /* without a trailing dot */
    if (stop == p) last = label;
    if (stop == last || stop - last > 63 || stop - a->host > HOST_MAX) return NULL;
    for (label = last; label < stop && is_digit(*label); label++) {}
    if (label == last || (label < stop && !(label == last + 1 && *last == '0' && lower(*label) == 'x'))) return p;
    a->literal = true;
    return stop == p && miniproxy_addr_parse(&a->addr, (const char *)a->host, a->host_len) ? p : NULL;
}

static bool parse_port(struct authority *a, const unsigned char *p, size_t len)
{
    uint64_t number;
    if (len == 0) return true; /* "host:" is "host" (RFC 3986 section 3.2.3) */
    if (len > 5 || !parse_number(p, len, &number)) return false;
    a->port = (unsigned)number;
    return a->port >= 1 && a->port <= 65535;
}

static bool parse_authority(struct authority *a, const unsigned char *p, size_t len)
{
    const unsigned char *end = p + len, *stop;
    a->host = p;
    a->port = 0;
    a->literal = false;
    a->addr.port = 0; /* the rest is set if it is a literal, and only then looked at */
    if (len > 0 && *p == '[') {
        stop = memchr(p, ']', len);
        if (stop == NULL) return false;
        a->host = p + 1;
        a->host_len = (size_t)(stop++ - a->host);
        a->literal = true;
        if (!miniproxy_addr_parse(&a->addr, (const char *)a->host, a->host_len) || a->addr.family != 6) return false;
    } else {
        stop = parse_name(a, end);
        if (stop == NULL) return false;
    }
    if (stop == end) return true;
    return *stop == ':' && parse_port(a, stop + 1, (size_t)(end - stop - 1));
}

/* A request between its head and its connection. Stands in front of the head in its buffer. */
enum { IPV6_LITERAL = 1, LITERAL = 2, SERVER_WIDE = 4, SECURE = 8, DIVERTED = 16, PAGE_DIRECT = 32, PAGE_BY_PROXY = 64 };

struct plan {
    struct head head;
    struct span method, target, authority, host, path; /* path: with query, may be empty */
    uint16_t port;
    uint16_t method_bit;   /* enum miniproxy_method */
    uint16_t untried;      /* a bit for each address that may be tried */
    uint8_t form;          /* of the target, IPV6_LITERAL … */
    uint8_t count;         /* addresses that may be, or have been, tried */
    uint8_t family;        /* of the one tried last */
    uint8_t tick;          /* head starts that have passed */
    int8_t error;          /* of the last attempt that failed, enum miniproxy_result */
    uint8_t tries[MINIPROXY_ATTEMPTS]; /* index of each attempt's address */
    uint8_t since[MINIPROXY_ATTEMPTS]; /* tick at its start */
#if MINIPROXY_WITH_PAGES
    struct span page_host; /* value of Host, if a page is asked for */
#endif
    struct miniproxy_addr at[MINIPROXY_ADDRESSES];
};
_Static_assert(sizeof(struct plan) + CHUNK_ROOM + MINIPROXY_HEADROOM_OF_DOORS <= MINIPROXY_HEADROOM,
               "MINIPROXY_HEADROOM is too small for struct plan");

static struct plan *plan_of(const struct miniproxy_buffer *b)
{
    return (struct plan *)(uintptr_t)b->u.data;
}

static struct head *head_of(const struct miniproxy_buffer *b)
{
    return &plan_of(b)->head;
}

/* Is its target an https one? */
static bool is_https(const struct plan *pl)
{
    return MINIPROXY_WITH_TLS && (pl->form & SECURE) != 0;
}

static unsigned default_port(const struct plan *pl)
{
    return is_https(pl) ? 443 : 80;
}

static uint16_t method_bit(const unsigned char *method, size_t len)
{
    static const char names[][8] = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT"};
    unsigned i;
    for (i = 0; i < sizeof names / sizeof names[0]; i++)
        if (*names[i] == (char)*method && is_exactly(method, len, names[i])) break;
    return (uint16_t)(1u << i); /* one behind the last is MINIPROXY_OTHER */
}

/* The scheme and what follows it. */
static enum miniproxy_cause parse_absolute(struct plan *pl, const struct miniproxy_buffer *b, const unsigned char *p,
                                           size_t len, struct authority *a)
{
    const unsigned char *end = p + len, *q = p, *path;
    if (MINIPROXY_WITH_TLS && len >= 8 && is_word(p, 8, "https://")) {
        pl->form = SECURE;
        q++;
    } else if (len < 7 || !is_word(p, 7, "http://")) {
        while (q < end && *q != ':' && *q != '/' && *q != '?') q++;
        if (!is_letter(*p) || end - q < 3 || memcmp(q, "://", 3) != 0) return MINIPROXY_CAUSE_TARGET;
        return MINIPROXY_CAUSE_SCHEME;
    }
    q += 7;
    for (path = q; path < end && *path != '/' && *path != '?'; path++) {}
    if (!parse_authority(a, q, (size_t)(path - q))) return MINIPROXY_CAUSE_TARGET;
    if (a->port == 0) a->port = default_port(pl);
    pl->authority = span_of(b, q, (size_t)(path - q));
    pl->path = span_of(b, path, (size_t)(end - path));
    return MINIPROXY_CAUSE_NONE;
}

/* RFC 9112 section 3.2. */
static enum miniproxy_cause parse_target(struct plan *pl, const struct miniproxy_buffer *b, const unsigned char *p,
                                         size_t len)
{
    struct authority a;
    enum miniproxy_cause cause;
    if (pl->method_bit == MINIPROXY_CONNECT) {
        if (!parse_authority(&a, p, len) || a.port == 0) return MINIPROXY_CAUSE_TARGET;
        pl->authority = span_of(b, p, len);
    } else if (memchr(p, '#', len) != NULL) {
        return MINIPROXY_CAUSE_TARGET;
    } else if (*p == '/') {
        return MINIPROXY_CAUSE_ORIGIN_FORM;
    } else if (len == 1 && *p == '*' && pl->method_bit == MINIPROXY_OPTIONS) {
        pl->form = SERVER_WIDE;
        return MINIPROXY_CAUSE_NONE;
    } else {
        cause = MINIPROXY_WITH_FORWARDING ? parse_absolute(pl, b, p, len, &a) : MINIPROXY_CAUSE_SCHEME;
        if (cause != MINIPROXY_CAUSE_NONE) return cause;
    }
    pl->host = span_of(b, a.host, a.host_len);
    pl->port = (uint16_t)a.port;
    if (a.literal) {
        pl->form = LITERAL | (a.addr.family == 6 ? IPV6_LITERAL : 0) | (is_https(pl) ? SECURE : 0);
        pl->at[0] = a.addr;
        pl->at[0].port = pl->port;
        pl->count = 1;
        pl->untried = 1;
    }
    return MINIPROXY_CAUSE_NONE;
}

/* A valid Host, empty too (RFC 9112 section 3.2). What stands in the target has been looked at. */
OUTLINED static bool is_host(const struct miniproxy_buffer *b, const unsigned char *p, size_t len)
{
    const struct span *known = &plan_of(b)->authority;
    struct authority a;
    return len == 0 || (len == known->len && memcmp(p, b->u.data + known->at, len) == 0) || parse_authority(&a, p, len);
}

static bool counts_hops(const struct miniproxy_buffer *b)
{
    return (plan_of(b)->method_bit & (MINIPROXY_OPTIONS | MINIPROXY_TRACE)) != 0;
}

/* ---- Requests for pages of the proxy's own ---- */

#if MINIPROXY_WITH_PAGES

static bool asks_page(const struct plan *pl)
{
    return (pl->form & (PAGE_DIRECT | PAGE_BY_PROXY)) != 0;
}

/* Is it this path? A query is left aside. */
static bool is_path(const unsigned char *path, size_t len, const char *known)
{
    const unsigned char *mark = memchr(path, '?', len);
    size_t n = mark != NULL ? (size_t)(mark - path) : len;
    if (n == 0) return known[1] == '\0';
    return is_exactly(path, n, known);
}

static bool is_pac(const unsigned char *path, size_t len)
{
    return MINIPROXY_WITH_PAC && (is_path(path, len, "/proxy.pac") || is_path(path, len, "/wpad.dat"));
}

/* Other paths are asked for by who takes the proxy for another server: who has been led here without knowing. */
static bool is_own_path(const struct miniproxy_config *config, const unsigned char *path, size_t len)
{
    const char *type;
    if (config->page != NULL && config->page(config->app, (const char *)path, len, &type) != NULL) return true;
    return is_path(path, len, "/health") || is_pac(path, len) || (MINIPROXY_WITH_STATUS && is_path(path, len, "/")) ||
           (MINIPROXY_WITH_METRICS && is_path(path, len, "/metrics")) ||
           (MINIPROXY_RECORDS > 0 && is_path(path, len, "/log"));
}

/* The request line is there, and said NONE or what is wrong: is it one for a page? Nothing of its head is forwarded. */
static enum miniproxy_cause see_page(const struct miniproxy_config *config, struct plan *pl,
                                     const struct miniproxy_buffer *b, enum miniproxy_cause cause)
{
    static const char name[] = MINIPROXY_PAGES_HOST;
    if (cause == MINIPROXY_CAUSE_ORIGIN_FORM && is_own_path(config, b->u.data + pl->target.at, pl->target.len)) {
        pl->form = PAGE_DIRECT;
        pl->path = pl->target;
    } else if (cause == MINIPROXY_CAUSE_NONE && pl->method_bit != MINIPROXY_CONNECT && pl->host.at != 0 &&
               pl->port == 80 && is_word(b->u.data + pl->host.at, pl->host.len, name)) {
        pl->form = PAGE_BY_PROXY;
    } else {
        return cause;
    }
    pl->head.is_forwarded = false;
    return MINIPROXY_CAUSE_NONE;
}

/* For a page, as one asks any server. */
static bool asks_directly(const struct miniproxy_buffer *b)
{
    return (plan_of(b)->form & PAGE_DIRECT) != 0;
}

/* Then one logs in as with any server, too (RFC 9110 section 11.6.2). */
static enum miniproxy_cause see_page_login(struct head *h, const struct miniproxy_buffer *b, const struct line *l)
{
    if (!asks_directly(b)) return MINIPROXY_CAUSE_NONE;
    if ((h->seen & HAS_LOGIN) != 0) return MINIPROXY_CAUSE_FIELD;
    h->seen |= HAS_LOGIN;
    h->login = span_of(b, l->value, l->value_len);
    return MINIPROXY_CAUSE_NONE;
}

static void see_page_host(const struct miniproxy_buffer *b, const struct line *l)
{
    if (asks_page(plan_of(b))) plan_of(b)->page_host = span_of(b, l->value, l->value_len);
}

static bool is_among_names(const struct miniproxy_texts *names, const unsigned char *host, size_t len)
{
    for (unsigned i = 0; names != NULL && i < names->count; i++)
        if (is_word(host, len, names->list[i])) return true;
    return false;
}

/* Does Host mean this proxy? A browser that was led here by a name of somebody else's (DNS rebinding) would show what it
 * gets to that name's scripts. Addresses and names without a dot are nobody's. */
static bool means_us(const struct miniproxy_config *config, const struct miniproxy_buffer *b)
{
    const struct span *host = &plan_of(b)->page_host;
    struct authority a;
    if (!asks_directly(b) || host->len == 0) return true;
    if (!parse_authority(&a, b->u.data + host->at, host->len)) return false;
    return a.literal || memchr(a.host, '.', a.host_len) == NULL || is_word(a.host, a.host_len, MINIPROXY_PAGES_HOST) ||
           is_among_names(config->page_names, a.host, a.host_len);
}

#else

static void see_page_host(const struct miniproxy_buffer *b, const struct line *l)
{
    (void)b, (void)l;
}

static bool asks_page(const struct plan *pl)
{
    (void)pl;
    return false;
}

static enum miniproxy_cause see_page(const struct miniproxy_config *config, struct plan *pl,
                                     const struct miniproxy_buffer *b, enum miniproxy_cause cause)
{
    (void)config, (void)pl, (void)b;
    return cause;
}

static bool asks_directly(const struct miniproxy_buffer *b)
{
    (void)b;
    return false;
}

static enum miniproxy_cause see_page_login(struct head *h, const struct miniproxy_buffer *b, const struct line *l)
{
    (void)h, (void)b, (void)l;
    return MINIPROXY_CAUSE_NONE;
}

#endif

/* "method SP request-target SP HTTP-version" at b->in, as far as it is there. */
OUTLINED static enum miniproxy_cause parse_request_line(struct plan *pl, struct miniproxy_buffer *b)
{
    unsigned char *p = b->u.data + b->in, *end = b->u.data + b->in_end, *q = skip_token(p, end);
    enum miniproxy_cause cause;
    if (q - p > MINIPROXY_METHOD_MAX) return MINIPROXY_CAUSE_METHOD_SIZE;
    if (q == end) return MORE;
    if (*p == 0x16) return MINIPROXY_CAUSE_TLS; /* a handshake record */
    if (q == p) return parse_crlf(p, end, MINIPROXY_CAUSE_REQUEST_LINE); /* the beginning of an empty line? */
    if (*q != ' ') return MINIPROXY_CAUSE_REQUEST_LINE;
    pl->method = span_of(b, p, (size_t)(q - p));
    pl->method_bit = method_bit(p, pl->method.len);
    for (p = ++q; q < end && *q > 0x20 && *q < 0x7f; q++) {}
    if (q == end) return MORE;
    if (*q != ' ' || q == p) return MINIPROXY_CAUSE_REQUEST_LINE;
    pl->target = span_of(b, p, (size_t)(q - p));
    cause = parse_version(&pl->head, ++q, end);
    if (cause == MINIPROXY_CAUSE_NONE) cause = parse_crlf(q + 8, end, MINIPROXY_CAUSE_REQUEST_LINE);
    if (cause != MINIPROXY_CAUSE_NONE) return cause;
    begin_fields(&pl->head, b, q + 10);
    pl->head.is_forwarded = MINIPROXY_WITH_ROUTES || pl->method_bit != MINIPROXY_CONNECT;
    return parse_target(pl, b, p, pl->target.len);
}

/* "HTTP-version SP status-code SP [reason]", as far as it is there. Reason and its SP may be missing. */
static enum miniproxy_cause parse_status_line(struct head *h, struct miniproxy_buffer *b)
{
    unsigned char *p = b->u.data + b->in, *end = b->u.data + b->in_end;
    enum miniproxy_cause cause = parse_version(h, p, end);
    if (cause != MINIPROXY_CAUSE_NONE) return cause;
    p += 8;
    h->status = 0;
    for (int i = 0; i < 4; i++, p++) {
        if (p == end) return MORE;
        if (i == 0 ? *p != ' ' : !is_digit(*p)) return MINIPROXY_CAUSE_RESPONSE_INVALID;
        if (i > 0) h->status = (uint16_t)(h->status * 10 + (*p - '0'));
    }
    if (h->status < 100 || (p < end && *p != ' ' && *p != '\r')) return MINIPROXY_CAUSE_RESPONSE_INVALID;
    p = skip_text(p, end);
    cause = parse_crlf(p, end, MINIPROXY_CAUSE_RESPONSE_INVALID);
    if (cause != MINIPROXY_CAUSE_NONE) return cause;
    begin_fields(h, b, p + 2);
    h->is_forwarded = true;
    if (h->status < 200 || h->status == 204) h->seen |= NO_LENGTH; /* RFC 9110 section 8.6 */
    return MINIPROXY_CAUSE_NONE;
}

/* ==== 4  Framing =================================================================================== */

/* How the bytes of a body are delimited (RFC 9112 section 6.3). */
enum source {
    SOURCE_NONE,    /* no body */
    SOURCE_LENGTH,
    SOURCE_CHUNKED,
    SOURCE_EOF,     /* until the origin closes */
    SOURCE_RAW      /* a tunnel */
};

/* The one place that decides where a request ends. Anything doubtful is refused. */
static enum miniproxy_cause frame_request(const struct plan *pl, uint64_t body_max, uint8_t *source)
{
    const struct head *h = &pl->head;
    *source = SOURCE_NONE;
    if (pl->method_bit == MINIPROXY_CONNECT) {
        *source = SOURCE_RAW;
        if ((h->seen & HAS_LENGTH) != 0) return MINIPROXY_CAUSE_LENGTH;
        return (h->seen & HAS_CODING) != 0 ? MINIPROXY_CAUSE_CODING : MINIPROXY_CAUSE_NONE;
    }
    if ((h->seen & HAS_CODING) != 0) {
        if ((h->seen & HAS_LENGTH) != 0) return MINIPROXY_CAUSE_LENGTH;
        if (h->minor == 0 || (h->seen & CODED_CHUNKED) == 0) return MINIPROXY_CAUSE_CODING;
        if ((h->seen & CODED_OTHERWISE) != 0) return MINIPROXY_CAUSE_UNKNOWN_CODING;
        *source = SOURCE_CHUNKED;
        return MINIPROXY_CAUSE_NONE;
    }
    if ((h->seen & HAS_LENGTH) == 0) return MINIPROXY_CAUSE_NONE;
    if (body_max != 0 && h->length > body_max) return MINIPROXY_CAUSE_BODY_SIZE;
    if (h->length > 0) *source = SOURCE_LENGTH;
    return MINIPROXY_CAUSE_NONE;
}

/* The same for a response. With both a length and a coding the length is dropped (RFC 9112 section 6.3, rule 3). */
static enum miniproxy_cause frame_response(struct head *h, bool to_head, uint8_t *source)
{
    *source = SOURCE_NONE;
    if ((h->seen & HAS_CODING) == 0) h->hole.len = 0;
    if (to_head || h->status < 200 || h->status == 204 || h->status == 304) return MINIPROXY_CAUSE_NONE;
    if ((h->seen & HAS_CODING) != 0) {
        if ((h->seen & (CODED_CHUNKED | CODED_OTHERWISE)) != CODED_CHUNKED) return MINIPROXY_CAUSE_RESPONSE_CODING;
        *source = SOURCE_CHUNKED;
    } else if ((h->seen & HAS_LENGTH) == 0) {
        *source = SOURCE_EOF;
    } else if (h->length > 0) {
        *source = SOURCE_LENGTH;
    }
    return MINIPROXY_CAUSE_NONE;
}

/* ==== 5  Rewriting =================================================================================
 *
 * A head is rewritten towards the start of its own buffer: what is written (w) never overtakes what is still to be
 * read, because there are MINIPROXY_HEADROOM free octets in front.
 */

/* If the two overlap, w is the lower. */
static unsigned char *put_bytes(unsigned char *w, const void *from, size_t len)
{
    const unsigned char *p = from;
    size_t word;
    if (w == p) return w + len;
    if (!MINIPROXY_ANY_ALIGNMENT) {
        memmove(w, from, len);
        return w + len;
    }
    for (; len >= sizeof word; len -= sizeof word, p += sizeof word, w += sizeof word) {
        memcpy(&word, p, sizeof word);
        memcpy(w, &word, sizeof word);
    }
    while (len-- > 0) *w++ = *p++;
    return w;
}

static unsigned char *put(unsigned char *w, const char *text)
{
    while (*text != '\0') *w++ = (unsigned char)*text++;
    return w;
}

static unsigned char *put_all(unsigned char *w, const char *first, const char *second, const char *third)
{
    return put(put(put(w, first), second), third);
}

static unsigned char *put_number(unsigned char *w, unsigned value)
{
    char digits[10];
    return put_bytes(w, digits, decimal(value, digits));
}

#if MINIPROXY_WITH_DATE

/* Two digits of a date. */
static void put_two(unsigned char *at, unsigned value)
{
    at[0] = (unsigned char)('0' + value / 10 % 10);
    at[1] = (unsigned char)('0' + value % 10);
}

static uint32_t unix_time(const struct miniproxy_config *config)
{
    return config->unix_time != NULL ? config->unix_time(config->app) : 0;
}

/* "Date: " and an IMF-fixdate (RFC 9110 section 5.6.7), good until 2106; nothing where the time is not known. */
static unsigned char *put_date(unsigned char *w, uint32_t unix_s)
{
    static const char days[] = "ThuFriSatSunMonTueWed", months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    static const uint8_t lengths[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    unsigned day = unix_s / 86400, second = unix_s % 86400, year = 1970, month = 0;
    unsigned char *end;
    if (unix_s == 0) return w;
    end = put(w, "Date: Thu, 00 Jan 0000 00:00:00 GMT\r\n");
    memcpy(w + 6, days + day % 7 * 3, 3);
    for (;;) {
        unsigned length = lengths[month] + (month == 1 && year % 4 == 0 && year != 2100 ? 1u : 0u);
        if (day < length) break;
        day -= length;
        if (++month < 12) continue;
        month = 0;
        year++;
    }
    put_two(w + 11, day + 1);
    memcpy(w + 14, months + month * 3, 3);
    put_two(w + 18, year / 100);
    put_two(w + 20, year);
    put_two(w + 23, second / 3600);
    put_two(w + 26, second / 60 % 60);
    put_two(w + 29, second % 60);
    return end;
}

#else /* without a clock */

static uint32_t unix_time(const struct miniproxy_config *config)
{
    (void)config;
    return 0;
}

static unsigned char *put_date(unsigned char *w, uint32_t unix_s)
{
    (void)unix_s;
    return w;
}

#endif

static unsigned char *next_line(unsigned char *p)
{
    while (*p++ != '\n') {}
    return p;
}

static bool is_named(const unsigned char *line, const unsigned char *name, size_t len)
{
    size_t i = 0;
    while (i < len && lower(line[i]) == lower(name[i])) i++;
    return i == len && line[i] == ':';
}

/* Take the fields that Connection nominates out of lines[0..end), and Connection itself. */
OUTLINED static unsigned char *strip(unsigned char *lines, const unsigned char *end)
{
    static const unsigned char connection[] = "connection";
    unsigned char *p, *q, *w = lines;
    struct list option;
    for (p = lines; p < end; p = next_line(p)) {
        if (!is_named(p, connection, sizeof connection - 1)) continue;
        /* Lines are few, and options may be as many as octets: whoever goes through all lines for each takes long. */
        for (q = lines; q < end; q = next_line(q)) {
            option.next = p + sizeof connection;
            option.end = next_line(p) - 2;
            while (next_element(&option))
                if (is_named(q, option.at, option.len) && is_nominated(&option)) *q = '\0';
        }
        *p = '\0';
    }
    for (p = lines; p < end; p = q) {
        q = next_line(p);
        if (*p != '\0') w = put_bytes(w, p, (size_t)(q - p));
    }
    return w;
}

/* The field lines that are forwarded. */
static unsigned char *put_fields(unsigned char *w, const struct head *h, const struct miniproxy_buffer *b)
{
    unsigned behind = h->hole.at + h->hole.len;
    unsigned char *lines = w;
    MINIPROXY_ASSERT(w <= b->u.data + h->fields);
    w = put_bytes(w, b->u.data + h->fields, (size_t)(h->hole.at - h->fields));
    w = put_bytes(w, b->u.data + behind, (size_t)(h->kept - behind));
    return (h->seen & NOMINATES) != 0 ? strip(lines, w) : w;
}

static unsigned char *put_via(unsigned char *w, unsigned minor, const char *name)
{
    w = put(w, "Via: 1.");
    *w++ = (unsigned char)('0' + minor);
    return put_all(w, " ", name, "\r\n");
}

static void reverse(unsigned char *first, unsigned char *last)
{
    while (first < last) {
        unsigned char c = *first;
        *first++ = *--last;
        *last = c;
    }
}

/* A head has become data[0..w): mark it as ready to be sent, what follows it as received. */
static void finish_head(struct miniproxy_buffer *b, const unsigned char *w, const struct head *h)
{
    b->out = 0;
    b->out_end = u16((size_t)(w - b->u.data));
    b->in = h->end;
    b->scan = h->end;
    MINIPROXY_ASSERT(b->out_end + CHUNK_ROOM <= b->in);
}

/* From "METHOD http://host:port/path HTTP/1.x" to "METHOD /path HTTP/1.1" and Host (RFC 9112 sections 3.2.1, 3.2.2).
 * `last` are the fields that the proxy adds on its own. */
OUTLINED static void rewrite_request(struct miniproxy_buffer *b, const char *name, const char *last)
{
    const struct plan *pl = plan_of(b); /* it stands where the new head goes: what is needed of it is copied */
    struct head h = pl->head;
    bool is_options = pl->method_bit == MINIPROXY_OPTIONS, brackets = (pl->form & IPV6_LITERAL) != 0;
    size_t method_len = pl->method.len, path_len = pl->path.len, host_len = pl->host.len;
    unsigned port = pl->port, usual_port = default_port(pl);
    unsigned char *data = b->u.data, *w = data, *method = data + pl->method.at, *target = data + pl->target.at;
    unsigned char *path = data + pl->path.at, *host = data + pl->host.at + path_len, *end = target + pl->target.len;
    /* The path moves before the host: three reversals rotate the target. */
    reverse(target, path);
    reverse(path, end);
    reverse(target, end);
    w = put_bytes(w, method, method_len + 1);
    if (path_len == 0 && is_options) *w++ = '*'; /* RFC 9112 section 3.2.4 */
    else if (path_len == 0 || *target != '/') *w++ = '/';
    w = put_bytes(w, target, path_len);
    w = put(w, brackets ? " HTTP/1.1\r\nHost: [" : " HTTP/1.1\r\nHost: ");
    w = put_bytes(w, host, host_len);
    if (brackets) *w++ = ']';
    if (port != usual_port) {
        *w++ = ':';
        w = put_number(w, port);
    }
    w = put(w, "\r\n");
    w = put_fields(w, &h, b);
    if ((h.seen & HAS_CODING) != 0) w = put(w, "Transfer-Encoding: chunked\r\n");
    w = put_via(w, h.minor, name);
    w = put(put(w, last), "\r\n");
    finish_head(b, w, &h);
}

#if MINIPROXY_WITH_ROUTES

static unsigned char *put_base64(unsigned char *w, const char *text)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t len = strlen(text);
    for (size_t i = 0; i < len; i += 3) {
        uint32_t bits = 0;
        for (size_t k = 0; k < 3; k++) bits = bits << 8 | (i + k < len ? (unsigned char)text[i + k] : 0u);
        for (size_t k = 0; k < 4; k++) *w++ = i + k <= len ? (unsigned char)digits[bits >> (18 - 6 * k) & 63] : '=';
    }
    return w;
}

/* A head that goes to a parent ends so. The login is told to it alone: for another one this is written anew. */
static unsigned char *put_login(unsigned char *w, const char *login)
{
    if (login != NULL) w = put(put_base64(put(w, "Proxy-Authorization: Basic "), login), "\r\n");
    return put(w, "\r\n");
}

static size_t login_len(const char *login)
{
    return login != NULL ? sizeof "Proxy-Authorization: Basic \r\n" - 1 + (strlen(login) + 2) / 3 * 4 + 2 : 2;
}

/* The host gives back the octet that its NUL has taken: see understand(). */
static void restore_target(struct miniproxy_buffer *b, const struct plan *pl)
{
    unsigned char *host = b->u.data + pl->host.at, *end = host + pl->host.len;
    if ((pl->form & IPV6_LITERAL) != 0) {
        *end = ']';
    } else if (pl->host.at < pl->authority.at) {
        memmove(host + 1, host, pl->host.len);
        *host = '/';
    } else {
        *end = ':';
    }
}

/* What has been received behind a head moves, to make room for so many octets more. */
static bool widen(struct miniproxy_buffer *b, struct head *h, size_t more)
{
    unsigned char *end = b->u.data + h->end;
    if (more > MINIPROXY_BUFFER_SIZE - 2u - b->in_end) return false;
    memmove(end + more, end, (size_t)(b->in_end - h->end));
    h->end = u16(h->end + more);
    b->in_end = u16(b->in_end + more);
    return true;
}

/* The target stays as it is, but for its version (RFC 9112 sections 3.2.2, 3.2.3). `last` are fields that the proxy adds
 * on its own. Where they begin whom `login` concerns; 0: the head would become too large. */
OUTLINED static unsigned rewrite_for_parent(struct miniproxy_buffer *b, const char *name, const char *last,
                                            const char *login)
{
    const struct plan *pl = plan_of(b); /* it stands where the new head goes: what is needed of it is copied */
    struct head h = pl->head;
    struct span authority = pl->authority, method = pl->method;
    size_t line_len = (size_t)(pl->target.at - method.at) + pl->target.len, host_len = authority.len + 8u, need;
    unsigned char *data = b->u.data, *w = data, *login_at;
    const unsigned char *host = data + method.at;
    bool coded = (h.seen & HAS_CODING) != 0, first;
    restore_target(b, pl);
    need = line_len + 11 + host_len + (size_t)(h.kept - h.fields - h.hole.len) + (coded ? 28u : 0u) +
           sizeof "Via: 1.1 \r\n" - 1 + strlen(name) + strlen(last) + login_len(login);
    if (need + CHUNK_ROOM > h.end && !widen(b, &h, need + CHUNK_ROOM - h.end)) return 0;
    authority.at = u16((size_t)(authority.at - method.at)); /* within the line, and so in the new head */
    w = put(put_bytes(w, host, line_len), " HTTP/1.1\r\n");
    first = w + host_len <= data + h.fields; /* where a field named Host is best (RFC 9110 section 7.2) */
    host = data + authority.at;
    if (first) w = put(put_bytes(put(w, "Host: "), host, authority.len), "\r\n");
    w = put_fields(w, &h, b);
    if (!first) w = put(put_bytes(put(w, "Host: "), host, authority.len), "\r\n");
    if (coded) w = put(w, "Transfer-Encoding: chunked\r\n");
    w = put(put_via(w, h.minor, name), last);
    login_at = w;
    finish_head(b, put_login(w, login), &h);
    return (unsigned)(login_at - data);
}

#endif

/* A response's head. `chunked`: the body is sent so. `last` as above. */
OUTLINED static void rewrite_response(struct miniproxy_buffer *b, const struct head *h, bool chunked,
                                      const struct miniproxy_config *config, const char *last)
{
    unsigned char *w = b->u.data, *reason = b->u.data + b->in + 12;
    const unsigned char *end = b->u.data + h->fields - 2;
    w = put(w, "HTTP/1.1 ");
    w = put_bytes(w, reason - 3, 3);
    *w++ = ' '; /* also with an empty reason (RFC 9112 section 4) */
    if (reason < end) w = put_bytes(w, reason + 1, (size_t)(end - reason - 1));
    w = put_fields(put(w, "\r\n"), h, b);
    if (chunked) w = put(w, "Transfer-Encoding: chunked\r\n");
    if ((h->seen & HAS_DATE) == 0 && h->status >= 200) w = put_date(w, unix_time(config));
    w = put_via(w, h->minor, config->name);
    w = put(put(w, last), "\r\n");
    finish_head(b, w, h);
}

/* ==== 6  Policy and credentials ==================================================================== */

static bool parse_ip4(uint8_t ip[4], const unsigned char *p, size_t len)
{
    size_t i = 0, start;
    for (unsigned part = 0; part < 4; part++) {
        unsigned value = 0;
        if (part > 0 && (i == len || p[i++] != '.')) return false;
        for (start = i; i < len && i - start < 3 && is_digit(p[i]); i++)
            value = value * 10 + (unsigned)(p[i] - '0');
        if (i == start || value > 255) return false;
        if (p[start] == '0' && i - start > 1) return false; /* 010 is 8 elsewhere */
        ip[part] = (uint8_t)value;
    }
    return i == len;
}

static size_t format_ip4(const uint8_t ip[4], char *out)
{
    size_t n = 0;
    for (unsigned part = 0; part < 4; part++) {
        if (part > 0) out[n++] = '.';
        n += decimal(ip[part], out + n);
    }
    return n;
}

#if MINIPROXY_WITH_IPV6

/* RFC 4291 section 2.2: groups, one "::" for at least one group of zeros, perhaps a dotted quad at the end. */
static bool parse_ip6(uint8_t ip[16], const unsigned char *p, size_t len)
{
    size_t n = 0, i = 0, start, gap = SIZE_MAX;
    if (len >= 2 && p[0] == ':' && p[1] == ':') {
        gap = 0;
        i = 2;
    }
    while (i < len) {
        unsigned group = 0;
        for (start = i; i < len && i - start < 4 && hex_value(p[i]) >= 0; i++)
            group = group << 4 | (unsigned)hex_value(p[i]);
        if (i == start || n == 16) return false;
        if (i < len && p[i] == '.') {
            if (n > 12 || !parse_ip4(ip + n, p + start, len - start)) return false;
            n += 4;
            break;
        }
        ip[n++] = (uint8_t)(group >> 8);
        ip[n++] = (uint8_t)group;
        if (i == len) break;
        if (p[i++] != ':' || i == len) return false;
        if (p[i] != ':') continue;
        if (gap != SIZE_MAX) return false;
        gap = n;
        i++;
    }
    if (gap == SIZE_MAX || n == 16) return gap == SIZE_MAX && n == 16;
    memmove(ip + 16 - (n - gap), ip + gap, n - gap);
    memset(ip + gap, 0, 16 - n);
    return true;
}

/* The IPv4 address that this is, plain or v4-mapped, or NULL. */
static const uint8_t *plain_ip4(const struct miniproxy_addr *a)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (a->family == 4) return a->ip;
    return a->family == 6 && memcmp(a->ip, mapped, 12) == 0 ? a->ip + 12 : NULL;
}

/* The IPv4 address that it leads to, by whatever translation: NAT64, 6to4 and the old v4-compatible form too. */
static const uint8_t *inner_ip4(const struct miniproxy_addr *a)
{
    static const uint8_t nat64[12] = {0x00, 0x64, 0xff, 0x9b}, zero[15] = {0};
    const uint8_t *plain = plain_ip4(a), *ip = a->ip;
    if (plain != NULL || a->family != 6) return plain;
    if (ip[0] == 0x20 && ip[1] == 0x02) return ip + 2;
    if (memcmp(ip, nat64, 12) == 0) return ip + 12;
    if (memcmp(ip, zero, 15) == 0 && ip[15] <= 1) return NULL; /* :: and ::1 are themselves */
    return memcmp(ip, zero, 12) == 0 ? ip + 12 : NULL;
}

/* RFC 5952: lower case, no leading zeros, "::" for the first longest run of two or more groups of zeros. */
static size_t format_ip6(const struct miniproxy_addr *a, char *out)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *plain = plain_ip4(a);
    unsigned i, run = 0, gap = 0, longest = 1, shift;
    size_t n = 0;
    for (i = 0; i < 8; i++) {
        run = (a->ip[2 * i] | a->ip[2 * i + 1]) == 0 ? run + 1 : 0;
        if (run <= longest) continue;
        longest = run;
        gap = i + 1 - run;
    }
    for (i = 0; i < 8; i++) {
        unsigned group = (unsigned)a->ip[2 * i] << 8 | a->ip[2 * i + 1];
        if (longest > 1 && i == gap) {
            out[n++] = ':';
            i += longest - 1;
            if (i == 7) out[n++] = ':';
            continue;
        }
        if (i > 0) out[n++] = ':';
        if (i == 6 && plain != NULL) return n + format_ip4(plain, out + n);
        for (shift = 12; shift > 0 && group >> shift == 0; shift -= 4) {}
        for (;; shift -= 4) {
            out[n++] = digits[group >> shift & 15];
            if (shift == 0) break;
        }
    }
    return n;
}

static bool same_prefix(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;
    return memcmp(a, b, whole) == 0 && (rest == 0 || (a[whole] ^ b[whole]) >> (8 - rest) == 0);
}

static bool ip6_matches(const struct miniproxy_nets *nets, const struct miniproxy_addr *a)
{
    unsigned low = 0, high = nets->v6_count, middle;
    if (a->family != 6 || plain_ip4(a) != NULL) return false;
    while (low < high) {
        middle = (low + high) / 2;
        if (memcmp(nets->v6[middle].ip, a->ip, 16) <= 0) low = middle + 1;
        else high = middle;
    }
    return low > 0 && same_prefix(a->ip, nets->v6[low - 1].ip, nets->v6[low - 1].bits);
}

static bool is_sound_ip6(const struct miniproxy_net6 *net, unsigned count)
{
    const uint8_t *before = NULL;
    for (const struct miniproxy_net6 *end = net + count; net < end; before = net++->ip) {
        uint8_t first[16] = {0};
        if (net->bits > 128) return false;
        memcpy(first, net->ip, (net->bits + 7u) / 8);
        if (net->bits % 8 != 0) first[net->bits / 8] &= (uint8_t)(0xff00u >> net->bits % 8);
        if (memcmp(first, net->ip, 16) != 0) return false;
        if (before != NULL && (memcmp(before, first, 16) >= 0 || same_prefix(before, first, net[-1].bits)))
            return false;
    }
    return true;
}

static const struct miniproxy_net6 special_ip6[] = {
    {{0}, 127},                           /* :: and loopback */
    {{0, 0x64, 0xff, 0x9b, 0, 0x01}, 48}, /* NAT64 of a site's own */
    {{0x01, 0x00}, 63},                   /* discard, dummy */
    {{0x20, 0x01, 0x00}, 23},             /* protocol assignments: Teredo, benchmarking, ORCHID, … */
    {{0x20, 0x01, 0x0d, 0xb8}, 32},       /* documentation */
    {{0x3f, 0xff, 0x00}, 20},             /* documentation */
    {{0x5f, 0x00}, 16},                   /* segment routing */
    {{0xfc, 0x00}, 7},                    /* unique local */
    {{0xfe, 0x80}, 9},                    /* link-local, the former site-local */
    {{0xff, 0x00}, 8},                    /* multicast */
};
#define SPECIAL_IP6 .v6 = special_ip6, .v6_count = sizeof special_ip6 / sizeof special_ip6[0]

#else /* without IPv6 there is one form of an address */

static bool parse_ip6(uint8_t *ip, const unsigned char *p, size_t len)
{
    (void)ip, (void)p, (void)len;
    return false;
}

static size_t format_ip6(const struct miniproxy_addr *a, char *out)
{
    (void)a, (void)out;
    return 0;
}

static const uint8_t *plain_ip4(const struct miniproxy_addr *a)
{
    return a->family == 4 ? a->ip : NULL;
}

static const uint8_t *inner_ip4(const struct miniproxy_addr *a)
{
    return plain_ip4(a);
}

static bool ip6_matches(const struct miniproxy_nets *nets, const struct miniproxy_addr *a)
{
    (void)nets, (void)a;
    return false;
}

static bool is_sound_ip6(const struct miniproxy_net6 *net, unsigned count)
{
    (void)net, (void)count;
    return true;
}
#define SPECIAL_IP6 .v6 = NULL

#endif

bool miniproxy_addr_parse(struct miniproxy_addr *a, const char *text, size_t len)
{
    const unsigned char *p = (const unsigned char *)text;
    struct miniproxy_addr parsed = {.port = a->port, .family = 4};
    if (!parse_ip4(parsed.ip, p, len)) {
        parsed.family = 6;
        if (!parse_ip6(parsed.ip, p, len)) return false;
    }
    *a = parsed;
    return true;
}

size_t miniproxy_addr_format(const struct miniproxy_addr *a, char out[MINIPROXY_ADDR_TEXT])
{
    size_t n = 0;
    if (a->family == 4) n = format_ip4(a->ip, out);
    if (a->family == 6) n = format_ip6(a, out);
    out[n] = '\0';
    return n;
}

static const struct miniproxy_net4 special_ip4[] = {
    {{0}, 8},             /* this host, this network */
    {{10}, 8},            /* private */
    {{100, 64}, 10},      /* shared, behind carriers' NAT */
    {{127}, 8},           /* loopback */
    {{169, 254}, 16},     /* link-local */
    {{172, 16}, 12},      /* private */
    {{192, 0, 0}, 24},    /* protocol assignments */
    {{192, 0, 2}, 24},    /* documentation */
    {{192, 88, 99}, 24},  /* the former 6to4 relays */
    {{192, 168}, 16},     /* private */
    {{198, 18}, 15},      /* benchmarking */
    {{198, 51, 100}, 24}, /* documentation */
    {{203, 0, 113}, 24},  /* documentation */
    {{224}, 3},           /* multicast, reserved, broadcast */
};

const struct miniproxy_nets miniproxy_special_purpose = {
    .v4 = special_ip4, .v4_count = sizeof special_ip4 / sizeof special_ip4[0], SPECIAL_IP6};

static uint32_t ip4_number(const uint8_t ip[4])
{
    return (uint32_t)ip[0] << 24 | (uint32_t)ip[1] << 16 | (uint32_t)ip[2] << 8 | ip[3];
}

static uint32_t ip4_mask(unsigned bits)
{
    return bits == 0 ? 0 : UINT32_MAX << (32 - bits);
}

static bool ip4_matches(const struct miniproxy_nets *nets, uint32_t number)
{
    unsigned low = 0, high = nets->v4_count, middle;
    const struct miniproxy_net4 *net;
    while (low < high) {
        middle = (low + high) / 2;
        if (ip4_number(nets->v4[middle].ip) <= number) low = middle + 1;
        else high = middle;
    }
    if (low == 0) return false;
    net = nets->v4 + low - 1;
    return ((number ^ ip4_number(net->ip)) & ip4_mask(net->bits)) == 0;
}

static bool is_sound_ip4(const struct miniproxy_net4 *net, unsigned count)
{
    uint64_t after = 0; /* the net before */
    for (const struct miniproxy_net4 *end = net + count; net < end; net++) {
        uint32_t number = ip4_number(net->ip);
        if (net->bits > 32 || (number & ~ip4_mask(net->bits)) != 0 || number < after) return false;
        after = (uint64_t)(number | ~ip4_mask(net->bits)) + 1;
    }
    return true;
}

/* IPv4 networks also see the IPv4 address inside an IPv6 one: it is where the connection would end. */
static bool nets_match(const struct miniproxy_nets *nets, const struct miniproxy_addr *a)
{
    const uint8_t *ip4 = inner_ip4(a);
    return (ip4 != NULL && ip4_matches(nets, ip4_number(ip4))) || ip6_matches(nets, a);
}

bool miniproxy_addr_is_special(const struct miniproxy_addr *a)
{
    return nets_match(&miniproxy_special_purpose, a);
}

#if MINIPROXY_WITH_HOST_BLOBS

/* ---- blobs of host names ----
 *
 * examples/desktop/hostset.c makes them; this is all that another one needs to know. Numbers are little-endian, offsets
 * count from the blob's begin. The text of a name is the name backwards, each octet with bit 5 set (which is lower
 * case) and then XOR 3; "example.com" has BLOB_END behind it, ".example.com", without its dot, BLOB_BELOW. So
 * BLOB_BELOW comes first in the order of texts, BLOB_END second, '.' third, and nothing stands between ".example.com"
 * and a name below it but what it covers. Names that others cover are left out.
 *
 *    0  "mph1"
 *    4  CRC-32 (zlib's) of all that follows
 *    8  length of the blob, 32 bits
 *   12  count of names, 32 bits; nothing here needs it
 *   16  BLOB_EXACT or BLOB_HASHED
 *   17, 18, 20, 24: 8, 16, 32, 32 bits that the formats use as said below, or 0
 *
 * BLOB_EXACT. Sorted texts in blocks, without BLOB_BELOW, or without BLOB_END if [27] says so. All but the beginning
 * that it has in common with the text in front of it is written in words, an octet each; which dictionary they are from
 * depends on the octet in front of them.
 *
 *   28  for each octet of a text, 0..127, the dictionary (0, 1, …) used behind it; at the begin of a text that of '.'
 *  156  the dictionaries, each of [17] + 1 words: 16 bits a word, offset of its octets from [24]
 * [24]  (24 bits) octets of words; the last of each has its top bit set
 *  [27] 1: what ends without BLOB_END or BLOB_BELOW is one name alone; 0: with all names below it
 * [20]  offsets of the blocks from here, 24 bits each; [18] of them
 *       the blocks, without gaps. Each: length, one octet, and octets of a text that is greater than all texts of the
 *       block before and that the first of this one begins with; one octet, the base; then for every name
 *       - one octet: how much it has in common with the text before (for the first that is the block's own) less base,
 *         at most 15, times 16; plus how many octets follow, at most 15
 *       - if the latter is 15, one octet: how many follow that one
 *       - if the former is 15, one octet: how much more it has in common
 *       - its words
 *       one octet with its top bit set
 *
 * BLOB_HASHED. A binary fuse filter (Graf and Lemire 2022) of the texts' hashes: four slots each, the XOR of which is
 * the text's fingerprint. The text of ".example.com" ends without BLOB_BELOW here. Another text has it by chance, with
 * a probability of 2^-24. blob_hash and is_in_filter define the hash and what is taken from it.
 *
 *  [17] log2 of the slots of a segment: at most 31
 *  [20] seed of the hash
 *  [24] slots in all segments but three
 *   28  slots, 24 bits each
 *       one octet that means nothing
 *
 * Nothing but the CRC is checked beforehand. Lookups stay within blob_len whatever the blob says, and end. What lies
 * behind the blob's own length is not looked at.
 */
enum {
    BLOB_CRC = 4,
    BLOB_LEN = 8,
    BLOB_FORMAT = 16,
    BLOB_8 = 17,
    BLOB_16 = 18,
    BLOB_32 = 20,
    BLOB_24 = 24,
    BLOB_LAST_8 = 27,
    BLOB_HEADER = 28,
    BLOB_WORDS = BLOB_HEADER + 128,
    BLOB_EXACT = 1,
    BLOB_HASHED = 2,
    BLOB_SWAP = 3, /* '.' with '-' in the order of ASCII */
    BLOB_BELOW = 0x1f,
    BLOB_END = 0x20,
    BLOB_DOT = '.' ^ BLOB_SWAP
};

static unsigned blob_16(const uint8_t *p)
{
    return p[0] | (unsigned)p[1] << 8;
}

/* One instruction where the processor allows it. */
static uint32_t blob_32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* The octet behind it is in the blob, too. */
static uint32_t blob_24(const uint8_t *p)
{
    return blob_32(p) & 0xffffff;
}

/* A name to look up, without its trailing dot, and how much of it a text has in common with it. */
struct asked {
    const unsigned char *host;
    size_t len, same;
};

/* The octet in the text of a name that is behind the last but `left` of the name. */
#define ASKED_OCTET(host, left) ((left) > 0 ? ((host)[(left)-1] | 0x20u) ^ BLOB_SWAP : BLOB_END)

static size_t asked_left(const struct asked *name, size_t same)
{
    return same < name->len ? name->len - same : 0;
}

/* The dictionaries of a blob. */
struct words {
    const uint8_t *blob;
    uint32_t texts; /* offset of the octets of words */
    uint32_t last;  /* offset of the blob's last octet, which has its top bit set */
    unsigned each;  /* words of a dictionary */
};

/* Does a text match that goes on with words[0..count) behind what is the same? < 0: no, it is less than the name; 0: it
 * does; > 0: no, it is greater. */
OUTLINED static int match_words(const struct words *w, struct asked *name, const uint8_t *words, size_t count)
{
    const unsigned char *host = name->host;
    const uint8_t *blob = w->blob;
    size_t left = asked_left(name, name->same), same = name->same;
    unsigned octet = left < name->len ? (host[left] | 0x20u) ^ BLOB_SWAP : BLOB_DOT, theirs = octet;
    for (; count > 0 && theirs == octet; count--) {
        uint32_t at = BLOB_WORDS + 2 * (blob[BLOB_HEADER + (octet & 0x7f)] * w->each + *words++);
        const uint8_t *text;
        if (at >= w->texts) return 1;
        at = w->texts + blob_16(blob + at);
        if (at > w->last) return 1;
        text = blob + at;
        do { /* ends at w->last at the latest */
            octet = ASKED_OCTET(host, left);
            theirs = *text & 0x7fu;
            if (theirs != octet) break;
            same++;
            if (left > 0) left--;
        } while (*text++ < 0x80);
    }
    if (theirs == octet) {
        theirs = blob[BLOB_LAST_8] != 0 ? BLOB_END : BLOB_BELOW;
        octet = ASKED_OCTET(host, left);
    }
    name->same = same;
    return theirs == BLOB_BELOW && octet <= BLOB_DOT ? 0 : (int)theirs - (int)octet;
}

/* Is the name one of a block's? name->same says what it has in common with the block's text, which is not greater. */
OUTLINED static bool is_in_block(const struct words *w, struct asked *name, const uint8_t *p, const uint8_t *end)
{
    size_t base, more = 0, follow;
    unsigned least = 0,
             head; /* heads from `least` on have more in common with the one before than that with the name */
    if (end - p < *p + 2) return false;
    p += 1 + *p;
    base = *p++;
    for (; p < end; p += follow) {
        int difference;
        if (least == 0) {
            if (name->same < base) return false;
            more = name->same - base;
            least = more < 15 ? (unsigned)(more + 1) << 4 : 0x100;
        }
        head = *p++;
        follow = head & 15;
        if (follow == 15) follow = *p++;
        if (head >= least) continue; /* less, as the one before */
        if (end - p < (ptrdiff_t)follow) return false; /* p can be one past the end */
        head >>= 4;
        if (head == 15 && follow > 0) {
            head += *p++;
            follow--;
        }
        if (head < more) return false;
        if (head > more) continue;
        difference = match_words(w, name, p, follow);
        if (difference >= 0) return difference == 0;
        least = 0;
    }
    return false;
}

/* The block that the name can be in: the last whose text is not greater, or NULL. `size` octets from the index on.
 * *end: where the block ends. */
OUTLINED static const uint8_t *find_block(struct asked *name, const uint8_t *index, uint32_t count, uint32_t size,
                                          const uint8_t **block_end)
{
    const unsigned char *host = name->host;
    const uint8_t *block = NULL;
    uint32_t low = 0, high = count;
    size_t low_same = 0, high_same = 0;
    while (low < high) { /* a text between two others has in common with the name what both have, at least */
        uint32_t middle = (low + high) / 2, at = blob_24(index + 3 * middle);
        size_t same = low_same < high_same ? low_same : high_same, left = asked_left(name, same);
        const uint8_t *text = index + at, *octets;
        unsigned octet = 0;
        if (at >= size || *text >= size - at) return NULL;
        for (octets = text + 1 + same; same < *text; octets++) {
            octet = ASKED_OCTET(host, left);
            if (*octets != octet) break;
            same++;
            if (left > 0) left--;
        }
        if (same < *text && *octets > octet) {
            high = middle;
            high_same = same;
        } else {
            low = middle + 1;
            low_same = same;
            block = text;
        }
    }
    name->same = low_same;
    *block_end = index + (high < count ? blob_24(index + 3 * high) : size);
    return block;
}

static bool is_in_blocks(const struct miniproxy_hosts *hosts, struct asked *name)
{
    const uint8_t *index, *block, *end;
    uint32_t at = blob_32(hosts->blob + BLOB_32), size = hosts->blob_len - 1; /* without the octet that ends it */
    const struct words w = {hosts->blob, blob_24(hosts->blob + BLOB_24), size, hosts->blob[BLOB_8] + 1u};
    unsigned count = blob_16(hosts->blob + BLOB_16);
    if (w.texts < BLOB_WORDS || at < w.texts || at > size || size - at < 3 * count || w.blob[size] < 0x80) return false;
    index = w.blob + at;
    block = find_block(name, index, count, size - at, &end);
    return block != NULL && is_in_block(&w, name, block, end);
}

static uint64_t blob_hash(uint64_t hash, unsigned octet)
{
    return (hash ^ octet) * 0x9E3779B97F4A7C15u;
}

static bool is_in_filter(const struct miniproxy_hosts *hosts, uint64_t hash)
{
    const uint8_t *blob = hosts->blob;
    uint32_t segment = (uint32_t)1 << (blob[BLOB_8] & 31), slots = (hosts->blob_len - BLOB_HEADER - 1) / 3;
    uint32_t low, print, slot;
    uint64_t at;
    hash = (hash ^ hash >> 32) * 0xD6E8FEB86659FD93u;
    hash ^= hash >> 32;
    low = (uint32_t)hash;
    at = (hash >> 32) * blob_32(blob + BLOB_24) >> 32;
    print = (uint32_t)(hash * 0xD6E8FEB86659FD93u >> 40);
    for (unsigned i = 0; i < 4; i++, at += segment, low >>= 7) {
        slot = (uint32_t)at ^ (low & (segment - 1));
        if (slot >= slots) return false;
        print ^= blob_24(blob + BLOB_HEADER + 3 * slot);
    }
    return print == 0;
}

static bool is_hashed(const struct miniproxy_hosts *hosts, const struct asked *name)
{
    uint64_t hash = blob_32(hosts->blob + BLOB_32);
    for (size_t left = name->len;; left--) {
        unsigned octet = ASKED_OCTET(name->host, left);
        if (octet <= BLOB_DOT && is_in_filter(hosts, hash)) return true;
        hash = blob_hash(hash, octet);
        if (left == 0) break;
    }
    return is_in_filter(hosts, hash);
}

/* Octets of the blob, of which there is room for blob_len. 0: none. */
static uint32_t blob_used(const struct miniproxy_hosts *hosts)
{
    uint32_t used;
    if (hosts->blob == NULL || hosts->blob_len < BLOB_HEADER) return 0;
    used = blob_32(hosts->blob + BLOB_LEN);
    return used < hosts->blob_len ? used : hosts->blob_len;
}

static bool blob_matches(const struct miniproxy_hosts *hosts, const char *host, size_t len)
{
    struct asked name = {(const unsigned char *)host, len, 0};
    struct miniproxy_hosts used = {.blob = hosts->blob, .blob_len = blob_used(hosts)};
    if (used.blob_len <= BLOB_HEADER) return false;
    switch (hosts->blob[BLOB_FORMAT]) {
    case BLOB_EXACT: return is_in_blocks(&used, &name);
    case BLOB_HASHED: return is_hashed(&used, &name);
    default: return false;
    }
}

/* Four bits at a time: a table of all octets is 1 KB. */
static uint32_t crc32(const uint8_t *p, size_t len)
{
    static const uint32_t of_4_bits[16] = {0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4,
                                           0x4DB26158, 0x5005713C, 0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C,
                                           0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C};
    uint32_t crc = UINT32_MAX;
    for (; len > 0; len--) {
        crc ^= *p++;
        crc = crc >> 4 ^ of_4_bits[crc & 15];
        crc = crc >> 4 ^ of_4_bits[crc & 15];
    }
    return ~crc;
}

static bool is_sound_blob(const struct miniproxy_hosts *hosts)
{
    const uint8_t *blob = hosts->blob;
    uint32_t used = blob_used(hosts);
    return blob == NULL ||
           (used > BLOB_HEADER && memcmp(blob, "mph1", BLOB_CRC) == 0 && blob_32(blob + BLOB_LEN) == used &&
            (blob[BLOB_FORMAT] == BLOB_EXACT || blob[BLOB_FORMAT] == BLOB_HASHED) &&
            blob_32(blob + BLOB_CRC) == crc32(blob + BLOB_LEN, used - BLOB_LEN));
}

#else

static bool blob_matches(const struct miniproxy_hosts *hosts, const char *host, size_t len)
{
    (void)hosts, (void)host, (void)len;
    return false;
}

/* Nobody could look into it. */
static bool is_sound_blob(const struct miniproxy_hosts *hosts)
{
    return hosts->blob == NULL;
}

#endif

static bool hosts_match(const struct miniproxy_hosts *hosts, const char *host)
{
    size_t len = strlen(host), n;
    if (len > 0 && host[len - 1] == '.') len--;
    for (unsigned i = 0; i < hosts->count; i++) {
        const char *name = hosts->names[i];
        bool below = *name == '.';
        if (below) name++;
        n = strlen(name);
        if (n > len || !is_word((const unsigned char *)host + len - n, n, name)) continue;
        if (n == len || (below && host[len - n - 1] == '.')) return true;
    }
    return blob_matches(hosts, host, len);
}

/* An empty path is "/" (RFC 9110 section 4.2.3), also before a query. */
static bool begins_with(const char *path, size_t len, const char *prefix)
{
    size_t n;
    if ((len == 0 || *path != '/') && *prefix == '/') prefix++;
    n = strlen(prefix);
    return n <= len && memcmp(path, prefix, n) == 0;
}

static bool paths_match(const struct miniproxy_texts *paths, const struct miniproxy_question *q)
{
    for (unsigned i = 0; q->path != NULL && i < paths->count; i++)
        if (begins_with(q->path, q->path_len, paths->list[i])) return true;
    return false;
}

/* Port 0: is there one? */
static bool ports_match(const struct miniproxy_rule *r, const struct miniproxy_question *q)
{
    const struct miniproxy_ranges *ranges = r->also != NULL ? r->also->ports : NULL;
    if (q->port == 0) return true;
    for (unsigned i = 0; ranges != NULL && i < ranges->count; i++)
        if (q->port >= ranges->list[i].first && q->port <= ranges->list[i].last) return true;
    if (ranges != NULL) return false;
    if (r->port[0] != 0 || r->port[1] != 0) return q->port >= r->port[0] && q->port <= r->port[1];
    return r->verdict == MINIPROXY_DENY || q->method != MINIPROXY_CONNECT || q->port == MINIPROXY_CONNECT_PORT;
}

static bool clients_match(const struct miniproxy_rule *r, const struct miniproxy_question *q)
{
    return r->clients == NULL || nets_match(r->clients, q->client);
}

/* Whether a rule covers a request, its address and user left aside. */
static bool covers_request(const struct miniproxy_rule *r, const struct miniproxy_question *q)
{
    if (r->methods != 0 && (r->methods & q->method) == 0) return false;
    if (r->literal && !q->literal) return false;
    if (!ports_match(r, q) || (!r->either && !clients_match(r, q))) return false;
    if (r->hosts != NULL && (q->literal || !hosts_match(r->hosts, q->host))) return false;
    return r->also == NULL || r->also->paths == NULL || paths_match(r->also->paths, q);
}

static bool covers_user(const struct miniproxy_rule *r, const struct miniproxy_question *q)
{
    unsigned groups = q->user != NULL ? q->user->groups | MINIPROXY_AUTHENTICATED : 0;
    return r->users == 0 || (r->users & groups) != 0 || (r->either && clients_match(r, q));
}

enum covers { COVERS_NOT, COVERS_PERHAPS, COVERS };

#if MINIPROXY_WITH_PAGES

static bool is_page(const struct miniproxy_question *q)
{
    return q->method == MINIPROXY_PAGES;
}

/* Pages have no host, no address and no port: rules that ask for one are not about them. An ALLOW that names no methods
 * does not open them either: who wrote it thought of origins. */
static enum covers covers_page(const struct miniproxy_rule *r)
{
    bool has_port = r->port[0] != 0 || r->port[1] != 0 || (r->also != NULL && r->also->ports != NULL);
    if (r->methods == 0 && r->verdict == MINIPROXY_ALLOW) return COVERS_NOT;
    return r->hosts == NULL && r->to == NULL && !r->literal && !has_port ? COVERS : COVERS_NOT;
}

#else

static bool is_page(const struct miniproxy_question *q)
{
    (void)q;
    return false;
}

static enum covers covers_page(const struct miniproxy_rule *r)
{
    (void)r;
    return COVERS_NOT;
}

#endif

#if MINIPROXY_WITH_CONDITIONS

static bool agents_match(const struct miniproxy_texts *agents, const struct miniproxy_question *q)
{
    for (unsigned i = 0; q->agent != NULL && i < agents->count; i++) {
        size_t len = strlen(agents->list[i]);
        for (size_t at = 0; at + len <= q->agent_len; at++)
            if (is_word((const unsigned char *)q->agent + at, len, agents->list[i])) return true;
    }
    return false;
}

static const struct miniproxy_texts *types_of(const struct miniproxy_rule *r)
{
    return r->also != NULL ? r->also->types : NULL;
}

/* Parameters of the type are left aside (RFC 9110 section 8.3.1). With a comma it may be a list: which member a client
 * goes by is not known, so every DENY matches it and no ALLOW does. Byte ranges are parts of a type of their own each,
 * and whoever asks for two gets them of anything: every DENY matches these too. */
static bool types_match(const struct miniproxy_rule *r, const char *type, size_t type_len)
{
    const struct miniproxy_texts *types = types_of(r);
    const unsigned char *p = (const unsigned char *)type;
    size_t len = 0;
    if (type_len > 0 && memchr(type, ',', type_len) != NULL) return r->verdict == MINIPROXY_DENY;
    while (len < type_len && p[len] != ';' && !is_blank(p[len])) len++;
    if (r->verdict == MINIPROXY_DENY && is_word(p, len, "multipart/byteranges")) return true;
    for (unsigned i = 0; i < types->count; i++) {
        const char *known = types->list[i];
        size_t known_len = strlen(known);
        bool all_of_it = known_len > 0 && known[known_len - 1] == '/';
        if ((all_of_it ? len >= known_len : len == known_len) && is_word(p, known_len, known)) return true;
    }
    return false;
}

static bool times_match(const struct miniproxy_times *times, const struct miniproxy_rule *r, int week_minute)
{
    unsigned day = (unsigned)week_minute / 1440, minute = (unsigned)week_minute % 1440;
    if (week_minute < 0) return r->verdict == MINIPROXY_DENY;
    for (unsigned i = 0; i < times->count; i++) {
        const struct miniproxy_time *t = times->list + i;
        bool today = (t->days >> day & 1u) != 0, yesterday = (t->days >> (day + 6) % 7 & 1u) != 0;
        if (t->from < t->to ? today && minute >= t->from && minute < t->to
                            : (today && minute >= t->from) || (yesterday && minute < t->to))
            return true;
    }
    return false;
}

/* User agent and time. */
static bool covers_conditions(const struct miniproxy_rule *r, const struct miniproxy_question *q)
{
    const struct miniproxy_also *also = r->also;
    if (also == NULL) return true;
    if (also->agents != NULL && !agents_match(also->agents, q)) return false;
    return also->times == NULL || times_match(also->times, r, q->minute_of_week);
}

static enum covers covers_type(const struct miniproxy_rule *r, const struct miniproxy_question *q)
{
    if (types_of(r) == NULL) return COVERS;
    if (q->method == MINIPROXY_CONNECT || is_page(q)) return COVERS_NOT;
    if (q->type == NULL) return COVERS_PERHAPS;
    return types_match(r, q->type, q->type_len) ? COVERS : COVERS_NOT;
}

static bool are_sound_types(const struct miniproxy_policy *policy)
{
    unsigned count = 0;
    for (unsigned i = 0; i < policy->rule_count; i++) count += types_of(policy->rules + i) != NULL;
    return count <= MINIPROXY_TYPE_RULES;
}

#else

static bool covers_conditions(const struct miniproxy_rule *r, const struct miniproxy_question *q)
{
    (void)r, (void)q;
    return true;
}

static enum covers covers_type(const struct miniproxy_rule *r, const struct miniproxy_question *q)
{
    (void)r, (void)q;
    return COVERS;
}

static bool are_sound_types(const struct miniproxy_policy *policy)
{
    (void)policy;
    return true;
}

#endif

#if MINIPROXY_WITH_ROUTES

/* What a name leads to is found by somebody else. Of localhost one knows without asking (RFC 6761 section 6.3). */
static enum covers covers_remote(const struct miniproxy_rule *r, const struct miniproxy_question *q)
{
    static const char *const names[] = {".localhost"};
    static const struct miniproxy_hosts local = {.names = names, .count = 1};
    if (r->to != NULL) return COVERS_NOT;
    return r->verdict == MINIPROXY_DENY || r->special_purpose || !hosts_match(&local, q->host) ? COVERS : COVERS_NOT;
}

static bool is_remote(const struct miniproxy_question *q)
{
    return q->remote && q->address == NULL;
}

#else

static enum covers covers_remote(const struct miniproxy_rule *r, const struct miniproxy_question *q)
{
    (void)r, (void)q;
    return COVERS_NOT;
}

static bool is_remote(const struct miniproxy_question *q)
{
    (void)q;
    return false;
}

#endif

static enum covers covers_address(const struct miniproxy_rule *r, const struct miniproxy_question *q)
{
    bool special_too = r->verdict == MINIPROXY_DENY || r->special_purpose;
    if (is_remote(q)) return covers_remote(r, q);
    if (q->address == NULL) return r->to == NULL && special_too ? COVERS : COVERS_PERHAPS;
    if (r->to != NULL && !nets_match(r->to, q->address)) return COVERS_NOT;
    return special_too || !miniproxy_addr_is_special(q->address) ? COVERS : COVERS_NOT;
}

/* Whether a rule covers a request, its user left aside. */
static enum covers covers(const struct miniproxy_rule *r, const struct miniproxy_question *q)
{
    enum covers address, type;
    if (!covers_request(r, q) || !covers_conditions(r, q)) return COVERS_NOT;
    address = is_page(q) ? covers_page(r) : covers_address(r, q);
    type = covers_type(r, q);
    return address < type ? address : type;
}

/* Could a client become a user in one of these groups, by logging in or, if `proofs` count, by what the port knows of
 * it? */
static bool could_be_user(const struct miniproxy_policy *policy, unsigned groups, bool proofs)
{
    for (unsigned i = 0; i < policy->user_count; i++) {
        const struct miniproxy_user *user = policy->users + i;
        if ((groups & (user->groups | MINIPROXY_AUTHENTICATED)) == 0) continue;
        if (proofs || user->password != NULL || user->digest != NULL) return true;
    }
    return false;
}

/* *at: the rule that denies or allows for certain; of NEEDS_USER, the rule that a user might be allowed by; of NEEDS_TYPE,
 * the rule that allows a response without content, which has no type to deny it for. */
static enum miniproxy_verdict walk(const struct miniproxy_policy *policy, const struct miniproxy_question *q, int *at,
                                   bool proofs)
{
    bool perhaps_denied = false, asks = false;
    for (int i = 0; i < policy->rule_count; i++) {
        const struct miniproxy_rule *r = policy->rules + i;
        enum covers it = covers(r, q);
        if (it == COVERS_NOT) continue;
        if (!covers_user(r, q)) {
            if (asks || !MINIPROXY_WITH_AUTH || q->user != NULL || r->verdict == MINIPROXY_DENY) continue;
            if (!could_be_user(policy, r->users, proofs)) continue;
            asks = true;
            *at = i;
        } else if (r->verdict == MINIPROXY_ALLOW) {
            *at = i;
            if (it == COVERS && !perhaps_denied) return MINIPROXY_ALLOWED;
            if (!MINIPROXY_WITH_CONDITIONS || (q->address == NULL && !is_remote(q))) {
                *at = -1;
                return MINIPROXY_NEEDS_ADDRESS;
            }
            return MINIPROXY_NEEDS_TYPE;
        } else if (it == COVERS) {
            if (!asks) *at = i;
            break;
        } else {
            perhaps_denied = true; /* if nothing allows later on it is denied anyway, and no name is resolved for it */
        }
    }
    return asks ? MINIPROXY_NEEDS_USER : MINIPROXY_DENIED;
}

enum miniproxy_verdict miniproxy_decide(const struct miniproxy_policy *policy, const struct miniproxy_question *q,
                                        int *rule)
{
    int at = -1;
    enum miniproxy_verdict verdict = policy != NULL ? walk(policy, q, &at, false) : MINIPROXY_DENIED;
    if (rule != NULL) *rule = at;
    return verdict;
}

static bool is_sound_nets(const struct miniproxy_nets *nets)
{
    return nets == NULL || (is_sound_ip4(nets->v4, nets->v4_count) && is_sound_ip6(nets->v6, nets->v6_count));
}

#if MINIPROXY_WITH_ROUTES

enum { ROUTE_DIRECT = -1, ROUTE_NEEDS_ADDRESS = -2 };

static bool is_proxy(const struct miniproxy_hop *hop)
{
    return hop->kind == MINIPROXY_HOP_PROXY;
}

static bool is_group(const struct miniproxy_hop *hop)
{
    return hop->kind == MINIPROXY_HOP_ORIGIN;
}

/* A login for SOCKS5 has a name and a password of 1..255 octets (RFC 1929 section 2). */
static bool is_sound_login(const struct miniproxy_hop *hop)
{
    const char *colon;
    if (hop->login == NULL) return true;
    colon = memchr(hop->login, ':', strlen(hop->login));
    if (colon == NULL || is_group(hop) || strlen(hop->login) > MINIPROXY_CREDENTIALS_MAX) return false;
    return is_proxy(hop) || (colon > hop->login && colon[1] != '\0');
}

static bool is_sound_hop(const struct miniproxy_hop *hop)
{
    size_t len = strlen(hop->host);
    if (hop->kind > MINIPROXY_HOP_ORIGIN || hop->port == 0 || len == 0 || len > HOST_MAX) return false;
    if (hop->secure && (!MINIPROXY_WITH_TLS || !is_proxy(hop))) return false;
    if (hop->check != NULL && strlen(hop->check) + sizeof "HEAD  HTTP/1.0\r\n\r\n" > MINIPROXY_HEAD_MAX) return false;
    return is_sound_login(hop);
}

static bool is_sound_route(const struct miniproxy_policy *policy, const struct miniproxy_route *r)
{
    unsigned groups = 0;
    if (!is_sound_nets(r->clients) || !is_sound_nets(r->to) || (r->hosts != NULL && !is_sound_blob(r->hosts)))
        return false;
    if (r->count > MINIPROXY_ROUTE_HOPS || r->first + r->count > policy->hop_count) return false;
    for (unsigned i = 0; i < r->count; i++) groups += is_group(policy->hops + r->first + i);
    return groups == 0 || groups == r->count;
}

static bool are_sound_routes(const struct miniproxy_policy *policy)
{
    for (unsigned i = 0; i < policy->hop_count; i++)
        if (!is_sound_hop(policy->hops + i)) return false;
    for (unsigned i = 0; i < policy->route_count; i++)
        if (!is_sound_route(policy, policy->routes + i)) return false;
    return policy->hop_count == 0 || policy->health != NULL;
}

int miniproxy_find_route(const struct miniproxy_policy *policy, const struct miniproxy_question *q)
{
    unsigned groups = q->user != NULL ? q->user->groups | MINIPROXY_AUTHENTICATED : 0;
    for (int i = 0; i < policy->route_count; i++) {
        const struct miniproxy_route *r = policy->routes + i;
        if (r->clients != NULL && !nets_match(r->clients, q->client)) continue;
        if (r->users != 0 && (r->users & groups) == 0) continue;
        if (r->hosts != NULL && (q->literal || !hosts_match(r->hosts, q->host))) continue;
        if (r->to == NULL) return i;
        if (q->address == NULL) return ROUTE_NEEDS_ADDRESS;
        if (nets_match(r->to, q->address)) return i;
    }
    return ROUTE_DIRECT;
}

#else

static bool are_sound_routes(const struct miniproxy_policy *policy)
{
    (void)policy;
    return true;
}

#endif

#if MINIPROXY_WITH_LIMITS

static bool are_sound_limits(const struct miniproxy_policy *policy)
{
    for (unsigned i = 0; i < policy->limit_count; i++)
        if (!is_sound_nets(policy->limits[i].clients) || policy->limits[i].share > MINIPROXY_ALL_TOGETHER) return false;
    return true;
}

#else

static bool are_sound_limits(const struct miniproxy_policy *policy)
{
    (void)policy;
    return true;
}

#endif

int miniproxy_check_policy(const struct miniproxy_policy *policy)
{
    const struct miniproxy_rule *r = policy->rules;
    for (int i = 0; i < policy->rule_count; i++, r++)
        if (!is_sound_nets(r->clients) || !is_sound_nets(r->to) || (r->hosts != NULL && !is_sound_blob(r->hosts)))
            return i;
    return are_sound_types(policy) && are_sound_routes(policy) && are_sound_limits(policy) ? -1 : 0;
}

#if MINIPROXY_WITH_AUTH

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

static int base64_value(unsigned char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (is_digit(c)) return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Decode in place. Strict: complete groups, padding, no stray bits (RFC 4648 section 3.5), so that there is one text
 * for one secret. Returns the number of octets, 0 when the text is malformed. */
static size_t decode_base64(unsigned char *text, size_t len)
{
    size_t n = 0, pad = 0;
    uint32_t bits = 0;
    if (len == 0 || len % 4 != 0) return 0;
    while (pad < 2 && text[len - 1 - pad] == '=') pad++;
    for (size_t i = 0; i < len - pad; i++) {
        int value = base64_value(text[i]);
        if (value < 0) return 0;
        bits = bits << 6 | (uint32_t)value;
        if (i % 4 > 0) text[n++] = (unsigned char)(bits >> (6 - 2 * (i % 4)));
    }
    return (bits & ((1u << 2 * pad) - 1)) == 0 ? n : 0;
}

/* Every user is looked at, whoever is found. */
static const struct miniproxy_user *find_user(const struct miniproxy_policy *policy, const unsigned char *name,
                                              size_t len)
{
    const struct miniproxy_user *found = NULL;
    for (unsigned i = 0; policy != NULL && i < policy->user_count; i++) {
        const struct miniproxy_user *user = policy->users + i;
        if (strlen(user->name) == len && memcmp(user->name, name, len) == 0) found = user;
    }
    return found;
}

/* "name:password", decoded where it stands in a head; in front there is room for a salt: the field's name and the
 * scheme have left it. */
struct credentials {
    unsigned char *name, *password, *end;
};

#if MINIPROXY_WITH_SOCKS5

/* Those in a SOCKS5 login (RFC 1929), complete: version, length, name, length, password. A colon takes the place of the
 * second length. The version is no octet of a field's value. */
static bool is_socks_login(const unsigned char *value, size_t len)
{
    return len > 0 && *value == 1;
}

static bool read_socks_login(struct credentials *c, unsigned char *value, size_t len)
{
    unsigned char *name = value + 2, *colon = name + value[1], *end = value + len, *p;
    *colon = ':';
    for (p = name; p < end && *p >= 0x20 && *p != 0x7f; p++) {}
    if (p < end || end - name > MINIPROXY_CREDENTIALS_MAX || memchr(name, ':', (size_t)(end - name)) != colon) {
        wipe(value, len);
        return false;
    }
    c->name = name;
    c->password = colon + 1;
    c->end = end;
    return true;
}

#else

static bool is_socks_login(const unsigned char *value, size_t len)
{
    (void)value, (void)len;
    return false;
}

static bool read_socks_login(struct credentials *c, unsigned char *value, size_t len)
{
    (void)c, (void)value, (void)len;
    return false;
}

#endif

/* The credentials in a Proxy-Authorization value (RFC 7617 section 2), decoded in place: nothing else is left of the
 * text. False: there are none, and nothing is left at all. */
static bool read_credentials(struct credentials *c, unsigned char *value, size_t len)
{
    unsigned char *name = value + 5, *end = value + len, *p;
    unsigned char *colon = NULL;
    if (is_socks_login(value, len)) return read_socks_login(c, value, len);
    if (len < 6 || !is_word(value, 5, "basic") || *name != ' ') return false;
    while (name < end && *name == ' ') name++;
    len = decode_base64(name, (size_t)(end - name));
    for (p = name; p < name + len && *p >= 0x20 && *p != 0x7f; p++) {}
    if (len <= MINIPROXY_CREDENTIALS_MAX && p == name + len) colon = memchr(name, ':', len);
    if (colon == NULL) p = name;
    wipe(p, (size_t)(end - p));
    if (colon == NULL) return false;
    c->name = name;
    c->password = colon + 1;
    c->end = p;
    return true;
}

static void wipe_credentials(struct credentials *c)
{
    unsigned char *salt = c->name - MINIPROXY_SALT_LEN;
    wipe(salt, (size_t)(c->end - salt));
}

static const uint8_t no_digest[MINIPROXY_SALT_LEN + MINIPROXY_DIGEST_LEN] = {0};

static const uint8_t *digest_of(const struct miniproxy_user *user)
{
    return user != NULL && user->digest != NULL ? user->digest : no_digest;
}

/* SHA-256 of the salt and the credentials, which stand together for that. */
static void hash_credentials(const struct miniproxy_config *config, const uint8_t *salt, const struct credentials *c,
                             uint8_t hash[MINIPROXY_DIGEST_LEN])
{
    unsigned char *salted = c->name - MINIPROXY_SALT_LEN;
    memset(hash, 0, MINIPROXY_DIGEST_LEN);
    memcpy(salted, salt, MINIPROXY_SALT_LEN);
    if (config->sha256 != NULL) config->sha256(hash, salted, (size_t)(c->end - salted));
}

/* Hashes and compares even where there is nothing to compare with: time must not tell which names exist, nor how long a
 * password in clear is. The hash is left in hash. */
static bool right_password(const struct miniproxy_config *config, const struct miniproxy_user *user,
                           const struct credentials *c, uint8_t hash[MINIPROXY_DIGEST_LEN])
{
    const uint8_t *digest = digest_of(user);
    const char *clear = user != NULL ? user->password : NULL;
    size_t len = (size_t)(c->end - c->password);
    bool right, same_len = clear != NULL && strlen(clear) == len;
    hash_credentials(config, digest, c, hash);
    right = equal_secrets(hash, digest + MINIPROXY_SALT_LEN, MINIPROXY_DIGEST_LEN) && config->sha256 != NULL;
    if (digest != no_digest) return right;
    return equal_secrets(c->password, same_len ? (const void *)clear : c->password, len) && same_len;
}

/* An IPv6 client is its /64: it can have any address there. */
static bool same_client(const struct miniproxy_addr *a, const struct miniproxy_addr *b)
{
    const uint8_t *x = plain_ip4(a), *y = plain_ip4(b);
    if (x == NULL && y == NULL) return memcmp(a->ip, b->ip, MINIPROXY_IP_LEN / 2) == 0;
    return x != NULL && y != NULL && memcmp(x, y, 4) == 0;
}

/* A client's failures in a row, or NULL; drops those that time has forgiven. Ages have no sign: in a table that nobody
 * looks at for weeks an entry can look young only a whole turn of the clock later, and for one THROTTLE. */
static struct miniproxy_failures *find_failures(struct miniproxy *p, const struct miniproxy_addr *client)
{
    struct miniproxy_failures *found = NULL;
    for (unsigned i = 0; i < MINIPROXY_THROTTLE_CLIENTS; i++) {
        struct miniproxy_failures *f = p->failures + i;
        if (p->now_ms - f->since_ms >= p->config.timeout_ms[MINIPROXY_TIMEOUT_THROTTLE]) f->count = 0;
        if (f->count > 0 && same_client(&f->client, client)) found = f;
    }
    return found;
}

static bool throttled(struct miniproxy *p, const struct miniproxy_addr *client)
{
    const struct miniproxy_failures *f = find_failures(p, client);
    return f != NULL && f->count >= MINIPROXY_THROTTLE_FAILURES;
}

static void note_failure(struct miniproxy *p, const struct miniproxy_addr *client)
{
    struct miniproxy_failures *f = find_failures(p, client);
    if (f == NULL) {
        f = p->failures; /* a free one, else the oldest */
        for (struct miniproxy_failures *other = f; other < p->failures + MINIPROXY_THROTTLE_CLIENTS; other++)
            if (f->count > 0 && (other->count == 0 || p->now_ms - other->since_ms > p->now_ms - f->since_ms)) f = other;
        f->client = *client;
        f->count = 0;
    }
    f->since_ms = p->now_ms;
    if (f->count < UINT8_MAX) f->count++;
}

static void forget_failures(struct miniproxy *p, const struct miniproxy_addr *client)
{
    struct miniproxy_failures *f = find_failures(p, client);
    if (f != NULL) f->count = 0;
}

#if MINIPROXY_WITH_PBKDF2

/* ---- passwords that take long: the first check is all there is for logins that are remembered and users without
 * rounds; the others queue (section 8), and one at a time is computed in slices ---- */

static bool has_rounds(const struct miniproxy_user *user)
{
    return user != NULL && user->digest != NULL && user->rounds > 0;
}

/* A failed login costs as many rounds as the policy's costliest password, whoever it is that was guessed at. */
static uint32_t most_rounds(const struct miniproxy_policy *policy)
{
    uint32_t most = 0;
    for (unsigned i = 0; i < policy->user_count; i++)
        if (has_rounds(policy->users + i) && policy->users[i].rounds > most) most = policy->users[i].rounds;
    return most;
}

/* What stands for these credentials of this user: it tells nothing without the secret, and is another one when the
 * user's entry is. hash is that of hash_credentials. */
static void make_tag(const struct miniproxy_config *config, const struct miniproxy_user *user,
                     const uint8_t hash[MINIPROXY_DIGEST_LEN], uint32_t tag[4])
{
    unsigned char text[MINIPROXY_SECRET_LEN + MINIPROXY_DIGEST_LEN + sizeof no_digest + 4], *w = text;
    uint8_t digest[MINIPROXY_DIGEST_LEN];
    uint32_t rounds = has_rounds(user) ? user->rounds : 0;
    memset(tag, 0, 4 * sizeof *tag);
    if (config->secret == NULL || config->sha256 == NULL) return;
    w = put_bytes(w, config->secret, MINIPROXY_SECRET_LEN);
    w = put_bytes(w, hash, MINIPROXY_DIGEST_LEN);
    w = put_bytes(w, digest_of(user), sizeof no_digest);
    put_bytes(w, (const unsigned char *)&rounds, sizeof rounds);
    config->sha256(digest, text, sizeof text);
    memcpy(tag, digest, 4 * sizeof *tag);
    wipe(text, sizeof text);
    wipe(digest, sizeof digest);
}

/* Is this login remembered? Then it becomes the one that is forgotten last. A tag of zeros is that of an
 * unused place, or one made without a secret. */
static bool recall(struct miniproxy *p, const uint32_t tag[4])
{
    unsigned i;
    if ((tag[0] | tag[1] | tag[2] | tag[3]) == 0) return false;
    for (i = 0; i < MINIPROXY_LOGIN_CACHE; i++) {
        const uint32_t *known = p->known[i];
        if (((known[0] ^ tag[0]) | (known[1] ^ tag[1]) | (known[2] ^ tag[2]) | (known[3] ^ tag[3])) == 0) break;
    }
    if (i == MINIPROXY_LOGIN_CACHE) return false;
    memmove(p->known + 1, p->known, i * sizeof *p->known);
    memcpy(p->known, tag, sizeof *p->known);
    return true;
}

static void remember(struct miniproxy *p, const uint32_t tag[4])
{
    memmove(p->known + 1, p->known, (MINIPROXY_LOGIN_CACHE - 1) * sizeof *p->known);
    memcpy(p->known, tag, sizeof *p->known);
}

/* The user, if one of the name is there and the password is right at first sight or remembered; what was found of the
 * user, and the tag, for the rest of the check. */
OUTLINED static bool check_first(struct miniproxy *p, const struct miniproxy_policy *policy,
                                 const struct credentials *c, const struct miniproxy_user **user, uint32_t tag[4])
{
    uint8_t hash[MINIPROXY_DIGEST_LEN];
    bool right;
    *user = find_user(policy, c->name, (size_t)(c->password - 1 - c->name));
    right = right_password(&p->config, *user, c, hash);
    make_tag(&p->config, *user, hash, tag);
    wipe(hash, sizeof hash);
    return has_rounds(*user) ? recall(p, tag) : right;
}

/* Who asks with these credentials: *user, or a cause to refuse; MORE: that takes longer. Then *login spans them. */
static enum miniproxy_cause log_in(struct miniproxy *p, const struct miniproxy_policy *policy,
                                   const struct miniproxy_addr *client, struct miniproxy_buffer *b, struct span *login,
                                   const struct miniproxy_user **user)
{
    struct credentials c;
    const struct miniproxy_user *found;
    uint32_t tag[4];
    bool right = false;
    if (throttled(p, client)) return MINIPROXY_CAUSE_LOGIN_THROTTLED;
    if (read_credentials(&c, b->u.data + login->at, login->len)) {
        right = check_first(p, policy, &c, &found, tag);
        if (!right && p->config.pbkdf2 != NULL && most_rounds(policy) > 0) {
            *login = span_of(b, c.name, (size_t)(c.end - c.name));
            return MORE;
        }
        wipe_credentials(&c);
    }
    if (!right) {
        note_failure(p, client);
        return MINIPROXY_CAUSE_LOGIN_FAILED;
    }
    forget_failures(p, client);
    *user = found;
    return MINIPROXY_CAUSE_NONE;
}

/* The turn of a login has come. Guesses that came together get no more tries than those that came one by one, and who
 * sent the same credentials several times is known after the first. */
static void begin_login(struct miniproxy *p, const struct miniproxy_policy *policy,
                        const struct miniproxy_addr *client, struct miniproxy_buffer *b, struct span login)
{
    struct miniproxy_login *l = &p->login;
    struct credentials c = {.name = b->u.data + login.at, .end = b->u.data + login.at + login.len};
    c.password = (unsigned char *)memchr(c.name, ':', login.len) + 1;
    l->is_begun = true;
    l->cause = MINIPROXY_CAUSE_LOGIN_THROTTLED;
    if (throttled(p, client)) return;
    l->cause = MINIPROXY_CAUSE_NONE;
    if (check_first(p, policy, &c, &l->user, l->tag)) return;
    l->cause = MORE;
    l->most = most_rounds(policy);
    l->done = 1;
    if (!has_rounds(l->user)) l->user = NULL;
    p->config.pbkdf2->begin(&l->state, c.password, (size_t)(c.end - c.password), digest_of(l->user),
                            MINIPROXY_SALT_LEN);
}

/* Do one slice. NONE: right; FAILED; MORE: not known yet. */
static void go_on_login(struct miniproxy *p)
{
    struct miniproxy_login *l = &p->login;
    uint32_t goal = l->user != NULL && l->done <= l->user->rounds ? l->user->rounds : l->most;
    uint32_t n = goal - l->done;
    uint8_t digest[MINIPROXY_DIGEST_LEN];
    if (n > MINIPROXY_PBKDF2_SLICE) n = MINIPROXY_PBKDF2_SLICE;
    if (n > 0) p->config.pbkdf2->go_on(&l->state, n);
    l->done += n;
    if (l->done < goal) return;
    p->config.pbkdf2->conclude(&l->state, digest);
    if (l->user != NULL && l->done == l->user->rounds &&
        equal_secrets(digest, l->user->digest + MINIPROXY_SALT_LEN, sizeof digest)) {
        remember(p, l->tag);
        l->cause = MINIPROXY_CAUSE_NONE;
    } else if (l->done == l->most) {
        l->cause = MINIPROXY_CAUSE_LOGIN_FAILED;
    } else {
        l->user = NULL; /* wrong, and the rest is only to take time */
    }
    wipe(digest, sizeof digest);
}

#else /* every password is checked at once */

/* The user whose credentials a Proxy-Authorization value holds, or NULL. They are wiped afterwards. */
OUTLINED static const struct miniproxy_user *check_login(const struct miniproxy_config *config,
                                                         const struct miniproxy_policy *policy, unsigned char *value,
                                                         size_t len)
{
    struct credentials c;
    const struct miniproxy_user *user;
    uint8_t hash[MINIPROXY_DIGEST_LEN];
    if (!read_credentials(&c, value, len)) return NULL;
    user = find_user(policy, c.name, (size_t)(c.password - 1 - c.name));
    if (!right_password(config, user, &c, hash)) user = NULL;
    wipe(hash, sizeof hash);
    wipe_credentials(&c);
    return user;
}

/* Who asks with these credentials: *user, or a cause to refuse. */
static enum miniproxy_cause log_in(struct miniproxy *p, const struct miniproxy_policy *policy,
                                   const struct miniproxy_addr *client, struct miniproxy_buffer *b, struct span *login,
                                   const struct miniproxy_user **user)
{
    if (throttled(p, client)) return MINIPROXY_CAUSE_LOGIN_THROTTLED;
    *user = check_login(&p->config, policy, b->u.data + login->at, login->len);
    if (*user == NULL) {
        note_failure(p, client);
        return MINIPROXY_CAUSE_LOGIN_FAILED;
    }
    forget_failures(p, client);
    return MINIPROXY_CAUSE_NONE;
}

#endif

#else /* without authentication nobody is known */

static enum miniproxy_cause log_in(struct miniproxy *p, const struct miniproxy_policy *policy,
                                   const struct miniproxy_addr *client, struct miniproxy_buffer *b, struct span *login,
                                   const struct miniproxy_user **user)
{
    (void)p, (void)policy, (void)client, (void)b, (void)login;
    *user = NULL;
    return MINIPROXY_CAUSE_NONE;
}

#endif

/* ==== 7  Replies =================================================================================== */

/* Texts stand one behind the other: no pointer to each, and a walk only when something goes wrong. */
static const char *nth_text(const char *texts, unsigned n)
{
    while (n-- > 0) texts += strlen(texts) + 1;
    return texts;
}

enum error_type {
    TYPE_none,
#define X(type) TYPE_##type,
    MINIPROXY_ERROR_TYPES(X)
#undef X
};

enum { NO_STATUS = 399 }; /* a status less this fits in an octet */

static const struct {
    uint8_t status; /* less NO_STATUS, 0: none */
    uint8_t type;   /* enum error_type */
} causes[] = {
#define X(NAME, status, type, token, text) {(uint8_t)(status > 0 ? status - NO_STATUS : 0), TYPE_##type},
    MINIPROXY_CAUSES(X)
#undef X
};

const char *miniproxy_cause_token(enum miniproxy_cause cause)
{
    static const char tokens[] =
#define X(NAME, status, type, token, text) token "\0"
        MINIPROXY_CAUSES(X);
#undef X
    return nth_text(tokens, cause);
}

const char *miniproxy_cause_type(enum miniproxy_cause cause)
{
    static const char types[] = "\0"
#define X(type) #type "\0"
        MINIPROXY_ERROR_TYPES(X);
#undef X
    return nth_text(types, causes[cause].type);
}

unsigned miniproxy_cause_status(enum miniproxy_cause cause)
{
    return causes[cause].status == 0 ? 0 : causes[cause].status + NO_STATUS;
}

#if MINIPROXY_WITH_TEXTS
static const char *cause_text(enum miniproxy_cause cause)
{
    /* too long for one string literal */
    static const struct {
#define X(NAME, status, type, token, text) char of_##NAME[sizeof text];
        MINIPROXY_CAUSES(X)
#undef X
    } texts = {
#define X(NAME, status, type, token, text) text,
        MINIPROXY_CAUSES(X)
#undef X
    };
    return nth_text((const char *)&texts, cause);
}
#else
static const char *cause_text(enum miniproxy_cause cause)
{
    (void)cause;
    return "";
}
#endif

#if MINIPROXY_WITH_PAGES
#define PAGE_STATUSES 401 - NO_STATUS, 404 - NO_STATUS,
#define PAGE_PHRASES "Unauthorized\0Not Found\0"
#else
#define PAGE_STATUSES
#define PAGE_PHRASES ""
#endif

static const char *status_phrase(unsigned status)
{
    static const uint8_t known[] = {PAGE_STATUSES 400 - NO_STATUS, 403 - NO_STATUS, 405 - NO_STATUS, 407 - NO_STATUS,
                                    408 - NO_STATUS, 413 - NO_STATUS, 414 - NO_STATUS, 417 - NO_STATUS,
                                    429 - NO_STATUS, 431 - NO_STATUS, 500 - NO_STATUS, 501 - NO_STATUS,
                                    502 - NO_STATUS, 503 - NO_STATUS, 504 - NO_STATUS, 505 - NO_STATUS};
    static const char phrases[] = PAGE_PHRASES "Bad Request\0Forbidden\0Method Not Allowed\0Proxy Authentication Required\0"
                                  "Request Timeout\0Content Too Large\0URI Too Long\0Expectation Failed\0"
                                  "Too Many Requests\0Request Header Fields Too Large\0Internal Server Error\0"
                                  "Not Implemented\0Bad Gateway\0Service Unavailable\0Gateway Timeout\0"
                                  "HTTP Version Not Supported\0OK";
    unsigned i = 0;
    while (i < sizeof known && known[i] + NO_STATUS != (int)status) i++;
    return nth_text(phrases, i);
}

#define ALLOWED_METHODS "Allow: GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH, CONNECT\r\n"

#if MINIPROXY_WITH_PAGES
static const char *allowed_methods(enum miniproxy_cause cause)
{
    return cause == MINIPROXY_CAUSE_PAGE_METHOD ? "Allow: GET, HEAD\r\n" : ALLOWED_METHODS;
}
#else
static const char *allowed_methods(enum miniproxy_cause cause)
{
    (void)cause;
    return ALLOWED_METHODS;
}
#endif

/* ---- Maintenance ---- */

#if MINIPROXY_WITH_MAINTENANCE

void miniproxy_maintain(struct miniproxy *p, const char *message)
{
    p->maintenance = message;
}

/* The message, or NULL: there is none. */
static const char *maintenance(const struct miniproxy *p)
{
    if (p->maintenance != NULL) return p->maintenance;
    return p->config.policy != NULL ? p->config.policy->maintenance : NULL;
}

/* Why no request is taken at the moment: NONE if they are. */
static enum miniproxy_cause why_closed(const struct miniproxy *p)
{
    return maintenance(p) != NULL ? MINIPROXY_CAUSE_MAINTENANCE : MINIPROXY_CAUSE_NONE;
}

/* What is said to who is refused. */
static const char *standard_text(const struct miniproxy_session *s)
{
    bool is_said = s->cause == MINIPROXY_CAUSE_MAINTENANCE && s->message != NULL;
    return is_said ? s->message : cause_text((enum miniproxy_cause)s->cause);
}

/* A policy's own is needed until it has been sent. Who has logged in by SOCKS5 has one already, and is told no text. */
static void note_message(const struct miniproxy *p, struct miniproxy_session *s)
{
    s->message = maintenance(p);
    if (s->message != p->maintenance && s->policy == NULL) s->policy = p->config.policy;
}

#else

static const char *standard_text(const struct miniproxy_session *s)
{
    return cause_text((enum miniproxy_cause)s->cause);
}

static void note_message(const struct miniproxy *p, struct miniproxy_session *s)
{
    (void)p, (void)s;
}

static enum miniproxy_cause why_closed(const struct miniproxy *p)
{
    (void)p;
    return MINIPROXY_CAUSE_NONE;
}

#endif

/* The text at offset *at of several, which stand one behind the other; *at becomes the offset in it. NULL: the end. */
static const char *text_at(const char *const texts[], size_t count, size_t *at)
{
    for (size_t i = 0; i < count; i++) {
        size_t len = strlen(texts[i]);
        if (*at < len) return texts[i] + *at;
        *at -= len;
    }
    return NULL;
}

/* Octets of the body of a refusal, from offset `at` on, into out[0..room): the text, then the log's token so that
 * reader and log meet, unless the text is the product's own. Returns how many; with out NULL all that there are. */
static size_t reply_body(const struct miniproxy_session *s, size_t at, unsigned char *out, size_t room)
{
    enum miniproxy_cause cause = (enum miniproxy_cause)s->cause;
    const char *standard = standard_text(s), *text = MINIPROXY_BODY(cause, standard);
    bool bare = *standard == '\0';
    const char *parts[4] = {text, bare ? "" : " (", miniproxy_cause_token(cause), bare ? "\n" : ")\n"};
    size_t count = text == standard ? 4 : 1, done = 0;
    if (causes[cause].status == 0) return 0;
    while (done < room) {
        size_t from = at + done, n;
        text = text_at(parts, count, &from);
        if (text == NULL) break;
        n = strlen(text);
        if (n > room - done) n = room - done;
        if (out != NULL) memcpy(out + done, text, n);
        done += n;
    }
    return done;
}

#define REPLY_FIELDS(type, more) "Content-Type: " type "\r\n" more "Cache-Control: no-store\r\nProxy-Status: "

/* ---- Texts that are longer than a buffer ---- */

#if MINIPROXY_WITH_HTML || MINIPROXY_WITH_PAC || MINIPROXY_WITH_STATUS

/* Where a page goes: of all its octets those from `from` on, as many as there is room for. */
struct sink {
    unsigned char *out;
    size_t from, room, at;
};

static void pour_octet(struct sink *k, char c)
{
    if (k->out != NULL && k->at >= k->from && k->at - k->from < k->room) k->out[k->at - k->from] = (unsigned char)c;
    k->at++;
}

static void pour(struct sink *k, const char *text)
{
    while (*text != '\0') pour_octet(k, *text++);
}

/* How much of it that was. */
static size_t poured(const struct sink *k)
{
    if (k->at <= k->from) return 0;
    return k->at - k->from < k->room ? k->at - k->from : k->room;
}

#endif

/* ---- refusals as HTML: one page, made of a pattern, piece by piece as buffers are free ---- */

#if MINIPROXY_WITH_HTML

/* Who can do something about a refusal. */
enum { YOU, OPERATOR, SITE, NETWORK };

/* What to try. X(NAME, who can do most about it, text). */
#define REMEDIES(X)                                                                                                    \
    X(NOTHING, YOU, "")                                                                                                \
    X(PROGRAM, YOU, "Load it again. If that does not help, the program that asked for it is at fault: update it.")     \
    X(TYPING, YOU, "Check the address for typing mistakes.")                                                           \
    X(SETTINGS, YOU, "Check the proxy settings of your browser or program.")                                           \
    X(LOGIN, YOU, "Log in with the name and password that you were given for this proxy, or ask for them.")            \
    X(LESS, YOU, "Use a shorter address. Where a site has set many cookies, delete them.")                             \
    X(PAUSE, YOU, "Wait a minute, then load it again.")                                                                \
    X(CONNECTION, NETWORK, "Check the connection of your device, then load it again.")                                 \
    X(RULES, OPERATOR, "If you need it, ask for it. Tell the code and the number below.")                              \
    X(LIMITS, OPERATOR, "Ask whether this proxy can be set up for it. Tell the code and the number below.")            \
    X(BUSY, OPERATOR, "Wait a moment, then load it again. If that does not help, report the code and the number "      \
                      "below.")                                                                                        \
    X(REPORT, OPERATOR, "Report the code and the number below: it is not your fault.")                                 \
    X(LATER, OPERATOR, "Come back later.")                                                                             \
    X(ROUTE, NETWORK, "Load it again in a minute. If other sites fail, too, report it.")                               \
    X(ELSEWHERE, SITE, "Try again later. If other sites work, this one has a problem.")                                \
    X(BROKEN, SITE, "Load it again. If that does not help, only the site can mend it.")                                \
    X(DANGER, SITE, "Nothing was sent there, because it could be somebody else. The site has to get a certificate "    \
                    "that is right.")

enum remedy {
#define X(NAME, who, text) TRY_##NAME,
    REMEDIES(X)
#undef X
};

/* Which remedy each cause has, HELP_ and its name: without one it does not compile. Those of options are all here. */
enum {
    HELP_NONE = TRY_NOTHING,
    HELP_REQUEST_LINE = TRY_PROGRAM,
    HELP_TARGET = TRY_TYPING,
    HELP_ORIGIN_FORM = TRY_SETTINGS,
    HELP_HOST = TRY_PROGRAM,
    HELP_FIELD = TRY_PROGRAM,
    HELP_LENGTH = TRY_PROGRAM,
    HELP_CODING = TRY_PROGRAM,
    HELP_CHUNK = TRY_PROGRAM,
    HELP_HEAD_CUT = TRY_CONNECTION,
    HELP_BODY_CUT = TRY_CONNECTION,
    HELP_TLS = TRY_SETTINGS,
    HELP_LOGIN_MISSING = TRY_LOGIN,
    HELP_LOGIN_FAILED = TRY_LOGIN,
    HELP_LOGIN_THROTTLED = TRY_PAUSE,
    HELP_POLICY = TRY_RULES,
    HELP_CONNECT_PORT = TRY_RULES,
    HELP_ADDRESS = TRY_RULES,
    HELP_CONTENT_TYPE = TRY_RULES,
    HELP_TRACE = TRY_LIMITS,
    HELP_HEAD_TIMEOUT = TRY_CONNECTION,
    HELP_BODY_TIMEOUT = TRY_CONNECTION,
    HELP_BODY_SIZE = TRY_LIMITS,
    HELP_LINE_SIZE = TRY_LESS,
    HELP_EXPECTATION = TRY_PROGRAM,
    HELP_HEAD_SIZE = TRY_LESS,
    HELP_TRAILER_SIZE = TRY_LIMITS,
    HELP_METHOD_SIZE = TRY_LIMITS,
    HELP_UNKNOWN_CODING = TRY_LIMITS,
    HELP_SCHEME = TRY_SETTINGS,
    HELP_VERSION = TRY_PROGRAM,
    HELP_LOGIN_QUEUE = TRY_BUSY,
    HELP_INTERNAL = TRY_REPORT,
    HELP_SESSIONS_FULL = TRY_BUSY,
    HELP_CLIENT_LIMIT = TRY_PAUSE,
    HELP_BUFFERS_FULL = TRY_BUSY,
    HELP_RESOURCES = TRY_BUSY,
    HELP_LOOP = TRY_REPORT,
    HELP_DNS_NAME = TRY_TYPING,
    HELP_DNS_FAILED = TRY_ROUTE,
    HELP_DNS_TIMEOUT = TRY_ROUTE,
    HELP_REFUSED = TRY_ELSEWHERE,
    HELP_UNREACHABLE = TRY_ROUTE,
    HELP_CONNECT_RESET = TRY_ELSEWHERE,
    HELP_CONNECT_TIMEOUT = TRY_ELSEWHERE,
    HELP_CERTIFICATE = TRY_RULES,
    HELP_PLAIN = TRY_SETTINGS,
    HELP_TLS_NAME = TRY_DANGER,
    HELP_TLS_EXPIRED = TRY_DANGER,
    HELP_TLS_SELF_SIGNED = TRY_DANGER,
    HELP_TLS_ISSUER = TRY_DANGER,
    HELP_TLS_CERTIFICATE = TRY_DANGER,
    HELP_TLS_ALERT = TRY_BROKEN,
    HELP_TLS_PROTOCOL = TRY_BROKEN,
    HELP_TLS_TIMEOUT = TRY_ELSEWHERE,
    HELP_TLS_CONFIG = TRY_REPORT,
    HELP_HOPS_DOWN = TRY_BUSY,
    HELP_HOP_LOGIN = TRY_REPORT,
    HELP_HOP_REFUSED = TRY_ELSEWHERE,
    HELP_HOP_INVALID = TRY_REPORT,
    HELP_REQUEST_RATE = TRY_PAUSE,
    HELP_AT_ONCE = TRY_PAUSE,
    HELP_PAGE = TRY_SETTINGS,
    HELP_PAGE_METHOD = TRY_PROGRAM,
    HELP_PAGE_LOGIN_MISSING = TRY_LOGIN,
    HELP_PAGE_LOGIN_FAILED = TRY_LOGIN,
    HELP_MAINTENANCE = TRY_LATER,
    HELP_WRITE_TIMEOUT = TRY_ELSEWHERE,
    HELP_FIRST_BYTE_TIMEOUT = TRY_ELSEWHERE,
    HELP_READ_TIMEOUT = TRY_ELSEWHERE,
    HELP_RESPONSE_RESET = TRY_ELSEWHERE,
    HELP_RESPONSE_EMPTY = TRY_ELSEWHERE,
    HELP_RESPONSE_CUT = TRY_BROKEN,
    HELP_RESPONSE_INVALID = TRY_BROKEN,
    HELP_RESPONSE_LENGTH = TRY_BROKEN,
    HELP_RESPONSE_CODING = TRY_BROKEN,
    HELP_RESPONSE_HEAD_SIZE = TRY_LIMITS,
    HELP_RESPONSE_TRAILER_SIZE = TRY_LIMITS,
    HELP_RESPONSE_INTERIM = TRY_BROKEN,
    HELP_UPGRADE = TRY_BROKEN,
    HELP_CLIENT_GONE = TRY_NOTHING,
    HELP_CLIENT_WRITE_TIMEOUT = TRY_NOTHING,
    HELP_TUNNEL_TIMEOUT = TRY_NOTHING,
    HELP_TOTAL_TIMEOUT = TRY_LIMITS,
    HELP_STOPPED = TRY_NOTHING
};

static enum remedy remedy_of(enum miniproxy_cause cause)
{
    static const uint8_t help[] = {
#define X(NAME, status, type, token, text) HELP_##NAME,
        MINIPROXY_CAUSES(X)
#undef X
    };
    return (enum remedy)help[cause];
}

static const char *who_can(enum remedy remedy)
{
    static const uint8_t who[] = {
#define X(NAME, who, text) who,
        REMEDIES(X)
#undef X
    };
    static const char names[] = "You\0The people who run this proxy\0The people who run the site\0"
                                "The people who run the network";
    return nth_text(names, who[remedy]);
}

static const char *remedy_text(enum remedy remedy)
{
    static const char texts[] =
#define X(NAME, who, text) text "\0"
        REMEDIES(X);
#undef X
    return nth_text(texts, remedy);
}

static void pour_number(struct sink *k, unsigned value)
{
    char digits[11];
    digits[decimal(value, digits)] = '\0';
    pour(k, digits);
}

/* Text as text: nothing in it is markup. Of the client's only printable ASCII is shown; what the product says may be
 * UTF-8. */
static void pour_text(struct sink *k, const char *text, size_t len, bool is_ours)
{
    for (; len > 0; text++, len--) {
        unsigned c = (unsigned char)*text;
        bool is_shown = c >= ' ' && (c < 0x7f || (c > 0x7f && is_ours));
        if (is_shown && memchr("<>&\"'", (int)c, 5) == NULL) {
            pour_octet(k, *text);
        } else {
            pour(k, "&#");
            pour_number(k, is_shown ? c : 0xfffd); /* REPLACEMENT CHARACTER */
            pour_octet(k, ';');
        }
    }
}

/* The target without its query, which is nobody's business who looks at the screen. There is no userinfo in it: see
 * keep_line(). */
static void pour_target(struct sink *k, const char *target, size_t len)
{
    const char *query = memchr(target, '?', len);
    pour_text(k, target, query != NULL ? (size_t)(query - target) : len, false);
}

static void pour_row(struct sink *k, const char *name)
{
    pour(k, "<dt>");
    pour(k, name);
    pour(k, "</dt><dd>");
}

static void pour_request(struct sink *k, const struct miniproxy_event *e)
{
    if (e->method_len == 0) return;
    pour_row(k, "Request");
    pour_text(k, e->method, e->method_len, false);
    pour_octet(k, ' ');
    pour_target(k, e->target, e->target_len);
    if (e->method_len + 1 + e->target_len >= MINIPROXY_LINE_KEEP) pour(k, "&hellip;");
    pour(k, "</dd>");
}

static void pour_time(struct sink *k, uint32_t unix_s)
{
    unsigned char date[40], *end = put_date(date, unix_s);
    if (end == date) return;
    end[-2] = '\0';
    pour_row(k, "Time");
    pour(k, (const char *)date + sizeof "Date:");
    pour(k, "</dd>");
}

static void pour_contact(struct sink *k, const char *contact)
{
    if (contact == NULL) return;
    pour_row(k, "Contact of this proxy");
    pour_text(k, contact, strlen(contact), true);
    pour(k, "</dd>");
}

/* Everything in it is written by pour_part(), at a $ and a letter. */
static const char pattern[] =
    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
    "<meta name=\"viewport\" content=\"width=device-width\"><meta name=\"color-scheme\" content=\"light dark\">"
    "<title>$s</title><style>"
    "body{font:1em/1.5 system-ui,sans-serif;max-width:36em;margin:6vh auto;padding:0 5vw}"
    "h1,dt{font-size:.85em;opacity:.7}p{font-size:1.5em;line-height:1.3;margin:.4em 0 1em}"
    "dl{border-top:1px solid #8888;padding-top:1em}dd{margin:0 0 .8em;overflow-wrap:anywhere}"
    "dl+dl{display:grid;grid-template-columns:auto 1fr;gap:.4em 1.2em;font-size:.85em}dl+dl *{margin:0;font-size:1em}"
    "</style></head>\n<body><h1>$s</h1><p>$e</p>\n"
    "<dl><dt>Who can help</dt><dd>$w</dd><dt>What to try</dt><dd>$h</dd>$a</dl>\n"
    "<dl>$r<dt>Code</dt><dd>$c</dd><dt>Number</dt><dd>$i</dd><dt>Proxy</dt><dd>$p</dd>$t</dl></body></html>\n";

static void pour_part(struct sink *k, char part, const struct miniproxy_config *config, const struct miniproxy_event *e,
                      const char *text, uint32_t unix_s)
{
    enum miniproxy_cause cause = (enum miniproxy_cause)e->cause;
    switch (part) {
    case 's':
        pour_number(k, e->status);
        pour_octet(k, ' ');
        pour(k, status_phrase(e->status));
        break;
    case 'e': pour_text(k, text, strlen(text), true); break;
    case 'w': pour(k, who_can(remedy_of(cause))); break;
    case 'h': pour(k, remedy_text(remedy_of(cause))); break;
    case 'r': pour_request(k, e); break;
    case 'c': pour(k, miniproxy_cause_token(cause)); break;
    case 'i': pour_number(k, e->id); break;
    case 'p': pour_text(k, config->name, strlen(config->name), true); break;
    case 'a': pour_contact(k, config->contact); break;
    default: pour_time(k, unix_s); break;
    }
}

/* As reply_body(). */
static size_t page_body(const struct miniproxy_config *config, const struct miniproxy_event *e, const char *text,
                        uint32_t unix_s, size_t at, unsigned char *out, size_t room)
{
    struct sink k = {out, at, room, 0};
    for (const char *p = pattern; *p != '\0'; p++) {
        if (*p == '$') pour_part(&k, *++p, config, e, text, unix_s);
        else pour_octet(&k, *p);
    }
    return poured(&k);
}

static void describe(const struct miniproxy *p, const struct miniproxy_session *s, struct miniproxy_event *e);

/* Not where the product has words of its own, of its own type. */
static bool says_html(const struct miniproxy_session *s)
{
    enum miniproxy_cause cause = (enum miniproxy_cause)s->cause;
    const char *standard = standard_text(s), *text = MINIPROXY_BODY(cause, standard);
    return s->takes_html && cause != MINIPROXY_CAUSE_NONE && text == standard;
}

#define HTML "text/html; charset=utf-8"

/* The standard page needs nothing but its own style. */
static const char *reply_fields(const struct miniproxy_session *s)
{
    if (s->refusal != NULL) return s->takes_html ? REPLY_FIELDS(HTML, "") : REPLY_FIELDS("text/plain; charset=utf-8", "");
    if (!says_html(s)) return REPLY_FIELDS(MINIPROXY_BODY_TYPE, "");
    return REPLY_FIELDS(HTML, "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\n");
}

/* Whatever the clock and the product say later, all of a body says the same. */
static void choose_body(const struct miniproxy *p, struct miniproxy_session *s)
{
    struct miniproxy_event e;
    s->refusal = NULL;
    s->refused_s = unix_time(&p->config);
    if (s->cause == MINIPROXY_CAUSE_NONE || p->config.refusal == NULL) return;
    describe(p, s, &e);
    s->refusal = p->config.refusal(p->config.app, &e, s->takes_html);
    if (s->refusal != NULL && strlen(s->refusal) > MINIPROXY_PAGE_MAX) s->refusal = NULL;
}

static size_t put_body(const struct miniproxy *p, const struct miniproxy_session *s, size_t at, unsigned char *out,
                       size_t room)
{
    struct miniproxy_event e;
    size_t len;
    if (s->refusal != NULL) {
        len = strlen(s->refusal) - at;
        if (len > room) len = room;
        if (out != NULL) memcpy(out, s->refusal + at, len);
        return len;
    }
    if (!says_html(s)) return reply_body(s, at, out, room);
    describe(p, s, &e);
    return page_body(&p->config, &e, standard_text(s), s->refused_s, at, out, room);
}


#else

static const char *reply_fields(const struct miniproxy_session *s)
{
    (void)s;
    return REPLY_FIELDS(MINIPROXY_BODY_TYPE, "");
}

static void choose_body(const struct miniproxy *p, struct miniproxy_session *s)
{
    (void)p, (void)s;
}

static size_t put_body(const struct miniproxy *p, const struct miniproxy_session *s, size_t at, unsigned char *out,
                       size_t room)
{
    (void)p;
    return reply_body(s, at, out, room);
}

#endif

/* Everything before the body. rate_s: seconds until a next request is allowed, if too many have made it a 429. */
OUTLINED static unsigned char *put_reply_head(unsigned char *w, const struct miniproxy *p,
                                              const struct miniproxy_session *s, bool keeps, unsigned rate_s)
{
    const struct miniproxy_config *config = &p->config;
    enum miniproxy_cause cause = (enum miniproxy_cause)s->cause;
    unsigned status = s->status, retry_s = status == 503 ? MINIPROXY_RETRY_AFTER_S : 0;
    if (status == 429) retry_s = (config->timeout_ms[MINIPROXY_TIMEOUT_THROTTLE] + 999) / 1000;
    if (MINIPROXY_WITH_LIMITS && status == 429 && rate_s != 0) retry_s = rate_s;
    w = put_all(put_number(put(w, "HTTP/1.1 "), status), " ", status_phrase(status), "\r\n");
    if (cause != MINIPROXY_CAUSE_NONE) {
        w = put(w, reply_fields(s));
        w = put(put_all(w, config->name, "; error=", miniproxy_cause_type(cause)), "\r\n");
    }
    w = put(put_number(put(w, "Content-Length: "), (unsigned)put_body(p, s, 0, NULL, SIZE_MAX)), "\r\n");
    if (status == 407)
        w = put_all(w, "Proxy-Authenticate: Basic realm=\"", config->realm, "\", charset=\"UTF-8\"\r\n");
    if (MINIPROXY_WITH_PAGES && status == 401)
        w = put_all(w, "WWW-Authenticate: Basic realm=\"", config->realm, "\", charset=\"UTF-8\"\r\n");
    if (status == 405 || status == 200) w = put(w, allowed_methods(cause));
    if (retry_s != 0) w = put(put_number(put(w, "Retry-After: "), retry_s), "\r\n");
    w = put_date(w, unix_time(config));
    return put(w, keeps ? "\r\n" : "Connection: close\r\n\r\n");
}

/* 503 for a session that has no buffer, or has said nothing yet: seconds, name and error type follow. */
static const char bare_reply[] = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nCache-Control: no-store\r\n"
                                 "Connection: close\r\nRetry-After: ";

#if MINIPROXY_WITH_PAGES || MINIPROXY_WITH_METRICS

enum miniproxy_condition miniproxy_condition(const struct miniproxy *p)
{
    if (p->draining) return MINIPROXY_DRAINING;
    if (why_closed(p) != MINIPROXY_CAUSE_NONE) return MINIPROXY_IN_MAINTENANCE;
    return p->counters.active - p->reserved < MINIPROXY_SESSIONS ? MINIPROXY_OK_TO_SERVE : MINIPROXY_BUSY;
}

static const char *condition_line(enum miniproxy_condition condition)
{
    static const char lines[] = "ok\n\0busy\n\0maintenance\n\0draining\n";
    return nth_text(lines, condition);
}

#endif

/* ---- Pages of the proxy's own: what they say ---- */

#if MINIPROXY_WITH_PAGES

enum page { PAGE_NONE, PAGE_TEXT, PAGE_STATUS, PAGE_METRICS, PAGE_LOG, PAGE_PAC };

#endif

#if MINIPROXY_WITH_STATUS

/* A page for phones and desks, which asks for /metrics and /log every two seconds, one after the other, as long as
 * somebody looks at it. Nothing of it comes from elsewhere, and what clients have said is only ever set as text. It
 * knows few names: all other samples are shown, too, those with labels as tables, of which the last word of a name makes
 * a column. */
static const char *const status_page[] = {
    "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
    "<link rel=icon href=data:,><title>miniproxy</title><style>"
    ":root{color-scheme:light dark;--g:#15703f;--r:#b5202c}"
    "@media(prefers-color-scheme:dark){:root{--g:#57c98f;--r:#ff8c86}}"
    "*{box-sizing:border-box;margin:0}"
    "body{max-width:76em;margin:auto;padding:.8em;font:15px/1.4 system-ui,sans-serif}"
    "h1,#c,a{margin-right:.6em}h1{display:inline;font-size:1.4em}"
    "h2{font-size:.9em}h2:first-letter{text-transform:uppercase}"
    "h2,p,small,th{opacity:.75}p,small,th{font-size:.85em;font-weight:400}"
    "main{display:grid;grid:auto-flow dense/repeat(2,1fr);gap:.7em;margin:.8em 0}"
    "section{grid-column:span 2;min-width:0;overflow:auto;padding:.7em;border-radius:8px;background:#8882}"
    ".t{grid-column:auto}.t b{font-size:1.6em}td small,i,svg{display:block}"
    "i{height:5px;border-radius:3px;margin:3px 0}"
    "svg{width:100%;height:2.4em;border-bottom:1px solid #8884}"
    "path{fill:none;stroke:#27e;stroke-width:1.5;vector-effect:non-scaling-stroke}"
    "path+path{stroke:#c70}table{width:100%;border-collapse:collapse}"
    "td,th{padding:.2em 0 .2em .6em;text-align:right;vertical-align:top;white-space:nowrap}"
    "td{border-top:1px solid #8884}"
    "td:first-child,th:first-child,.w td{padding-left:0;text-align:left}.w td+td{padding-left:.6em}"
    "td:first-child,th:first-child,.w td+td+td{width:99%;white-space:normal;overflow-wrap:anywhere}"
    ".w td+td+td{word-break:break-all}.w td:first-child{width:0;white-space:nowrap}.w small{word-break:normal}"
    ".e{color:var(--r)}.off main{opacity:.5}"
    "#c{padding:0 .5em;border-radius:9px;background:var(--r);color:Canvas}#c.ok{background:var(--g)}"
    "@media(min-width:600px){main{grid-template-columns:repeat(4,1fr)}.w{grid-column:1/-1}}"
    "@media(min-width:1000px){section{grid-column:auto}.p,.w{grid-column:span 2}}"
    "</style><h1>miniproxy <small id=v></small></h1><b id=c></b><span id=z role=status></span><main>"
    "<section class=t><h2>Sessions</h2><b id=s></b><i id=sb></i><p id=sp></section>"
    "<section class=t><h2>Buffers</h2><b id=u></b><i id=ub></i><p id=up></section>"
    "<section class=t><h2>Requests a second</h2><b id=q></b>"
    "<svg viewBox='0 0 120 30' preserveAspectRatio=none><path id=q1 /></svg><p id=qp></section>"
    "<section class=t><h2>Octets a second to clients</h2><b id=o></b>"
    "<svg viewBox='0 0 120 30' preserveAspectRatio=none><path id=q2 /><path id=q3 /></svg><p id=op></section></main>"
    "<a href=/metrics>metrics</a><a href=/log>log</a><a href=/health>health</a>"
    "<noscript>Without scripts, this is all there is.</noscript>",
    "<script>'use strict';const D=document,$=i=>D.getElementById(i),C={},"
    "el=(p,t,x,c)=>{const e=D.createElement(t);e.textContent=x;e.className=c||'';return p.appendChild(e)},"
    "num=v=>v.toLocaleString('en'),"
    "sh=v=>{let i=0;for(;v>=1e3&&i<4;i++)v/=1e3;"
    "return(v<10&&v%1?v.toFixed(1):Math.round(v))+['',' k',' M',' G',' T'][i]},"
    "span=s=>s<1?Math.round(s*1e3)+' ms':s<100?+s.toFixed(s<10)+' s':"
    "s<6e3?Math.round(s/60)+' min':Math.round(s/3600)+' h',"
    "bar=(e,a,b)=>e.style.background=`linear-gradient(90deg,#27e ${a*100}%,#27e6 0 ${b*100}%,#8884 0)`,"
    "card=(t,c,head,rows)=>{let k=C[t];if(!k){k=C[t]={s:el(D.querySelector('main'),'section','',c)};"
    "el(k.s,'h2',t);const e=el(k.s,'table','');if(head){const h=e.createTHead().insertRow();"
    "head.forEach(x=>el(h,'th',x))}k.b=e.createTBody()}k.s.hidden=!rows[0];"
    "rows.forEach((r,y)=>{const tr=k.b.rows[y]||k.b.insertRow();r.forEach((x,i)=>{"
    "const d=tr.cells[i]||tr.insertCell(),j=JSON.stringify(x),[m,h,...s]=x.pop?x:[x];if(d.j==j)return;d.j=j;"
    "d.textContent=m===+m?num(m):m;d.className=/^(down|[45][\\dx]+)$/.test(m)&&m!==+m?'e':'';"
    "s.forEach(x=>x&&el(d,'small',x));if(h)bar(el(d,'i',''),h,0)})});"
    "while(k.b.rows[rows.length])k.b.deleteRow(-1)},"
    "read=t=>{const F={};t.replace(/^(\\w+)(?:\\{(.*)\\})? (\\S+)/gm,(_,n,l,v)=>{const a=[];"
    "(l||'').replace(/\\w+=\"((?:\\\\.|[^\"\\\\])*)\"/g,(_,x)=>a.push(x.replace(/\\\\(.)/g,'$1')));"
    "(F[n]=F[n]||[]).push([a,+v])});return F};"
    "let prev,P=[],wait,timer,busy,seen,logs=1;",
    "const draw=(F,log,now)=>{"
    "const take=n=>{n='miniproxy_'+n;const a=F[n]||[];delete F[n];return a},one=n=>(take(n)[0]||[0,0])[1],"
    "sum=n=>(F[`miniproxy_${n}_total`]||[[0,0]])[0][1],"
    "pool=(n,i)=>{const u=one(n),p=one(n+'_peak'),l=one(n+'_limit')||1;$(i).textContent=num(u);"
    "bar($(i+'b'),u/l,p/l);$(i+'p').textContent=`of ${num(l)}, peak ${num(p)}`},"
    "c=(take('condition').find(x=>x[1])||[['']])[0][0];$('c').textContent=$('c').className=c;"
    "D.title='miniproxy'+(c=='ok'?'':': '+c);$('v').textContent=(take('build_info')[0]||[''])[0];"
    "pool('sessions','s');pool('buffers','u');"
    "const r=sum('requests'),n=[now,r,sum('sent_bytes')-sum('pages_sent_bytes'),"
    "sum('received_bytes')-sum('pages_received_bytes')];"
    "if(prev&&prev[1]<=r)P.push(n.map((v,i)=>i?(v-prev[i])/(now-prev[0])*1e3:v));else P=[];"
    "prev=n;P=P.filter(p=>now-p[0]<12e4);"
    "const p=P[P.length-1]||[0,0,0,0],top=k=>Math.max(...P.map(p=>p[k]),0),"
    "line=(k,m)=>$('q'+k).setAttribute('d',P.map((p,i)=>"
    "(i?'L':'M')+(120-(now-p[0])/1e3)+','+(28-26*p[k]/(m||1))).join(''));"
    "$('q').textContent=sh(p[1]);$('qp').textContent=`peak ${sh(top(1))}, ${num(r)} in all`;"
    "$('o').textContent=sh(p[2]);"
    "$('op').textContent=`${sh(p[3])} from clients (orange)`;"
    "const m=Math.max(top(2),top(3));line(1,top(1));line(2,m);line(3,m);"
    "const some=n=>take(n+'_total').filter(x=>x[1]).sort((a,b)=>b[1]-a[1]),"
    "list=(t,n,f)=>{const a=some(n);card(t,'',0,a.map(x=>[[f(x[0]),x[1]/a[0][1],x[0][1]],x[1]]))};"
    "list('Responses','responses',l=>l[0]);list('Errors by cause','causes',l=>l[0]);"
    "list('Status codes','codes',l=>l[0]);list('Hits of rules','rule_hits',l=>'rule '+l[0]);"
    "const L=log.split('\\n').filter(x=>x).map(JSON.parse),show=(t,f)=>card(t,'w',0,L.filter(f).map(x=>"
    "[span(x.ago_ms/1e3),x.status?''+x.status:'\\u2013',[x.method?x.method+' '+x.target:'(no request line)',0,"
    "x.cause!='-'&&x.cause+(x.rule>=0?', rule '+x.rule:''),[x.user,x.client,x.address&&'to '+x.address,"
    "span(x.ms/1e3),"
    "sh(x.up)+' up',sh(x.down)+' down'].filter(y=>y).join(' \\u00b7 ')]]));"
    "show('Last refusals and failures',x=>x.cause!='-');show('Last transactions',x=>x.cause=='-');"
    "card('Mean times','',0,['dns','connect','first_byte','transaction'].map(k=>{const v=one(k+'_seconds_count'),"
    "s=one(k+'_seconds_sum');return[[k.replace('_',' '),0,num(v)+' \\u00d7'],v?span(s/v):'\\u2013']}));"
    "const T={};for(const n in F)F[n].forEach(([l,v])=>{const b=n.replace(/_total$/,''),x=l[0],"
    "i=x?b.lastIndexOf('_'):b.indexOf('_'),t=b.slice(0,i)+(x?' ':''),h=b.slice(i+1),c=x?h:'',"
    "k=T[t]=T[t]||{h:[],r:{}},"
    "w=x?l.join('\\n'):h.replace(/_/g,' ').replace(/ seconds$/,'');if(k.h.indexOf(c)<0)k.h.push(c);"
    "(k.r[w]=k.r[w]||{})[c]=h=='up'?v?'up':'down':/_seconds$/.test(b)?span(v):v});"
    "for(const t in T){const k=T[t];card(({miniproxy:'Counters','miniproxy_hop ':'Parents'})[t]||t.replace(/_/g,' '),"
    "k.h[2]?'p':'',k.h[0]&&['',...k.h],Object.keys(k.r).map(w=>{const[m,...s]=w.split('\\n');"
    "return[[m,0,s.join(' ')],...k.h.map(h=>h in k.r[w]?k.r[w][h]:'')]}))}},",
    "say=(t,c)=>{if($('z').textContent!=t)$('z').textContent=t;D.body.className=c||''},"
    "get=u=>{const a=new AbortController,k=setTimeout(()=>a.abort(),1e4);"
    "return fetch(u,{cache:'no-store',signal:a.signal}).then(r=>r.ok?r.text():"
    "u=='/log'&&r.status<500?logs='':Promise.reject(r.status)).then(x=>(clearTimeout(k),x),e=>{"
    "clearTimeout(k);throw e})},"
    "poll=()=>{clearTimeout(timer);if(busy||D.hidden)return;busy=1;let m,t;"
    "get('/metrics').then(x=>(m=x,t=Date.now(),logs&&get('/log'))).then(l=>{"
    "draw(read(m),l,t);wait=2e3;seen=new Date(t);say('live')}).catch(e=>{wait=Math.min(2*wait||4e3,3e4);"
    "say('no answer'+(e>0?' but '+e:'')+(seen?' since '+seen.toLocaleTimeString():''),'off')})"
    ".then(()=>{busy=0;timer=setTimeout(poll,wait)})};"
    "D.addEventListener('visibilitychange',poll);poll()</script>",
};

static size_t status_piece(size_t at, unsigned char *out, size_t room)
{
    struct sink k = {out, at, room, 0};
    for (size_t i = 0; i < sizeof status_page / sizeof status_page[0]; i++) pour(&k, status_page[i]);
    return poured(&k);
}

#elif MINIPROXY_WITH_PAGES

static size_t status_piece(size_t at, unsigned char *out, size_t room)
{
    (void)at, (void)out, (void)room;
    return 0;
}

#endif

#if MINIPROXY_WITH_METRICS || (MINIPROXY_WITH_PAGES && MINIPROXY_RECORDS > 0)

/* Decimal text of any number, without a division of 64 bits, which is a function of its own on small processors. */
static unsigned char *put_long(unsigned char *w, uint64_t value)
{
    uint16_t part[4];
    char reversed[20];
    size_t n = 0;
    for (unsigned i = 0; i < 4; i++) part[i] = (uint16_t)(value >> 16 * (3 - i));
    do {
        uint32_t rest = 0;
        for (unsigned i = 0; i < 4; i++) {
            rest = rest << 16 | part[i];
            part[i] = (uint16_t)(rest / 10);
            rest %= 10;
        }
        reversed[n++] = (char)('0' + rest);
    } while ((part[0] | part[1] | part[2] | part[3]) != 0);
    while (n > 0) *w++ = (unsigned char)reversed[--n];
    return w;
}

#endif

#if MINIPROXY_WITH_METRICS

#if MINIPROXY_WITH_CAUSE_COUNTERS

enum { CAUSE_SAMPLES = MINIPROXY_CAUSE_COUNT - 1 };

static uint32_t cause_count(const struct miniproxy_counters *c, enum miniproxy_cause cause)
{
    return c->cause[cause];
}

#else

enum { CAUSE_SAMPLES = 0 };

static uint32_t cause_count(const struct miniproxy_counters *c, enum miniproxy_cause cause)
{
    (void)c, (void)cause;
    return 0;
}

#endif

/* X(member, name, kind, meaning): what is counted, or is at the moment. */
enum { COUNTER, BYTES, GAUGE };
#if MINIPROXY_WITH_PAGES
#define NUMBERS_OF_PAGES(X)                                                                                         \
    X(pages, "pages", COUNTER, "Pages of the proxy's own; otherwise only in connections, octets and hits of rules.") \
    X(page_bytes_up, "pages_received_bytes", BYTES, "Octets from clients that were for pages.")                      \
    X(page_bytes_down, "pages_sent_bytes", BYTES, "Octets to clients that were pages.")
#else
#define NUMBERS_OF_PAGES(X)
#endif
#define NUMBERS(X)                                                                     \
    X(accepted, "connections", COUNTER, "Connections of clients.")                     \
    X(requests, "requests", COUNTER, "Transactions ended, refusals included.")         \
    X(tunnels, "tunnels", COUNTER, "Tunnels begun.")                                   \
    X(reused, "reuses", COUNTER, "Requests on a kept connection to an origin.")        \
    X(retried, "retries", COUNTER, "Requests sent again on a new connection.")         \
    X(evicted, "evictions", COUNTER, "Idle connections closed to make room.")          \
    X(accept_paused, "accept_pauses", COUNTER, "Times without resources to accept.")   \
    X(buffer_waits, "buffer_waits", COUNTER, "Times a session waited for a buffer.")   \
    X(bytes_up, "received_bytes", BYTES, "Octets from clients.")                       \
    X(bytes_down, "sent_bytes", BYTES, "Octets to clients.")                           \
    X(active, "sessions", GAUGE, "Sessions in use.")                                   \
    X(active_peak, "sessions_peak", GAUGE, "The most that were in use.")               \
    X(buffers, "buffers", GAUGE, "Buffers in use.")                                    \
    X(buffers_peak, "buffers_peak", GAUGE, "The most that were in use.")               \
    NUMBERS_OF_PAGES(X)

static const struct {
    uint16_t at;
    uint8_t size, kind;
} numbers[] = {
#define X(member, name, kind, meaning) \
    {offsetof(struct miniproxy_counters, member), sizeof(((struct miniproxy_counters *)NULL)->member), kind},
    NUMBERS(X)
#undef X
};

enum { NUMBER_COUNT = sizeof numbers / sizeof numbers[0], TOOK_COUNT = 4, CLASS_COUNT = 6, CONDITION_COUNT = 4 };

/* What a family of samples is: its lines in front. */
static unsigned char *put_family(unsigned char *w, const char *name, const char *type, const char *meaning)
{
    w = put(put_all(w, "# TYPE miniproxy_", name, " "), type);
    return put(put_all(put(w, "\n# HELP miniproxy_"), name, " ", meaning), "\n");
}

static unsigned char *put_sample(unsigned char *w, const char *name, const char *suffix, uint64_t value)
{
    w = put_all(put(w, "miniproxy_"), name, suffix, " ");
    return put(put_long(w, value), "\n");
}

/* name_total{label="…"} … \n, in two parts: what the label says comes between. */
static unsigned char *begin_labelled(unsigned char *w, const char *name, const char *label)
{
    return put(put_all(put(w, "miniproxy_"), name, "{", label), "=\"");
}

static unsigned char *end_labelled(unsigned char *w, uint64_t value)
{
    return put(put_long(put(w, "\"} "), value), "\n");
}

static unsigned char *put_count(unsigned char *w, const struct miniproxy_counters *c, unsigned i)
{
    static const char texts[] =
#define X(member, name, kind, meaning) name "\0" meaning "\0"
        NUMBERS(X);
#undef X
    const char *name = nth_text(texts, 2 * i), *meaning = name + strlen(name) + 1;
    const void *at = (const unsigned char *)c + numbers[i].at;
    uint64_t value;
    if (numbers[i].size == sizeof(uint64_t)) value = *(const uint64_t *)at;
    else if (numbers[i].size == sizeof(uint32_t)) value = *(const uint32_t *)at;
    else value = *(const uint16_t *)at;
    w = put_family(w, name, numbers[i].kind == GAUGE ? "gauge" : "counter", meaning);
    if (numbers[i].kind == BYTES) w = put(put_all(w, "# UNIT miniproxy_", name, " bytes"), "\n");
    return put_sample(w, name, numbers[i].kind == GAUGE ? "" : "_total", value);
}

static unsigned char *put_seconds(unsigned char *w, uint64_t ms)
{
    unsigned char text[3 + 20] = "000";
    size_t len = (size_t)(put_long(text + 3, ms) - text), begin = len > 6 ? 3 : len - 4;
    w = put_bytes(w, text + begin, len - 3 - begin);
    *w++ = '.';
    return put_bytes(w, text + len - 3, 3);
}

static unsigned char *put_took(unsigned char *w, const struct miniproxy_counters *c, unsigned i)
{
    static const char texts[] = "dns_seconds\0Names resolved.\0connect_seconds\0Connections made.\0"
                                "first_byte_seconds\0Requests answered by an origin.\0"
                                "transaction_seconds\0Transactions.\0";
    const char *name = nth_text(texts, 2 * i), *meaning = name + strlen(name) + 1;
    const struct miniproxy_took *all[TOOK_COUNT] = {&c->dns, &c->connect, &c->first_byte, &c->total};
    w = put_family(w, name, "summary", meaning);
    w = put(put_all(w, "# UNIT miniproxy_", name, " seconds"), "\n");
    w = put_sample(w, name, "_count", all[i]->count);
    w = put_all(put(w, "miniproxy_"), name, "_sum", " ");
    return put(put_seconds(w, all[i]->ms), "\n");
}

/* The most that can be in use at once, and what this is. */
static unsigned char *put_constant(unsigned char *w, unsigned i)
{
    if (i == 0) return put(w, "# TYPE miniproxy_build info\nminiproxy_build_info{version=\"" MINIPROXY_VERSION "\"} 1\n");
    if (i == 1) return put_sample(put_family(w, "sessions_limit", "gauge", "Places."), "sessions_limit", "", MINIPROXY_SESSIONS);
    return put_sample(put_family(w, "buffers_limit", "gauge", "Places."), "buffers_limit", "", MINIPROXY_BUFFERS);
}

static unsigned char *put_condition(unsigned char *w, const struct miniproxy *p, unsigned i)
{
    const char *line = condition_line((enum miniproxy_condition)i);
    if (i == 0) w = put_family(w, "condition", "stateset", "What /health says.");
    w = put_bytes(begin_labelled(w, "condition", "miniproxy_condition"), line, strlen(line) - 1);
    return end_labelled(w, miniproxy_condition(p) == (enum miniproxy_condition)i);
}

static unsigned char *put_class(unsigned char *w, const struct miniproxy_counters *c, unsigned i)
{
    if (i == 0) w = put_family(w, "responses", "counter", "Responses by class of status.");
    w = begin_labelled(w, "responses_total", "class");
    w = i == 0 ? put(w, "none") : put(put_number(w, i), "xx");
    return end_labelled(w, c->status[i]);
}

static unsigned code_at(unsigned i)
{
    static const uint16_t codes[] = {
#define X(code) code,
        MINIPROXY_CODES(X)
#undef X
    };
    return codes[i];
}

static unsigned char *put_code(unsigned char *w, const struct miniproxy_counters *c, unsigned i)
{
    if (i == 0) w = put_family(w, "codes", "counter", "Responses by status code.");
    w = put_number(begin_labelled(w, "codes_total", "code"), code_at(i));
    return end_labelled(w, c->code[i]);
}

static unsigned char *put_cause(unsigned char *w, const struct miniproxy_counters *c, unsigned i)
{
    const enum miniproxy_cause cause = (enum miniproxy_cause)(i + 1);
    if (i == 0) w = put_family(w, "causes", "counter", "What did not go well, by cause.");
    w = put(begin_labelled(w, "causes_total", "cause"), miniproxy_cause_token(cause));
    w = put_number(put(w, "\",status=\""), miniproxy_cause_status(cause));
    return end_labelled(w, cause_count(c, cause));
}

#if MINIPROXY_WITH_HITS

/* The last counts what no rule decided. */
static unsigned hit_count(const struct miniproxy *p)
{
    const struct miniproxy_policy *policy = p->config.policy;
    return policy != NULL && policy->hits != NULL ? policy->rule_count + 1u : 0;
}

static unsigned char *put_hit(unsigned char *w, const struct miniproxy *p, unsigned i)
{
    const struct miniproxy_policy *policy = p->config.policy;
    if (i == 0) w = put_family(w, "rule_hits", "counter", "Transactions by the rule that decided.");
    w = begin_labelled(w, "rule_hits_total", "rule");
    w = i < policy->rule_count ? put_number(w, i) : put(w, "none");
    return end_labelled(w, policy->hits[i]);
}

#else

static unsigned hit_count(const struct miniproxy *p)
{
    (void)p;
    return 0;
}

static unsigned char *put_hit(unsigned char *w, const struct miniproxy *p, unsigned i)
{
    (void)p, (void)i;
    return w;
}

#endif

#if MINIPROXY_WITH_ROUTES

static unsigned hop_count(const struct miniproxy *p)
{
    return p->config.policy != NULL ? p->config.policy->hop_count : 0;
}

/* One hop in one of three families: each has to stand together. */
static unsigned char *put_hop(unsigned char *w, const struct miniproxy *p, unsigned i, unsigned family)
{
    static const char names[] = "hop_up\0hop_uses\0hop_failures\0";
    static const char meanings[] = "Is this parent or member up?\0Connections made.\0Attempts that have failed.\0";
    const struct miniproxy_hop *hop = p->config.policy->hops + i;
    const struct miniproxy_health *health = p->config.policy->health + i;
    const char *name = nth_text(names, family);
    if (i == 0) w = put_family(w, name, family == 0 ? "gauge" : "counter", nth_text(meanings, family));
    w = put_all(put(w, "miniproxy_"), name, family == 0 ? "" : "_total", "{name=\"");
    w = put_number(put_all(w, hop->host, ":", ""), hop->port);
    w = put_number(put_all(w, "\",kind=\"", hop->kind == MINIPROXY_HOP_ORIGIN ? "member" : "parent", "\",hop=\""), i);
    return end_labelled(w, family == 0 ? health->down == 0 : family == 1 ? health->used : health->failed);
}

#else

static unsigned hop_count(const struct miniproxy *p)
{
    (void)p;
    return 0;
}

static unsigned char *put_hop(unsigned char *w, const struct miniproxy *p, unsigned i, unsigned family)
{
    (void)p, (void)i, (void)family;
    return w;
}

#endif

/* Is the `at`th of all one of these `count`? If not it is the `at`th of the rest. */
static bool is_among(unsigned *at, unsigned count)
{
    if (*at < count) return true;
    *at -= count;
    return false;
}

static unsigned char *put_own_group(unsigned char *w, const struct miniproxy *p, unsigned *at)
{
    const struct miniproxy_counters *c = p->config.totals != NULL ? p->config.totals(p->config.app) : &p->counters;
    if (is_among(at, NUMBER_COUNT)) return put_count(w, c, *at);
    if (is_among(at, TOOK_COUNT)) return put_took(w, c, *at);
    if (is_among(at, 3)) return put_constant(w, *at);
    if (is_among(at, CONDITION_COUNT)) return put_condition(w, p, *at);
    if (is_among(at, CLASS_COUNT)) return put_class(w, c, *at);
    if (is_among(at, MINIPROXY_CODE_COUNT)) return put_code(w, c, *at);
    if (is_among(at, CAUSE_SAMPLES)) return put_cause(w, c, *at);
    if (is_among(at, hit_count(p))) return put_hit(w, p, *at);
    for (unsigned family = 0; family < 3; family++)
        if (is_among(at, hop_count(p))) return put_hop(w, p, *at, family);
    return w;
}

/* What is the product's own follows, then the one line that ends it all. */
size_t miniproxy_metrics(const struct miniproxy *p, unsigned at, char *out, size_t room)
{
    static const char end[] = "# EOF\n";
    unsigned char *w = (unsigned char *)out;
    size_t len;
    if (room < MINIPROXY_METRICS_GROUP) return 0;
    len = (size_t)(put_own_group(w, p, &at) - w);
    if (len > 0) return len;
    if (p->config.metrics != NULL) {
        len = p->config.metrics(p->config.app, at, out, room);
        if (len > 0) return len;
        if (at > 0 && p->config.metrics(p->config.app, at - 1, out, room) == 0) return 0;
    } else if (at > 0) {
        return 0;
    }
    memcpy(out, end, sizeof end - 1);
    return sizeof end - 1;
}

#endif

#if MINIPROXY_WITH_PAGES && MINIPROXY_WITH_METRICS

static size_t metrics_piece(const struct miniproxy *p, unsigned at, unsigned char *out, size_t room)
{
    return miniproxy_metrics(p, at, (char *)out, room);
}

#elif MINIPROXY_WITH_PAGES

static size_t metrics_piece(const struct miniproxy *p, unsigned at, unsigned char *out, size_t room)
{
    (void)p, (void)at, (void)out, (void)room;
    return 0;
}

#endif

#if MINIPROXY_RECORDS > 0

const struct miniproxy_record *miniproxy_recent(const struct miniproxy *p, unsigned at)
{
    unsigned seen[2] = {0, 0};
    for (;;) {
        const struct miniproxy_record *r[2] = {NULL, NULL}, *newest;
        for (unsigned kind = 0; kind < 2; kind++) {
            unsigned i = (p->records_at[kind] + 2u * MINIPROXY_RECORDS - 1 - seen[kind]) % MINIPROXY_RECORDS;
            if (seen[kind] < MINIPROXY_RECORDS && p->records[kind][i].id != 0) r[kind] = &p->records[kind][i];
        }
        if (r[0] == NULL && r[1] == NULL) return NULL;
        /* by when they ended: those that take long have low numbers */
        if (r[0] == NULL || (r[1] != NULL && time_reached(r[1]->ended_ms, r[0]->ended_ms))) newest = r[1];
        else newest = r[0];
        seen[newest == r[1]]++;
        if (at-- == 0) return newest;
    }
}

#endif

#if MINIPROXY_WITH_PAGES && MINIPROXY_RECORDS > 0

/* Octets of the character of UTF-8 at p (RFC 3629); 0: none that is well-formed and no control character. */
static size_t utf8_len(const unsigned char *p, size_t len)
{
    size_t n = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    uint32_t c = p[0] & 0x7fu >> n;
    if (p[0] < 0x80) return p[0] >= 0x20 && p[0] < 0x7f;
    if (p[0] < 0xc2 || p[0] > 0xf4 || n > len) return 0;
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) return 0;
        c = c << 6 | (p[i] & 0x3fu);
    }
    return c < 0xa0 || (n == 3 && c < 0x800) || (n == 4 && (c < 0x10000 || c > 0x10ffff)) || c >> 11 == 0xd800 >> 11 ? 0 : n;
}

/* The inside of a JSON string (RFC 8259 section 7), as much as fits. What is no text is named octet by octet, as in
 * port/miniproxy_log.c: a reader takes it for the four characters \x... */
static unsigned char *put_json(unsigned char *w, const unsigned char *end, const char *text, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0, n; i < len && end - w >= 6; i += n) {
        unsigned char c = (unsigned char)text[i];
        n = utf8_len((const unsigned char *)text + i, len - i);
        if (n > 0 && c != '"' && c != '\\') {
            memcpy(w, text + i, n);
            w += n;
            continue;
        }
        n = 1;
        w = put(w, c < 0x80 ? "\\u00" : "\\\\x");
        *w++ = (unsigned char)digits[c >> 4];
        *w++ = (unsigned char)digits[c & 15];
    }
    return w;
}

static unsigned char *put_json_number(unsigned char *w, const char *key, uint64_t value)
{
    return put_long(put_all(w, ",\"", key, "\":"), value);
}

static unsigned char *put_json_address(unsigned char *w, const char *key, const struct miniproxy_addr *a)
{
    char text[MINIPROXY_ADDR_TEXT];
    if (a->family == 0) return w;
    miniproxy_addr_format(a, text);
    return put(put(put_all(w, ",\"", key, "\":\""), text), "\"");
}

/* Octets of a line but for its method, user and target, at most: the longest cause, two addresses of IPv6, numbers of as
 * many digits as they can have. */
enum { RECORD_REST = 344 };
_Static_assert(MINIPROXY_METRICS_GROUP > RECORD_REST + 64, "a line of /log needs as much room as a group of metrics has");

/* A line of /log. Of method, user and target what there is room for, the target last. */
static size_t log_piece(const struct miniproxy *p, unsigned at, unsigned char *out, size_t room)
{
    static const char by[] = "nobody\0proxy\0origin";
    const struct miniproxy_record *r = miniproxy_recent(p, at);
    const unsigned char *end = out + (room - RECORD_REST);
    unsigned char *w = out;
    size_t target_at;
    if (r == NULL) return 0;
    target_at = r->line_len > r->method_len ? r->method_len + 1u : r->line_len;
    w = put_json(put(w, "{\"method\":\""), end, r->line, r->method_len);
    w = put_json(put(w, "\",\"user\":\""), end, r->user, r->user_len);
    w = put_json(put(w, "\",\"target\":\""), end, r->line + target_at, r->line_len - target_at);
    w = put_all(w, "\",\"by\":\"", nth_text(by, r->source), "\",\"cause\":\"");
    w = put(put(w, miniproxy_cause_token((enum miniproxy_cause)r->cause)), "\"");
    w = put_json_number(put_json_number(w, "id", r->id), "status", r->status);
    w = put_json_number(put_json_number(w, "ago_ms", p->now_ms - r->ended_ms), "ms", r->total_ms);
    w = put_json_number(put_json_number(w, "up", r->bytes_up), "down", r->bytes_down);
    w = put_json_address(put_json_address(w, "client", &r->client), "address", &r->address);
    if (r->rule >= 0) w = put_json_number(w, "rule", (uint64_t)r->rule);
    return (size_t)(put(w, "}\n") - out);
}

#elif MINIPROXY_WITH_PAGES

static size_t log_piece(const struct miniproxy *p, unsigned at, unsigned char *out, size_t room)
{
    (void)p, (void)at, (void)out, (void)room;
    return 0;
}

#endif

#if MINIPROXY_WITH_PAC

/* Texts of a script: nothing that could end a string. */
static bool is_pac_text(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (!is_letter(c) && !is_digit(c) && memchr("-._:[]", c, 6) == NULL) return false;
    }
    return len > 0;
}

static bool is_sound_pac(const struct miniproxy_pac *pac)
{
    if (pac == NULL) return true;
    if (pac->proxy != NULL && !is_pac_text(pac->proxy, strlen(pac->proxy))) return false;
    for (unsigned i = 0; pac->direct != NULL && i < pac->direct->count; i++)
        if (!is_pac_text(pac->direct->list[i], strlen(pac->direct->list[i]))) return false;
    return true;
}

static void pour_domains(struct sink *k, const struct miniproxy_texts *domains)
{
    for (unsigned i = 0; domains != NULL && i < domains->count; i++) {
        pour(k, "\"");
        pour(k, domains->list[i]);
        pour(k, "\",");
    }
}

/* A Host as "host:" has none. */
static const char *missing_port(const char *host, size_t len, bool tls)
{
    const char *port = tls ? ":443" : ":80";
    size_t n = len;
    while (n > 0 && is_digit((unsigned char)host[n - 1])) n--;
    if (n < 2 || host[n - 1] != ':' || (host[0] == '[' && host[n - 2] != ']')) return port;
    return n == len ? port + 1 : "";
}

/* What a request leads to that the proxy would not take, or should not: other schemes, names without a dot, names of
 * the local network, literals of private networks. Old readers know no newer JavaScript than this. */
static size_t pac_piece(const struct miniproxy_pac *pac, const char *host, size_t host_len, bool tls, size_t at,
                        unsigned char *out, size_t room)
{
    static const char begin[] =
        "function FindProxyForURL(url,host){var h=host.toLowerCase().replace(/^\\[|\\]$/g,\"\"),i,d=[";
    static const char middle[] =
        "\"local\"];if(!/^(https?|wss?):/i.test(url))return\"DIRECT\";"
        "if(h.indexOf(\":\")>=0){if(/^(::1$|f[cd]|fe[89ab])/.test(h))return\"DIRECT\";}"
        "else if(/^\\d+\\.\\d+\\.\\d+\\.\\d+$/.test(h)){"
        "if(/^(10|127|169\\.254|172\\.(1[6-9]|2\\d|3[01])|192\\.168)\\./.test(h))return\"DIRECT\";}"
        "else{h=h.replace(/\\.$/,\"\");if(h.indexOf(\".\")<0)return\"DIRECT\";"
        "for(i=0;i<d.length;i++)if(h==d[i]||h.slice(-d[i].length-1)==\".\"+d[i])return\"DIRECT\";}return\"";
    struct sink k = {out, at, room, 0};
    pour(&k, begin);
    pour_domains(&k, pac->direct);
    pour(&k, middle);
    pour(&k, tls ? "HTTPS " : "PROXY ");
    for (size_t i = 0; i < host_len; i++) pour_octet(&k, host[i]);
    pour(&k, missing_port(host, host_len, tls));
    pour(&k, pac->falls_back ? "; DIRECT\";}\n" : "\";}\n");
    return poured(&k);
}

#endif

/* ==== 8  Sessions, timers, buffers, pipes ========================================================== */

enum state {
    STATE_FREE,
    STATE_IDLE,    /* connected, nothing received of a request */
    STATE_HEAD,
    STATE_LOGIN,   /* its password takes long to check */
    STATE_RESOLVE,
    STATE_CONNECT,
    STATE_AWAIT,   /* request on its way, no final response yet */
    STATE_RELAY,
    STATE_TUNNEL,
    STATE_REPLY,
    STATE_LINGER,
    STATE_SOCKS_HOP    /* a parent that speaks SOCKS5 is told where to connect; WITH_ROUTES */
};

/* Flags of a session. The first group lasts as long as the client's connection, the rest is cleared for each request.
 */
enum {
    IS_RESERVED = 1 << 0,   /* in a place that exists only to refuse it */
    IS_GRANTED = 1 << 1,    /* a buffer is kept for it */
    HAS_SERVER = 1 << 2,    /* server[server_at] is connected */
    IS_SECURE = MINIPROXY_WITH_TLS << 25, /* server[] speak TLS, if the port knows of any */
    IS_CHECK = MINIPROXY_WITH_ROUTES << 26, /* a health check: there is no client */
    ASKS_TUNNEL = MINIPROXY_WITH_ROUTES << 30, /* its CONNECT was sent to a parent */
    IS_DIVERTED = MINIPROXY_WITH_INTERCEPTION << 27, /* it was meant for an origin, whose client knows of no proxy */
    HEADER_DUE = MINIPROXY_WITH_PROXY_PROTOCOL << 29, /* of the PROXY protocol */
    OF_CONNECTION = IS_RESERVED | IS_GRANTED | HAS_SERVER | IS_SECURE | IS_CHECK | HEADER_DUE,
    IS_OPEN = 1 << 3,       /* a transaction is under way: an event is due */
    LINE_READ = 1 << 4,     /* its request line is valid and stands in line[] */
    IS_HTTP10 = 1 << 5,
    IS_HEAD = 1 << 6,
    IS_REPEATABLE = 1 << 7, /* idempotent, without a body, nothing has been received that matters */
    IS_REUSED = 1 << 8,     /* over a kept upstream connection */
    IS_UPGRADE = 1 << 9,    /* asks for websocket */
    KEEPS_CLIENT = 1 << 10,
    KEEPS_SERVER = 1 << 11,
    HAS_ANSWERED = 1 << 12, /* octets of the final response, or of a tunnel, have left */
    UP_DONE = 1 << 13,      /* no more of the request will be sent */
    UP_CUT = 1 << 14,       /* … and it was not sent completely */
    GREETING_DUE = 1 << 15, /* 200 to CONNECT */
    NEXT_ATTEMPT = 1 << 16, /* the head start of the last connection attempt is over */
    RESOLVING = 1 << 17,
    IS_WRITTEN = 1 << 18,   /* the head has been rewritten: no plan stands in front of it any more */
    FIRST_BYTE_SEEN = 1 << 19,
    FIN_SENT = 1 << 20,
    IS_BARE = 1 << 21,      /* its refusal is bare_reply */
    HAS_WAITED = 1 << 22,   /* for a buffer */
    EXPECTS_100 = 1 << 23,  /* nothing of the body is due before the origin says 100 */
    IN_LOGIN = 1 << 24,     /* stands in the queue of logins */
    IS_SOCKS = 1 << 28      /* the client speaks SOCKS5 */
};
#define IS_GRANTED_DOWN (UINT32_C(1) << 31) /* with IS_GRANTED: it may be one of those that uploads must not have */

enum { CHECK_NEVER, CHECK_WAITS, CHECK_RUNS }; /* miniproxy_health.phase */

static unsigned slot_of(const struct miniproxy *p, const struct miniproxy_session *s)
{
    return (unsigned)(s - p->sessions);
}

/* How queues and lists name a session. */
static uint16_t number_of(const struct miniproxy *p, const struct miniproxy_session *s)
{
    return u16(slot_of(p, s) + 1);
}

static struct miniproxy_conn *server_of(struct miniproxy_session *s)
{
    return &s->server[s->server_at];
}

/* ---- timers: a queue for every kind, so each is in order of itself ---- */

static struct miniproxy_timer *timer_at(struct miniproxy *p, unsigned number)
{
    return &p->sessions[(number - 1) / MINIPROXY_TIMERS_EACH].timer[(number - 1) % MINIPROXY_TIMERS_EACH];
}

static void disarm(struct miniproxy *p, struct miniproxy_session *s, unsigned which)
{
    struct miniproxy_timer *t = &s->timer[which];
    struct miniproxy_list *q;
    if (s->timeout[which] == 0) return;
    q = &p->timers[s->timeout[which] - 1];
    if (t->prev != 0) timer_at(p, t->prev)->next = t->next;
    else q->head = t->next;
    if (t->next != 0) timer_at(p, t->next)->prev = t->prev;
    else q->tail = t->prev;
    s->timeout[which] = 0;
}

static void arm(struct miniproxy *p, struct miniproxy_session *s, unsigned which, enum miniproxy_timeout kind)
{
    struct miniproxy_timer *t = &s->timer[which];
    struct miniproxy_list *q = &p->timers[kind];
    uint16_t number = u16(slot_of(p, s) * MINIPROXY_TIMERS_EACH + which + 1);
    disarm(p, s, which);
    if (p->config.timeout_ms[kind] == 0) return;
    t->due_ms = p->now_ms + p->config.timeout_ms[kind];
    s->timeout[which] = (uint8_t)(kind + 1);
    t->prev = q->tail;
    t->next = 0;
    if (q->tail != 0) timer_at(p, q->tail)->next = number;
    else q->head = number;
    q->tail = number;
}

static bool is_armed(const struct miniproxy_session *s, unsigned which, enum miniproxy_timeout kind)
{
    return s->timeout[which] == kind + 1;
}

/* ---- queues of sessions ---- */

static void push(struct miniproxy *p, struct miniproxy_list *q, struct miniproxy_session *s, bool run)
{
    uint16_t number = number_of(p, s);
    if (q->tail == 0) q->head = number;
    else if (run) p->sessions[q->tail - 1].run_next = number;
    else p->sessions[q->tail - 1].wait_next = number;
    q->tail = number;
    if (run) s->run_next = 0;
    else s->wait_next = 0;
}

static void run_soon(struct miniproxy *p, struct miniproxy_session *s, uint8_t lane)
{
    if (s->lane != 0) return;
    s->lane = (uint8_t)(lane + 1);
    push(p, &p->run[lane], s, true);
}

/* ---- buffers ---- */

enum { FOR_CLIENT, FOR_ORIGIN }; /* lanes of the queue for buffers */

/* Take out one that stands in a queue by wait_next. */
static void take_out(struct miniproxy *p, struct miniproxy_list *q, struct miniproxy_session *s)
{
    uint16_t number = number_of(p, s), at, before = 0;
    for (at = q->head; at != number; at = p->sessions[at - 1].wait_next) before = at;
    if (before == 0) q->head = s->wait_next;
    else p->sessions[before - 1].wait_next = s->wait_next;
    if (q->tail == number) q->tail = before;
}

static void leave_wait(struct miniproxy *p, struct miniproxy_session *s)
{
    if (s->wait_lane == 0) return;
    take_out(p, &p->wait[s->wait_lane - 1], s);
    s->wait_lane = 0;
}

/* Promise free buffers to those who wait, first come, first served. */
static void grant(struct miniproxy *p)
{
    for (unsigned lane = FOR_CLIENT; lane <= FOR_ORIGIN; lane++) {
        unsigned keep = lane == FOR_ORIGIN ? BUFFER_RESERVE : 0;
        while (p->wait[lane].head != 0 && p->counters.buffers + p->granted + keep < MINIPROXY_BUFFERS) {
            struct miniproxy_session *s = &p->sessions[p->wait[lane].head - 1];
            leave_wait(p, s);
            if (BUFFER_RESERVE == 0 || (s->flags & IS_GRANTED) == 0) p->granted++; /* it may still have one for a response */
            s->flags |= IS_GRANTED;
            if (BUFFER_RESERVE > 0 && lane == FOR_CLIENT) s->flags |= IS_GRANTED_DOWN;
            run_soon(p, s, 0);
        }
    }
}

/* It is not wanted, or taken. */
static void drop_grant(struct miniproxy *p, struct miniproxy_session *s)
{
    if ((s->flags & IS_GRANTED) == 0) return;
    s->flags &= ~(IS_GRANTED | IS_GRANTED_DOWN);
    p->granted--;
}

static void take_buffer(struct miniproxy *p, struct miniproxy_pipe *pipe)
{
    struct miniproxy_buffer *b = p->buffers_free;
    if (b != NULL) p->buffers_free = b->next;
    else b = &p->buffers[p->buffers_used++];
    if (++p->counters.buffers > p->counters.buffers_peak) p->counters.buffers_peak = p->counters.buffers;
    b->out = b->out_end = b->in = b->in_end = b->scan = 0;
    pipe->buffer = b;
}

/* A buffer for a direction, or false: the session is then visited again when its turn has come. */
static bool borrow(struct miniproxy *p, struct miniproxy_session *s, struct miniproxy_pipe *pipe)
{
    unsigned lane = pipe == &s->down ? FOR_CLIENT : FOR_ORIGIN;
    unsigned keep = lane == FOR_ORIGIN ? BUFFER_RESERVE : 0;
    if (pipe->buffer != NULL) return true;
    if ((s->flags & IS_GRANTED) != 0 && (keep == 0 || (s->flags & IS_GRANTED_DOWN) == 0)) {
        drop_grant(p, s);
    } else if (p->wait[FOR_CLIENT].head != 0 || (lane == FOR_ORIGIN && p->wait[FOR_ORIGIN].head != 0) ||
               p->counters.buffers + p->granted + keep >= MINIPROXY_BUFFERS) {
        s->flags |= HAS_WAITED;
        /* It waited for an upload's, and what is kept back for responses was not for that. */
        if (BUFFER_RESERVE > 0 && lane == FOR_CLIENT && s->wait_lane == FOR_ORIGIN + 1) leave_wait(p, s);
        if (s->wait_lane == 0) {
            s->wait_lane = (uint8_t)(lane + 1);
            push(p, &p->wait[lane], s, false);
            p->counters.buffer_waits++;
        }
        return false;
    }
    take_buffer(p, pipe);
    return true;
}

static void give_back(struct miniproxy *p, struct miniproxy_pipe *pipe)
{
    if (pipe->buffer == NULL) return;
    pipe->buffer->next = p->buffers_free;
    p->buffers_free = pipe->buffer;
    pipe->buffer = NULL;
    p->counters.buffers--;
    grant(p);
}

static bool has_sendable(const struct miniproxy_buffer *b)
{
    return b != NULL && b->out < b->out_end;
}

static bool has_received(const struct miniproxy_buffer *b)
{
    return b != NULL && b->in < b->in_end;
}

/* Move what has been received to offset `to`; nothing waits to be sent. */
static void settle(struct miniproxy_buffer *b, size_t to)
{
    size_t len = (size_t)(b->in_end - b->in);
    MINIPROXY_ASSERT(b->out == b->out_end);
    b->out = b->out_end = 0;
    if (b->in == to) return;
    memmove(b->u.data + to, b->u.data + b->in, len);
    b->scan = u16(b->scan > b->in ? to + (b->scan - b->in) : to);
    b->in = u16(to);
    b->in_end = u16(to + len);
}

/* ---- logins that take long: first come, first served, one slice a poll ---- */

#if MINIPROXY_WITH_PBKDF2

static void queue_login(struct miniproxy *p, struct miniproxy_session *s)
{
    s->flags |= IN_LOGIN;
    push(p, &p->logins, s, false);
}

/* Its login has a result, or is not wanted any more. To break one off is as good as to fail: nobody else was served
 * meanwhile. Nothing of the password stays. */
static void leave_login(struct miniproxy *p, struct miniproxy_session *s)
{
    struct miniproxy_buffer *b = s->up.buffer;
    struct credentials c;
    if ((s->flags & IN_LOGIN) == 0) return;
    s->flags &= ~(uint32_t)IN_LOGIN;
    c.name = b->u.data + plan_of(b)->head.login.at;
    c.end = c.name + plan_of(b)->head.login.len;
    wipe_credentials(&c);
    if (p->logins.head == number_of(p, s) && p->login.is_begun) {
        if (p->login.cause == MINIPROXY_CAUSE_NONE) forget_failures(p, &s->client_addr);
        else if (p->login.cause != MINIPROXY_CAUSE_LOGIN_THROTTLED) note_failure(p, &s->client_addr);
        wipe(&p->login, sizeof p->login);
    }
    take_out(p, &p->logins, s);
}

/* The result for a session in the queue, and whose login it is: a cause, or MORE while there is none. */
static enum miniproxy_cause login_result(const struct miniproxy *p, const struct miniproxy_session *s,
                                         const struct miniproxy_user **user)
{
    *user = p->login.user;
    if (p->logins.head != number_of(p, s) || !p->login.is_begun) return MORE;
    return (enum miniproxy_cause)p->login.cause;
}

/* Do a slice of the first login in the queue. False: the queue is empty. */
static bool run_logins(struct miniproxy *p)
{
    struct miniproxy_session *s;
    struct miniproxy_buffer *b;
    if (p->logins.head == 0) return false;
    s = &p->sessions[p->logins.head - 1];
    b = s->up.buffer;
    if (!p->login.is_begun) begin_login(p, s->policy, &s->client_addr, b, plan_of(b)->head.login);
    else if (p->login.cause == MORE) go_on_login(p);
    if (p->login.cause != MORE) run_soon(p, s, 0);
    return true;
}

#else

static void queue_login(struct miniproxy *p, struct miniproxy_session *s)
{
    (void)p, (void)s;
}

static void leave_login(struct miniproxy *p, struct miniproxy_session *s)
{
    (void)p, (void)s;
}

static enum miniproxy_cause login_result(const struct miniproxy *p, const struct miniproxy_session *s,
                                         const struct miniproxy_user **user)
{
    (void)p, (void)s, (void)user;
    return MORE;
}

static bool run_logins(struct miniproxy *p)
{
    (void)p;
    return false;
}

#endif

/* ---- limits ----
 *
 * A transaction holds a bucket for each limit that holds for it. A direction pays for octets before it takes them, to
 * one bucket after the other. Where a bucket has too little, or others wait already, it stands in the queue of that
 * bucket; the first one is served as soon as the bucket has the octets of TURN_MS for it. What was paid for and has not
 * come is paid back at once. A head is only paid for when the policy has allowed its request: that can make a debt.
 *
 * Buckets are found by hash. A heap knows which of those that somebody waits for is due first.
 */

#if MINIPROXY_WITH_LIMITS

enum { WAY_DOWN, WAY_UP };

enum {
    OCTET = 1000,    /* tokens: one octet a second is one token a millisecond */
    REQUEST = 60000, /* the same for a request a minute */
    TURN_MS = 50
};

static unsigned way_of(const struct miniproxy_session *s, const struct miniproxy_pipe *pipe)
{
    return pipe == &s->up ? WAY_UP : WAY_DOWN;
}

static struct miniproxy_bucket *bucket_at(struct miniproxy *p, unsigned number)
{
    return &p->limits.buckets[number - 1];
}

static uint16_t number_of_bucket(const struct miniproxy *p, const struct miniproxy_bucket *b)
{
    return u16((size_t)(b - p->limits.buckets) + 1);
}

static uint32_t rate_of(const struct miniproxy_limit *l, unsigned way)
{
    return way == WAY_DOWN ? l->down_per_s : l->up_per_s;
}

static uint32_t burst_of(const struct miniproxy_limit *l, unsigned way)
{
    uint32_t rate = rate_of(l, way);
    if (l->burst != 0) return l->burst;
    return rate < 10 ? 1 : rate / 10;
}

static uint32_t request_burst_of(const struct miniproxy_limit *l)
{
    if (l->request_burst != 0) return l->request_burst;
    return l->requests_a_minute < 10 ? 1 : l->requests_a_minute / 10u;
}

/* What a direction waits for that wants `octets`. More than one octet, or each would be a visit of its own. */
static uint32_t need_of(const struct miniproxy_limit *l, unsigned way, uint32_t octets)
{
    uint32_t turn = rate_of(l, way) / (1000 / TURN_MS), burst = burst_of(l, way);
    if (turn > burst) turn = burst;
    if (turn > octets) turn = octets;
    return turn == 0 ? 1 : turn;
}

static int64_t tokens_for(uint32_t octets)
{
    return (int64_t)((uint64_t)octets * OCTET);
}

static void refill(const struct miniproxy *p, struct miniproxy_bucket *b)
{
    const struct miniproxy_limit *l = b->limit;
    uint32_t elapsed_ms = p->now_ms - b->since_ms, most = request_burst_of(l) * REQUEST;
    uint64_t gain = (uint64_t)l->requests_a_minute * elapsed_ms;
    if (elapsed_ms == 0) return;
    b->since_ms = p->now_ms;
    b->requests = gain < most - b->requests ? b->requests + (uint32_t)gain : most;
    for (unsigned way = WAY_DOWN; way <= WAY_UP; way++) {
        int64_t full = tokens_for(burst_of(l, way));
        gain = (uint64_t)rate_of(l, way) * elapsed_ms;
        b->tokens[way] = gain < (uint64_t)(full - b->tokens[way]) ? b->tokens[way] + (int64_t)gain : full;
    }
}

/* ---- which bucket is due first ---- */

static void put_into_heap(struct miniproxy *p, unsigned at, uint16_t number)
{
    p->limits.heap[at] = number;
    bucket_at(p, number)->place = u16(at + 1);
}

static bool is_due_before(struct miniproxy *p, unsigned a, unsigned b)
{
    return (int32_t)(bucket_at(p, a)->due_ms - bucket_at(p, b)->due_ms) < 0;
}

/* The bucket at this place of the heap may be in the wrong one. */
static void sift(struct miniproxy *p, unsigned at)
{
    const uint16_t *heap = p->limits.heap;
    uint16_t number = heap[at];
    unsigned child;
    for (; at > 0 && is_due_before(p, number, heap[(at - 1) / 2]); at = (at - 1) / 2)
        put_into_heap(p, at, heap[(at - 1) / 2]);
    for (; (child = 2 * at + 1) < p->limits.waiting; at = child) {
        if (child + 1 < p->limits.waiting && is_due_before(p, heap[child + 1], heap[child])) child++;
        if (!is_due_before(p, heap[child], number)) break;
        put_into_heap(p, at, heap[child]);
    }
    put_into_heap(p, at, number);
}

static void wait_no_more(struct miniproxy *p, struct miniproxy_bucket *b)
{
    unsigned at = b->place - 1u;
    uint16_t last;
    if (b->place == 0) return;
    b->place = 0;
    last = p->limits.heap[--p->limits.waiting];
    if (at == p->limits.waiting) return;
    p->limits.heap[at] = last;
    sift(p, at);
}

/* Milliseconds until there is enough for the first in a queue. */
static uint32_t wait_of(struct miniproxy *p, const struct miniproxy_bucket *b, unsigned way)
{
    uint16_t number = b->u.queue[way].head;
    uint32_t rate = rate_of(b->limit, way), missing;
    int64_t tokens;
    if (number == 0) return MINIPROXY_FOREVER;
    tokens = tokens_for(need_of(b->limit, way, p->sessions[number - 1].turn[way].octets)) - b->tokens[way];
    if (tokens <= 0) return 0;
    missing = tokens < TIMEOUT_MAX_MS ? (uint32_t)tokens : TIMEOUT_MAX_MS; /* of more: looked at again before */
    return missing / rate + (missing % rate != 0);
}

/* A queue of this bucket, or what it has, is not what it was. */
static void reckon(struct miniproxy *p, struct miniproxy_bucket *b)
{
    uint32_t down_ms, up_ms;
    refill(p, b);
    down_ms = wait_of(p, b, WAY_DOWN);
    up_ms = wait_of(p, b, WAY_UP);
    if (up_ms < down_ms) down_ms = up_ms;
    if (down_ms == MINIPROXY_FOREVER) {
        wait_no_more(p, b);
        return;
    }
    b->due_ms = p->now_ms + down_ms;
    if (b->place == 0) {
        p->limits.heap[p->limits.waiting++] = number_of_bucket(p, b);
        b->place = p->limits.waiting;
    }
    sift(p, b->place - 1u);
}

static uint32_t limits_left(struct miniproxy *p)
{
    if (p->limits.waiting == 0) return MINIPROXY_FOREVER;
    return time_left(p->now_ms, bucket_at(p, p->limits.heap[0])->due_ms);
}

/* ---- to pay and to wait ---- */

static void stand_in(struct miniproxy *p, struct miniproxy_session *s, unsigned way, unsigned i)
{
    struct miniproxy_bucket *b = bucket_at(p, s->buckets[i]);
    struct miniproxy_list *q = &b->u.queue[way];
    struct miniproxy_turn *t = &s->turn[way];
    t->stage = (uint8_t)(i + 1);
    t->prev = q->tail;
    t->next = 0;
    q->tail = number_of(p, s);
    if (t->prev != 0) {
        p->sessions[t->prev - 1].turn[way].next = q->tail;
    } else {
        q->head = q->tail;
        reckon(p, b);
    }
}

static void step_out(struct miniproxy *p, struct miniproxy_session *s, unsigned way)
{
    struct miniproxy_turn *t = &s->turn[way];
    struct miniproxy_list *q = &bucket_at(p, s->buckets[t->stage - 1])->u.queue[way];
    if (t->prev != 0) p->sessions[t->prev - 1].turn[way].next = t->next;
    else q->head = t->next;
    if (t->next != 0) p->sessions[t->next - 1].turn[way].prev = t->prev;
    else q->tail = t->prev;
    t->stage = 0;
}

static void take_tokens(struct miniproxy_bucket *b, unsigned way, uint32_t octets)
{
    if (rate_of(b->limit, way) != 0) b->tokens[way] -= tokens_for(octets);
}

/* Give octets back to the first of a session's buckets. */
static void refund(struct miniproxy *p, struct miniproxy_session *s, unsigned way, unsigned count, uint32_t octets)
{
    for (unsigned i = 0; i < count && s->buckets[i] != 0 && octets > 0; i++) {
        struct miniproxy_bucket *b = bucket_at(p, s->buckets[i]);
        int64_t full = tokens_for(burst_of(b->limit, way));
        if (rate_of(b->limit, way) == 0) continue;
        b->tokens[way] += tokens_for(octets);
        if (b->tokens[way] > full) b->tokens[way] = full;
        if (b->u.queue[way].head != 0) reckon(p, b);
    }
}

/* Pay for what a direction wants, or for less, from one of its buckets on. False: it has to wait. */
static bool pay(struct miniproxy *p, struct miniproxy_session *s, unsigned way, unsigned first)
{
    struct miniproxy_turn *t = &s->turn[way];
    for (unsigned i = first; i < MINIPROXY_LIMITS_EACH && s->buckets[i] != 0; i++) {
        struct miniproxy_bucket *b = bucket_at(p, s->buckets[i]);
        if (rate_of(b->limit, way) == 0) continue;
        refill(p, b);
        if (b->u.queue[way].head != 0 || b->tokens[way] < tokens_for(need_of(b->limit, way, t->octets))) {
            stand_in(p, s, way, i);
            return false;
        }
        if (b->tokens[way] < tokens_for(t->octets)) {
            uint16_t less = u16((uint32_t)b->tokens[way] / OCTET);
            refund(p, s, way, i, (uint32_t)(t->octets - less));
            t->octets = less;
        }
        take_tokens(b, way, t->octets);
    }
    return true;
}

/* How many of up to *most octets a direction may take now. False: none, it is visited again when it may. */
static bool may_take(struct miniproxy *p, struct miniproxy_session *s, const struct miniproxy_pipe *pipe, size_t *most)
{
    unsigned way = way_of(s, pipe);
    struct miniproxy_turn *t = &s->turn[way];
    if (s->buckets[0] == 0) return true;
    if (t->stage != 0) return false;
    if (t->octets == 0) {
        t->octets = u16(*most);
        if (!pay(p, s, way, 0)) return false;
    }
    if (*most > t->octets) *most = t->octets;
    return true;
}

/* So many have come, or it was an error. */
static void taken(struct miniproxy *p, struct miniproxy_session *s, const struct miniproxy_pipe *pipe, int n)
{
    unsigned way = way_of(s, pipe);
    struct miniproxy_turn *t = &s->turn[way];
    refund(p, s, way, MINIPROXY_LIMITS_EACH, t->octets - (n > 0 ? (unsigned)n : 0));
    t->octets = 0;
}

/* Octets turn out to be those of another request. */
static void pay_back(struct miniproxy *p, struct miniproxy_session *s, const struct miniproxy_pipe *pipe,
                     unsigned octets)
{
    refund(p, s, way_of(s, pipe), MINIPROXY_LIMITS_EACH, octets);
}

/* After a visit: it had its turn and did not need it. While it waits for a buffer it will. */
static void drop_allowance(struct miniproxy *p, struct miniproxy_session *s)
{
    if (s->wait_lane != 0) return;
    if (s->turn[WAY_DOWN].stage == 0 && s->turn[WAY_DOWN].octets != 0) taken(p, s, &s->down, 0);
    if (s->turn[WAY_UP].stage == 0 && s->turn[WAY_UP].octets != 0) taken(p, s, &s->up, 0);
}

/* Does a direction wait for its turn? */
static bool is_rationed(const struct miniproxy_session *s, const struct miniproxy_pipe *pipe)
{
    return s->turn[way_of(s, pipe)].stage != 0;
}

/* Those who wait for a bucket, as far as it reaches. */
static void serve(struct miniproxy *p, struct miniproxy_bucket *b, unsigned way)
{
    uint16_t number;
    while ((number = b->u.queue[way].head) != 0) {
        struct miniproxy_session *s = &p->sessions[number - 1];
        struct miniproxy_turn *t = &s->turn[way];
        unsigned i = t->stage - 1u;
        uint16_t need = u16(need_of(b->limit, way, t->octets));
        if (b->tokens[way] < tokens_for(need)) return;
        step_out(p, s, way);
        refund(p, s, way, i, (uint32_t)(t->octets - need));
        t->octets = need;
        take_tokens(b, way, need);
        if (pay(p, s, way, i + 1)) run_soon(p, s, 0);
    }
}

static void run_limits(struct miniproxy *p)
{
    while (limits_left(p) == 0) {
        struct miniproxy_bucket *b = bucket_at(p, p->limits.heap[0]);
        refill(p, b);
        serve(p, b, WAY_DOWN);
        serve(p, b, WAY_UP);
        reckon(p, b);
    }
}

/* ---- whose bucket ---- */

/* IPv4 addresses stand where IPv6 has no networks of clients. */
static void name_owner(const struct miniproxy_limit *l, const struct miniproxy_session *s, uint32_t who[2])
{
    const uint8_t *ip4 = plain_ip4(&s->client_addr);
    who[0] = who[1] = 0;
    if (l->share == MINIPROXY_EACH_USER) {
        who[1] = (uint32_t)(s->user - s->policy->users);
    } else if (l->share == MINIPROXY_EACH_CLIENT && ip4 != NULL) {
        who[1] = ip4_number(ip4);
    } else if (l->share == MINIPROXY_EACH_CLIENT && MINIPROXY_WITH_IPV6) {
        who[0] = ip4_number(s->client_addr.ip);
        who[1] = ip4_number(s->client_addr.ip + (MINIPROXY_WITH_IPV6 ? 4 : 0));
    }
}

static uint16_t *chain_of(struct miniproxy *p, const struct miniproxy_limit *l, const uint32_t who[2])
{
    uint32_t hash = (uint32_t)((uintptr_t)l / sizeof *l);
    hash = ((hash * 31 + who[0]) * 0x85EBCA6Bu + who[1]) * 0x9E3779B1u;
    return &p->limits.chains[(uint64_t)hash * MINIPROXY_LIMIT_BUCKETS >> 32];
}

static void join_chain(struct miniproxy *p, struct miniproxy_bucket *b)
{
    uint16_t *chain = chain_of(p, b->limit, b->who);
    b->next = *chain;
    *chain = number_of_bucket(p, b);
}

static void leave_chain(struct miniproxy *p, struct miniproxy_bucket *b)
{
    uint16_t *at = chain_of(p, b->limit, b->who), number = number_of_bucket(p, b);
    while (*at != number) at = &bucket_at(p, *at)->next;
    *at = b->next;
}

static struct miniproxy_bucket *find_bucket(struct miniproxy *p, const struct miniproxy_limit *l, const uint32_t who[2])
{
    struct miniproxy_bucket *b;
    for (uint16_t number = *chain_of(p, l, who); number != 0; number = b->next) {
        b = bucket_at(p, number);
        if (b->limit == l && b->who[0] == who[0] && b->who[1] == who[1]) return b;
    }
    return NULL;
}

static void join_quiet(struct miniproxy *p, struct miniproxy_bucket *b)
{
    struct miniproxy_list *q = &p->limits.quiet;
    uint16_t number = number_of_bucket(p, b);
    b->u.quiet.older = q->tail;
    b->u.quiet.newer = 0;
    if (q->tail != 0) bucket_at(p, q->tail)->u.quiet.newer = number;
    else q->head = number;
    q->tail = number;
}

static void leave_quiet(struct miniproxy *p, struct miniproxy_bucket *b)
{
    struct miniproxy_list *q = &p->limits.quiet;
    uint16_t older = b->u.quiet.older, newer = b->u.quiet.newer;
    if (older != 0) bucket_at(p, older)->u.quiet.newer = newer;
    else q->head = newer;
    if (newer != 0) bucket_at(p, newer)->u.quiet.older = older;
    else q->tail = older;
    memset(&b->u, 0, sizeof b->u); /* nobody waits for it */
}

static void free_bucket(struct miniproxy *p, struct miniproxy_bucket *b)
{
    b->limit = NULL;
    b->next = p->limits.free;
    p->limits.free = number_of_bucket(p, b);
}

/* A record for a new bucket, or NULL. */
static struct miniproxy_bucket *take_record(struct miniproxy *p)
{
    struct miniproxy_bucket *b;
    if (p->limits.free != 0) {
        b = bucket_at(p, p->limits.free);
        p->limits.free = b->next;
        return b;
    }
    if (p->limits.used < MINIPROXY_LIMIT_BUCKETS) return &p->limits.buckets[p->limits.used++];
    if (p->limits.quiet.head == 0) return NULL;
    b = bucket_at(p, p->limits.quiet.head);
    leave_quiet(p, b);
    leave_chain(p, b);
    return b;
}

/* A full bucket. A request that was decided by a policy that has gone meanwhile gets one that nobody finds. */
static struct miniproxy_bucket *new_bucket(struct miniproxy *p, const struct miniproxy_session *s,
                                           const struct miniproxy_limit *l, const uint32_t who[2])
{
    struct miniproxy_bucket *b = take_record(p);
    if (b == NULL) return NULL;
    memset(b, 0, sizeof *b);
    b->limit = l;
    b->who[0] = who[0];
    b->who[1] = who[1];
    b->tokens[WAY_DOWN] = tokens_for(burst_of(l, WAY_DOWN));
    b->tokens[WAY_UP] = tokens_for(burst_of(l, WAY_UP));
    b->requests = request_burst_of(l) * REQUEST;
    b->since_ms = p->now_ms;
    b->is_old = s->policy != p->config.policy;
    if (!b->is_old) join_chain(p, b);
    return b;
}

/* Hold the session's bucket of a limit; NULL: there is no room for it. */
static struct miniproxy_bucket *hold(struct miniproxy *p, const struct miniproxy_session *s,
                                     const struct miniproxy_limit *l)
{
    struct miniproxy_bucket *b;
    uint32_t who[2];
    name_owner(l, s, who);
    b = find_bucket(p, l, who);
    if (b == NULL) b = new_bucket(p, s, l, who);
    else if (b->holders == 0) leave_quiet(p, b);
    if (b != NULL) b->holders++;
    return b;
}

static void drop_hold(struct miniproxy *p, struct miniproxy_bucket *b)
{
    if (--b->holders != 0) return;
    if (b->is_old) free_bucket(p, b);
    else join_quiet(p, b);
}

/* The session's transaction is over, or is not going to be. */
static void let_go(struct miniproxy *p, struct miniproxy_session *s)
{
    for (unsigned way = WAY_DOWN; way <= WAY_UP; way++) {
        struct miniproxy_turn *t = &s->turn[way];
        unsigned stage = t->stage;
        if (stage != 0) {
            step_out(p, s, way);
            reckon(p, bucket_at(p, s->buckets[stage - 1]));
        }
        refund(p, s, way, stage != 0 ? stage - 1 : MINIPROXY_LIMITS_EACH, t->octets);
        t->octets = 0;
    }
    for (unsigned i = 0; i < MINIPROXY_LIMITS_EACH && s->buckets[i] != 0; i++) {
        drop_hold(p, bucket_at(p, s->buckets[i]));
        s->buckets[i] = 0;
    }
}

static bool limit_holds(const struct miniproxy_limit *l, const struct miniproxy_session *s)
{
    unsigned groups = s->user != NULL ? s->user->groups | MINIPROXY_AUTHENTICATED : 0;
    if (l->clients != NULL && !nets_match(l->clients, &s->client_addr)) return false;
    if (l->share == MINIPROXY_EACH_USER && s->user == NULL) return false;
    return l->users == 0 || (l->users & groups) != 0;
}

/* May one more transaction begin, that holds the bucket already? */
static enum miniproxy_cause may_begin(const struct miniproxy *p, struct miniproxy_session *s,
                                      struct miniproxy_bucket *b)
{
    const struct miniproxy_limit *l = b->limit;
    if (l->at_once != 0 && b->holders > l->at_once) return MINIPROXY_CAUSE_AT_ONCE;
    refill(p, b);
    if (l->requests_a_minute == 0 || b->requests >= REQUEST) return MINIPROXY_CAUSE_NONE;
    s->retry_s = (uint8_t)((REQUEST - b->requests + 1000u * l->requests_a_minute - 1) / (1000u * l->requests_a_minute));
    return MINIPROXY_CAUSE_REQUEST_RATE;
}

/* The policy has allowed the session's request: may it begin? It pays for what has come of it. */
OUTLINED static enum miniproxy_cause hold_limits(struct miniproxy *p, struct miniproxy_session *s)
{
    const struct miniproxy_policy *policy = s->policy;
    enum miniproxy_cause cause = MINIPROXY_CAUSE_NONE;
    unsigned count = 0;
    for (unsigned i = 0; policy != NULL && i < policy->limit_count && count < MINIPROXY_LIMITS_EACH; i++) {
        struct miniproxy_bucket *b;
        if (!limit_holds(policy->limits + i, s)) continue;
        b = hold(p, s, policy->limits + i);
        if (b != NULL) s->buckets[count++] = number_of_bucket(p, b);
        cause = b != NULL ? may_begin(p, s, b) : MINIPROXY_CAUSE_SESSIONS_FULL;
        if (cause == MINIPROXY_CAUSE_NONE) continue;
        let_go(p, s);
        return cause;
    }
    for (unsigned i = 0; i < count; i++) {
        struct miniproxy_bucket *b = bucket_at(p, s->buckets[i]);
        if (b->limit->requests_a_minute != 0) b->requests -= REQUEST;
        take_tokens(b, WAY_UP, (uint32_t)s->bytes_up);
    }
    return MINIPROXY_CAUSE_NONE;
}

/* Seconds until a client that has asked too often may ask again; 0: that is not why it is refused. */
static unsigned rate_wait(const struct miniproxy_session *s)
{
    return s->cause == MINIPROXY_CAUSE_REQUEST_RATE ? s->retry_s : 0;
}

/* Another policy: new requests match none of these. */
static void retire_buckets(struct miniproxy *p)
{
    for (unsigned number = 1; number <= p->limits.used; number++) {
        struct miniproxy_bucket *b = bucket_at(p, number);
        if (b->limit == NULL || b->is_old) continue;
        leave_chain(p, b);
        b->is_old = true;
        if (b->holders != 0) continue;
        leave_quiet(p, b);
        free_bucket(p, b);
    }
}

#else

static bool may_take(struct miniproxy *p, struct miniproxy_session *s, const struct miniproxy_pipe *pipe, size_t *most)
{
    (void)p, (void)s, (void)pipe, (void)most;
    return true;
}

static void taken(struct miniproxy *p, struct miniproxy_session *s, const struct miniproxy_pipe *pipe, int n)
{
    (void)p, (void)s, (void)pipe, (void)n;
}

static void pay_back(struct miniproxy *p, struct miniproxy_session *s, const struct miniproxy_pipe *pipe,
                     unsigned octets)
{
    (void)p, (void)s, (void)pipe, (void)octets;
}

static void drop_allowance(struct miniproxy *p, struct miniproxy_session *s)
{
    (void)p, (void)s;
}

static bool is_rationed(const struct miniproxy_session *s, const struct miniproxy_pipe *pipe)
{
    (void)s, (void)pipe;
    return false;
}

static uint32_t limits_left(struct miniproxy *p)
{
    (void)p;
    return MINIPROXY_FOREVER;
}

static void run_limits(struct miniproxy *p)
{
    (void)p;
}

static void let_go(struct miniproxy *p, struct miniproxy_session *s)
{
    (void)p, (void)s;
}

static enum miniproxy_cause hold_limits(struct miniproxy *p, struct miniproxy_session *s)
{
    (void)p, (void)s;
    return MINIPROXY_CAUSE_NONE;
}

static unsigned rate_wait(const struct miniproxy_session *s)
{
    (void)s;
    return 0;
}

static void retire_buckets(struct miniproxy *p)
{
    (void)p;
}

#endif

/* ---- one direction ---- */

/* Octets that the port may pass on in one visit. Range 1..INT_MAX. */
enum { RELAY_MAX = MINIPROXY_BUFFER_SIZE < 4096 ? 4096 : MINIPROXY_BUFFER_SIZE };

/* What became of a pump. */
enum pumped {
    PUMP_ON,       /* nothing special: moved something or not */
    PUMP_DONE,     /* everything received, decoded and sent */
    PUMP_EOF,      /* the source has closed */
    PUMP_LOST,     /* the source has failed */
    PUMP_STUCK,    /* the sink has failed */
    PUMP_BAD,      /* the source's framing is broken */
    PUMP_LARGE,    /* the body is larger than allowed */
    PUMP_TRAILER   /* the source's trailer section is too large */
};

enum {
    PIPE_COMPLETE = 1,      /* the last byte of the body has been received and decoded */
    PIPE_CHUNKED = 2,       /* the body goes out chunked */
    PIPE_NO_TRAILERS = 4,   /* Connection nominated fields, trailers might be among them */
    PIPE_EOF = 8,           /* tunnel: the source has sent its FIN */
    PIPE_FINISHED = 16,     /* tunnel: which was passed on, or cannot be */
    PIPE_WIDE = 32          /* received bytes may include a head, which wants its headroom */
};

enum chunk_state {
    CHUNK_SIZE,
    CHUNK_BLANK, /* between size and extension */
    CHUNK_EXT,
    CHUNK_QUOTED,
    CHUNK_ESCAPED,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    CHUNK_TRAILER
};

static struct miniproxy_conn *source_of(struct miniproxy_session *s, const struct miniproxy_pipe *pipe)
{
    return pipe == &s->up ? &s->client : server_of(s);
}

static struct miniproxy_conn *sink_of(struct miniproxy_session *s, const struct miniproxy_pipe *pipe)
{
    return pipe == &s->up ? server_of(s) : &s->client;
}

static bool is_chunked(const struct miniproxy_pipe *pipe)
{
    return MINIPROXY_WITH_FORWARDING && (pipe->flags & PIPE_CHUNKED) != 0;
}

static void start_pipe(struct miniproxy_pipe *pipe, uint8_t source, uint64_t length, unsigned flags)
{
    pipe->source = source;
    pipe->left = source == SOURCE_LENGTH ? length : 0;
    pipe->chunk = CHUNK_SIZE;
    pipe->digits = 0;
    pipe->extra = 0;
    pipe->flags = (uint8_t)(flags | (source == SOURCE_NONE ? PIPE_COMPLETE : 0));
}

/* One octet of a chunk's first line, or of the CRLF behind its data (RFC 9112 section 7.1). */
static bool decode_octet(struct miniproxy_pipe *pipe, unsigned char c)
{
    int digit;
    switch (pipe->chunk) {
    case CHUNK_SIZE:
        digit = hex_value(c);
        if (digit >= 0) {
            pipe->left = pipe->left << 4 | (unsigned)digit;
            return ++pipe->digits <= 15; /* 60 bits */
        }
        if (pipe->digits == 0) return false;
        pipe->chunk = c == '\r' ? CHUNK_SIZE_LF : c == ';' ? CHUNK_EXT : CHUNK_BLANK;
        return c == '\r' || c == ';' || is_blank(c);
    case CHUNK_BLANK:
        if (c == ';') pipe->chunk = CHUNK_EXT;
        return (c == ';' || is_blank(c)) && ++pipe->extra <= MINIPROXY_CHUNK_EXT_MAX;
    case CHUNK_EXT:
    case CHUNK_QUOTED:
    case CHUNK_ESCAPED:
        if (c == '\r' && pipe->chunk == CHUNK_EXT) {
            pipe->chunk = CHUNK_SIZE_LF;
            return true;
        }
        if (pipe->chunk == CHUNK_ESCAPED) pipe->chunk = CHUNK_QUOTED;
        else if (c == '"') pipe->chunk = pipe->chunk == CHUNK_EXT ? CHUNK_QUOTED : CHUNK_EXT;
        else if (c == '\\' && pipe->chunk == CHUNK_QUOTED) pipe->chunk = CHUNK_ESCAPED;
        return is_text(c) && ++pipe->extra <= MINIPROXY_CHUNK_EXT_MAX;
    case CHUNK_SIZE_LF:
        if (pipe->left == 0) pipe->extra = 0; /* counts the trailer section from now on */
        pipe->chunk = pipe->left == 0 ? CHUNK_TRAILER : CHUNK_DATA;
        pipe->digits = 0;
        return c == '\n';
    case CHUNK_DATA_CR:
        pipe->chunk = CHUNK_DATA_LF;
        return c == '\r';
    default: /* CHUNK_DATA_LF */
        pipe->chunk = CHUNK_SIZE;
        return c == '\n';
    }
}

/* The trailer section from b->in on, as far as its lines are complete. Lines that may be passed on are written to *w.
 */
static enum pumped decode_trailer(struct miniproxy_pipe *pipe, struct miniproxy_buffer *b, unsigned char **w)
{
    unsigned char *p = b->u.data + b->in, *end = b->u.data + b->in_end, *lf;
    struct line l;
    while ((lf = memchr(p, '\n', (size_t)(end - p))) != NULL) {
        size_t len = (size_t)(lf + 1 - p);
        bool pass = (pipe->flags & (PIPE_CHUNKED | PIPE_NO_TRAILERS)) == PIPE_CHUNKED;
        if (len == 2 && *p == '\r') {
            if (is_chunked(pipe)) *w = put(*w, "\r\n");
            pipe->flags |= PIPE_COMPLETE;
            p += 2;
            break;
        }
        if (len > (size_t)(MINIPROXY_TRAILER_MAX - pipe->extra)) return PUMP_TRAILER;
        if (parse_line(&l, p, lf + 1, false) != MINIPROXY_CAUSE_NONE) return PUMP_BAD;
        pipe->extra = u16(pipe->extra + len);
        if (pass && (l.role & (HOP | NO_TRAILER)) == 0) *w = put_bytes(*w, p, len);
        p = lf + 1;
    }
    b->in = u16((size_t)(p - b->u.data));
    if ((pipe->flags & PIPE_COMPLETE) == 0 && (size_t)(end - p) > (size_t)(MINIPROXY_TRAILER_MAX - pipe->extra))
        return PUMP_TRAILER;
    return PUMP_ON;
}

/* Make data[from..to) the next bytes to be sent, behind those that still wait: the shorter of both moves. */
static void append(struct miniproxy_buffer *b, const unsigned char *from, const unsigned char *to)
{
    size_t start = (size_t)(from - b->u.data), len = (size_t)(to - from), pending = (size_t)(b->out_end - b->out);
    MINIPROXY_ASSERT(start >= b->out_end && (start + len <= b->in || b->in == b->in_end));
    if (len == 0) return;
    if (start + len > b->in) b->in = b->in_end = u16(start + len); /* a chunk's CRLF stands behind what was received */
    if (pending == 0) {
        b->out = u16(start);
    } else if (pending <= len) {
        memmove(b->u.data + start - pending, b->u.data + b->out, pending);
        b->out = u16(start - pending);
    } else {
        memmove(b->u.data + b->out_end, from, len);
        start = b->out_end;
    }
    b->out_end = u16(start + len);
}

/* Put a chunk's frame around data[from..*to): there are CHUNK_ROOM octets in front and two behind. */
static unsigned char *frame_chunk(unsigned char *from, unsigned char **to)
{
    static const char digits[] = "0123456789abcdef";
    size_t len = (size_t)(*to - from);
    *to = put(*to, "\r\n");
    *--from = '\n';
    *--from = '\r';
    for (; len > 0; len >>= 4) *--from = (unsigned char)digits[len & 15];
    return from;
}

/* Chunked data is taken out of its frames in place; what was received of several chunks leaves as one. *limit are the
 * octets that they may still have together; NULL: any number. */
static enum pumped decode_chunked(struct miniproxy_pipe *pipe, struct miniproxy_buffer *b, uint64_t *limit)
{
    unsigned char *p = b->u.data + b->in, *end = b->u.data + b->in_end, *from = NULL, *w = NULL;
    bool chunked = is_chunked(pipe), last = false;
    enum pumped result = PUMP_ON;
    while (p < end && pipe->chunk != CHUNK_TRAILER) {
        size_t n = (size_t)(end - p);
        if (pipe->chunk != CHUNK_DATA) {
            if (!decode_octet(pipe, *p++)) return PUMP_BAD;
            last = pipe->chunk == CHUNK_TRAILER;
            if (pipe->chunk != CHUNK_DATA) continue;
            if (limit == NULL) continue;
            if (pipe->left > *limit) return PUMP_LARGE;
            *limit -= pipe->left;
            continue;
        }
        if (n > pipe->left) n = (size_t)pipe->left;
        if (from == NULL) from = w = p;
        w = put_bytes(w, p, n);
        p += n;
        pipe->left -= n;
        if (pipe->left == 0) pipe->chunk = CHUNK_DATA_CR;
    }
    b->in = u16((size_t)(p - b->u.data));
    if (from != NULL && chunked) from = frame_chunk(from, &w);
    if (last && chunked) {
        if (from == NULL) from = w = p - 3; /* where the size of the last chunk stood, at least in part, or free room */
        w = put(w, "0\r\n");
    }
    if (pipe->chunk == CHUNK_TRAILER) {
        if (from == NULL) from = w = p;
        result = decode_trailer(pipe, b, &w);
    }
    if (from != NULL && result == PUMP_ON) append(b, from, w);
    return result;
}

/* Is it a body that ends so? Without forwarding there are only tunnels. */
static bool is_framed(const struct miniproxy_pipe *pipe, enum source source)
{
    return MINIPROXY_WITH_FORWARDING && pipe->source == source;
}

/* Turn received bytes of a body that is not complete yet into bytes to send. */
static enum pumped decode(struct miniproxy_session *s, struct miniproxy_pipe *pipe)
{
    struct miniproxy_buffer *b = pipe->buffer;
    unsigned char *from, *to;
    if (!has_received(b) || (pipe->flags & PIPE_COMPLETE) != 0) return PUMP_ON;
    if (is_framed(pipe, SOURCE_CHUNKED)) return decode_chunked(pipe, b, pipe == &s->up ? &s->up_limit : NULL);
    from = b->u.data + b->in;
    to = b->u.data + b->in_end;
    if (is_framed(pipe, SOURCE_LENGTH)) {
        if (pipe->left <= (size_t)(to - from)) {
            to = from + pipe->left;
            pipe->flags |= PIPE_COMPLETE;
        }
        pipe->left -= (size_t)(to - from);
    }
    b->in = u16((size_t)(to - b->u.data));
    if (is_chunked(pipe) && to > from) from = frame_chunk(from, &to);
    append(b, from, to);
    return PUMP_ON;
}

static void count_in(struct miniproxy *p, struct miniproxy_session *s, bool from_client, unsigned n)
{
    if (from_client) {
        s->flags &= ~(uint32_t)EXPECTS_100;
        s->bytes_up += n;
        p->counters.bytes_up += n;
        p->moved_up = true;
    } else {
        p->moved_down = true;
    }
}

static void count_out(struct miniproxy *p, struct miniproxy_session *s, bool to_client, unsigned n)
{
    if (to_client) {
        if (s->state == STATE_RELAY) s->flags |= HAS_ANSWERED;
        s->bytes_down += n;
        p->counters.bytes_down += n;
        p->moved_down = true;
    } else {
        p->moved_up = true;
    }
}

/* Send to one side. */
static int send_out(struct miniproxy *p, struct miniproxy_session *s, struct miniproxy_conn *to, const void *from,
                    size_t len)
{
    int n = p->config.port->send(p->config.port_data, to, from, len);
    if (n == MINIPROXY_AGAIN) to->ready &= (uint8_t)~MINIPROXY_WR;
    if (n > 0) count_out(p, s, to == &s->client, (unsigned)n);
    return n;
}

/* Send what is ready in one direction. False: its sink has failed. */
static bool flush(struct miniproxy *p, struct miniproxy_session *s, struct miniproxy_pipe *pipe)
{
    struct miniproxy_conn *to = sink_of(s, pipe);
    struct miniproxy_buffer *b = pipe->buffer;
    int n;
    if (!has_sendable(b) || (to->ready & MINIPROXY_WR) == 0) return true;
    n = send_out(p, s, to, b->u.data + b->out, (size_t)(b->out_end - b->out));
    if (n <= 0) return n == MINIPROXY_AGAIN;
    b->out = u16(b->out + (size_t)n);
    return true;
}

/* Where received bytes begin: room in front for what may have to stand there. */
static size_t base_of(const struct miniproxy_pipe *pipe)
{
    if ((pipe->flags & PIPE_WIDE) != 0) return MINIPROXY_HEADROOM;
    return is_chunked(pipe) ? CHUNK_ROOM : 0;
}

/* Receive into a direction's empty or partly decoded buffer. A port's result; AGAIN also while there is no buffer. */
static int fill(struct miniproxy *p, struct miniproxy_session *s, struct miniproxy_pipe *pipe)
{
    struct miniproxy_conn *from = source_of(s, pipe);
    struct miniproxy_buffer *b;
    size_t room, most = MINIPROXY_BUFFER_SIZE;
    int n;
    if ((from->ready & MINIPROXY_RD) == 0 || (MINIPROXY_WITH_LIMITS && !may_take(p, s, pipe, &most)) ||
        !borrow(p, s, pipe))
        return MINIPROXY_AGAIN;
    b = pipe->buffer;
    settle(b, base_of(pipe));
    room = (size_t)(MINIPROXY_BUFFER_SIZE - 2 - b->in_end);
    if (is_framed(pipe, SOURCE_LENGTH) && room > pipe->left) room = (size_t)pipe->left;
    if (MINIPROXY_WITH_LIMITS && room > most) room = most;
    MINIPROXY_ASSERT(room > 0);
    n = p->config.port->recv(p->config.port_data, from, b->u.data + b->in_end, room);
    if (MINIPROXY_WITH_LIMITS) taken(p, s, pipe, n);
    if (n == MINIPROXY_AGAIN) from->ready &= (uint8_t)~MINIPROXY_RD;
    if (n <= 0) return n;
    b->in_end = u16(b->in_end + (size_t)n);
    count_in(p, s, pipe == &s->up, (unsigned)n);
    return n;
}

/* A buffer has no room for what must be complete before it can be used. */
static bool is_full(const struct miniproxy_pipe *pipe, const struct miniproxy_buffer *b)
{
    return b != NULL && (size_t)(b->in_end - b->in) >= MINIPROXY_BUFFER_SIZE - 2 - base_of(pipe);
}

/* The source has closed: right at the end of what is delimited by that, otherwise too early. */
static enum pumped pump_eof(struct miniproxy_pipe *pipe)
{
    struct miniproxy_buffer *b = pipe->buffer;
    if (!is_framed(pipe, SOURCE_EOF)) return PUMP_EOF;
    pipe->flags |= PIPE_COMPLETE;
    if (!is_chunked(pipe)) return PUMP_ON;
    b->out = 0;
    b->out_end = u16((size_t)(put(b->u.data, "0\r\n\r\n") - b->u.data));
    b->in = b->in_end = b->out_end;
    return PUMP_ON;
}

/* Receive and decode once; nothing waits to be sent. */
static enum pumped pump_in(struct miniproxy *p, struct miniproxy_session *s, struct miniproxy_pipe *pipe)
{
    int n;
    if (is_full(pipe, pipe->buffer)) return PUMP_TRAILER;
    n = fill(p, s, pipe);
    if (n == MINIPROXY_AGAIN) return PUMP_ON;
    if (n == MINIPROXY_EOF) return pump_eof(pipe);
    return n < 0 ? PUMP_LOST : decode(s, pipe);
}

/* The port passes this direction on by itself: nobody has to look at what is still to come, and no byte is in a
 * buffer. */
static bool is_opaque(const struct miniproxy *p, const struct miniproxy_pipe *pipe)
{
    return MINIPROXY_WITH_RELAY && p->config.port->relay != NULL && pipe->buffer == NULL &&
           pipe->source >= SOURCE_LENGTH && pipe->source != SOURCE_CHUNKED &&
           (pipe->flags & (PIPE_COMPLETE | PIPE_CHUNKED | PIPE_EOF)) == 0;
}

/* Some ports can do that with some connections only. */
static bool is_relayed(const struct miniproxy *p, struct miniproxy_session *s, const struct miniproxy_pipe *pipe)
{
    if (MINIPROXY_WITH_TLS && (s->client.no_relay != 0 || server_of(s)->no_relay != 0)) return false;
    return is_opaque(p, pipe);
}

/* What has arrived waits for room on the other side. */
static bool is_held_up(const struct miniproxy *p, struct miniproxy_session *s, const struct miniproxy_pipe *pipe)
{
    if (!is_relayed(p, s, pipe)) return has_sendable(pipe->buffer);
    return (source_of(s, pipe)->ready & MINIPROXY_RD) != 0 && (sink_of(s, pipe)->ready & MINIPROXY_WR) == 0;
}

/* Let the port pass on as much as a buffer would hold. */
static enum pumped relay(struct miniproxy *p, struct miniproxy_session *s, struct miniproxy_pipe *pipe)
{
    struct miniproxy_conn *from = source_of(s, pipe), *to = sink_of(s, pipe);
    size_t max = RELAY_MAX;
    int n;
    if ((from->ready & MINIPROXY_RD) == 0 || (to->ready & MINIPROXY_WR) == 0) return PUMP_ON;
    if (is_framed(pipe, SOURCE_LENGTH) && max > pipe->left) max = (size_t)pipe->left;
    if (MINIPROXY_WITH_LIMITS && !may_take(p, s, pipe, &max)) return PUMP_ON;
    n = p->config.port->relay(p->config.port_data, from, to, max);
    if (MINIPROXY_WITH_LIMITS) taken(p, s, pipe, n);
    if (n == MINIPROXY_AGAIN) {
        MINIPROXY_ASSERT((from->ready & MINIPROXY_RD) == 0 || (to->ready & MINIPROXY_WR) == 0);
        return PUMP_ON;
    }
    if (n == MINIPROXY_EOF) return pump_eof(pipe);
    if (n == MINIPROXY_ESINK) return PUMP_STUCK;
    if (n < 0) return PUMP_LOST;
    count_in(p, s, pipe == &s->up, (unsigned)n);
    count_out(p, s, pipe == &s->down, (unsigned)n);
    if (is_framed(pipe, SOURCE_LENGTH)) {
        pipe->left -= (unsigned)n;
        if (pipe->left == 0) pipe->flags |= PIPE_COMPLETE;
    }
    return PUMP_ON;
}

/* Move at most one buffer of a direction from its source to its sink. */
static enum pumped pump(struct miniproxy *p, struct miniproxy_session *s, struct miniproxy_pipe *pipe)
{
    const struct miniproxy_conn *from = source_of(s, pipe);
    enum pumped result;
    /* Most visits are for the other direction, or for nothing new: these do not go on to find that out step by step. */
    if (pipe->buffer == NULL && (from->ready & MINIPROXY_RD) == 0 && (pipe->flags & PIPE_COMPLETE) == 0) return PUMP_ON;
    result = decode(s, pipe); /* so that a head and the body behind it leave together */
    if (result != PUMP_ON) return result;
    if (!flush(p, s, pipe)) return PUMP_STUCK;
    if (is_relayed(p, s, pipe)) {
        result = relay(p, s, pipe);
    } else if (!has_sendable(pipe->buffer) && (pipe->flags & PIPE_COMPLETE) == 0) {
        result = pump_in(p, s, pipe);
        if (result == PUMP_ON && !flush(p, s, pipe)) return PUMP_STUCK;
    }
    if (has_sendable(pipe->buffer)) {
        if ((sink_of(s, pipe)->ready & MINIPROXY_WR) != 0) p->more = true;
        return result;
    }
    if (result == PUMP_ON && (pipe->flags & PIPE_COMPLETE) != 0) return PUMP_DONE;
    if (result == PUMP_ON && (from->ready & MINIPROXY_RD) != 0 && s->wait_lane == 0 &&
        !(MINIPROXY_WITH_LIMITS && is_rationed(s, pipe)) && !is_held_up(p, s, pipe))
        p->more = true;
    if (!has_received(pipe->buffer)) give_back(p, pipe);
    return result;
}

/* ==== 9  States, in the order a request lives them =================================================
 *
 * A handler looks at its session, does what can be done, and says whether the next state wants its turn at once.
 */

enum next {
    NEXT_WAIT,    /* nothing more to do now */
    NEXT_STATE,   /* another state was entered */
    NEXT_DECISION /* a request head is complete */
};

/* ---- next hops: how they do ---- */

#if MINIPROXY_WITH_ROUTES

/* The next hop of the transaction under way; NULL: there is none, or not yet. */
static const struct miniproxy_hop *hop_of(const struct miniproxy_session *s)
{
    return s->hop != 0 && s->policy != NULL ? s->policy->hops + s->hop - 1 : NULL;
}

static void forget_hop(struct miniproxy_session *s)
{
    s->hop = 0;
}

static void describe_hop(const struct miniproxy_session *s, struct miniproxy_event *e)
{
    e->hop = hop_of(s);
}

/* Without checks: when will it be tried again? */
static void postpone_trial(struct miniproxy *p, const struct miniproxy_hop *hop, struct miniproxy_health *h)
{
    uint32_t wait_ms = h->waits < 6 ? (uint32_t)TRIAL_MIN_MS << h->waits : TRIAL_MAX_MS;
    if (hop->check_s != 0) return;
    if (h->waits < 6) h->waits++;
    h->due_ms = p->now_ms + wait_ms;
}

/* That time is not far away: what lies further ahead has passed, long ago. */
static bool is_trial_due(const struct miniproxy *p, const struct miniproxy_health *h)
{
    uint32_t left_ms = h->due_ms - p->now_ms;
    return left_ms == 0 || left_ms > TRIAL_MAX_MS;
}

static void turn_hop(struct miniproxy *p, const struct miniproxy_policy *policy, unsigned at, bool down)
{
    struct miniproxy_health *h = policy->health + at;
    h->down = down;
    h->streak = 0;
    h->waits = 0;
    if (down) postpone_trial(p, policy->hops + at, h);
    if (p->config.hop != NULL) p->config.hop(p->config.app, policy, at);
}

static void note_hop_failure(struct miniproxy *p, const struct miniproxy_policy *policy, unsigned at,
                             enum miniproxy_cause cause)
{
    struct miniproxy_health *h = policy->health + at;
    unsigned fall = policy->hops[at].fall;
    h->failed++;
    h->cause = (uint8_t)cause;
    if (h->down) h->streak = 0;
    else if (++h->streak >= (fall != 0 ? fall : 2)) turn_hop(p, policy, at, true);
}

static void note_hop_success(struct miniproxy *p, const struct miniproxy_policy *policy, unsigned at, bool checked)
{
    struct miniproxy_health *h = policy->health + at;
    unsigned rise = policy->hops[at].rise;
    if (policy->hops[at].check_s == 0) rise = 1;
    else if (!checked && h->down) return; /* it began before */
    if (!h->down) h->streak = 0;
    else if (++h->streak >= (rise != 0 ? rise : 2)) turn_hop(p, policy, at, false);
}

/* The hop in use has answered. */
static void hop_works(struct miniproxy *p, struct miniproxy_session *s)
{
    if (hop_of(s) != NULL && (s->flags & IS_CHECK) == 0) note_hop_success(p, s->policy, s->hop - 1u, false);
}

static void hop_fails(struct miniproxy *p, struct miniproxy_session *s, enum miniproxy_cause cause)
{
    if (hop_of(s) != NULL && (s->flags & IS_CHECK) == 0) note_hop_failure(p, s->policy, s->hop - 1u, cause);
}

/* A member of a group speaks for nobody else: that it does not answer, or not in HTTP, is its own fault. */
static void note_member(struct miniproxy *p, struct miniproxy_session *s, enum miniproxy_cause cause)
{
    if (hop_of(s) != NULL && is_group(hop_of(s))) hop_fails(p, s, cause);
}

static bool is_refused_by_hop(enum miniproxy_cause cause)
{
    return cause == MINIPROXY_CAUSE_HOP_REFUSED;
}

/* A hop that ends a new connection without a word, whatever was asked, is not fit for use. */
static void note_silence(struct miniproxy *p, struct miniproxy_session *s, enum miniproxy_cause cause)
{
    if (hop_of(s) == NULL || (s->flags & (IS_REUSED | FIRST_BYTE_SEEN)) != 0) return;
    if (hop_of(s)->kind != MINIPROXY_HOP_SOCKS5) hop_fails(p, s, cause);
}

/* Within which all addresses are tried. */
static enum miniproxy_timeout connect_timeout(const struct miniproxy_session *s)
{
    return hop_of(s) != NULL ? MINIPROXY_TIMEOUT_HOP : MINIPROXY_TIMEOUT_CONNECT;
}

/* A check has come to its end. */
static void end_check(struct miniproxy *p, struct miniproxy_session *s)
{
    const struct miniproxy_hop *hop = hop_of(s);
    struct miniproxy_health *h = s->policy->health + (s->hop - 1);
    bool answered = hop->check == NULL || (s->status >= 200 && s->status < 400);
    enum miniproxy_cause cause = (enum miniproxy_cause)s->cause;
    if (cause == MINIPROXY_CAUSE_NONE && !answered) cause = MINIPROXY_CAUSE_HOP_REFUSED;
    h->phase = CHECK_WAITS;
    h->due_ms = p->now_ms + hop->check_s * 1000u;
    p->check_due_ms = p->now_ms;
    p->checks_wait = true;
    p->checks--;
    if (cause == MINIPROXY_CAUSE_STOPPED || cause == MINIPROXY_CAUSE_RESOURCES || cause == MINIPROXY_CAUSE_BUFFERS_FULL)
        return; /* which says nothing of the hop */
    if (cause == MINIPROXY_CAUSE_NONE) note_hop_success(p, s->policy, s->hop - 1u, true);
    else note_hop_failure(p, s->policy, s->hop - 1u, cause);
}

#else

struct miniproxy_hop;

static const struct miniproxy_hop *hop_of(const struct miniproxy_session *s)
{
    (void)s;
    return NULL;
}

static void forget_hop(struct miniproxy_session *s)
{
    (void)s;
}

static void describe_hop(const struct miniproxy_session *s, struct miniproxy_event *e)
{
    (void)s, (void)e;
}

static bool is_refused_by_hop(enum miniproxy_cause cause)
{
    (void)cause;
    return false;
}

static void note_silence(struct miniproxy *p, struct miniproxy_session *s, enum miniproxy_cause cause)
{
    (void)p, (void)s, (void)cause;
}

static void note_member(struct miniproxy *p, struct miniproxy_session *s, enum miniproxy_cause cause)
{
    (void)p, (void)s, (void)cause;
}

static enum miniproxy_timeout connect_timeout(const struct miniproxy_session *s)
{
    (void)s;
    return MINIPROXY_TIMEOUT_CONNECT;
}

static void end_check(struct miniproxy *p, struct miniproxy_session *s)
{
    (void)p, (void)s;
}

#endif

static bool is_check(const struct miniproxy_session *s)
{
    return MINIPROXY_WITH_ROUTES && (s->flags & IS_CHECK) != 0;
}

/* ---- beginnings and ends ---- */

static void enter(struct miniproxy *p, struct miniproxy_session *s, enum state state)
{
#define TO(state) (1u << STATE_##state)
#define BY_HOP(states) (MINIPROXY_WITH_ROUTES ? (states) : 0u)
    static const uint16_t may_follow[] = {
        [STATE_FREE] = TO(IDLE),
        [STATE_IDLE] = TO(HEAD) | TO(REPLY) | TO(FREE),
        [STATE_HEAD] = TO(LOGIN) | TO(RESOLVE) | TO(CONNECT) | TO(AWAIT) | TO(REPLY) | TO(FREE),
        [STATE_LOGIN] = TO(RESOLVE) | TO(CONNECT) | TO(AWAIT) | TO(REPLY) | TO(FREE) |
                        (MINIPROXY_WITH_SOCKS5 ? TO(HEAD) : 0),
        [STATE_RESOLVE] = TO(CONNECT) | TO(REPLY) | TO(FREE) | BY_HOP(TO(RESOLVE) | TO(AWAIT)),
        [STATE_CONNECT] = TO(AWAIT) | TO(TUNNEL) | TO(REPLY) | TO(FREE) | BY_HOP(TO(RESOLVE) | TO(SOCKS_HOP)),
        [STATE_SOCKS_HOP] = TO(AWAIT) | TO(TUNNEL) | TO(REPLY) | TO(FREE) | TO(RESOLVE),
        [STATE_AWAIT] = TO(RELAY) | TO(TUNNEL) | TO(CONNECT) | TO(REPLY) | TO(FREE) | BY_HOP(TO(RESOLVE)),
        [STATE_RELAY] = TO(REPLY) | TO(IDLE) | TO(LINGER) | TO(FREE),
        [STATE_TUNNEL] = TO(REPLY) | TO(LINGER) | TO(FREE),
        [STATE_REPLY] = TO(REPLY) | TO(IDLE) | TO(LINGER) | TO(FREE),
        [STATE_LINGER] = TO(FREE),
    };
#undef BY_HOP
#undef TO
    MINIPROXY_ASSERT((may_follow[s->state] >> state & 1u) != 0);
    (void)may_follow;
    s->state = (uint8_t)state;
    s->mark_ms = p->now_ms;
    disarm(p, s, MINIPROXY_TIMER_SIDE);
}

/* The port begins anew with this connection. */
static void clear_conn(struct miniproxy_conn *c)
{
    c->handle = 0;
    c->port_flags = 0;
    if (MINIPROXY_WITH_TLS) c->no_relay = 0;
}

static void close_conn(struct miniproxy *p, struct miniproxy_conn *c, bool hard)
{
    p->config.port->close(p->config.port_data, c, hard);
    c->generation++;
    c->ready = 0;
    clear_conn(c);
}

static void close_server(struct miniproxy *p, struct miniproxy_session *s, unsigned i, bool hard)
{
    close_conn(p, &s->server[i], hard);
    s->servers_open &= (uint8_t)~(1u << i);
}

/* Connections of attempts under way, or the one in use. */
static void close_servers(struct miniproxy *p, struct miniproxy_session *s, bool hard)
{
    for (unsigned i = 0; s->servers_open != 0; i++)
        if ((s->servers_open >> i & 1u) != 0) close_server(p, s, i, hard);
    s->flags &= ~(uint32_t)(HAS_SERVER | RESOLVING);
}

static uint16_t *peer_bucket(struct miniproxy *p, const struct miniproxy_addr *a)
{
    unsigned hash = 0;
    for (unsigned i = 0; i < (a->family == 4 ? 4u : (unsigned)MINIPROXY_IP_LEN); i++) hash = hash * 31 + a->ip[i];
    return &p->peers[(hash ^ hash >> 11) & (MINIPROXY_CLIENT_BUCKETS - 1)];
}

static bool same_ip(const struct miniproxy_addr *a, const struct miniproxy_addr *b)
{
    return a->family == b->family && memcmp(a->ip, b->ip, a->family == 4 ? 4 : MINIPROXY_IP_LEN) == 0;
}

static void join_peers(struct miniproxy *p, struct miniproxy_session *s)
{
    uint16_t *head = peer_bucket(p, &s->client_addr), number = number_of(p, s);
    s->peer_prev = 0;
    s->peer_next = *head;
    if (*head != 0) p->sessions[*head - 1].peer_prev = number;
    *head = number;
}

static void leave_peers(struct miniproxy *p, struct miniproxy_session *s)
{
    if (s->peer_prev != 0) p->sessions[s->peer_prev - 1].peer_next = s->peer_next;
    else *peer_bucket(p, &s->client_addr) = s->peer_next;
    if (s->peer_next != 0) p->sessions[s->peer_next - 1].peer_prev = s->peer_prev;
}

static bool is_socks(const struct miniproxy_session *s)
{
    return MINIPROXY_WITH_SOCKS5 && (s->flags & IS_SOCKS) != 0;
}

#if MINIPROXY_WITH_SOCKS5

/* How far a SOCKS5 client is. */
enum {
    SOCKS_REQUEST,    /* its request is next (RFC 1928 section 4) */
    SOCKS_METHODS,    /* the methods that it knows are next (section 3) */
    SOCKS_LOGIN,      /* its name and password are next (RFC 1929) */
    SOCKS_NO_LOGIN,   /* from here on it is told something: that it need not log in, */
    SOCKS_WANTS_LOGIN, /* that it has to, */
    SOCKS_LOGGED_IN   /* that it has */
};

/* Nothing stays of a password that is not looked at, or has not come completely. */
static void forget_socks_login(struct miniproxy_session *s)
{
    struct miniproxy_buffer *b = s->up.buffer;
    if (!is_socks(s) || s->state != STATE_HEAD || s->socks_stage != SOCKS_LOGIN || b == NULL) return;
    for (volatile unsigned char *p = b->u.data + b->in; p < b->u.data + MINIPROXY_BUFFER_SIZE; p++) *p = 0;
}

static void describe_socks(const struct miniproxy_session *s, struct miniproxy_event *e)
{
    e->socks = is_socks(s);
}

#else

static void forget_socks_login(struct miniproxy_session *s)
{
    (void)s;
}

static void describe_socks(const struct miniproxy_session *s, struct miniproxy_event *e)
{
    (void)s, (void)e;
}

#endif

#if MINIPROXY_WITH_IDS
/* Health checks have no events, so they take no numbers. */
static void take_number(struct miniproxy *p, struct miniproxy_session *s)
{
    if (!is_check(s)) s->id = ++p->last_id;
}

static void describe_id(const struct miniproxy_session *s, struct miniproxy_event *e)
{
    e->id = s->id;
}
#else
static void take_number(struct miniproxy *p, struct miniproxy_session *s)
{
    (void)p, (void)s;
}

static void describe_id(const struct miniproxy_session *s, struct miniproxy_event *e)
{
    (void)s, (void)e;
}
#endif

static void forget_way(struct miniproxy_session *s)
{
    s->server_addr.family = 0;
    forget_hop(s);
}

/* Until a transaction has taken its way, the connection that may be kept, with its address and hop, is that of another one
 * before it. */
OUTLINED static void forget_unused_way(struct miniproxy_session *s)
{
    if (s->state < STATE_RESOLVE && (s->flags & IS_REUSED) == 0) forget_way(s);
}

#if MINIPROXY_WITH_PAGES
static void describe_page(const struct miniproxy_session *s, struct miniproxy_event *e)
{
    e->page = s->page_asked != 0;
}
#else
static void describe_page(const struct miniproxy_session *s, struct miniproxy_event *e)
{
    (void)s, (void)e;
}
#endif

/* Who, what, and how it went so far. */
static void describe(const struct miniproxy *p, const struct miniproxy_session *s, struct miniproxy_event *e)
{
    memset(e, 0, sizeof *e);
    e->client = &s->client_addr;
    e->address = &s->server_addr;
    if (s->user != NULL) e->user = s->user->name;
    e->method = s->line;
    e->target = s->line;
    if ((s->flags & LINE_READ) != 0) {
        e->method_len = s->method_len;
        if (s->line_len > s->method_len) {
            e->target = s->line + s->method_len + 1;
            e->target_len = u16((size_t)(s->line_len - s->method_len - 1));
        }
    }
    e->session = u16(slot_of(p, s));
    e->status = s->status;
    e->source = s->source;
    e->cause = s->cause;
    e->rule = s->rule;
    describe_hop(s, e);
    e->reused = (s->flags & IS_REUSED) != 0;
    e->bytes_up = s->bytes_up;
    e->bytes_down = s->bytes_down;
    e->dns_ms = s->dns_ms;
    e->connect_ms = s->connect_ms;
    e->first_byte_ms = s->first_byte_ms;
    e->total_ms = p->now_ms - s->start_ms;
    describe_socks(s, e);
    describe_id(s, e);
    describe_page(s, e);
}

/* ---- lines of heads, for a log ---- */

#if MINIPROXY_WITH_HEADS

/* How a line looks: t stands for a token, v for visible octets, d for a digit; b for blanks, x for text, r for a space
 * and text, if there are any; all else for itself. */
static const char *form_of(const struct head *h, const unsigned char *line, bool is_first)
{
    bool from_client = (h->seen & FROM_CLIENT) != 0;
    if (is_first) return from_client ? "t v HTTP/d.d\r\n" : "HTTP/d.d dddr\r\n";
    if (*line == '\r') return "\r\n";
    return from_client ? "t:x\r\n" : "tb:x\r\n";
}

/* The first octet in p[0..end) that such a line does not have. *form becomes what it has there, "" behind its end. */
static unsigned char *follow(unsigned char *p, const unsigned char *end, const char **form)
{
    for (const char *f = *form; *f != '\0'; *form = ++f) {
        const unsigned char *begin = p;
        switch (*f) {
        case 't':
            p = skip_token(p, end);
            break;
        case 'v':
            while (p < end && *p > 0x20 && *p < 0x7f) p++;
            break;
        case 'b':
            while (p < end && is_blank(*p)) p++;
            continue;
        case 'x':
            p = skip_text(p, end);
            continue;
        case 'r':
            if (p < end && *p == ' ') p = skip_text(p, end);
            continue;
        default:
            if (p < end && (*f == 'd' ? is_digit(*p) : *p == (unsigned char)*f)) p++;
        }
        if (p == begin) break;
    }
    return p;
}

/* Does a field of this name let somebody in? What is made up for that is mostly called so. */
static bool is_secret(const unsigned char *name, size_t len)
{
    static const char words[][20] = {"authorization", "authentication-info", "cookie", "token", "secret", "passw",
                                     "api-key", "api_key", "apikey", "x-auth", "auth-key", "session", "credential",
                                     "dpop", "websocket-protocol"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        size_t word_len = strlen(words[i]);
        for (size_t at = 0; at + word_len <= len; at++)
            if (is_word(name + at, word_len, words[i])) return true;
    }
    return false;
}

/* Where, in what may be or hold a URI, userinfo begins; otherwise `end`. is_cut: the line goes on behind that, or is
 * broken there. */
static unsigned char *find_userinfo(unsigned char *p, unsigned char *end, bool is_cut)
{
    const unsigned char *at = end; /* behind the last one */
    struct authority a;
    while (at > p && at[-1] != '@') at--;
    for (; end - p >= 2; p++) {
        unsigned char *begin = p + 2, *stop = begin;
        if (p[0] != '/' || p[1] != '/') continue;
        while (stop < end && *stop > ' ' && *stop != '/' && *stop != '?' && *stop != '#') stop++;
        if (stop == end ? is_cut : *stop <= ' ' && (is_cut || at > stop)) return begin; /* that may not be all of it */
        if (parse_authority(&a, begin, (size_t)(stop - begin))) continue;
        if (at > begin || memchr(begin, ':', (size_t)(stop - begin)) != NULL) return begin;
    }
    return end;
}

/* The same for the value of a field. One that holds a reference may have userinfo where its scheme was forgotten. */
static unsigned char *find_value_secret(const unsigned char *name, unsigned char *p, unsigned char *end, bool is_cut)
{
    static const char location[] = "location";
    size_t len = (size_t)(p - name), tail = len < sizeof location ? len : sizeof location - 1;
    unsigned char *secret = find_userinfo(p, end, is_cut), *colon;
    if (!is_word(name, len, "referer") && !is_word(p - tail, tail, location)) return secret;
    while (p < end && (is_blank(*p) || *p == ':')) p++;
    colon = memchr(p, ':', (size_t)(end - p));
    if (secret < end || colon == NULL || (end - colon >= 3 && memcmp(colon, "://", 3) == 0)) return secret;
    return is_cut || memchr(colon, '@', (size_t)(end - colon)) != NULL ? p : end;
}

/* The same for a request line. What may be no method at all, or no target, is hidden: when a request ends elsewhere than
 * its client means, the rest of it stands here. */
static unsigned char *find_target_secret(unsigned char *line, unsigned char *end, bool is_cut)
{
    unsigned char *target = skip_token(line, end), *p;
    if (target == line) return end;
    if (target == end || *target != ' ') return method_bit(line, (size_t)(target - line)) == MINIPROXY_OTHER ? line : end;
    if (++target == end || *target == ' ') return end;
    p = skip_token(target, end);
    if ((end - p >= 3 && memcmp(p, "://", 3) == 0) || *target == '/') return find_userinfo(target, end, is_cut);
    return is_cut || memchr(target, '@', (size_t)(end - target)) != NULL ? target : end;
}

/* The same for a field line. One that has no name might be more of a value that is not told. */
static unsigned char *find_field_secret(struct head *h, unsigned char *line, unsigned char *end, bool is_cut)
{
    unsigned char *p = skip_token(line, end);
    bool is_value = is_secret(line, (size_t)(p - line));
    if (is_cut && (h->seen & HIDES) != 0 && (p == line || p == end || *p != ':')) return line;
    h->seen &= ~(uint32_t)HIDES;
    if (is_value || find_value_secret(line, p, end, true) < end) h->seen |= HIDES;
    if (!is_value) return find_value_secret(line, p, end, is_cut);
    while (p < end && (is_blank(*p) || *p == ':')) p++;
    return p;
}

/* The line is told where it stands: a mark covers the beginning of what is hidden meanwhile. */
static void tell_until(const struct miniproxy *p, const struct miniproxy_session *s, struct miniproxy_buffer *b,
                       unsigned char *line, unsigned char *end, unsigned char *secret)
{
    static const char mark[] = "[...]";
    enum { LEN = sizeof mark - 1 };
    unsigned char saved[LEN], *last = b->u.data + MINIPROXY_BUFFER_SIZE - LEN;
    struct miniproxy_event event;
    bool hides = secret < end;
    describe(p, s, &event);
    if (hides) {
        if (secret > last) secret = last;
        if (line > last) line = last;
        memcpy(saved, secret, LEN);
        memcpy(secret, mark, LEN);
        end = secret + LEN;
    }
    p->config.head(p->config.app, &event,
                   (head_of(b)->seen & FROM_CLIENT) != 0 ? MINIPROXY_OF_CLIENT : MINIPROXY_OF_ORIGIN,
                   (const char *)line, (size_t)(end - line));
    if (hides) memcpy(secret, saved, LEN);
}

/* Tell the line at data[line], once it is complete: until its end, or the octet that is wrong. is_last: also if it is
 * not, for no more will come. Health checks are nobody's: nothing is told of them. Diverted requests are told before they
 * are turned into others. */
static void tell_line(const struct miniproxy *p, const struct miniproxy_session *s, struct miniproxy_buffer *b,
                      unsigned line, bool is_last)
{
    struct head *h = head_of(b);
    unsigned char *begin = b->u.data + line, *end = b->u.data + b->in_end, *stop, *secret;
    bool from_client = (h->seen & FROM_CLIENT) != 0, is_first = line == b->in, is_whole;
    const char *form;
    if (p->config.head == NULL || begin == end || is_check(s)) return;
    if (from_client && (s->flags & IS_DIVERTED) != 0) return;
    form = form_of(h, begin, is_first);
    stop = follow(begin, end, &form);
    is_whole = *form == '\0';
    if (!is_whole && stop == end && !is_last) return;
    if (is_whole) stop -= 2;
    else if (stop < end) stop++;
    if (is_first && from_client) secret = find_target_secret(begin, stop, !is_whole);
    else if (is_first) secret = find_userinfo(begin, stop, !is_whole);
    else secret = find_field_secret(h, begin, stop, !is_whole);
    tell_until(p, s, b, begin, stop, secret);
}

/* A head ends too early: tell what there is of the line that is not complete. Without a line that has been looked at, as
 * those of SOCKS5 are not, there is none. */
static void tell_rest(const struct miniproxy *p, const struct miniproxy_session *s)
{
    bool is_request = s->state == STATE_HEAD;
    struct miniproxy_buffer *b = is_request ? s->up.buffer : s->down.buffer;
    if ((!is_request && s->state != STATE_AWAIT) || b == NULL || b->scan <= b->in) return;
    tell_line(p, s, b, head_of(b)->fields == 0 ? b->in : head_of(b)->end, true);
}

#else

static void tell_line(const struct miniproxy *p, const struct miniproxy_session *s, struct miniproxy_buffer *b,
                      unsigned line, bool is_last)
{
    (void)p, (void)s, (void)b, (void)line, (void)is_last;
}

static void tell_rest(const struct miniproxy *p, const struct miniproxy_session *s)
{
    (void)p, (void)s;
}

#endif

#if MINIPROXY_WITH_CAUSE_COUNTERS
static void count_cause(struct miniproxy *p, unsigned cause)
{
    p->counters.cause[cause]++;
}
#else
static void count_cause(struct miniproxy *p, unsigned cause)
{
    (void)p, (void)cause;
}
#endif

enum took { TOOK_DNS, TOOK_CONNECT, TOOK_FIRST_BYTE, TOOK_TOTAL };

#if MINIPROXY_WITH_METRICS

static void count_took(struct miniproxy *p, enum took what, uint32_t ms)
{
    struct miniproxy_counters *c = &p->counters;
    struct miniproxy_took *const all[] = {&c->dns, &c->connect, &c->first_byte, &c->total};
    all[what]->ms += ms;
    all[what]->count++;
}

static void count_code(struct miniproxy *p, const struct miniproxy_session *s)
{
    count_took(p, TOOK_TOTAL, p->now_ms - s->start_ms);
    for (unsigned i = 0; i < MINIPROXY_CODE_COUNT; i++)
        if (code_at(i) == s->status) p->counters.code[i]++;
}

#else

static void count_took(struct miniproxy *p, enum took what, uint32_t ms)
{
    (void)p, (void)what, (void)ms;
}

static void count_code(struct miniproxy *p, const struct miniproxy_session *s)
{
    (void)p, (void)s;
}

#endif

#if MINIPROXY_RECORDS > 0

static void record(struct miniproxy *p, const struct miniproxy_session *s)
{
    unsigned kind = s->cause != MINIPROXY_CAUSE_NONE, at = p->records_at[kind];
    struct miniproxy_record *r = &p->records[kind][at];
    const char *query;
    p->records_at[kind] = u16((at + 1) % MINIPROXY_RECORDS);
    memset(r, 0, sizeof *r);
    r->id = s->id;
    r->ended_ms = p->now_ms;
    r->total_ms = p->now_ms - s->start_ms;
    r->bytes_up = s->bytes_up;
    r->bytes_down = s->bytes_down;
    r->client = s->client_addr;
    r->address = s->server_addr;
    r->status = s->status;
    r->rule = s->rule;
    r->cause = s->cause;
    r->source = s->source;
    if (s->user != NULL) {
        size_t len = strlen(s->user->name);
        r->user_len = (uint8_t)(len < sizeof r->user ? len : sizeof r->user);
        memcpy(r->user, s->user->name, r->user_len);
    }
    if ((s->flags & LINE_READ) == 0) return;
    query = memchr(s->line, '?', s->line_len); /* it may be secret */
    r->method_len = s->method_len;
    r->line_len = query != NULL ? u16((size_t)(query - s->line)) : s->line_len;
    memcpy(r->line, s->line, r->line_len);
}

#else

static void record(struct miniproxy *p, const struct miniproxy_session *s)
{
    (void)p, (void)s;
}

#endif

#if MINIPROXY_WITH_PAGES

/* Was a page sent? */
static bool count_page(struct miniproxy *p, const struct miniproxy_session *s)
{
    if (s->page == PAGE_NONE) return false;
    p->counters.pages++;
    p->counters.page_bytes_up += s->bytes_up;
    p->counters.page_bytes_down += s->bytes_down;
    return true;
}

#else

static bool count_page(struct miniproxy *p, const struct miniproxy_session *s)
{
    (void)p, (void)s;
    return false;
}

#endif

static void count_result(struct miniproxy *p, const struct miniproxy_session *s)
{
    p->counters.requests++;
    p->counters.status[s->status / 100 <= 5 ? s->status / 100 : 5]++;
    count_cause(p, s->cause);
    count_code(p, s);
    record(p, s);
}

#if MINIPROXY_WITH_HITS
static void count_hit(const struct miniproxy_session *s)
{
    const struct miniproxy_policy *policy = s->policy;
    if (policy != NULL && policy->hits != NULL) policy->hits[s->rule >= 0 ? s->rule : policy->rule_count]++;
}
#else
static void count_hit(const struct miniproxy_session *s)
{
    (void)s;
}
#endif

/* The end of a transaction: its one event. */
OUTLINED static void report(struct miniproxy *p, struct miniproxy_session *s)
{
    struct miniproxy_event event;
    if ((s->flags & IS_OPEN) == 0) return;
    s->flags &= ~(uint32_t)IS_OPEN;
    disarm(p, s, MINIPROXY_TIMER_WHOLE);
    if (is_check(s)) {
        end_check(p, s);
        s->policy = NULL;
        return;
    }
    forget_unused_way(s);
    if (!count_page(p, s)) count_result(p, s);
    count_hit(s);
    if (p->config.event != NULL) {
        describe(p, s, &event);
        p->config.event(p->config.app, &event);
    }
    if (MINIPROXY_WITH_LIMITS) let_go(p, s);
    s->policy = NULL;
    s->user = NULL;
}

static void free_slot(struct miniproxy *p, struct miniproxy_session *s)
{
    s->run_next = p->slots_free;
    p->slots_free = number_of(p, s);
}

static void forget_reserved(struct miniproxy *p, struct miniproxy_session *s)
{
    uint16_t *at = p->refused;
    if ((s->flags & IS_RESERVED) == 0) return;
    s->flags &= ~(uint32_t)IS_RESERVED;
    while (*at != number_of(p, s)) at++;
    memmove(at, at + 1, (size_t)(p->refused + --p->reserved - at) * sizeof *at);
}

static enum next end_session(struct miniproxy *p, struct miniproxy_session *s, bool hard)
{
    leave_login(p, s);
    if (is_socks(s)) forget_socks_login(s);
    report(p, s);
    close_servers(p, s, hard);
    if (!is_check(s)) close_conn(p, &s->client, hard);
    leave_wait(p, s);
    drop_grant(p, s);
    give_back(p, &s->up);
    give_back(p, &s->down);
    grant(p);
    for (unsigned i = 0; i < MINIPROXY_TIMERS_EACH; i++) disarm(p, s, i);
    forget_reserved(p, s);
    if (!is_check(s)) {
        leave_peers(p, s);
        p->counters.active--;
    }
    enter(p, s, STATE_FREE);
    if (s->lane == 0) free_slot(p, s); /* otherwise when its turn comes */
    return NEXT_STATE;
}

/* The exchange cannot be completed and part of a response may be with the client: close, so that what it has does not
 * look complete (RFC 9112 section 8). Only where the close itself would say "complete" it must be a reset. */
static enum next cut(struct miniproxy *p, struct miniproxy_session *s, enum miniproxy_cause cause)
{
    bool hard = s->state == STATE_RELAY && s->down.source != SOURCE_LENGTH && (s->down.flags & PIPE_CHUNKED) == 0;
    s->cause = (uint8_t)cause;
    report(p, s);
    close_servers(p, s, true);
    return end_session(p, s, hard);
}

#if MINIPROXY_WITH_PAGES

static void forget_page(struct miniproxy_session *s)
{
    s->page_asked = 0;
    s->page = PAGE_NONE;
}

static void note_page(struct miniproxy_session *s, const struct plan *pl)
{
    s->page_asked = (uint8_t)(pl->form & (PAGE_DIRECT | PAGE_BY_PROXY));
}

/* Whoever asks the proxy as he asks any server can only log in as with one. */
static enum miniproxy_cause page_cause(const struct miniproxy_session *s, enum miniproxy_cause cause)
{
    if (s->page_asked != PAGE_DIRECT) return cause;
    if (cause == MINIPROXY_CAUSE_LOGIN_MISSING) return MINIPROXY_CAUSE_PAGE_LOGIN_MISSING;
    return cause == MINIPROXY_CAUSE_LOGIN_FAILED ? MINIPROXY_CAUSE_PAGE_LOGIN_FAILED : cause;
}

#else

static void forget_page(struct miniproxy_session *s)
{
    (void)s;
}

static void note_page(struct miniproxy_session *s, const struct plan *pl)
{
    (void)s, (void)pl;
}

static enum miniproxy_cause page_cause(const struct miniproxy_session *s, enum miniproxy_cause cause)
{
    (void)s;
    return cause;
}

#endif

/* A transaction begins with its first octet, or with the decision to refuse a connection that has sent none. */
static void open_transaction(struct miniproxy *p, struct miniproxy_session *s)
{
    if ((s->flags & IS_OPEN) != 0) return;
    s->flags = (s->flags & OF_CONNECTION) | IS_OPEN;
    take_number(p, s);
    forget_accept(s);
    s->start_ms = p->now_ms;
    s->bytes_up = s->bytes_down = 0;
    s->dns_ms = s->connect_ms = s->first_byte_ms = 0;
    if (s->servers_open == 0) forget_way(s);
    s->status = 0;
    s->rule = -1;
    s->cause = MINIPROXY_CAUSE_NONE;
    s->source = MINIPROXY_BY_NOBODY;
    forget_page(s);
    start_pipe(&s->up, SOURCE_NONE, 0, PIPE_WIDE);
    start_pipe(&s->down, SOURCE_NONE, 0, PIPE_WIDE);
}

/* Answer instead of an origin. The connection is kept only where it is certain where the next request begins. */
static enum next refuse(struct miniproxy *p, struct miniproxy_session *s, enum miniproxy_cause cause)
{
    struct miniproxy_buffer *b = s->up.buffer;
    if ((s->flags & HAS_ANSWERED) != 0 || is_check(s)) return cut(p, s, cause);
    if ((s->flags & IS_DIVERTED) != 0 && cause == MINIPROXY_CAUSE_LOGIN_MISSING)
        cause = MINIPROXY_CAUSE_POLICY; /* nobody asks whom he takes for the origin to log in with a proxy */
    leave_login(p, s);
    if (is_socks(s)) forget_socks_login(s);
    open_transaction(p, s);
    cause = page_cause(s, cause);
    if (s->state == STATE_HEAD && b != NULL && b->in_end - b->in >= 5 && memcmp(b->u.data + b->in, "HEAD ", 5) == 0)
        s->flags |= IS_HEAD; /* whatever else may be wrong with it */
    if (s->up.source != SOURCE_NONE || p->draining || (s->flags & IS_RESERVED) != 0)
        s->flags &= ~(uint32_t)KEEPS_CLIENT;
    if ((s->flags & KEEPS_CLIENT) == 0) {
        give_back(p, &s->up);
    } else if (b != NULL) {
        if ((s->flags & IS_WRITTEN) == 0) b->in = b->scan = plan_of(b)->head.end;
        b->out = b->out_end = 0;
    }
    close_servers(p, s, true);
    b = s->down.buffer;
    if (has_sendable(b) && s->state == STATE_AWAIT)
        b->in = b->in_end = b->out_end; /* an interim response of which a part may have left */
    else give_back(p, &s->down);
    leave_wait(p, s);
    forget_unused_way(s);
    s->cause = (uint8_t)cause;
    if (!is_refused_by_hop(cause)) /* which has said the status */
        s->status = cause == MINIPROXY_CAUSE_NONE ? 200 : (uint16_t)miniproxy_cause_status(cause);
    s->source = MINIPROXY_BY_PROXY;
    s->reply_at = 0;
    enter(p, s, STATE_REPLY);
    arm(p, s, MINIPROXY_TIMER_PHASE, MINIPROXY_TIMEOUT_WRITE);
    return NEXT_STATE;
}

static void start_linger(struct miniproxy *p, struct miniproxy_session *s)
{
    s->bytes_up = 0;
    s->flags &= ~(uint32_t)FIN_SENT;
    start_pipe(&s->up, SOURCE_RAW, 0, 0);
    enter(p, s, STATE_LINGER);
    arm(p, s, MINIPROXY_TIMER_PHASE, MINIPROXY_TIMEOUT_LINGER);
}

/* The response is with the client: the next request, or the end. */
static enum next next_request(struct miniproxy *p, struct miniproxy_session *s)
{
    bool keeps = (s->flags & KEEPS_CLIENT) != 0 && !p->draining;
    struct miniproxy_buffer *up = s->up.buffer;
    if (has_received(up)) { /* they belong to the next request */
        s->bytes_up -= (unsigned)(up->in_end - up->in);
        if (MINIPROXY_WITH_LIMITS) pay_back(p, s, &s->up, (unsigned)(up->in_end - up->in));
    }
    report(p, s);
    give_back(p, &s->down);
    if (!keeps) {
        close_servers(p, s, (s->flags & UP_CUT) != 0);
        give_back(p, &s->up);
        start_linger(p, s);
        return NEXT_STATE;
    }
    if (!has_received(s->up.buffer)) give_back(p, &s->up);
    s->flags &= OF_CONNECTION;
    s->interim = 0;
    enter(p, s, STATE_IDLE);
    arm(p, s, MINIPROXY_TIMER_PHASE, MINIPROXY_TIMEOUT_IDLE);
    return NEXT_STATE;
}

/* Refuse without a buffer, or without knowing whether the request is a HEAD, whose answer must not have a body: so it
 * has none. */
static enum next refuse_bare(struct miniproxy *p, struct miniproxy_session *s, enum miniproxy_cause cause)
{
    if (s->state == STATE_LINGER || has_sendable(s->down.buffer)) return cut(p, s, cause);
    s->flags &= ~(uint32_t)KEEPS_CLIENT;
    refuse(p, s, cause);
    if (s->state == STATE_REPLY) s->flags |= IS_BARE;
    return NEXT_STATE;
}

#if MINIPROXY_WITH_SOCKS5

/* Reply code (RFC 1928 section 6). */
static unsigned char socks_code(enum miniproxy_cause cause)
{
    if (cause == MINIPROXY_CAUSE_LOGIN_MISSING) return 2; /* not allowed by the ruleset */
    if (cause == MINIPROXY_CAUSE_SCHEME) return 7;        /* command not supported */
    if (cause == MINIPROXY_CAUSE_TARGET) return 8;        /* address type not supported */
    switch (causes[cause].type) {
    case TYPE_http_request_denied:
    case TYPE_destination_ip_prohibited: return 2;
    case TYPE_destination_ip_unroutable: return 3; /* network unreachable */
    case TYPE_dns_error: return 4;                 /* host unreachable */
    case TYPE_connection_refused: return 5;
    case TYPE_dns_timeout:
    case TYPE_connection_timeout:
    case TYPE_http_response_timeout: return 6; /* TTL expired, of which no stack can tell */
    default: return 1;
    }
}

/* Say something short, in one turn or several. OK when all of it has been sent, AGAIN or an error. */
static int tell(struct miniproxy *p, struct miniproxy_session *s, const unsigned char *text, size_t len)
{
    while (s->reply_at < len) {
        int n;
        if ((s->client.ready & MINIPROXY_WR) == 0) return MINIPROXY_AGAIN;
        n = send_out(p, s, &s->client, text + s->reply_at, len - s->reply_at);
        if (n <= 0) return n;
        s->reply_at += (unsigned)n;
    }
    s->reply_at = 0;
    return MINIPROXY_OK;
}

/* The refusal that such a client understands where it is. */
static enum next reply_socks(struct miniproxy *p, struct miniproxy_session *s)
{
    static const unsigned char no_method[] = {5, 0xff}, no_login[] = {1, 1};
    const unsigned char answer[10] = {5, socks_code((enum miniproxy_cause)s->cause), 0, 1};
    int result = MINIPROXY_OK; /* part of something else may have been said: nothing can follow */
    if (s->socks_stage == SOCKS_METHODS) result = tell(p, s, no_method, sizeof no_method);
    if (s->socks_stage == SOCKS_LOGIN) result = tell(p, s, no_login, sizeof no_login);
    if (s->socks_stage == SOCKS_REQUEST) result = tell(p, s, answer, sizeof answer);
    if (result == MINIPROXY_AGAIN) return NEXT_WAIT;
    return result == MINIPROXY_OK ? next_request(p, s) : end_session(p, s, true);
}

#else

static enum next reply_socks(struct miniproxy *p, struct miniproxy_session *s)
{
    (void)p, (void)s;
    return NEXT_WAIT;
}

#endif

static enum next reply_bare(struct miniproxy *p, struct miniproxy_session *s)
{
    char seconds[11];
    const char *const parts[] = {bare_reply, seconds, "\r\nProxy-Status: ", p->config.name, "; error=",
                                 miniproxy_cause_type((enum miniproxy_cause)s->cause), "\r\n\r\n"};
    const char *text;
    int n;
    if (is_socks(s)) return reply_socks(p, s);
    seconds[decimal(MINIPROXY_RETRY_AFTER_S, seconds)] = '\0';
    for (;;) {
        size_t at = s->reply_at;
        text = text_at(parts, sizeof parts / sizeof parts[0], &at);
        if (text == NULL) return next_request(p, s);
        if ((s->client.ready & MINIPROXY_WR) == 0) return NEXT_WAIT;
        n = send_out(p, s, &s->client, text, strlen(text));
        if (n == MINIPROXY_AGAIN) return NEXT_WAIT;
        if (n <= 0) return end_session(p, s, true);
        s->reply_at += (unsigned)n;
    }
}

#if MINIPROXY_WITH_PAC

/* The address by which the client came stands behind what is kept of its line. */
static size_t pac_text(const struct miniproxy *p, const struct miniproxy_session *s, size_t at, unsigned char *out,
                       size_t room)
{
    const struct miniproxy_pac *pac = p->config.pac;
    unsigned listener = s->client.listener;
    bool tls = listener < 32 && (pac->tls_listeners >> listener & 1u) != 0;
    if (pac->proxy != NULL) return pac_piece(pac, pac->proxy, strlen(pac->proxy), pac->speaks_tls, at, out, room);
    return pac_piece(pac, s->line + s->line_len, s->page_host_len, pac->speaks_tls || tls, at, out, room);
}

/* Is there one, and does it know the proxy's address? What is kept of the line loses its query if that takes the room. */
static bool has_pac(const struct miniproxy *p, struct miniproxy_session *s, const struct miniproxy_buffer *b)
{
    const struct span *host = &plan_of(b)->page_host;
    const char *text = (const char *)b->u.data + host->at, *query = memchr(s->line, '?', s->line_len);
    if (p->config.pac == NULL) return false;
    if (p->config.pac->proxy != NULL) return true;
    if (s->page_asked != PAGE_DIRECT) return false;
    if (query != NULL && host->len > MINIPROXY_LINE_KEEP - s->line_len) s->line_len = u16((size_t)(query - s->line));
    if (host->len > MINIPROXY_LINE_KEEP - s->line_len || host->len > UINT8_MAX - 3) return false;
    if (!is_pac_text(text, host->len)) return false;
    memcpy(s->line + s->line_len, text, host->len);
    s->page_host_len = (uint8_t)host->len;
    return true;
}

#elif MINIPROXY_WITH_PAGES

static size_t pac_text(const struct miniproxy *p, const struct miniproxy_session *s, size_t at, unsigned char *out,
                       size_t room)
{
    (void)p, (void)s, (void)at, (void)out, (void)room;
    return 0;
}

static bool has_pac(const struct miniproxy *p, struct miniproxy_session *s, const struct miniproxy_buffer *b)
{
    (void)p, (void)s, (void)b;
    return false;
}

#endif

#if MINIPROXY_WITH_PAGES

static bool sends_page(const struct miniproxy_session *s)
{
    return s->page != PAGE_NONE;
}

/* Pages that change while they are sent: chunks, each of some whole lines (RFC 9112 section 7.1). */
static bool is_list(const struct miniproxy_session *s)
{
    return s->page == PAGE_METRICS || s->page == PAGE_LOG;
}

/* Some lines of /metrics have left, and the rest would be those of another policy, with other rules and hops. They must not
 * look like one whole. */
static bool is_outdated(const struct miniproxy *p, const struct miniproxy_session *s)
{
    return s->page == PAGE_METRICS && s->reply_at > 1 && s->reply_at < UINT16_MAX && s->policy != p->config.policy;
}

/* Octets of a text from its offset `at` on into out[0..room); with out NULL all that there are. */
static size_t text_piece(const struct miniproxy *p, const struct miniproxy_session *s, size_t at, unsigned char *out,
                         size_t room)
{
    size_t len;
    if (MINIPROXY_WITH_PAC && s->page == PAGE_PAC) return pac_text(p, s, at, out, room);
    if (MINIPROXY_WITH_STATUS && s->page == PAGE_STATUS) return status_piece(at, out, room);
    len = strlen(s->page_text) - at;
    if (len > room) len = room;
    if (out != NULL) memcpy(out, s->page_text + at, len);
    return len;
}

static unsigned char *put_page_head(unsigned char *w, const struct miniproxy *p, const struct miniproxy_session *s)
{
    static const char security[] = "X-Content-Type-Options: nosniff\r\n"
                                   "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; "
                                   "script-src 'unsafe-inline'; connect-src 'self'; img-src data:\r\n";
    w = put_all(put_number(put(w, "HTTP/1.1 "), s->status), " ", status_phrase(s->status), "\r\nContent-Type: ");
    w = put(put_all(w, s->page_type, "\r\nCache-Control: ", s->page == PAGE_PAC ? "max-age=300" : "no-store"), "\r\n");
    if (!is_list(s)) w = put(put_number(put(w, "Content-Length: "), (unsigned)text_piece(p, s, 0, NULL, SIZE_MAX)), "\r\n");
    else if ((s->flags & IS_HTTP10) == 0) w = put(w, "Transfer-Encoding: chunked\r\n");
    if (s->page != PAGE_PAC) w = put(w, security);
    w = put_date(w, unix_time(&p->config));
    return put(w, (s->flags & KEEPS_CLIENT) != 0 ? "\r\n" : "Connection: close\r\n\r\n");
}

/* As many lines as fit, and what ends them. What is said is kept in reply_at: the number of the next line + 1. */
static unsigned char *put_lines(unsigned char *w, const unsigned char *end, const struct miniproxy *p,
                                struct miniproxy_session *s)
{
    static const char digits[] = "0123456789abcdef";
    bool chunked = (s->flags & IS_HTTP10) == 0;
    unsigned char *start = chunked ? w + 6 : w, *to = start;
    size_t n = 1;
    if (s->reply_at == UINT16_MAX || end - start < CHUNK_ROOM) return w;
    end -= 2;
    while (to < end) {
        size_t room = (size_t)(end - to);
        if (room < MINIPROXY_METRICS_GROUP) break;
        if (s->reply_at == UINT16_MAX - 1) { /* of tens of thousands of rules no more can be counted here */
            n = 0;
            break;
        }
        n = s->page == PAGE_LOG ? log_piece(p, s->reply_at - 1u, to, room)
                                : metrics_piece(p, s->reply_at - 1u, to, room);
        if (n == 0) break;
        to += n;
        s->reply_at++;
    }
    if (to > start && !chunked) return to;
    if (to > start) {
        size_t len = (size_t)(to - start);
        for (unsigned i = 0; i < 4; i++) w[i] = (unsigned char)digits[len >> (12 - 4 * i) & 15];
        memcpy(w + 4, "\r\n", 2);
        return put(to, "\r\n");
    }
    if (n > 0) return w; /* there is more, and no room for it here */
    s->reply_at = UINT16_MAX;
    return chunked ? put(w, "0\r\n\r\n") : w;
}

static unsigned char *put_page(unsigned char *w, const unsigned char *end, const struct miniproxy *p,
                               struct miniproxy_session *s)
{
    size_t n;
    if ((s->flags & IS_HEAD) != 0) return w;
    if (is_list(s)) return put_lines(w, end, p, s);
    n = text_piece(p, s, s->reply_at - 1u, w, (size_t)(end - w));
    s->reply_at += (uint32_t)n;
    return w + n;
}

#else

static bool sends_page(const struct miniproxy_session *s)
{
    (void)s;
    return false;
}

static bool is_outdated(const struct miniproxy *p, const struct miniproxy_session *s)
{
    (void)p, (void)s;
    return false;
}

static unsigned char *put_page_head(unsigned char *w, const struct miniproxy *p, const struct miniproxy_session *s)
{
    (void)p, (void)s;
    return w;
}

static unsigned char *put_page(unsigned char *w, const unsigned char *end, const struct miniproxy *p,
                               struct miniproxy_session *s)
{
    (void)end, (void)p, (void)s;
    return w;
}

#endif

OUTLINED static enum next on_reply(struct miniproxy *p, struct miniproxy_session *s)
{
    struct miniproxy_buffer *b;
    unsigned char *w, *end;
    if ((s->flags & IS_BARE) != 0 || is_socks(s)) return reply_bare(p, s);
    if (!borrow(p, s, &s->down)) return NEXT_WAIT;
    b = s->down.buffer;
    end = b->u.data + MINIPROXY_BUFFER_SIZE;
    for (;;) {
        if (!flush(p, s, &s->down)) return end_session(p, s, true);
        if (has_sendable(b)) {
            p->more = (s->client.ready & MINIPROXY_WR) != 0;
            return NEXT_WAIT;
        }
        if (is_outdated(p, s)) {
            s->cause = MINIPROXY_CAUSE_STOPPED;
            return end_session(p, s, true);
        }
        w = b->u.data;
        if (s->reply_at == 0) {
            choose_body(p, s);
            w = sends_page(s) ? put_page_head(w, p, s)
                              : put_reply_head(w, p, s, (s->flags & KEEPS_CLIENT) != 0, rate_wait(s));
            s->reply_at = 1;
        }
        if (sends_page(s)) {
            w = put_page(w, end, p, s);
        } else if ((s->flags & IS_HEAD) == 0) {
            size_t n = put_body(p, s, s->reply_at - 1u, w, (size_t)(end - w));
            s->reply_at += (uint32_t)n;
            w += n;
        }
        if (w == b->u.data) return next_request(p, s);
        b->out = 0;
        b->out_end = b->in = b->in_end = u16((size_t)(w - b->u.data));
    }
}

/* ---- LINGER: what the client still sends is read and dropped, or a reset would destroy the reply before it is read
 * (RFC 9112 section 9.6) ---- */

OUTLINED static enum next on_linger(struct miniproxy *p, struct miniproxy_session *s)
{
    int n;
    if ((s->flags & FIN_SENT) == 0 && (s->client.ready & MINIPROXY_WR) != 0) {
        n = p->config.port->finish(p->config.port_data, &s->client);
        if (n == MINIPROXY_AGAIN) s->client.ready &= (uint8_t)~MINIPROXY_WR;
        else s->flags |= FIN_SENT;
    }
    n = fill(p, s, &s->up);
    give_back(p, &s->up);
    if (n == MINIPROXY_EOF && (s->flags & FIN_SENT) == 0) return NEXT_WAIT; /* the end is still to be told, by TLS */
    if ((n < 0 && n != MINIPROXY_AGAIN) || s->bytes_up > MINIPROXY_LINGER_BYTES) return end_session(p, s, false);
    p->more = n > 0 && (s->client.ready & MINIPROXY_RD) != 0;
    return NEXT_WAIT;
}

/* ---- IDLE: nothing of a request yet ---- */

/* Nothing comes from a connection on which nothing is expected: what it is asked for is lost if there is any. */
static bool is_silent(struct miniproxy *p, struct miniproxy_conn *c)
{
    unsigned char octet;
    if (p->config.port->recv(p->config.port_data, c, &octet, 1) != MINIPROXY_AGAIN) return false;
    c->ready &= (uint8_t)~MINIPROXY_RD;
    return true;
}

/* Has it a connection to an origin from an earlier request? */
static bool has_kept_server(const struct miniproxy_session *s)
{
    return MINIPROXY_WITH_REUSE && (s->flags & HAS_SERVER) != 0;
}

/* Anything that comes over an idle upstream connection ends it: there is no request that it could answer (RFC 9112
 * section 9.2). */
static bool server_is_quiet(struct miniproxy *p, struct miniproxy_session *s)
{
    if (is_silent(p, server_of(s))) return true;
    close_servers(p, s, false);
    return false;
}

#if MINIPROXY_WITH_TLS

/* What recv says of a client that speaks in clear where TLS is spoken. Nothing of that is taken for a request. */
static bool is_plain(int result)
{
    return result == MINIPROXY_EPLAIN;
}

static enum next refuse_plain(struct miniproxy *p, struct miniproxy_session *s)
{
    return refuse(p, s, MINIPROXY_CAUSE_PLAIN);
}

#else

static bool is_plain(int result)
{
    (void)result;
    return false;
}

static enum next refuse_plain(struct miniproxy *p, struct miniproxy_session *s)
{
    (void)p, (void)s;
    return NEXT_WAIT;
}

#endif

static bool over_client_limit(struct miniproxy *p, const struct miniproxy_session *s);

/* Look for the first octets of a request. */
static int fill_idle(struct miniproxy *p, struct miniproxy_session *s)
{
    start_pipe(&s->up, SOURCE_RAW, 0, PIPE_WIDE);
    return fill(p, s, &s->up);
}

#if MINIPROXY_WITH_PROXY_PROTOCOL

/* ---- IDLE behind a balancer: whom it speaks for, by the PROXY protocol (HAProxy's proxy-protocol.txt, versions 1 and
 * 2). Octets of the header, 0: more are needed, -1: it is none. *client is left alone where it does not say. ---- */

enum { V1_MAX = 107, V2_SIGNATURE = 12, V2_FIXED = 16 };

/* "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443", without its CRLF. */
static bool read_v1(const unsigned char *p, const unsigned char *end, struct miniproxy_addr *client)
{
    struct miniproxy_addr from = {.family = 0}, to = from;
    uint64_t port = 0;
    unsigned n = 0;
    for (const unsigned char *stop; p <= end; p = stop + 1, n++) {
        size_t len;
        for (stop = p; stop < end && *stop != ' '; stop++) {}
        len = (size_t)(stop - p);
        if (n == 1 && len == 7 && memcmp(p, "UNKNOWN", 7) == 0) return true;
        if (n == 1 && len == 4 && memcmp(p, "TCP", 3) == 0) from.family = to.family = (uint8_t)(p[3] - '0');
        if (n == 2 && (!miniproxy_addr_parse(&from, (const char *)p, len) || from.family != to.family)) return false;
        if (n == 3 && (!miniproxy_addr_parse(&to, (const char *)p, len) || from.family != to.family)) return false;
        if (n >= 4 && (len > 5 || !parse_number(p, len, &port) || port > UINT16_MAX)) return false;
        if (n == 4) from.port = (uint16_t)port;
    }
    if (n != 6) return false;
    *client = from;
    return true;
}

/* Behind the signature: version and command, family and protocol, length; then addresses, ports, and what is skipped. */
static int read_v2(const unsigned char *m, size_t have, struct miniproxy_addr *client)
{
    unsigned command = m[12], family = m[13], len = (unsigned)m[14] << 8 | m[15];
    unsigned ip_len = family == 0x11 ? 4 : family == 0x21 && MINIPROXY_WITH_IPV6 ? MINIPROXY_IP_LEN : 0;
    if ((command != 0x20 && command != 0x21) || len > MINIPROXY_HEAD_MAX - V2_FIXED) return -1;
    if (have < V2_FIXED + len) return 0;
    if (command == 0x21 && family != 0) { /* not LOCAL, not AF_UNSPEC */
        if (ip_len == 0 || len < 2 * ip_len + 4) return -1;
        memset(client, 0, sizeof *client);
        memcpy(client->ip, m + V2_FIXED, ip_len);
        client->family = ip_len == 4 ? 4 : 6;
        client->port = (uint16_t)(m[V2_FIXED + 2 * ip_len] << 8 | m[V2_FIXED + 2 * ip_len + 1]);
    }
    return (int)(V2_FIXED + len);
}

static int read_header(const unsigned char *m, size_t have, struct miniproxy_addr *client)
{
    static const unsigned char v1[] = "PROXY ", v2[] = "\r\n\r\n\0\r\nQUIT\n";
    const unsigned char *end;
    if (memcmp(m, v2, have < V2_SIGNATURE ? have : V2_SIGNATURE) == 0)
        return have < V2_FIXED ? 0 : read_v2(m, have, client);
    if (memcmp(m, v1, have < sizeof v1 - 1 ? have : sizeof v1 - 1) != 0) return -1;
    end = memchr(m, '\n', have < V1_MAX ? have : V1_MAX);
    if (end == NULL) return have < V1_MAX ? 0 : -1;
    return end[-1] == '\r' && read_v1(m, end - 1, client) ? (int)(end + 1 - m) : -1;
}

static bool is_balanced(const struct miniproxy *p, const struct miniproxy_session *s)
{
    return s->client.listener < 8 && (p->config.proxy_protocol >> s->client.listener & 1u) != 0;
}

/* It is the client's connection from now on, and one of those that the client may have. */
static enum next take_header(struct miniproxy *p, struct miniproxy_session *s, const struct miniproxy_addr *client)
{
    s->flags &= ~(uint32_t)HEADER_DUE;
    leave_peers(p, s);
    s->client_addr = *client;
    join_peers(p, s);
    if (!has_received(s->up.buffer)) give_back(p, &s->up);
    if ((s->flags & IS_RESERVED) == 0 && over_client_limit(p, s))
        return refuse_bare(p, s, MINIPROXY_CAUSE_CLIENT_LIMIT);
    return has_received(s->up.buffer) ? NEXT_DECISION : NEXT_WAIT;
}

/* NEXT_DECISION: octets of the client follow. */
OUTLINED static enum next on_header(struct miniproxy *p, struct miniproxy_session *s)
{
    struct miniproxy_addr client = s->client_addr;
    for (;;) {
        struct miniproxy_buffer *b = s->up.buffer;
        int n = 0;
        if (has_received(b)) n = read_header(b->u.data + b->in, (size_t)(b->in_end - b->in), &client);
        if (n < 0) {
            open_transaction(p, s);
            return cut(p, s, MINIPROXY_CAUSE_REQUEST_LINE);
        }
        if (n > 0) {
            b->in = u16(b->in + (size_t)n);
            return take_header(p, s, &client);
        }
        n = fill_idle(p, s);
        if (n == MINIPROXY_AGAIN) {
            if (s->wait_lane == 0 && !has_received(s->up.buffer)) give_back(p, &s->up);
            return NEXT_WAIT;
        }
        if (n < 0) return end_session(p, s, n != MINIPROXY_EOF);
    }
}

#else

static bool is_balanced(const struct miniproxy *p, const struct miniproxy_session *s)
{
    (void)p, (void)s;
    return false;
}

static enum next on_header(struct miniproxy *p, struct miniproxy_session *s)
{
    (void)p, (void)s;
    return NEXT_DECISION;
}

#endif

#if MINIPROXY_WITH_SOCKS5
/* A connection whose first octet is the version of SOCKS5 speaks that. A kept one has spoken HTTP. */
static void notice_socks(struct miniproxy_session *s)
{
    if (is_armed(s, MINIPROXY_TIMER_PHASE, MINIPROXY_TIMEOUT_IDLE)) return;
    if (s->up.buffer->u.data[s->up.buffer->in] != 5) return;
    s->flags |= IS_SOCKS;
    s->socks_stage = SOCKS_METHODS;
    s->reply_at = 0;
}
#else
static void notice_socks(struct miniproxy_session *s)
{
    (void)s;
}
#endif

/* Empty lines before a request (RFC 9112 section 2.2). False: too many. */
static bool skip_blank_lines(struct miniproxy_session *s, struct miniproxy_buffer *b)
{
    const unsigned char *p = b->u.data + b->in;
    for (; b->in_end - b->in >= 2 && p[0] == '\r' && p[1] == '\n'; p += 2) {
        if (++s->interim > BLANK_LINES_MAX) return false;
        b->in = b->scan = u16(b->in + 2u);
    }
    settle(b, MINIPROXY_HEADROOM);
    return true;
}

/* Some clients send an empty line behind the body of a request (RFC 9112 section 2.2). It begins no other. */
static bool is_empty_line(struct miniproxy_session *s)
{
    struct miniproxy_buffer *b = s->up.buffer;
    return is_armed(s, MINIPROXY_TIMER_PHASE, MINIPROXY_TIMEOUT_IDLE) && b->u.data[b->in] == '\r' &&
           skip_blank_lines(s, b) && !has_received(b);
}

OUTLINED static enum next on_idle(struct miniproxy *p, struct miniproxy_session *s)
{
    bool waited;
    int n;
    if (MINIPROXY_WITH_PROXY_PROTOCOL && (s->flags & HEADER_DUE) != 0 && on_header(p, s) != NEXT_DECISION)
        return s->state == STATE_IDLE ? NEXT_WAIT : NEXT_STATE;
    if (has_kept_server(s) && (server_of(s)->ready & MINIPROXY_RD) != 0) server_is_quiet(p, s);
    do {
        if (has_received(s->up.buffer)) {
            settle(s->up.buffer, MINIPROXY_HEADROOM);
            n = 1;
        } else {
            n = fill_idle(p, s);
        }
    } while (n > 0 && is_empty_line(s));
    if (n == MINIPROXY_AGAIN) {
        if (s->wait_lane == 0) give_back(p, &s->up);
        return NEXT_WAIT;
    }
    if (is_plain(n)) return refuse_plain(p, s);
    if (n < 0) return end_session(p, s, n != MINIPROXY_EOF);
    waited = (s->flags & HAS_WAITED) != 0;
    open_transaction(p, s);
    notice_socks(s);
    s->bytes_up = (unsigned)(s->up.buffer->in_end - s->up.buffer->in);
    enter(p, s, STATE_HEAD);
    /* The time of the head runs from accept on, but for a kept connection, and where the proxy itself made it wait. */
    if ((s->flags & IS_RESERVED) == 0 && (waited || is_armed(s, MINIPROXY_TIMER_PHASE, MINIPROXY_TIMEOUT_IDLE)))
        arm(p, s, MINIPROXY_TIMER_PHASE, MINIPROXY_TIMEOUT_HEAD);
    return NEXT_STATE;
}

/* ---- HEAD: a request arrives and is decided ---- */

/* Keep "METHOD target" for the event. */
static void keep_line(struct miniproxy_session *s, const struct miniproxy_buffer *b, const struct plan *pl, bool valid)
{
    size_t len = (size_t)pl->method.len + 1 + pl->target.len, origin_at = (size_t)(pl->authority.at - pl->method.at);
    s->origin_len = 0;
    if (pl->method.len == 0 || pl->target.len == 0) return;
    s->flags |= LINE_READ;
    /* A malformed target may hold a password. */
    if (!valid && memchr(b->u.data + pl->target.at, '@', pl->target.len) != NULL) len = pl->method.len;
    if (len > MINIPROXY_LINE_KEEP) len = MINIPROXY_LINE_KEEP;
    memcpy(s->line, b->u.data + pl->method.at, len);
    s->line_len = u16(len);
    s->method_len = (uint8_t)(pl->method.len < len ? pl->method.len : len);
    if (!MINIPROXY_WITH_REUSE || !valid || pl->path.at == 0 || origin_at + pl->authority.len > len) return;
    s->origin_at = u16(origin_at);
    s->origin_len = pl->authority.len;
}

/* Is its connection to be kept for a next request to the same origin? */
static bool may_keep_server(const struct miniproxy_session *s)
{
    return MINIPROXY_WITH_REUSE && (s->flags & KEEPS_CLIENT) != 0 && s->origin_len > 0;
}

static bool same_origin(const struct miniproxy_session *s, const struct miniproxy_buffer *b, const struct plan *pl)
{
    if (is_https(pl) != ((s->flags & IS_SECURE) != 0)) return false;
    if (s->origin_len == 0 || s->origin_len != pl->authority.len) return false;
    for (size_t i = 0; i < s->origin_len; i++)
        if (lower((unsigned char)s->line[s->origin_at + i]) != lower(b->u.data[pl->authority.at + i])) return false;
    return true;
}

#if MINIPROXY_WITH_ROUTES

/* Its connection is one to a parent, which serves requests for every origin. miniproxy_set_policy sees to it that the
 * parent is one of the current policy. */
static bool leads_to_all(const struct miniproxy *p, const struct miniproxy_session *s)
{
    return s->hop != 0 && s->origin_len > 0 && is_proxy(p->config.policy->hops + s->hop - 1);
}

#else

static bool leads_to_all(const struct miniproxy *p, const struct miniproxy_session *s)
{
    (void)p, (void)s;
    return false;
}

#endif

static void tell_begin(struct miniproxy *p, struct miniproxy_session *s, const struct miniproxy_buffer *b,
                       const struct plan *pl)
{
    struct miniproxy_event e;
    if (p->config.begin == NULL || (s->flags & LINE_READ) == 0 || is_check(s)) return;
    describe(p, s, &e);
    e.method = (const char *)b->u.data + pl->method.at;
    e.method_len = pl->method.len;
    e.target = (const char *)b->u.data + pl->target.at;
    e.target_len = s->line_len > s->method_len ? pl->target.len : 0;
    p->config.begin(p->config.app, &e);
}

/* The request line is there, valid or not. Of the session's origin connection only one is kept that leads where this
 * request goes. */
OUTLINED static void note_line(struct miniproxy *p, struct miniproxy_session *s, const struct miniproxy_buffer *b,
                               bool valid)
{
    const struct plan *pl = plan_of(s->up.buffer);
    if (!valid || !has_kept_server(s) || pl->method_bit == MINIPROXY_CONNECT ||
        (!same_origin(s, b, pl) && !leads_to_all(p, s))) {
        close_servers(p, s, false);
        forget_hop(s);
    }
    s->flags &= ~(uint32_t)IS_SECURE;
    if (is_https(pl)) s->flags |= IS_SECURE;
    keep_line(s, b, pl, valid);
    note_page(s, pl);
    tell_begin(p, s, b, pl);
    if (pl->head.minor == 0) s->flags |= IS_HTTP10;
    if (pl->method_bit == MINIPROXY_HEAD) s->flags |= IS_HEAD;
}

#if MINIPROXY_WITH_INTERCEPTION
static bool is_intercepted(const struct miniproxy *p, const struct miniproxy_session *s)
{
    return s->client.listener < 8 && (p->config.intercepts >> s->client.listener & 1u) != 0;
}
#else
static bool is_intercepted(const struct miniproxy *p, const struct miniproxy_session *s)
{
    (void)p, (void)s;
    return false;
}
#endif

/* Parse what is there of a head. NONE: it is complete; MORE, or what is wrong. */
OUTLINED static enum miniproxy_cause read_head(struct miniproxy *p, struct miniproxy_session *s,
                                              struct miniproxy_buffer *b)
{
    struct plan *pl = plan_of(b);
    enum miniproxy_cause cause;
    if (b->scan <= b->in) {
        memset(pl, 0, offsetof(struct plan, at));
        pl->head.seen = FROM_CLIENT;
    }
    if (is_still_part(b, pl->head.fields == 0 ? b->in : pl->head.end)) return MORE;
    if (pl->head.fields == 0) {
        cause = parse_request_line(pl, b);
        if (cause == MORE) return MORE;
        if ((cause == MINIPROXY_CAUSE_ORIGIN_FORM || (cause == MINIPROXY_CAUSE_NONE && pl->form == SERVER_WIDE)) &&
            is_intercepted(p, s)) {
            pl->form = DIVERTED;
            tell_line(p, s, b, b->in, false);
            return MORE;
        }
        cause = see_page(&p->config, pl, b, cause);
        if (cause == MINIPROXY_CAUSE_NONE && is_https(pl) && p->config.port->secure == NULL)
            cause = MINIPROXY_CAUSE_SCHEME;
        note_line(p, s, b, cause == MINIPROXY_CAUSE_NONE);
        tell_line(p, s, b, b->in, cause != MINIPROXY_CAUSE_NONE);
        if (cause != MINIPROXY_CAUSE_NONE) return cause;
    }
    cause = parse_fields(p, s, b);
    if (pl->method_bit != MINIPROXY_CONNECT) note_accept(s, &pl->head);
    return cause;
}

#if MINIPROXY_WITH_INTERCEPTION

/* A head in origin-form that a router has diverted: it is read until its end only to find Host, turned into what a client
 * would have sent that knows of the proxy, and then read as that. So the target is asked of the policy and resolved like
 * any other, and nothing can be reached by a Host that lies. */

/* Find the one Host line: h->hole, and its value in h->login. */
static enum miniproxy_cause find_host(const struct miniproxy *proxy, const struct miniproxy_session *s,
                                      struct miniproxy_buffer *b)
{
    struct head *h = head_of(b);
    unsigned char *p = b->u.data + h->end, *end = b->u.data + b->in_end;
    enum miniproxy_cause cause;
    struct line l;
    for (;; p = l.next) {
        h->end = u16((size_t)(p - b->u.data));
        tell_line(proxy, s, b, h->end, false);
        if (p == end || *p == '\r') break;
        cause = parse_line(&l, p, end, false);
        if (cause != MINIPROXY_CAUSE_NONE) return cause;
        if (++h->count > MINIPROXY_FIELDS_MAX) return MINIPROXY_CAUSE_HEAD_SIZE;
        if (l.id != F_HOST) continue;
        if (h->hole.len > 0) return MINIPROXY_CAUSE_HOST;
        h->hole = span_of(b, p, (size_t)(l.next - p));
        h->login = span_of(b, l.value, l.value_len);
    }
    return parse_crlf(p, end, MINIPROXY_CAUSE_FIELD);
}

/* The Host line becomes the beginning of the target, which begins behind the method; there is room in front for an
 * address, where Host is missing. host NULL: what the line names. */
static void make_absolute(struct miniproxy_buffer *b, const void *host, size_t host_len, unsigned port)
{
    static const char scheme[] = "http://";
    const struct plan *pl = plan_of(b);
    unsigned char *target = b->u.data + pl->target.at, *line = b->u.data + pl->head.hole.at;
    unsigned char *w, *begin;
    size_t line_len = pl->head.hole.len, method_len = pl->method.len + 1u, port_len = 0;
    char colon_port[11] = ":";
    bool server_wide = *target == '*'; /* which has no path then (RFC 9112 section 3.2.4) */
    if (port != 80) port_len = 1 + decimal(port, colon_port + 1);
    if (line_len > 0) { /* rotate: the line first */
        reverse(target, line);
        reverse(line, line + line_len);
        reverse(target, line + line_len);
    }
    w = target + line_len + server_wide - port_len - host_len;
    begin = w - (sizeof scheme - 1) - method_len;
    /* Neither may be overwritten before it has moved; an address stands elsewhere. */
    if (host == NULL) memmove(w, target + (pl->head.login.at - pl->head.hole.at), host_len);
    memmove(begin, target - method_len, method_len);
    if (host != NULL) memcpy(w, host, host_len);
    memcpy(w + host_len, colon_port, port_len);
    memcpy(begin + method_len, scheme, sizeof scheme - 1);
    b->in = b->scan = u16((size_t)(begin - b->u.data));
}

/* NONE: the head is one that asks a proxy. */
static enum miniproxy_cause address_origin(struct miniproxy *p, struct miniproxy_session *s, struct miniproxy_buffer *b)
{
    const struct head *h = head_of(b);
    struct miniproxy_addr to = {.family = 0};
    char text[MINIPROXY_ADDR_TEXT + 1] = "[";
    struct authority a;
    size_t len;
    if (h->minor > 0 && h->hole.len == 0) return MINIPROXY_CAUSE_HOST;
    if (p->config.port->meant == NULL ||
        p->config.port->meant(p->config.port_data, &s->client, &to) != MINIPROXY_OK || to.port == 0)
        return MINIPROXY_CAUSE_ORIGIN_FORM;
    s->flags |= IS_DIVERTED;
    if (h->login.len > 0) { /* but for its port: that of the connection is known */
        if (!parse_authority(&a, b->u.data + h->login.at, h->login.len)) return MINIPROXY_CAUSE_HOST;
        len = a.literal && a.addr.family == 6 ? a.host_len + 2 : a.host_len; /* with its brackets */
        make_absolute(b, NULL, len, to.port);
        return MINIPROXY_CAUSE_NONE;
    }
    len = miniproxy_addr_format(&to, text + 1);
    text[1 + len] = ']';
    if (to.family == 4) make_absolute(b, text + 1, len, to.port);
    else make_absolute(b, text, len + 2, to.port);
    return MINIPROXY_CAUSE_NONE;
}

/* As read_head. */
static enum miniproxy_cause read_any_head(struct miniproxy *p, struct miniproxy_session *s, struct miniproxy_buffer *b)
{
    struct plan *pl = plan_of(b);
    bool goes_on = b->scan > b->in && pl->form == DIVERTED;
    enum miniproxy_cause cause;
    if (!goes_on) {
        cause = read_head(p, s, b);
        if (cause != MORE || pl->form != DIVERTED) return cause;
    } else if (is_still_part(b, pl->head.end)) {
        return MORE;
    }
    cause = find_host(p, s, b);
    if (cause == MINIPROXY_CAUSE_NONE) cause = address_origin(p, s, b);
    if (cause == MORE) return MORE;
    if (cause != MINIPROXY_CAUSE_NONE) {
        note_line(p, s, b, false);
        return cause;
    }
    cause = read_head(p, s, b);
    pl->head.seen |= HAS_HOST;
    return cause;
}

#else

static enum miniproxy_cause read_any_head(struct miniproxy *p, struct miniproxy_session *s, struct miniproxy_buffer *b)
{
    return read_head(p, s, b);
}

#endif

/* The head is complete: what kind of exchange it asks for. */
static enum miniproxy_cause understand(struct miniproxy *p, struct miniproxy_session *s, struct miniproxy_buffer *b)
{
    struct plan *pl = plan_of(b);
    const struct head *h = &pl->head;
    enum miniproxy_cause cause;
    if (h->minor > 0 && (h->seen & HAS_HOST) == 0) return MINIPROXY_CAUSE_HOST;
    cause = frame_request(pl, p->config.body_max, &s->up.source);
    if (cause != MINIPROXY_CAUSE_NONE) return cause;
    if (h->minor > 0 && (h->seen & SAYS_CLOSE) == 0 && pl->method_bit != MINIPROXY_CONNECT) s->flags |= KEEPS_CLIENT;
    if ((pl->method_bit & (MINIPROXY_GET | MINIPROXY_HEAD | MINIPROXY_OPTIONS | MINIPROXY_TRACE | MINIPROXY_PUT |
                           MINIPROXY_DELETE)) != 0 && s->up.source == SOURCE_NONE)
        s->flags |= IS_REPEATABLE;
    if (MINIPROXY_WITH_UPGRADE && h->minor > 0 && pl->method_bit == MINIPROXY_GET && s->up.source == SOURCE_NONE &&
        (h->seen & (SAYS_UPGRADE | NAMES_WEBSOCKET)) == (SAYS_UPGRADE | NAMES_WEBSOCKET))
        s->flags |= IS_UPGRADE;
    if (pl->host.at + pl->host.len == pl->path.at) { /* make room for a NUL: what stands in front is not needed */
        pl->host.at--;
        memmove(b->u.data + pl->host.at, b->u.data + pl->host.at + 1, pl->host.len);
    }
    if (pl->host.len > 0) b->u.data[pl->host.at + pl->host.len] = '\0';
    return MINIPROXY_CAUSE_NONE;
}

#if MINIPROXY_WITH_CONDITIONS
static void add_conditions(const struct miniproxy *p, const struct miniproxy_buffer *b, struct miniproxy_question *q)
{
    const struct span *agent = &head_of(b)->noted;
    q->agent = agent->at != 0 ? (const char *)b->u.data + agent->at : NULL;
    q->agent_len = agent->len;
    q->type = NULL;
    q->type_len = 0;
    q->minute_of_week = p->config.minute_of_week != NULL ? p->config.minute_of_week(p->config.app) : -1;
}
#else
static void add_conditions(const struct miniproxy *p, const struct miniproxy_buffer *b, struct miniproxy_question *q)
{
    (void)p, (void)b, (void)q;
}
#endif

/* What the policy is to be asked about this request to this address, or before it is known. */
static void fill_question(const struct miniproxy *p, const struct miniproxy_session *s,
                          const struct miniproxy_buffer *b, const struct miniproxy_addr *address,
                          struct miniproxy_question *q)
{
    const struct plan *pl = plan_of(b);
    q->client = &s->client_addr;
    q->user = s->user;
    q->host = (const char *)b->u.data + pl->host.at;
    q->path = pl->method_bit == MINIPROXY_CONNECT ? NULL : (const char *)b->u.data + pl->path.at;
    q->path_len = pl->path.len;
    q->address = address;
    q->port = pl->port;
    q->method = pl->method_bit;
    q->literal = (pl->form & LITERAL) != 0;
#if MINIPROXY_WITH_ROUTES
    q->remote = false;
#endif
    add_conditions(p, b, q);
}

/* What depends on the response's type is allowed until then. */
static enum miniproxy_verdict ask(const struct miniproxy *p, const struct miniproxy_session *s,
                                  const struct miniproxy_buffer *b, const struct miniproxy_addr *address, int *rule)
{
    struct miniproxy_question q;
    enum miniproxy_verdict verdict;
    fill_question(p, s, b, address, &q);
    verdict = miniproxy_decide(s->policy, &q, rule);
    return verdict == MINIPROXY_NEEDS_TYPE ? MINIPROXY_ALLOWED : verdict;
}

/* Would another port do? */
static bool port_is_denied(const struct miniproxy *p, const struct miniproxy_session *s,
                           const struct miniproxy_buffer *b, const struct miniproxy_addr *address)
{
    struct miniproxy_question q;
    fill_question(p, s, b, address, &q);
    q.port = 0;
    return q.method == MINIPROXY_CONNECT && miniproxy_decide(s->policy, &q, NULL) != MINIPROXY_DENIED;
}

#if MINIPROXY_WITH_CONDITIONS

/* The request is about to leave its buffer: keep which rules will have to be asked about the type of the response, and
 * which one decides if none of them covers that. Until then the rule is the one that allows a response without content. */
static void keep_type_rules(struct miniproxy_session *s, const struct miniproxy_question *q)
{
    const struct miniproxy_policy *policy = s->policy;
    uint32_t bit = 1;
    int rule;
    s->type_rules = 0;
    s->rest_rule = -1;
    if (miniproxy_decide(policy, q, &rule) != MINIPROXY_NEEDS_TYPE) return;
    s->rule = (int16_t)rule;
    for (int i = 0; i < policy->rule_count; i++) {
        const struct miniproxy_rule *r = policy->rules + i;
        bool decides = covers(r, q) != COVERS_NOT && covers_user(r, q);
        if (types_of(r) != NULL) {
            if (decides) s->type_rules |= bit;
            bit <<= 1;
        } else if (decides) {
            s->rest_rule = (int16_t)i;
            return;
        }
    }
}

/* A response with content begins, or a tunnel, which no rule with types covers, whatever its head says. */
static bool allows_content(struct miniproxy_session *s, const struct miniproxy_buffer *b, const struct head *h)
{
    const char *type = (h->seen & NOTED_TWICE) != 0 ? "," : (const char *)b->u.data + h->noted.at;
    size_t len = (h->seen & NOTED_TWICE) != 0 ? 1 : h->noted.at != 0 ? h->noted.len : 0;
    uint32_t bit = 1;
    if (s->type_rules == 0) return true;
    s->rule = s->rest_rule;
    for (int i = 0; h->status != 101 && s->type_rules >= bit && bit != 0; i++) {
        const struct miniproxy_rule *r = s->policy->rules + i;
        if (types_of(r) == NULL) continue;
        if ((s->type_rules & bit) != 0 && types_match(r, type, len)) {
            s->rule = (int16_t)i;
            break;
        }
        bit <<= 1;
    }
    return s->rule >= 0 && s->policy->rules[s->rule].verdict == MINIPROXY_ALLOW;
}

#else

static void keep_type_rules(struct miniproxy_session *s, const struct miniproxy_question *q)
{
    (void)s, (void)q;
}

static bool allows_content(struct miniproxy_session *s, const struct miniproxy_buffer *b, const struct head *h)
{
    (void)s, (void)b, (void)h;
    return true;
}

#endif

#if MINIPROXY_WITH_TLS && MINIPROXY_WITH_AUTH

/* Who the client is by its certificate or shared key. Users with a password are not reached that way: whoever issues
 * certificates need not be trusted with their names. */
static const struct miniproxy_user *proven_user(const struct miniproxy *p, struct miniproxy_session *s)
{
    const struct miniproxy_user *user;
    char name[MINIPROXY_CREDENTIALS_MAX];
    size_t len;
    if (p->config.port->client_name == NULL) return NULL;
    len = p->config.port->client_name(p->config.port_data, &s->client, name, sizeof name);
    user = len > 0 ? find_user(s->policy, (const unsigned char *)name, len) : NULL;
    return user != NULL && user->password == NULL && user->digest == NULL ? user : NULL;
}

/* Why a request is denied: the cause, or that its client has not proved to be somebody whom the policy might allow it,
 * which a login cannot. */
static enum miniproxy_cause denial(const struct miniproxy *p, const struct miniproxy_session *s,
                                   const struct miniproxy_buffer *b, const struct miniproxy_addr *address,
                                   enum miniproxy_cause cause)
{
    struct miniproxy_question q;
    int rule;
    fill_question(p, s, b, address, &q);
    if (s->policy == NULL || walk(s->policy, &q, &rule, true) != MINIPROXY_NEEDS_USER) return cause;
    return MINIPROXY_CAUSE_CERTIFICATE;
}

#else

static enum miniproxy_cause denial(const struct miniproxy *p, const struct miniproxy_session *s,
                                   const struct miniproxy_buffer *b, const struct miniproxy_addr *address,
                                   enum miniproxy_cause cause)
{
    (void)p, (void)s, (void)b, (void)address;
    return cause;
}

static const struct miniproxy_user *proven_user(const struct miniproxy *p, struct miniproxy_session *s)
{
    (void)p, (void)s;
    return NULL;
}

#endif

/* By which policy, and for whom? MORE: that takes longer. */
static enum miniproxy_cause identify(struct miniproxy *p, struct miniproxy_session *s, struct miniproxy_buffer *b,
                                     struct plan *pl)
{
    if (MINIPROXY_WITH_SOCKS5 && s->user != NULL) return MINIPROXY_CAUSE_NONE; /* logged in before the request */
    s->policy = p->config.policy;
    if ((pl->head.seen & LOOPS) != 0) return MINIPROXY_CAUSE_LOOP;
    if (s->policy == NULL || s->policy->user_count == 0) return MINIPROXY_CAUSE_NONE;
    if ((pl->head.seen & HAS_LOGIN) == 0) {
        s->user = proven_user(p, s);
        return MINIPROXY_CAUSE_NONE;
    }
    return log_in(p, s->policy, &s->client_addr, b, &pl->head.login, &s->user);
}

static enum miniproxy_cause why_denied(const struct miniproxy *p, const struct miniproxy_session *s,
                                       const struct miniproxy_buffer *b, const struct miniproxy_addr *address)
{
    if (port_is_denied(p, s, b, address)) return MINIPROXY_CAUSE_CONNECT_PORT;
    if (address != NULL && ask(p, s, b, NULL, NULL) != MINIPROXY_DENIED) return MINIPROXY_CAUSE_ADDRESS;
    return MINIPROXY_CAUSE_POLICY;
}

/* May this request go on? */
static enum miniproxy_cause judge(const struct miniproxy *p, struct miniproxy_session *s,
                                  const struct miniproxy_buffer *b, const struct plan *pl)
{
    int rule = -1;
    const struct miniproxy_addr *address = (pl->form & LITERAL) != 0 ? &pl->at[0] : NULL;
    if (pl->form == SERVER_WIDE) return MINIPROXY_CAUSE_NONE;
    switch (ask(p, s, b, address, &rule)) {
    case MINIPROXY_ALLOWED:
    case MINIPROXY_NEEDS_ADDRESS:
        s->rule = (int16_t)rule;
        return MINIPROXY_CAUSE_NONE;
    case MINIPROXY_NEEDS_USER:
        return MINIPROXY_CAUSE_LOGIN_MISSING;
    default:
        s->rule = (int16_t)rule;
        return denial(p, s, b, address, why_denied(p, s, b, address));
    }
}

static bool make_room(struct miniproxy *p);

/* A session that was taken in to be refused may find that there is room by now. */
static enum miniproxy_cause find_place(struct miniproxy *p, struct miniproxy_session *s)
{
    if (over_client_limit(p, s)) return MINIPROXY_CAUSE_CLIENT_LIMIT;
    if (!make_room(p)) return MINIPROXY_CAUSE_SESSIONS_FULL;
    forget_reserved(p, s);
    return MINIPROXY_CAUSE_NONE;
}

static enum next start_exchange(struct miniproxy *p, struct miniproxy_session *s);

static enum next use_again(struct miniproxy *p, struct miniproxy_session *s)
{
    s->flags |= IS_REUSED;
    p->counters.reused++;
    return start_exchange(p, s);
}

/* The kept connection serves this request too, if the policy still allows its address and it is still there. A request
 * that could not be repeated is not sent before looking. */
static bool can_reuse(struct miniproxy *p, struct miniproxy_session *s, const struct miniproxy_buffer *b)
{
    int rule = -1;
    if (!has_kept_server(s) || hop_of(s) != NULL) return false;
    if (ask(p, s, b, &s->server_addr, &rule) != MINIPROXY_ALLOWED) return false;
    if ((server_of(s)->ready & MINIPROXY_RD) != 0 || (s->flags & IS_REPEATABLE) == 0)
        if (!server_is_quiet(p, s)) return false;
    s->rule = (int16_t)rule;
    return true;
}

/* Find the way to the origin itself. */
static enum next go_directly(struct miniproxy *p, struct miniproxy_session *s)
{
    struct miniproxy_buffer *b = s->up.buffer;
    bool literal = (plan_of(b)->form & LITERAL) != 0;
    if (can_reuse(p, s, b)) return use_again(p, s);
    close_servers(p, s, false);
    forget_way(s);
    enter(p, s, literal ? STATE_CONNECT : STATE_RESOLVE);
    arm(p, s, MINIPROXY_TIMER_PHASE, literal ? MINIPROXY_TIMEOUT_CONNECT : MINIPROXY_TIMEOUT_DNS);
    return NEXT_STATE;
}

static enum next choose_way(struct miniproxy *p, struct miniproxy_session *s);

#if MINIPROXY_WITH_PAGES

static bool is_text_page(struct miniproxy_session *s, const char *text, const char *type)
{
    s->page_text = text;
    s->page_type = type;
    if (strlen(text) <= MINIPROXY_PAGE_MAX && strlen(type) <= MINIPROXY_PAGE_TYPE_MAX) s->page = PAGE_TEXT;
    return s->page != PAGE_NONE;
}

/* Which page is it? False: there is none. */
static bool find_page(struct miniproxy *p, struct miniproxy_session *s, const struct miniproxy_buffer *b)
{
    static const char plain[] = "text/plain; charset=utf-8";
    const struct plan *pl = plan_of(b);
    const unsigned char *path = b->u.data + pl->path.at;
    size_t len = pl->path.len;
    const char *type = plain, *own = NULL;
    if (p->config.page != NULL) own = p->config.page(p->config.app, (const char *)path, len, &type);
    if (own != NULL) return is_text_page(s, own, type);
    s->page_type = plain;
    if (is_path(path, len, "/health")) return is_text_page(s, condition_line(miniproxy_condition(p)), plain);
    if (MINIPROXY_WITH_STATUS && is_path(path, len, "/")) {
        s->page = PAGE_STATUS;
        s->page_type = "text/html; charset=utf-8";
    }
    if (MINIPROXY_RECORDS > 0 && is_path(path, len, "/log")) s->page = PAGE_LOG;
    if (MINIPROXY_WITH_METRICS && is_path(path, len, "/metrics")) {
        s->page = PAGE_METRICS;
        s->page_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    }
    if (is_pac(path, len) && has_pac(p, s, b)) {
        s->page = PAGE_PAC;
        s->page_type = "application/x-ns-proxy-autoconfig";
    }
    return s->page != PAGE_NONE;
}

static enum next answer_page(struct miniproxy *p, struct miniproxy_session *s)
{
    const struct plan *pl = plan_of(s->up.buffer);
    enum miniproxy_condition condition = miniproxy_condition(p);
    if ((pl->method_bit & (MINIPROXY_GET | MINIPROXY_HEAD)) == 0) return refuse(p, s, MINIPROXY_CAUSE_PAGE_METHOD);
    if (!find_page(p, s, s->up.buffer)) return refuse(p, s, MINIPROXY_CAUSE_PAGE);
    refuse(p, s, MINIPROXY_CAUSE_NONE);
    if (s->page == PAGE_TEXT && s->page_text == condition_line(condition) && condition >= MINIPROXY_IN_MAINTENANCE)
        s->status = 503;
    return NEXT_STATE;
}

/* Is it a page that not everybody may read? */
static bool tells_more(const struct miniproxy_buffer *b, const struct plan *pl)
{
    const unsigned char *path = b->u.data + pl->path.at;
    return !is_pac(path, pl->path.len) && !is_path(path, pl->path.len, "/health");
}

/* May this client see it? A browser that fetches its configuration cannot log in. */
static enum miniproxy_cause judge_page(const struct miniproxy *p, struct miniproxy_session *s,
                                       const struct miniproxy_buffer *b)
{
    const struct plan *pl = plan_of(b);
    struct miniproxy_question q;
    enum miniproxy_verdict verdict;
    int rule = -1;
    if (tells_more(b, pl) && !means_us(&p->config, b)) return MINIPROXY_CAUSE_ORIGIN_FORM;
    memset(&q, 0, sizeof q);
    q.client = &s->client_addr;
    q.user = s->user;
    q.host = "";
    q.path = pl->path.len > 0 ? (const char *)b->u.data + pl->path.at : "/";
    q.path_len = pl->path.len > 0 ? pl->path.len : 1;
    q.method = MINIPROXY_PAGES;
    add_conditions(p, b, &q);
    verdict = miniproxy_decide(s->policy, &q, &rule);
    if (verdict == MINIPROXY_NEEDS_USER && !is_pac(b->u.data + pl->path.at, pl->path.len))
        return MINIPROXY_CAUSE_LOGIN_MISSING;
    s->rule = (int16_t)rule;
    return verdict == MINIPROXY_ALLOWED ? MINIPROXY_CAUSE_NONE : MINIPROXY_CAUSE_POLICY;
}

#else

static enum next answer_page(struct miniproxy *p, struct miniproxy_session *s)
{
    (void)p, (void)s;
    return NEXT_STATE;
}

static enum miniproxy_cause judge_page(const struct miniproxy *p, struct miniproxy_session *s,
                                       const struct miniproxy_buffer *b)
{
    (void)p, (void)s, (void)b;
    return MINIPROXY_CAUSE_NONE;
}

#endif

/* The request is allowed: answer it here, or pass it on. */
static enum next set_out(struct miniproxy *p, struct miniproxy_session *s)
{
    struct miniproxy_buffer *b = s->up.buffer;
    struct plan *pl = plan_of(b);
    if (asks_page(pl)) return answer_page(p, s);
    if (pl->form == SERVER_WIDE) return refuse(p, s, MINIPROXY_CAUSE_NONE); /* it asks about the proxy */
    if ((pl->head.seen & IS_LAST_HOP) != 0) {
        if (pl->method_bit == MINIPROXY_OPTIONS) return refuse(p, s, MINIPROXY_CAUSE_NONE);
        if (pl->method_bit == MINIPROXY_TRACE) return refuse(p, s, MINIPROXY_CAUSE_TRACE);
    }
    return MINIPROXY_WITH_ROUTES ? choose_way(p, s) : go_directly(p, s);
}

/* How a request goes on whose user is known, or cannot be. */
static enum next decide_for(struct miniproxy *p, struct miniproxy_session *s, enum miniproxy_cause cause)
{
    if (cause == MINIPROXY_CAUSE_NONE)
        cause = asks_page(plan_of(s->up.buffer)) ? judge_page(p, s, s->up.buffer)
                                                 : judge(p, s, s->up.buffer, plan_of(s->up.buffer));
    if (MINIPROXY_WITH_LIMITS && cause == MINIPROXY_CAUSE_NONE) cause = hold_limits(p, s);
    if (cause != MINIPROXY_CAUSE_NONE) return refuse(p, s, cause);
    if (!MINIPROXY_WITH_PBKDF2 || s->state == STATE_HEAD) arm(p, s, MINIPROXY_TIMER_WHOLE, MINIPROXY_TIMEOUT_TOTAL);
    return set_out(p, s);
}

static void start_login(struct miniproxy *p, struct miniproxy_session *s)
{
    queue_login(p, s);
    enter(p, s, STATE_LOGIN);
    arm(p, s, MINIPROXY_TIMER_PHASE, MINIPROXY_TIMEOUT_LOGIN);
}

OUTLINED static enum next decide_request(struct miniproxy *p, struct miniproxy_session *s)
{
    struct miniproxy_buffer *b = s->up.buffer;
    enum miniproxy_cause cause = understand(p, s, b);
    if (cause == MINIPROXY_CAUSE_NONE && (s->flags & IS_RESERVED) != 0) cause = find_place(p, s);
    if (cause == MINIPROXY_CAUSE_NONE && !asks_page(plan_of(b))) {
        cause = why_closed(p);
        note_message(p, s);
    }
    if (cause == MINIPROXY_CAUSE_NONE) cause = identify(p, s, b, plan_of(b));
    if (!MINIPROXY_WITH_PBKDF2 || cause != MORE) return decide_for(p, s, cause);
    start_login(p, s);
    arm(p, s, MINIPROXY_TIMER_WHOLE, MINIPROXY_TIMEOUT_TOTAL);
    return NEXT_WAIT;
}

/* ---- HEAD of a SOCKS5 client (RFC 1928): methods, perhaps a login, and a request that is taken for a CONNECT ---- */

#if MINIPROXY_WITH_SOCKS5

static bool has_users(const struct miniproxy_policy *policy)
{
    return MINIPROXY_WITH_AUTH && policy != NULL && policy->user_count > 0;
}

/* The methods that the client knows: 5, count, one each. Who can log in has to, if there is anybody to be known. */
static enum miniproxy_cause read_methods(const struct miniproxy *p, struct miniproxy_session *s,
                                         struct miniproxy_buffer *b)
{
    const unsigned char *m = b->u.data + b->in;
    size_t have = (size_t)(b->in_end - b->in), count;
    bool users = has_users(p->config.policy);
    if (have < 2 || have < 2u + m[1]) return MORE;
    count = m[1];
    b->in = u16(b->in + 2u + count);
    if (users && memchr(m + 2, 2, count) != NULL) s->socks_stage = SOCKS_WANTS_LOGIN;
    else if (memchr(m + 2, 0, count) != NULL) s->socks_stage = SOCKS_NO_LOGIN;
    else return users ? MINIPROXY_CAUSE_LOGIN_MISSING : MINIPROXY_CAUSE_SCHEME;
    return MINIPROXY_CAUSE_NONE;
}

/* A login, checked as any other. MORE: it is not complete, or, in another state, that takes longer. */
static enum miniproxy_cause read_login(struct miniproxy *p, struct miniproxy_session *s, struct miniproxy_buffer *b)
{
    const unsigned char *m = b->u.data + b->in;
    size_t have = (size_t)(b->in_end - b->in), len;
    struct plan *pl = plan_of(b);
    enum miniproxy_cause cause;
    if (have > 0 && m[0] != 1) return MINIPROXY_CAUSE_REQUEST_LINE;
    if (have < 3 || have < 3u + m[1] || have < 3u + m[1] + m[2 + m[1]]) return MORE;
    len = 3u + m[1] + m[2 + m[1]];
    if ((s->flags & IS_RESERVED) != 0) {
        cause = find_place(p, s);
        if (cause != MINIPROXY_CAUSE_NONE) return cause;
        arm(p, s, MINIPROXY_TIMER_PHASE, MINIPROXY_TIMEOUT_HEAD);
    }
    memset(pl, 0, offsetof(struct plan, at));
    pl->head.login = span_of(b, m, len);
    s->policy = p->config.policy;
    cause = MINIPROXY_CAUSE_NONE;
    if (has_users(s->policy)) cause = log_in(p, s->policy, &s->client_addr, b, &pl->head.login, &s->user);
    if (cause != MINIPROXY_CAUSE_NONE && cause != MORE) return cause;
    b->in = u16(b->in + len);
    if (cause == MINIPROXY_CAUSE_NONE) s->socks_stage = SOCKS_LOGGED_IN;
    else start_login(p, s);
    return cause;
}

/* A login that took long has a result. */
static enum next socks_logged_in(struct miniproxy *p, struct miniproxy_session *s, enum miniproxy_cause cause)
{
    if (cause != MINIPROXY_CAUSE_NONE) return refuse(p, s, cause);
    s->socks_stage = SOCKS_LOGGED_IN;
    enter(p, s, STATE_HEAD);
    arm(p, s, MINIPROXY_TIMER_PHASE, MINIPROXY_TIMEOUT_HEAD);
    return NEXT_STATE;
}

/* "CONNECT host:port" instead of the request that ends at `end`, of which host[0..len) may be part. */
static enum miniproxy_cause translate(struct miniproxy *p, struct miniproxy_session *s, struct miniproxy_buffer *b,
                                      unsigned char *end, const void *host, size_t len)
{
    static const char method[] = "CONNECT ";
    char digits[10];
    size_t digit_count = decimal((unsigned)end[-2] << 8 | end[-1], digits);
    unsigned char *line = end - (sizeof method - 1) - len - 1 - digit_count, *target = line + sizeof method - 1;
    struct plan *pl = plan_of(b);
    enum miniproxy_cause cause;
    memmove(target, host, len);
    put(line, method);
    target[len] = ':';
    memcpy(target + len + 1, digits, digit_count);
    for (size_t i = 0; i < len; i++)
        if (target[i] <= 0x20 || target[i] >= 0x7f) return MINIPROXY_CAUSE_REQUEST_LINE; /* as in a request line */
    memset(pl, 0, offsetof(struct plan, at));
    pl->head.seen = FROM_CLIENT | HAS_HOST;
    pl->head.minor = 1;
    begin_fields(&pl->head, b, end);
    pl->method = span_of(b, line, sizeof method - 2);
    pl->target = span_of(b, target, (size_t)(end - target));
    pl->method_bit = MINIPROXY_CONNECT;
    cause = parse_target(pl, b, target, pl->target.len);
    note_line(p, s, b, cause == MINIPROXY_CAUSE_NONE);
    return cause;
}

/* A request: 5, command, 0, type of the address, address, port. */
static enum miniproxy_cause read_socks_request(struct miniproxy *p, struct miniproxy_session *s,
                                               struct miniproxy_buffer *b)
{
    enum { IP4 = 1, NAME = 3, IP6 = 4, BEFORE = 4, BEHIND = 2 };
    unsigned char *m = b->u.data + b->in, *end;
    size_t have = (size_t)(b->in_end - b->in), len;
    struct miniproxy_addr a = {.family = 6};
    char text[MINIPROXY_ADDR_TEXT + 1] = "[";
    if (have > 0 && m[0] != 5) return MINIPROXY_CAUSE_REQUEST_LINE;
    if (have < BEFORE + 1) return MORE;
    if (m[2] != 0) return MINIPROXY_CAUSE_REQUEST_LINE;
    if (m[1] != 1) return MINIPROXY_CAUSE_SCHEME; /* BIND, UDP ASSOCIATE */
    if (m[3] == NAME) len = 1u + m[BEFORE];
    else if (m[3] == IP4) len = 4;
    else if (m[3] == IP6 && MINIPROXY_WITH_IPV6) len = MINIPROXY_IP_LEN;
    else return MINIPROXY_CAUSE_TARGET;
    if (have < BEFORE + len + BEHIND) return MORE;
    m += BEFORE;
    end = m + len + BEHIND;
    if (m[-1] == NAME) return translate(p, s, b, end, m + 1, len - 1);
    memcpy(a.ip, m, len);
    if (m[-1] == IP4) a.family = 4;
    len = miniproxy_addr_format(&a, text + 1);
    if (a.family == 4) return translate(p, s, b, end, text + 1, len);
    text[1 + len] = ']';
    return translate(p, s, b, end, text, len + 2);
}

static enum miniproxy_cause read_socks(struct miniproxy *p, struct miniproxy_session *s, struct miniproxy_buffer *b)
{
    if (s->socks_stage == SOCKS_METHODS) return read_methods(p, s, b);
    return s->socks_stage == SOCKS_LOGIN ? read_login(p, s, b) : read_socks_request(p, s, b);
}

OUTLINED static enum next on_socks(struct miniproxy *p, struct miniproxy_session *s)
{
    static const struct {
        unsigned char text[2];
        uint8_t then;
    } said[] = {{{5, 0}, SOCKS_REQUEST}, {{5, 2}, SOCKS_LOGIN}, {{1, 0}, SOCKS_REQUEST}};
    struct miniproxy_buffer *b = s->up.buffer;
    enum miniproxy_cause cause;
    int n;
    for (;;) {
        if (s->socks_stage >= SOCKS_NO_LOGIN) {
            n = tell(p, s, said[s->socks_stage - SOCKS_NO_LOGIN].text, 2);
            if (n == MINIPROXY_AGAIN) return NEXT_WAIT;
            if (n != MINIPROXY_OK) return cut(p, s, MINIPROXY_CAUSE_CLIENT_GONE);
            s->socks_stage = said[s->socks_stage - SOCKS_NO_LOGIN].then;
        }
        cause = read_socks(p, s, b);
        if (s->state == STATE_LOGIN) return NEXT_WAIT;
        if (cause == MINIPROXY_CAUSE_NONE && s->socks_stage == SOCKS_REQUEST) return NEXT_DECISION;
        if (cause == MINIPROXY_CAUSE_NONE) continue;
        if (cause == MORE && b->in_end - b->in >= MINIPROXY_HEAD_MAX) cause = MINIPROXY_CAUSE_LINE_SIZE;
        if (cause != MORE) return refuse(p, s, cause);
        n = fill(p, s, &s->up);
        if (n == MINIPROXY_AGAIN) return NEXT_WAIT;
        if (n == MINIPROXY_EOF) return refuse(p, s, MINIPROXY_CAUSE_HEAD_CUT);
        if (n < 0) return cut(p, s, MINIPROXY_CAUSE_CLIENT_GONE);
    }
}

#else

static enum next socks_logged_in(struct miniproxy *p, struct miniproxy_session *s, enum miniproxy_cause cause)
{
    (void)p, (void)s, (void)cause;
    return NEXT_WAIT;
}

static enum next on_socks(struct miniproxy *p, struct miniproxy_session *s)
{
    (void)p, (void)s;
    return NEXT_WAIT;
}

#endif

/* ---- LOGIN ---- */

static enum next on_login(struct miniproxy *p, struct miniproxy_session *s)
{
    const struct miniproxy_user *user;
    enum miniproxy_cause cause = login_result(p, s, &user);
    if (cause == MORE) return NEXT_WAIT;
    leave_login(p, s);
    if (cause == MINIPROXY_CAUSE_NONE) s->user = user;
    if (is_socks(s)) return socks_logged_in(p, s, cause);
    return decide_for(p, s, cause);
}

OUTLINED static enum next on_head(struct miniproxy *p, struct miniproxy_session *s)
{
    struct miniproxy_buffer *b = s->up.buffer;
    enum miniproxy_cause cause = MORE;
    int n;
    for (;;) {
        if (b->u.data[b->in] == '\r' && !skip_blank_lines(s, b)) return refuse(p, s, MINIPROXY_CAUSE_REQUEST_LINE);
        if (has_received(b)) cause = read_any_head(p, s, b);
        if (cause == MINIPROXY_CAUSE_NONE) break;
        if (cause == MORE && b->in_end >= MINIPROXY_BUFFER_SIZE - 2) {
            tell_rest(p, s);
            cause = plan_of(b)->head.fields == 0 ? MINIPROXY_CAUSE_LINE_SIZE : MINIPROXY_CAUSE_HEAD_SIZE;
        }
        if (cause != MORE) return refuse(p, s, cause);
        n = fill(p, s, &s->up);
        if (n == MINIPROXY_AGAIN) return NEXT_WAIT;
        if (n < 0) tell_rest(p, s);
        if (n == MINIPROXY_EOF) return refuse(p, s, MINIPROXY_CAUSE_HEAD_CUT);
        if (is_plain(n)) return refuse_plain(p, s);
        if (n < 0) return cut(p, s, MINIPROXY_CAUSE_CLIENT_GONE);
    }
    s->interim = 0;
    return NEXT_DECISION;
}

/* ---- RESOLVE ---- */

/* Find the addresses that the policy allows. Needs a user: none of them, but some if there was one. */
static enum miniproxy_verdict choose_addresses(const struct miniproxy *p, struct miniproxy_session *s,
                                               const struct miniproxy_buffer *b, struct plan *pl, unsigned count)
{
    enum miniproxy_verdict verdict, result = MINIPROXY_DENIED;
    int rule = -1;
    for (unsigned i = 0; i < count; i++) {
        pl->at[i].port = pl->port;
        verdict = ask(p, s, b, &pl->at[i], &rule);
        if (verdict == MINIPROXY_ALLOWED || pl->count == 0) s->rule = (int16_t)rule;
        if (verdict == MINIPROXY_NEEDS_USER) result = verdict;
        if (verdict != MINIPROXY_ALLOWED) continue;
        pl->untried |= (uint16_t)(1u << i);
        pl->count++;
    }
    return pl->count > 0 ? MINIPROXY_ALLOWED : result;
}

/* Ask the port for the addresses of a name: a cause, or MORE while there is no answer. */
static enum miniproxy_cause resolve(struct miniproxy *p, struct miniproxy_session *s, const char *host, struct plan *pl,
                                    unsigned *found)
{
    struct miniproxy_conn *c = &s->server[0];
    int count;
    if ((s->flags & RESOLVING) != 0 && c->ready == 0) return MORE;
    c->ready = 0;
    s->flags |= RESOLVING;
    s->servers_open = 1;
    count = p->config.port->resolve(p->config.port_data, c, host, pl->at, MINIPROXY_ADDRESSES);
    if (count == MINIPROXY_AGAIN) return MORE;
    s->flags &= ~(uint32_t)RESOLVING;
    s->servers_open = 0;
    clear_conn(c);
    s->dns_ms = p->now_ms - s->mark_ms;
    count_took(p, TOOK_DNS, s->dns_ms);
    if (count == MINIPROXY_ENAME || count == 0) return MINIPROXY_CAUSE_DNS_NAME;
    if (count == MINIPROXY_ERESOURCES) return MINIPROXY_CAUSE_RESOURCES;
    if (count == MINIPROXY_EDNS) return MINIPROXY_CAUSE_DNS_FAILED;
    if (count < 0) return MINIPROXY_CAUSE_INTERNAL;
    *found = count > MINIPROXY_ADDRESSES ? MINIPROXY_ADDRESSES : (unsigned)count;
    return MINIPROXY_CAUSE_NONE;
}

static enum next choose_way_to(struct miniproxy *p, struct miniproxy_session *s);

OUTLINED static enum next on_resolve(struct miniproxy *p, struct miniproxy_session *s)
{
    struct miniproxy_buffer *b = s->up.buffer;
    struct plan *pl = plan_of(b);
    enum miniproxy_verdict verdict;
    unsigned count = 0;
    enum miniproxy_cause cause = resolve(p, s, (const char *)b->u.data + pl->host.at, pl, &count);
    if (cause == MORE) return NEXT_WAIT;
    if (cause != MINIPROXY_CAUSE_NONE) return refuse(p, s, cause);
    verdict = choose_addresses(p, s, b, pl, count);
    if (verdict == MINIPROXY_NEEDS_USER) return refuse(p, s, MINIPROXY_CAUSE_LOGIN_MISSING);
    if (verdict == MINIPROXY_DENIED) return refuse(p, s, denial(p, s, b, &pl->at[0], MINIPROXY_CAUSE_ADDRESS));
    if (MINIPROXY_WITH_ROUTES) return choose_way_to(p, s);
    enter(p, s, STATE_CONNECT);
    arm(p, s, MINIPROXY_TIMER_PHASE, MINIPROXY_TIMEOUT_CONNECT);
    return NEXT_STATE;
}

/* ---- routes: the way to the origin by next hops ---- */

#if MINIPROXY_WITH_ROUTES

/* A route cannot be chosen before the name has been resolved. */
enum { ROUTE_OPEN = UINT16_MAX };

static const struct miniproxy_route *route_of(const struct miniproxy_session *s)
{
    return s->policy->routes + s->route - 1;
}

/* Members of a group are spoken to as the origin would be, by TLS where the target says so; of an https target that only
 * they are trusted with. A kept connection to one is that to an origin. */
static bool is_like_origin(const struct miniproxy_session *s)
{
    const struct miniproxy_hop *hop = hop_of(s);
    return hop == NULL || (is_group(hop) && (s->flags & IS_SECURE) != 0);
}

/* Where the addresses of the hop stand that is being connected: in front of the request's head, or, once that has been
 * rewritten for another hop before, in a buffer that nothing has come into yet. */
static struct plan *plan_of_way(const struct miniproxy_session *s)
{
    bool written = (s->flags & IS_WRITTEN) != 0 && !is_like_origin(s);
    return plan_of(written ? s->down.buffer : s->up.buffer);
}

static bool is_usable(const struct miniproxy_session *s, const struct miniproxy_hop *hop)
{
    return (s->flags & IS_SECURE) == 0 || hop->secure || is_group(hop);
}

/* What has been rewritten for a proxy is not fit for other hops, and the other way round. */
static void keep_hops_alike(struct miniproxy_session *s)
{
    for (unsigned i = 0; s->hops_left >> i != 0; i++)
        if ((s->hops_left >> i & 1u) != 0 &&
            is_proxy(s->policy->hops + route_of(s)->first + i) != is_proxy(hop_of(s)))
            s->hops_left &= (uint16_t)~(1u << i);
}

/* May it find out whether a hop is up again? What could not be sent once more is not risked while another one is up. */
static bool may_try(const struct miniproxy_session *s)
{
    const struct miniproxy_health *h = s->policy->health + route_of(s)->first;
    if ((s->flags & (IS_REPEATABLE | IS_WRITTEN)) != 0 || plan_of(s->up.buffer)->method_bit == MINIPROXY_CONNECT)
        return true;
    for (unsigned i = 0; s->hops_left >> i != 0; i++)
        if ((s->hops_left >> i & 1u) != 0 && !h[i].down) return false;
    return true;
}

/* The next hop of the route for this request: index in the policy, or -1. */
static int pick_hop(struct miniproxy *p, struct miniproxy_session *s)
{
    const struct miniproxy_route *r = route_of(s);
    struct miniproxy_health *first = s->policy->health + r->first;
    unsigned start = r->order == MINIPROXY_IN_TURN ? first->turn % r->count : 0;
    for (unsigned k = 0; k < r->count; k++) {
        unsigned i = (start + k) % r->count, at = r->first + i;
        const struct miniproxy_hop *hop = s->policy->hops + at;
        struct miniproxy_health *h = s->policy->health + at;
        if ((s->hops_left >> i & 1u) == 0) continue;
        if (h->down && (hop->check_s != 0 || !is_trial_due(p, h) || !may_try(s))) continue;
        s->hops_left &= (uint16_t)~(1u << i);
        if (r->order == MINIPROXY_IN_TURN) first->turn = u16(i + 1);
        if (h->down) postpone_trial(p, hop, h);
        return (int)at;
    }
    return -1;
}

/* On to the next hop of the route. */
static enum next next_hop(struct miniproxy *p, struct miniproxy_session *s)
{
    int at = pick_hop(p, s);
    if (at < 0) return refuse(p, s, MINIPROXY_CAUSE_HOPS_DOWN);
    s->hop = u16((size_t)at + 1);
    s->server_addr.family = 0;
    s->server_at = 0;
    s->flags &= ~(uint32_t)(NEXT_ATTEMPT | RESOLVING);
    enter(p, s, STATE_RESOLVE);
    arm(p, s, MINIPROXY_TIMER_PHASE, MINIPROXY_TIMEOUT_HOP);
    return NEXT_STATE;
}

/* It has not served the request: another one may. */
static enum next leave_hop(struct miniproxy *p, struct miniproxy_session *s)
{
    close_servers(p, s, true);
    give_back(p, &s->down);
    return next_hop(p, s);
}

/* The hop in use cannot be reached. */
static enum next hop_failed(struct miniproxy *p, struct miniproxy_session *s, enum miniproxy_cause cause)
{
    if (is_check(s) || cause == MINIPROXY_CAUSE_RESOURCES) return refuse(p, s, cause);
    hop_fails(p, s, cause);
    return leave_hop(p, s);
}

/* A kept connection serves this request too, if it leads to a hop of the route that is up. */
static bool can_reuse_hop(struct miniproxy *p, struct miniproxy_session *s)
{
    const struct miniproxy_route *r = route_of(s);
    unsigned at = s->hop - 1u;
    if (!has_kept_server(s) || s->hop == 0 || at < r->first || at >= (unsigned)r->first + r->count) return false;
    if (plan_of(s->up.buffer)->method_bit == MINIPROXY_CONNECT || s->policy->health[at].down) return false;
    if (!is_usable(s, s->policy->hops + at)) return false;
    if ((server_of(s)->ready & MINIPROXY_RD) == 0 && (s->flags & IS_REPEATABLE) != 0) return true;
    return server_is_quiet(p, s);
}

/* The request goes by the hops of its route. */
static enum next begin_hops(struct miniproxy *p, struct miniproxy_session *s)
{
    const struct miniproxy_route *r = route_of(s);
    s->hops_left = 0;
    for (unsigned i = 0; i < r->count; i++)
        if (is_usable(s, s->policy->hops + r->first + i)) s->hops_left |= (uint16_t)(1u << i);
    if (s->hops_left == 0) return refuse(p, s, MINIPROXY_CAUSE_SCHEME);
    if (can_reuse_hop(p, s)) return use_again(p, s);
    close_servers(p, s, false);
    forget_hop(s);
    return next_hop(p, s);
}

/* The policy has to allow what is asked of a parent by name alone. */
static enum next decide_remotely(struct miniproxy *p, struct miniproxy_session *s, struct miniproxy_question *q)
{
    enum miniproxy_verdict verdict;
    int rule = -1;
    q->remote = q->address == NULL;
    verdict = miniproxy_decide(s->policy, q, &rule);
    s->rule = (int16_t)rule;
    if (verdict == MINIPROXY_NEEDS_USER) return refuse(p, s, MINIPROXY_CAUSE_LOGIN_MISSING);
    if (verdict == MINIPROXY_DENIED) {
        enum miniproxy_cause cause = MINIPROXY_CAUSE_POLICY;
        q->port = 0; /* would another one do? */
        if (q->method == MINIPROXY_CONNECT && miniproxy_decide(s->policy, q, NULL) != MINIPROXY_DENIED)
            cause = MINIPROXY_CAUSE_CONNECT_PORT;
        return refuse(p, s, denial(p, s, s->up.buffer, q->address, cause));
    }
    if (MINIPROXY_WITH_CONDITIONS) keep_type_rules(s, q);
    return begin_hops(p, s);
}

/* What miniproxy_find_route has found. */
static bool leads_directly(const struct miniproxy_policy *policy, int route)
{
    return route == ROUTE_DIRECT || (route >= 0 && policy->routes[route].count == 0);
}

/* Does it lead to parents that are told the name, or to a group that it stands for? */
static bool passes_names_on(const struct miniproxy_policy *policy, int route)
{
    const struct miniproxy_route *r = policy->routes + route;
    return !r->resolve || is_group(policy->hops + r->first);
}

/* The request is allowed, as far as that is known without the addresses of a name. */
static enum next choose_way(struct miniproxy *p, struct miniproxy_session *s)
{
    struct miniproxy_buffer *b = s->up.buffer;
    struct plan *pl = plan_of(b);
    struct miniproxy_question q;
    int route;
    bool literal = (pl->form & LITERAL) != 0;
    s->route = 0;
    fill_question(p, s, b, literal ? &pl->at[0] : NULL, &q);
    route = s->policy != NULL ? miniproxy_find_route(s->policy, &q) : ROUTE_DIRECT;
    if (route == ROUTE_NEEDS_ADDRESS && has_kept_server(s) && hop_of(s) == NULL) {
        q.address = &s->server_addr; /* that of another connection may lead elsewhere */
        if (leads_directly(s->policy, miniproxy_find_route(s->policy, &q)) && can_reuse(p, s, b)) return use_again(p, s);
    }
    if (leads_directly(s->policy, route)) return go_directly(p, s);
    if (route != ROUTE_NEEDS_ADDRESS && (literal || passes_names_on(s->policy, route))) {
        s->route = u16((size_t)route + 1);
        return decide_remotely(p, s, &q);
    }
    s->route = ROUTE_OPEN;
    close_servers(p, s, false);
    return go_directly(p, s);
}

/* A name was resolved, and the policy allows some of its addresses: those the first of them shares its way with. */
static enum next choose_way_to(struct miniproxy *p, struct miniproxy_session *s)
{
    struct miniproxy_buffer *b = s->up.buffer;
    struct plan *pl = plan_of(b);
    struct miniproxy_question q;
    int route = ROUTE_DIRECT, way = ROUTE_NEEDS_ADDRESS;
    for (unsigned i = 0; s->route == ROUTE_OPEN && i < MINIPROXY_ADDRESSES; i++) {
        if ((pl->untried >> i & 1u) == 0) continue;
        fill_question(p, s, b, &pl->at[i], &q);
        route = miniproxy_find_route(s->policy, &q);
        if (leads_directly(s->policy, route)) route = ROUTE_DIRECT;
        if (way == ROUTE_NEEDS_ADDRESS) way = route;
        if (way != ROUTE_DIRECT) break;
        if (route == way) continue;
        pl->untried &= (uint16_t)~(1u << i);
        pl->count--;
    }
    if (way >= 0) {
        struct miniproxy_addr address = *q.address; /* of the first: it stands where the hop's will */
        q.address = &address;
        s->route = u16((size_t)way + 1);
        return decide_remotely(p, s, &q);
    }
    s->route = 0;
    enter(p, s, STATE_CONNECT);
    arm(p, s, MINIPROXY_TIMER_PHASE, MINIPROXY_TIMEOUT_CONNECT);
    return NEXT_STATE;
}

/* The name of a hop is resolved, or its address read. */
OUTLINED static enum next on_hop_resolve(struct miniproxy *p, struct miniproxy_session *s)
{
    const struct miniproxy_hop *hop = hop_of(s);
    struct plan *pl;
    unsigned count = 1;
    enum miniproxy_cause cause;
    if ((s->flags & IS_WRITTEN) != 0 && !is_like_origin(s) && !borrow(p, s, &s->down)) return NEXT_WAIT;
    pl = plan_of_way(s);
    if ((s->flags & RESOLVING) != 0 || !miniproxy_addr_parse(&pl->at[0], hop->host, strlen(hop->host))) {
        cause = resolve(p, s, hop->host, pl, &count);
        if (cause == MORE) return NEXT_WAIT;
        if (cause != MINIPROXY_CAUSE_NONE) return hop_failed(p, s, cause);
    }
    for (unsigned i = 0; i < count; i++) pl->at[i].port = hop->port;
    pl->untried = (uint16_t)((1u << count) - 1);
    pl->count = (uint8_t)count;
    pl->family = pl->tick = 0;
    enter(p, s, STATE_CONNECT);
    return NEXT_STATE;
}

#else

static enum next choose_way(struct miniproxy *p, struct miniproxy_session *s)
{
    return go_directly(p, s);
}

static enum next choose_way_to(struct miniproxy *p, struct miniproxy_session *s)
{
    (void)p, (void)s;
    return NEXT_WAIT;
}

static bool is_like_origin(const struct miniproxy_session *s)
{
    (void)s;
    return true;
}

static struct plan *plan_of_way(const struct miniproxy_session *s)
{
    return plan_of(s->up.buffer);
}

static enum next hop_failed(struct miniproxy *p, struct miniproxy_session *s, enum miniproxy_cause cause)
{
    return refuse(p, s, cause);
}

#endif

/* ---- CONNECT ---- */

#if MINIPROXY_WITH_TLS

static enum miniproxy_cause tls_cause(int error)
{
    switch (error) {
    case MINIPROXY_ETLS_NAME: return MINIPROXY_CAUSE_TLS_NAME;
    case MINIPROXY_ETLS_EXPIRED: return MINIPROXY_CAUSE_TLS_EXPIRED;
    case MINIPROXY_ETLS_SELF_SIGNED: return MINIPROXY_CAUSE_TLS_SELF_SIGNED;
    case MINIPROXY_ETLS_ISSUER: return MINIPROXY_CAUSE_TLS_ISSUER;
    case MINIPROXY_ETLS_CERTIFICATE: return MINIPROXY_CAUSE_TLS_CERTIFICATE;
    case MINIPROXY_ETLS_ALERT: return MINIPROXY_CAUSE_TLS_ALERT;
    case MINIPROXY_ETLS_PROTOCOL: return MINIPROXY_CAUSE_TLS_PROTOCOL;
    case MINIPROXY_ETLS_TIMEOUT: return MINIPROXY_CAUSE_TLS_TIMEOUT;
    case MINIPROXY_ETLS_CONFIG: return MINIPROXY_CAUSE_TLS_CONFIG;
    default: return MINIPROXY_CAUSE_INTERNAL; /* nothing that an origin can cause */
    }
}

/* The host in a head that has been rewritten. Only the head's own octets are there to hold a NUL: the one behind the host
 * moves in front of it, to where a blank or a bracket is known to stand. */
static unsigned char *borrow_host(struct miniproxy_buffer *b)
{
    unsigned char *host = next_line(b->u.data) + sizeof "Host: " - 1, *end, stop = ':';
    if (*host == '[') {
        host++;
        stop = ']';
    }
    for (end = host; *end != stop && *end != '\r'; end++) {}
    host[-1] = *end;
    *end = '\0';
    return host;
}

static void give_host_back(struct miniproxy_buffer *b)
{
    unsigned char *before = next_line(b->u.data) + sizeof "Host:" - 1, *end;
    bool brackets = *before == ' ';
    if (brackets) before++;
    for (end = before; *end != '\0'; end++) {}
    *end = *before;
    *before = brackets ? '[' : ' ';
}

/* An attempt for an https target begins: whom the port has to reach. */
static int secure(struct miniproxy *p, struct miniproxy_session *s, struct miniproxy_conn *c)
{
    struct miniproxy_buffer *b = s->up.buffer;
    const unsigned char *host;
#if MINIPROXY_WITH_ROUTES
    if (!is_like_origin(s)) {
        if (!hop_of(s)->secure) return MINIPROXY_OK;
        return p->config.port->secure(p->config.port_data, c, hop_of(s)->host);
    }
#endif
    if ((s->flags & IS_SECURE) == 0) return MINIPROXY_OK;
    host = (s->flags & IS_WRITTEN) != 0 ? borrow_host(b) : b->u.data + plan_of(b)->host.at;
    return p->config.port->secure(p->config.port_data, c, (const char *)host);
}

/* What secure has borrowed of a head that is to be sent again. */
static void secured(struct miniproxy_session *s)
{
    if ((s->flags & IS_SECURE) != 0) give_host_back(s->up.buffer);
}

#else

static enum miniproxy_cause tls_cause(int error)
{
    (void)error;
    return MINIPROXY_CAUSE_INTERNAL; /* nothing that an origin can cause */
}

static int secure(struct miniproxy *p, struct miniproxy_session *s, struct miniproxy_conn *c)
{
    (void)p, (void)s, (void)c;
    return MINIPROXY_OK;
}

static void secured(struct miniproxy_session *s)
{
    (void)s;
}

#endif

static enum miniproxy_cause connect_cause(int error)
{
    switch (error) {
    case MINIPROXY_EREFUSED: return MINIPROXY_CAUSE_REFUSED;
    case MINIPROXY_EUNREACHABLE: return MINIPROXY_CAUSE_UNREACHABLE;
    case MINIPROXY_ETIMEDOUT: return MINIPROXY_CAUSE_CONNECT_TIMEOUT;
    case MINIPROXY_ERESOURCES: return MINIPROXY_CAUSE_RESOURCES;
    case MINIPROXY_ESELF: return MINIPROXY_CAUSE_LOOP;
    case MINIPROXY_ERESET: return MINIPROXY_CAUSE_CONNECT_RESET;
    default: return tls_cause(error);
    }
}

static enum next hop_connected(struct miniproxy *p, struct miniproxy_session *s);

static enum next connected(struct miniproxy *p, struct miniproxy_session *s, unsigned winner)
{
    s->servers_open &= (uint8_t)~(1u << winner);
    close_servers(p, s, true);
    s->servers_open = (uint8_t)(1u << winner);
    s->server_at = (uint8_t)winner;
    s->server[winner].ready |= MINIPROXY_RD | MINIPROXY_WR;
    s->flags |= HAS_SERVER;
    s->connect_ms = p->now_ms - s->mark_ms;
    count_took(p, TOOK_CONNECT, s->connect_ms);
    if (hop_of(s) != NULL) return hop_connected(p, s);
    if ((s->flags & IS_WRITTEN) == 0) return start_exchange(p, s);
    enter(p, s, STATE_AWAIT);
    return NEXT_STATE;
}

/* One call of the port for an attempt that begins or is under way. OK, AGAIN or an error, after which it is closed. */
static int attempt(struct miniproxy *p, struct miniproxy_session *s, unsigned i, const struct miniproxy_addr *to)
{
    struct miniproxy_conn *c = &s->server[i];
    bool begins = MINIPROXY_WITH_TLS && (s->servers_open >> i & 1u) == 0;
    int result;
    c->ready = 0;
    s->servers_open |= (uint8_t)(1u << i);
    s->server_addr = *to;
    result = begins ? secure(p, s, c) : MINIPROXY_OK;
    if (result == MINIPROXY_OK) result = p->config.port->connect(p->config.port_data, c, to);
    if (result != MINIPROXY_OK && result != MINIPROXY_AGAIN) close_server(p, s, i, true);
    return result;
}

/* The place for another attempt, or MINIPROXY_ATTEMPTS. When all are taken, the oldest gives way once it has had its
 * share of the time, for every address is to be tried within the one deadline. */
static unsigned place_for_attempt(struct miniproxy *p, struct miniproxy_session *s, const struct plan *pl)
{
    unsigned i, oldest = 0;
    const uint32_t *timeout_ms = p->config.timeout_ms;
    uint32_t share = timeout_ms[connect_timeout(s)] / pl->count / timeout_ms[MINIPROXY_TIMEOUT_ATTEMPT];
    for (i = 0; i < MINIPROXY_ATTEMPTS; i++)
        if ((s->servers_open >> i & 1u) == 0) return i;
    for (i = 1; i < MINIPROXY_ATTEMPTS; i++)
        if ((uint8_t)(pl->tick - pl->since[i]) > (uint8_t)(pl->tick - pl->since[oldest])) oldest = i;
    if ((uint8_t)(pl->tick - pl->since[oldest]) < share && share < UINT8_MAX) return MINIPROXY_ATTEMPTS;
    close_server(p, s, oldest, true);
    return oldest;
}

/* The address to try next: both families take turns, each in the resolver's order (RFC 8305 section 4). There is
 * one. */
static uint8_t next_address(struct plan *pl)
{
    unsigned next = MINIPROXY_ADDRESSES;
    for (unsigned i = MINIPROXY_ADDRESSES; i-- > 0;) {
        if ((pl->untried >> i & 1u) == 0) continue;
        if (next == MINIPROXY_ADDRESSES || pl->at[i].family != pl->family || pl->at[next].family == pl->family)
            next = i;
    }
    pl->untried &= (uint16_t)~(1u << next);
    pl->family = pl->at[next].family;
    return (uint8_t)next;
}

/* Go on with an attempt, which may be the first call for it. True: connected. */
static bool try_address(struct miniproxy *p, struct miniproxy_session *s, struct plan *pl, unsigned i)
{
    int result = attempt(p, s, i, &pl->at[pl->tries[i]]);
    if (result != MINIPROXY_OK && result != MINIPROXY_AGAIN) pl->error = (int8_t)result;
    return result == MINIPROXY_OK;
}

OUTLINED static enum next on_connect(struct miniproxy *p, struct miniproxy_session *s)
{
    struct plan *pl = plan_of_way(s);
    unsigned i;
    for (i = 0; i < MINIPROXY_ATTEMPTS; i++)
        if ((s->servers_open >> i & 1u) != 0 && s->server[i].ready != 0 && try_address(p, s, pl, i))
            return connected(p, s, i);
    if ((s->flags & NEXT_ATTEMPT) != 0) {
        pl->tick++;
        arm(p, s, MINIPROXY_TIMER_SIDE, MINIPROXY_TIMEOUT_ATTEMPT);
    }
    while (pl->untried != 0 && (s->servers_open == 0 || (s->flags & NEXT_ATTEMPT) != 0)) {
        i = place_for_attempt(p, s, pl);
        if (i == MINIPROXY_ATTEMPTS) break;
        pl->tries[i] = next_address(pl);
        pl->since[i] = pl->tick;
        if (try_address(p, s, pl, i)) return connected(p, s, i);
        if ((s->servers_open >> i & 1u) == 0) continue;
        s->flags &= ~(uint32_t)NEXT_ATTEMPT;
        if (pl->untried != 0) arm(p, s, MINIPROXY_TIMER_SIDE, MINIPROXY_TIMEOUT_ATTEMPT);
    }
    s->flags &= ~(uint32_t)NEXT_ATTEMPT;
    if (s->servers_open != 0) return NEXT_WAIT;
    if (hop_of(s) != NULL) return hop_failed(p, s, connect_cause(pl->error));
    return refuse(p, s, connect_cause(pl->error));
}

/* May what was sent by its hop go by another? */
static bool may_go_elsewhere(const struct miniproxy_session *s);

/* May the request be sent once more, if nothing has come back? Over a new connection instead of a kept one, or by
 * another hop; SOCKS5 servers are no hops that a request could get lost in. */
static bool may_repeat(const struct miniproxy_session *s)
{
    if ((s->flags & IS_REPEATABLE) == 0) return false;
    return (MINIPROXY_WITH_REUSE && (s->flags & IS_REUSED) != 0) || may_go_elsewhere(s);
}

static enum next repeat_by_hop(struct miniproxy *p, struct miniproxy_session *s);

/* A kept connection turned out dead before anything came back: the same request once more over a new one (RFC 9110
 * section 9.2.2). */
static enum next repeat(struct miniproxy *p, struct miniproxy_session *s)
{
    struct miniproxy_buffer *b = s->up.buffer;
    if (!is_like_origin(s)) return repeat_by_hop(p, s);
    s->flags &= ~(uint32_t)(IS_REUSED | IS_REPEATABLE | UP_DONE);
    close_servers(p, s, true);
    give_back(p, &s->down);
    b->out = 0;
    s->server_at = 0;
    p->counters.retried++;
    enter(p, s, STATE_CONNECT);
    arm(p, s, MINIPROXY_TIMER_PHASE, MINIPROXY_TIMEOUT_CONNECT);
    return NEXT_STATE;
}

static enum next on_reconnect(struct miniproxy *p, struct miniproxy_session *s)
{
    struct miniproxy_addr to = s->server_addr;
    int result;
    if (s->servers_open != 0 && s->server[0].ready == 0) return NEXT_WAIT;
    result = attempt(p, s, 0, &to);
    if (result == MINIPROXY_AGAIN) return NEXT_WAIT;
    if (result != MINIPROXY_OK) return refuse(p, s, connect_cause(result));
    secured(s);
    return connected(p, s, 0);
}

/* ---- by a hop: what follows its connection ---- */

#if MINIPROXY_WITH_ROUTES

static bool may_go_elsewhere(const struct miniproxy_session *s)
{
    const struct miniproxy_hop *hop = hop_of(s);
    return hop != NULL && s->hops_left != 0 && hop->kind != MINIPROXY_HOP_SOCKS5 && !is_like_origin(s);
}

/* A request that is sent again by another parent: the login is that one's. False: there is no room for it. */
static bool renew_login(struct miniproxy_session *s)
{
    struct miniproxy_buffer *b = s->up.buffer;
    const char *login = hop_of(s)->login;
    if (s->login_at == 0) return true;
    if (s->login_at + login_len(login) + CHUNK_ROOM > b->in) return false;
    b->out_end = u16((size_t)(put_login(b->u.data + s->login_at, login) - b->u.data));
    return true;
}

/* The way is there. */
static enum next leave_by_hop(struct miniproxy *p, struct miniproxy_session *s)
{
    give_back(p, &s->down);
    s->policy->health[s->hop - 1].used++;
    if (s->policy != p->config.policy) s->origin_len = 0; /* whose hops others are: see forget_hops */
    if ((s->flags & IS_WRITTEN) == 0) return start_exchange(p, s);
    if (!renew_login(s)) return refuse(p, s, MINIPROXY_CAUSE_HEAD_SIZE);
    enter(p, s, STATE_AWAIT);
    return NEXT_STATE;
}

static enum next hop_connected(struct miniproxy *p, struct miniproxy_session *s)
{
    const struct miniproxy_hop *hop = hop_of(s);
    if (is_check(s) && hop->check == NULL) return end_session(p, s, false);
    if (hop->kind != MINIPROXY_HOP_SOCKS5) return leave_by_hop(p, s);
    give_back(p, &s->down);
    s->hop_stage = 0;
    enter(p, s, STATE_SOCKS_HOP);
    return NEXT_STATE;
}

/* The request has been sent by a hop that ended the connection without a word, or inside the response's head. If that was
 * a kept one, it may have idled for too long: that hop has not been tried yet. */
static enum next repeat_by_hop(struct miniproxy *p, struct miniproxy_session *s)
{
    s->flags &= ~(uint32_t)(IS_REUSED | UP_DONE | FIRST_BYTE_SEEN);
    close_servers(p, s, true);
    give_back(p, &s->down);
    s->up.buffer->out = 0;
    p->counters.retried++;
    return next_hop(p, s);
}

/* ---- SOCKS: a parent that speaks SOCKS5 (RFC 1928, RFC 1929) is told where to connect. What is sent and what comes
 * stands in the buffer of the response, one after the other; never more is read than what is being said. ---- */

enum { PARENT_BEGINS, PARENT_METHOD, PARENT_LOGIN, PARENT_REPLY }; /* what is waited for */

/* The authority in a head that has been rewritten: Host is its first field. */
static const unsigned char *written_host(struct miniproxy_buffer *b, struct authority *a)
{
    const unsigned char *end = next_line(next_line(b->u.data)) - 2;
    a->host = next_line(b->u.data) + sizeof "Host: " - 1;
    a->port = 80;
    a->literal = *a->host == '[';
    if (a->literal) {
        a->host++;
        a->host_len = (size_t)((const unsigned char *)memchr(a->host, ']', (size_t)(end - a->host)) - a->host);
        miniproxy_addr_parse(&a->addr, (const char *)a->host, a->host_len);
    } else {
        parse_name(a, end);
    }
    return end;
}

static unsigned char *put_socks_request(unsigned char *w, struct miniproxy_session *s)
{
    struct authority a = {.host = NULL};
    const struct plan *pl = plan_of(s->up.buffer);
    if ((s->flags & IS_WRITTEN) != 0) {
        const unsigned char *end = written_host(s->up.buffer, &a), *colon = end;
        while (is_digit(colon[-1])) colon--;
        if (colon < end && colon[-1] == ':' && colon > a.host + a.host_len)
            for (a.port = 0; colon < end; colon++) a.port = a.port * 10 + (unsigned)(*colon - '0');
    } else {
        a.host = s->up.buffer->u.data + pl->host.at;
        a.host_len = pl->host.len;
        a.port = pl->port;
        a.literal = (pl->form & LITERAL) != 0 && miniproxy_addr_parse(&a.addr, (const char *)a.host, a.host_len);
    }
    *w++ = 5;
    *w++ = 1;
    *w++ = 0;
    if (a.literal) {
        *w++ = a.addr.family == 4 ? 1 : 4;
        w = put_bytes(w, a.addr.ip, a.addr.family == 4 ? 4 : MINIPROXY_IP_LEN);
    } else {
        *w++ = 3;
        *w++ = (unsigned char)a.host_len;
        w = put_bytes(w, a.host, a.host_len);
    }
    *w++ = (unsigned char)(a.port >> 8);
    *w++ = (unsigned char)a.port;
    return w;
}

static unsigned char *put_socks_login(unsigned char *w, const char *login)
{
    const char *password = (const char *)memchr(login, ':', strlen(login)) + 1;
    size_t len = (size_t)(password - 1 - login);
    *w++ = 1;
    *w++ = (unsigned char)len;
    w = put_bytes(w, login, len);
    *w++ = (unsigned char)strlen(password);
    return put(w, password);
}

/* What the parent says instead of 0 (RFC 1928 section 6). It is not the parent that failed. */
static enum miniproxy_cause socks_cause(struct miniproxy_session *s, unsigned reply)
{
    s->status = 502;
    switch (reply) {
    case 3:
    case 4: return MINIPROXY_CAUSE_UNREACHABLE;
    case 5: return MINIPROXY_CAUSE_REFUSED;
    case 6: return MINIPROXY_CAUSE_CONNECT_TIMEOUT;
    case 2: s->status = 403; break;
    default: break;
    }
    return MINIPROXY_CAUSE_HOP_REFUSED;
}

/* Octets that have to be there before the answer can be looked at. */
static size_t socks_needs(const struct miniproxy_session *s, const unsigned char *answer, size_t there)
{
    if (s->hop_stage == PARENT_BEGINS) return 0;
    if (s->hop_stage != PARENT_REPLY || there < 2 || answer[1] != 0) return 2;
    if (there < 5) return 5;
    return answer[3] == 1 ? 10 : answer[3] == 4 ? 22 : answer[3] == 3 ? 7u + answer[4] : 5;
}

/* Look at an answer that is complete, and put what is to be said next. MORE: that; NONE: the parent has connected. */
static enum miniproxy_cause socks_answer(struct miniproxy *p, struct miniproxy_session *s, struct miniproxy_buffer *b)
{
    const char *login = hop_of(s)->login;
    unsigned char *w = b->u.data, *answer = b->u.data;
    switch (s->hop_stage) {
    case PARENT_BEGINS:
        w = put_bytes(w, login != NULL ? "\5\2\0\2" : "\5\1\0", login != NULL ? 4 : 3);
        s->hop_stage = PARENT_METHOD;
        break;
    case PARENT_METHOD:
        if (answer[0] != 5) return MINIPROXY_CAUSE_HOP_INVALID;
        if (answer[1] == 2 && login != NULL) {
            w = put_socks_login(w, login);
            s->hop_stage = PARENT_LOGIN;
            break;
        }
        if (answer[1] == 0xff) return MINIPROXY_CAUSE_HOP_LOGIN;
        if (answer[1] != 0) return MINIPROXY_CAUSE_HOP_INVALID;
        w = put_socks_request(w, s);
        s->hop_stage = PARENT_REPLY;
        break;
    case PARENT_LOGIN:
        if (answer[1] != 0) return MINIPROXY_CAUSE_HOP_LOGIN;
        w = put_socks_request(w, s);
        s->hop_stage = PARENT_REPLY;
        break;
    default:
        if (answer[0] != 5) return MINIPROXY_CAUSE_HOP_INVALID;
        if (answer[1] != 0) return socks_cause(s, answer[1]);
        return b->in_end == 5 ? MINIPROXY_CAUSE_HOP_INVALID : MINIPROXY_CAUSE_NONE;
    }
    if (s->hop_stage == PARENT_REPLY) arm(p, s, MINIPROXY_TIMER_PHASE, MINIPROXY_TIMEOUT_CONNECT);
    b->in_end = 0;
    b->out = 0;
    b->out_end = u16((size_t)(w - b->u.data));
    return MORE;
}

/* Send what is to be said, or receive until `needed` octets are there. OK: that is done. */
static int socks_move(struct miniproxy *p, struct miniproxy_session *s, struct miniproxy_buffer *b, size_t needed)
{
    struct miniproxy_conn *c = server_of(s);
    int n = 1;
    while (n > 0 && has_sendable(b)) {
        if ((c->ready & MINIPROXY_WR) == 0) return MINIPROXY_AGAIN;
        n = send_out(p, s, c, b->u.data + b->out, (size_t)(b->out_end - b->out));
        if (n > 0) b->out = u16(b->out + (size_t)n);
    }
    while (n > 0 && b->in_end < needed) {
        if ((c->ready & MINIPROXY_RD) == 0) return MINIPROXY_AGAIN;
        n = p->config.port->recv(p->config.port_data, c, b->u.data + b->in_end, needed - b->in_end);
        if (n == MINIPROXY_AGAIN) c->ready &= (uint8_t)~MINIPROXY_RD;
        if (n > 0) b->in_end = u16(b->in_end + (size_t)n);
    }
    return n > 0 ? MINIPROXY_OK : n;
}

OUTLINED static enum next on_socks_parent(struct miniproxy *p, struct miniproxy_session *s)
{
    struct miniproxy_buffer *b;
    enum miniproxy_cause cause;
    int result;
    if (!borrow(p, s, &s->down)) return NEXT_WAIT;
    b = s->down.buffer;
    for (;;) {
        size_t needed = has_sendable(b) ? 0 : socks_needs(s, b->u.data, b->in_end);
        if (!has_sendable(b) && b->in_end >= needed) {
            cause = socks_answer(p, s, b);
            if (cause != MORE) break;
            continue;
        }
        result = socks_move(p, s, b, needed);
        if (result == MINIPROXY_AGAIN) return NEXT_WAIT;
        if (result == MINIPROXY_OK) continue;
        if (s->hop_stage != PARENT_REPLY || has_sendable(b) || is_check(s))
            return hop_failed(p, s, MINIPROXY_CAUSE_CONNECT_RESET);
        /* Some end like that where they cannot connect: any client could take them down. */
        if (s->hops_left == 0) return refuse(p, s, MINIPROXY_CAUSE_CONNECT_RESET);
        return leave_hop(p, s);
    }
    if (cause == MINIPROXY_CAUSE_HOP_INVALID || cause == MINIPROXY_CAUSE_HOP_LOGIN) return hop_failed(p, s, cause);
    hop_works(p, s);
    if (cause != MINIPROXY_CAUSE_NONE) return refuse(p, s, cause);
    s->connect_ms += p->now_ms - s->mark_ms;
    return leave_by_hop(p, s);
}

/* ---- health checks: requests, or only connections, of sessions without a client ---- */

/* The request of a check, as if it had been received. */
static bool put_check(struct miniproxy *p, struct miniproxy_session *s, const struct miniproxy_hop *hop)
{
    struct miniproxy_buffer *b;
    unsigned char *w;
    take_buffer(p, &s->up);
    b = s->up.buffer;
    b->in = b->scan = MINIPROXY_HEADROOM;
    w = put_all(b->u.data + b->in, "HEAD ", hop->check != NULL ? hop->check : "http://check/", " HTTP/1.0\r\n\r\n");
    b->in_end = u16((size_t)(w - b->u.data));
    if (read_head(p, s, b) != MINIPROXY_CAUSE_NONE || understand(p, s, b) != MINIPROXY_CAUSE_NONE) return false;
    return is_usable(s, hop);
}

static struct miniproxy_session *take_slot(struct miniproxy *p);

/* False: there is no place for it now. */
static bool start_check(struct miniproxy *p, unsigned at)
{
    const struct miniproxy_policy *policy = p->config.policy;
    struct miniproxy_session *s;
    bool is_good;
    if (p->counters.buffers + p->granted + BUFFER_RESERVE >= MINIPROXY_BUFFERS) return false;
    s = take_slot(p);
    if (s == NULL) return false;
    s->flags = IS_CHECK;
    s->interim = 0;
    s->client.ready = 0;
    s->client_addr.family = 0;
    s->origin_len = 0;
    p->checks++;
    policy->health[at].phase = CHECK_RUNS;
    enter(p, s, STATE_IDLE);
    enter(p, s, STATE_HEAD);
    open_transaction(p, s);
    arm(p, s, MINIPROXY_TIMER_WHOLE, MINIPROXY_TIMEOUT_CHECK);
    is_good = put_check(p, s, policy->hops + at);
    s->policy = policy;
    s->hop = u16(at + 1);
    s->hops_left = 0;
    if (is_good) {
        enter(p, s, STATE_RESOLVE);
        run_soon(p, s, 0);
    } else {
        cut(p, s, MINIPROXY_CAUSE_INTERNAL);
    }
    return true;
}

/* Start the checks that are due, in turn: those that take long must not keep others from it. Nothing is looked at before
 * one may be. */
static void run_checks(struct miniproxy *p)
{
    const struct miniproxy_policy *policy = p->config.policy;
    uint32_t next_ms = MINIPROXY_FOREVER;
    unsigned begin = p->check_next;
    if (policy == NULL || p->draining || p->checks == MINIPROXY_CHECKS) return;
    if (p->check_due_ms != 0 && !time_reached(p->now_ms, p->check_due_ms)) return;
    for (unsigned k = 0; k < policy->hop_count && p->checks < MINIPROXY_CHECKS; k++) {
        unsigned i = (begin + k) % policy->hop_count;
        struct miniproxy_health *h = policy->health + i;
        uint32_t left_ms = h->phase == CHECK_NEVER ? 0 : time_left(p->now_ms, h->due_ms);
        if (policy->hops[i].check_s == 0 || h->phase == CHECK_RUNS) continue;
        if (left_ms == 0 && start_check(p, i)) {
            p->check_next = u16(i + 1);
            continue;
        }
        if (left_ms == 0) left_ms = CHECK_RETRY_MS;
        if (left_ms < next_ms) next_ms = left_ms;
    }
    p->checks_wait = next_ms != MINIPROXY_FOREVER;
    p->check_due_ms = p->now_ms + (p->checks_wait ? next_ms : TIMEOUT_MAX_MS);
}

/* Until the next check; MINIPROXY_FOREVER: there is none, or one has to end before. */
static uint32_t next_check(const struct miniproxy *p)
{
    if (p->config.policy == NULL || p->draining || !p->checks_wait || p->checks == MINIPROXY_CHECKS)
        return MINIPROXY_FOREVER;
    return time_left(p->now_ms, p->check_due_ms);
}

/* Connections that lead to hops of the former policy serve only what is under way. */
static void forget_hops(struct miniproxy *p)
{
    p->check_due_ms = p->now_ms;
    p->checks_wait = p->config.policy != NULL && p->config.policy->hop_count > 0;
    for (unsigned i = 0; i < p->slots_used; i++) {
        struct miniproxy_session *s = &p->sessions[i];
        if (s->state == STATE_FREE || s->hop == 0 || is_check(s)) continue;
        s->origin_len = 0;
        s->flags &= ~(uint32_t)KEEPS_SERVER;
        if (s->policy != NULL) continue;
        close_servers(p, s, false);
        forget_hop(s);
    }
}

#else

static bool may_go_elsewhere(const struct miniproxy_session *s)
{
    (void)s;
    return false;
}

static enum next hop_connected(struct miniproxy *p, struct miniproxy_session *s)
{
    (void)p, (void)s;
    return NEXT_WAIT;
}

static enum next repeat_by_hop(struct miniproxy *p, struct miniproxy_session *s)
{
    (void)p, (void)s;
    return NEXT_WAIT;
}

static enum next on_socks_parent(struct miniproxy *p, struct miniproxy_session *s)
{
    (void)p, (void)s;
    return NEXT_WAIT;
}

static enum next on_hop_resolve(struct miniproxy *p, struct miniproxy_session *s)
{
    (void)p, (void)s;
    return NEXT_WAIT;
}

static void run_checks(struct miniproxy *p)
{
    (void)p;
}

static uint32_t next_check(const struct miniproxy *p)
{
    (void)p;
    return MINIPROXY_FOREVER;
}

static void forget_hops(struct miniproxy *p)
{
    (void)p;
}

#endif

/* ---- AWAIT and RELAY: the exchange ---- */

static enum next start_tunnel(struct miniproxy *p, struct miniproxy_session *s)
{
    enter(p, s, STATE_TUNNEL); /* its first deadline is set by watch_tunnel, like every other */
    arm(p, s, MINIPROXY_TIMER_WHOLE, MINIPROXY_TIMEOUT_TUNNEL_TOTAL);
    start_pipe(&s->up, SOURCE_RAW, 0, 0);
    start_pipe(&s->down, SOURCE_RAW, 0, 0);
    s->flags &= ~(uint32_t)(KEEPS_CLIENT | KEEPS_SERVER);
    p->counters.tunnels++;
    return NEXT_STATE;
}

static const char upgrade_fields[] = "Connection: upgrade\r\nUpgrade: websocket\r\n";

/* Fields that the proxy adds to a request on its own, as text. */
enum {
    FIELDS_ADDED =
        MINIPROXY_WITH_FORWARDED ? sizeof "X-Forwarded-For: \r\n" + MINIPROXY_ADDR_TEXT + sizeof upgrade_fields : 1
};

static bool is_upgrade(const struct miniproxy_session *s)
{
    return MINIPROXY_WITH_UPGRADE && (s->flags & IS_UPGRADE) != 0;
}

#if MINIPROXY_WITH_FORWARDED

/* Fields that the proxy adds on its own, and who asks: a line more is an element more of a list that came along (RFC 9110
 * section 5.3). In Forwarded an IPv6 address stands in brackets, and so in quotes (RFC 7239 section 6). */
static const char *add_forwarded(const struct miniproxy *p, const struct miniproxy_session *s, const char *last,
                                 char fields[FIELDS_ADDED])
{
    bool brackets = p->config.forwarded == MINIPROXY_FORWARDED && s->client_addr.family == 6;
    unsigned char *w = (unsigned char *)fields;
    char address[MINIPROXY_ADDR_TEXT];
    if (p->config.forwarded == MINIPROXY_FORWARDED_NOT) return last;
    miniproxy_addr_format(&s->client_addr, address);
    w = put(put(w, last), p->config.forwarded == MINIPROXY_FORWARDED ? "Forwarded: for=" : "X-Forwarded-For: ");
    w = put_all(w, brackets ? "\"[" : "", address, brackets ? "]\"\r\n" : "\r\n");
    *w = '\0';
    return fields;
}

#else

static const char *add_forwarded(const struct miniproxy *p, const struct miniproxy_session *s, const char *last,
                                 char fields[FIELDS_ADDED])
{
    (void)p, (void)s, (void)fields;
    return last;
}

#endif

#if MINIPROXY_WITH_ROUTES

/* The head as the next hop has to get it. False: it would become too large. */
static bool rewrite(struct miniproxy *p, struct miniproxy_session *s, const char *last)
{
    const struct miniproxy_hop *hop = hop_of(s);
    char fields[FIELDS_ADDED];
    last = add_forwarded(p, s, last, fields);
    s->login_at = 0;
    if (hop != NULL) keep_hops_alike(s);
    if (hop == NULL || !is_proxy(hop)) {
        rewrite_request(s->up.buffer, p->config.name, last);
        return true;
    }
    s->login_at = u16(rewrite_for_parent(s->up.buffer, p->config.name, last, hop->login));
    return s->login_at != 0;
}

static bool asks_parent_for_tunnel(const struct miniproxy_session *s, const struct plan *pl)
{
    return pl->method_bit == MINIPROXY_CONNECT && hop_of(s) != NULL && is_proxy(hop_of(s));
}

/* CONNECT goes on to a parent. What the client has sent behind it waits for the tunnel (RFC 9110 section 9.3.6). */
static enum next ask_for_tunnel(struct miniproxy *p, struct miniproxy_session *s)
{
    start_pipe(&s->up, SOURCE_NONE, 0, 0);
    if (!rewrite(p, s, "")) return refuse(p, s, MINIPROXY_CAUSE_HEAD_SIZE);
    s->flags |= IS_WRITTEN | ASKS_TUNNEL | IS_REPEATABLE;
    enter(p, s, STATE_AWAIT);
    return NEXT_STATE;
}

/* What the parent answers to that: a tunnel is there with a 2xx, whatever its head says of a body. */
static enum miniproxy_cause tunnel_answer(struct miniproxy *p, struct miniproxy_session *s, struct miniproxy_buffer *b,
                                          const struct head *h)
{
    if (h->status == 101) return MINIPROXY_CAUSE_HOP_INVALID;
    b->in = b->scan = h->end;
    if (h->status < 200)
        return s->interim++ < MINIPROXY_INTERIM_MAX ? MINIPROXY_CAUSE_NONE : MINIPROXY_CAUSE_HOP_INVALID;
    if (h->status < 300) {
        s->flags |= GREETING_DUE;
        s->status = 200;
        s->source = MINIPROXY_BY_PROXY;
        start_tunnel(p, s);
        return MINIPROXY_CAUSE_NONE;
    }
    s->status = h->status == 403 || h->status == 429 || (h->status > 502 && h->status <= 504) ? h->status : 502;
    return MINIPROXY_CAUSE_HOP_REFUSED;
}

/* The head of a response by a hop. NONE: to be treated like any other; MORE: that is done. */
static enum miniproxy_cause look_at_hop(struct miniproxy *p, struct miniproxy_session *s, struct miniproxy_buffer *b,
                                        const struct head *h)
{
    const struct miniproxy_hop *hop = hop_of(s);
    enum miniproxy_cause cause;
    if (hop == NULL) return MINIPROXY_CAUSE_NONE;
    if (is_proxy(hop) && h->status == 407) { /* it is not for the client to log in there; an origin's is passed on, too */
        if ((s->flags & ASKS_TUNNEL) != 0) hop_fails(p, s, MINIPROXY_CAUSE_HOP_LOGIN);
        return MINIPROXY_CAUSE_HOP_LOGIN;
    }
    hop_works(p, s);
    if (is_check(s) && h->status >= 200) {
        s->status = h->status;
        end_session(p, s, false);
        return MORE;
    }
    if ((s->flags & ASKS_TUNNEL) == 0) return MINIPROXY_CAUSE_NONE;
    cause = tunnel_answer(p, s, b, h);
    return cause == MINIPROXY_CAUSE_NONE ? MORE : cause;
}

#else

static bool rewrite(struct miniproxy *p, struct miniproxy_session *s, const char *last)
{
    char fields[FIELDS_ADDED];
    rewrite_request(s->up.buffer, p->config.name, add_forwarded(p, s, last, fields));
    return true;
}

static bool asks_parent_for_tunnel(const struct miniproxy_session *s, const struct plan *pl)
{
    (void)s, (void)pl;
    return false;
}

static enum next ask_for_tunnel(struct miniproxy *p, struct miniproxy_session *s)
{
    (void)p, (void)s;
    return NEXT_WAIT;
}

static enum miniproxy_cause look_at_hop(struct miniproxy *p, struct miniproxy_session *s, struct miniproxy_buffer *b,
                                        const struct head *h)
{
    (void)p, (void)s, (void)b, (void)h;
    return MINIPROXY_CAUSE_NONE;
}

#endif

/* The origin is connected. */
static enum next start_exchange(struct miniproxy *p, struct miniproxy_session *s)
{
    struct miniproxy_buffer *b = s->up.buffer;
    const struct plan *pl = plan_of(b);
    const char *last = "";
    unsigned flags = (pl->head.seen & NOMINATES) != 0 ? PIPE_NO_TRAILERS : 0;
    if (asks_parent_for_tunnel(s, pl)) return ask_for_tunnel(p, s);
    if (!MINIPROXY_WITH_FORWARDING || pl->method_bit == MINIPROXY_CONNECT) {
        b->in = pl->head.end;
        b->out = b->out_end = 0;
        if (!has_received(b)) give_back(p, &s->up);
        s->flags |= GREETING_DUE;
        s->status = 200;
        s->source = MINIPROXY_BY_PROXY;
        return start_tunnel(p, s);
    }
    if (s->up.source == SOURCE_CHUNKED) flags |= PIPE_CHUNKED | PIPE_WIDE;
    if ((pl->head.seen & EXPECTS) != 0 && pl->head.end == b->in_end) s->flags |= EXPECTS_100;
    start_pipe(&s->up, s->up.source, pl->head.length, flags);
    s->up_limit = p->config.body_max != 0 ? p->config.body_max : UINT64_MAX;
    if (p->draining) s->origin_len = 0;
    if (MINIPROXY_WITH_CONDITIONS && hop_of(s) == NULL) {
        struct miniproxy_question q;
        fill_question(p, s, b, &s->server_addr, &q);
        keep_type_rules(s, &q);
    }
    if (is_upgrade(s)) last = upgrade_fields;
    else if (!may_keep_server(s)) last = "Connection: close\r\n";
    if (!rewrite(p, s, last)) return refuse(p, s, MINIPROXY_CAUSE_HEAD_SIZE);
    s->flags |= IS_WRITTEN;
    enter(p, s, STATE_AWAIT);
    return NEXT_STATE;
}

static enum miniproxy_cause response_cause(enum miniproxy_cause cause)
{
    switch (cause) {
    case MINIPROXY_CAUSE_LENGTH: return MINIPROXY_CAUSE_RESPONSE_LENGTH;
    case MINIPROXY_CAUSE_CODING: return MINIPROXY_CAUSE_RESPONSE_CODING;
    case MINIPROXY_CAUSE_HEAD_SIZE: return MINIPROXY_CAUSE_RESPONSE_HEAD_SIZE;
    default: return MINIPROXY_CAUSE_RESPONSE_INVALID;
    }
}

/* Stop sending the request: nobody wants the rest. */
static void stop_up(struct miniproxy_session *s)
{
    s->flags |= UP_DONE | UP_CUT;
    s->flags &= ~(uint32_t)(KEEPS_CLIENT | KEEPS_SERVER);
}

/* 101: the request must have asked for it (RFC 9110 section 7.8). */
static enum miniproxy_cause switch_protocols(struct miniproxy *p, struct miniproxy_session *s,
                                             struct miniproxy_buffer *b, struct head *h)
{
    if (!is_upgrade(s) || (h->seen & NAMES_WEBSOCKET) == 0) return MINIPROXY_CAUSE_UPGRADE;
    if (!allows_content(s, b, h)) return MINIPROXY_CAUSE_CONTENT_TYPE;
    rewrite_response(b, h, false, &p->config, upgrade_fields);
    s->status = 101;
    s->source = MINIPROXY_BY_ORIGIN;
    s->flags |= HAS_ANSWERED;
    start_tunnel(p, s);
    return MINIPROXY_CAUSE_NONE;
}

static void begin_response(struct miniproxy *p, struct miniproxy_session *s, struct miniproxy_buffer *b, struct head *h,
                           uint8_t source)
{
    bool whole_request = (s->flags & UP_DONE) != 0;
    bool chunked = (source == SOURCE_CHUNKED || source == SOURCE_EOF) && (s->flags & IS_HTTP10) == 0;
    unsigned flags = (chunked ? PIPE_CHUNKED : 0u) | ((h->seen & NOMINATES) != 0 ? PIPE_NO_TRAILERS : 0u);
    if (!whole_request || p->draining) s->flags &= ~(uint32_t)KEEPS_CLIENT;
    if (may_keep_server(s) && source != SOURCE_EOF && h->minor > 0 &&
        (h->seen & SAYS_CLOSE) == 0 && (h->seen & (HAS_CODING | HAS_LENGTH)) != (HAS_CODING | HAS_LENGTH))
        s->flags |= KEEPS_SERVER;
    if (!whole_request && (h->status >= 400 || (h->seen & SAYS_CLOSE) != 0)) stop_up(s);
    rewrite_response(b, h, chunked, &p->config, (s->flags & KEEPS_CLIENT) != 0 ? "" : "Connection: close\r\n");
    start_pipe(&s->down, source, h->length, flags);
    s->status = h->status;
    s->source = MINIPROXY_BY_ORIGIN;
    enter(p, s, STATE_RELAY);
}

/* The head in b is complete. */
OUTLINED static enum miniproxy_cause read_response(struct miniproxy *p, struct miniproxy_session *s,
                                                  struct miniproxy_buffer *b)
{
    struct head h = *head_of(b);
    uint8_t source;
    enum miniproxy_cause cause = look_at_hop(p, s, b, &h);
    if (cause != MINIPROXY_CAUSE_NONE) return cause == MORE ? MINIPROXY_CAUSE_NONE : cause;
    cause = frame_response(&h, (s->flags & IS_HEAD) != 0, &source);
    if (cause != MINIPROXY_CAUSE_NONE) return cause;
    if (h.status == 101) return switch_protocols(p, s, b, &h);
    if (h.status >= 200) {
        if (source != SOURCE_NONE && !allows_content(s, b, &h)) return MINIPROXY_CAUSE_CONTENT_TYPE;
        begin_response(p, s, b, &h, source);
        return MINIPROXY_CAUSE_NONE;
    }
    if (s->interim++ >= MINIPROXY_INTERIM_MAX) return MINIPROXY_CAUSE_RESPONSE_INTERIM;
    if (h.status == 100) s->flags &= ~(uint32_t)EXPECTS_100;
    if ((s->flags & IS_HTTP10) != 0) b->in = b->scan = h.end; /* RFC 9110 section 15.2: never to HTTP/1.0 */
    else rewrite_response(b, &h, false, &p->config, "");
    disarm(p, s, MINIPROXY_TIMER_PHASE); /* the final response gets the whole time again */
    return MINIPROXY_CAUSE_NONE;
}

/* The origin ended before its response had begun. */
static enum next origin_failed(struct miniproxy *p, struct miniproxy_session *s, bool eof)
{
    enum miniproxy_cause cause = eof ? MINIPROXY_CAUSE_RESPONSE_EMPTY : MINIPROXY_CAUSE_RESPONSE_RESET;
    tell_rest(p, s);
    if (has_received(s->down.buffer) && (!MINIPROXY_WITH_ROUTES || !may_repeat(s)))
        return refuse(p, s, MINIPROXY_CAUSE_RESPONSE_CUT);
    note_silence(p, s, cause);
    if (may_repeat(s)) return repeat(p, s);
    return refuse(p, s, cause);
}

/* Parse what is there of a response's head. NONE: it is complete; MORE, or what is wrong. */
static enum miniproxy_cause parse_response(struct miniproxy *p, const struct miniproxy_session *s,
                                           struct miniproxy_buffer *b)
{
    struct head *h = head_of(b);
    enum miniproxy_cause cause = MINIPROXY_CAUSE_NONE;
    if (b->scan <= b->in) memset(h, 0, sizeof *h);
    if (!is_still_part(b, h->fields == 0 ? b->in : h->end)) {
        if (h->fields == 0) {
            cause = parse_status_line(h, b);
            tell_line(p, s, b, b->in, cause != MINIPROXY_CAUSE_NONE && cause != MORE);
        }
        if (cause == MINIPROXY_CAUSE_NONE) cause = parse_fields(p, s, b);
        if (cause == MINIPROXY_CAUSE_NONE) return cause;
        if (cause != MORE) return response_cause(cause);
    }
    if (!is_full(&s->down, b)) return MORE;
    tell_rest(p, s);
    return MINIPROXY_CAUSE_RESPONSE_HEAD_SIZE;
}

/* From here on the request must not be repeated; if there is another hop that it may go by, once the head is complete:
 * until then nothing goes to the client. */
static void first_byte(struct miniproxy *p, struct miniproxy_session *s)
{
    bool kept = MINIPROXY_WITH_ROUTES && (s->flags & IS_REPEATABLE) != 0 && may_go_elsewhere(s);
    s->flags = (s->flags | FIRST_BYTE_SEEN) & ~(uint32_t)IS_REPEATABLE;
    if (kept) s->flags |= IS_REPEATABLE;
    s->first_byte_ms = p->now_ms - s->mark_ms;
    count_took(p, TOOK_FIRST_BYTE, s->first_byte_ms);
    if (!kept && (s->flags & UP_DONE) != 0 && !has_received(s->up.buffer)) give_back(p, &s->up);
}

/* What is complete may go to the client: all but interim responses to a CONNECT, which are dropped. */
static bool may_commit(const struct miniproxy_session *s, const struct head *h)
{
    return (s->flags & IS_REPEATABLE) != 0 && (h->status >= 200 || (s->flags & ASKS_TUNNEL) == 0);
}

static void no_repetition(struct miniproxy *p, struct miniproxy_session *s)
{
    s->flags &= ~(uint32_t)IS_REPEATABLE;
    if ((s->flags & UP_DONE) != 0 && !has_received(s->up.buffer)) give_back(p, &s->up);
}

/* The response's head. Interim responses leave before the next head is looked at. */
OUTLINED static enum next await_response(struct miniproxy *p, struct miniproxy_session *s)
{
    struct miniproxy_buffer *b;
    enum miniproxy_cause cause;
    int n;
    s->down.source = SOURCE_RAW;
    for (;;) {
        if (!flush(p, s, &s->down)) return cut(p, s, MINIPROXY_CAUSE_CLIENT_GONE);
        b = s->down.buffer;
        if (has_sendable(b)) {
            p->more |= (s->client.ready & MINIPROXY_WR) != 0;
            return NEXT_WAIT;
        }
        if (has_received(b)) {
            settle(b, MINIPROXY_HEADROOM);
            cause = parse_response(p, s, b);
            if (cause == MINIPROXY_CAUSE_NONE) {
                if (MINIPROXY_WITH_ROUTES && may_commit(s, head_of(b))) no_repetition(p, s);
                cause = read_response(p, s, b);
                if (s->state != STATE_AWAIT) return NEXT_STATE;
                if (cause == MINIPROXY_CAUSE_NONE) continue;
            }
            if (cause != MORE) {
                if (head_of(b)->fields == 0) note_member(p, s, cause); /* that was no status line */
                return refuse(p, s, cause);
            }
        }
        n = fill(p, s, &s->down);
        if (n == MINIPROXY_AGAIN) {
            if (!has_received(s->down.buffer)) give_back(p, &s->down);
            return NEXT_WAIT;
        }
        if (n < 0) return origin_failed(p, s, n == MINIPROXY_EOF);
        if ((s->flags & FIRST_BYTE_SEEN) == 0) first_byte(p, s);
    }
}

static enum miniproxy_cause body_cause(enum pumped pumped)
{
    switch (pumped) {
    case PUMP_EOF: return MINIPROXY_CAUSE_BODY_CUT;
    case PUMP_LARGE: return MINIPROXY_CAUSE_BODY_SIZE;
    case PUMP_TRAILER: return MINIPROXY_CAUSE_TRAILER_SIZE;
    default: return MINIPROXY_CAUSE_CHUNK;
    }
}

/* The request on its way to the origin. */
OUTLINED static enum next send_request(struct miniproxy *p, struct miniproxy_session *s)
{
    enum pumped pumped = pump(p, s, &s->up);
    switch (pumped) {
    case PUMP_ON:
        return NEXT_WAIT;
    case PUMP_DONE:
        s->flags |= UP_DONE;
        break;
    case PUMP_STUCK: /* the origin may have answered before it went: see what there is to read */
        if (may_repeat(s)) {
            note_silence(p, s, MINIPROXY_CAUSE_RESPONSE_RESET);
            return repeat(p, s);
        }
        stop_up(s);
        break;
    case PUMP_LOST:
        return cut(p, s, MINIPROXY_CAUSE_CLIENT_GONE);
    default:
        if (s->state == STATE_AWAIT) return refuse(p, s, body_cause(pumped));
        stop_up(s);
        break;
    }
    /* A request that may have to be repeated stays in its buffer. */
    if ((s->flags & UP_CUT) != 0 || (!may_repeat(s) && !has_received(s->up.buffer))) give_back(p, &s->up);
    return NEXT_WAIT;
}

/* The body of the response. */
OUTLINED static enum next relay_response(struct miniproxy *p, struct miniproxy_session *s)
{
    struct miniproxy_buffer *b;
    switch (pump(p, s, &s->down)) {
    case PUMP_ON:
        return NEXT_WAIT;
    case PUMP_EOF:
        return refuse(p, s, MINIPROXY_CAUSE_RESPONSE_CUT);
    case PUMP_LOST:
        return refuse(p, s, MINIPROXY_CAUSE_RESPONSE_RESET);
    case PUMP_STUCK:
        return cut(p, s, MINIPROXY_CAUSE_CLIENT_GONE);
    case PUMP_TRAILER:
        return refuse(p, s, MINIPROXY_CAUSE_RESPONSE_TRAILER_SIZE);
    case PUMP_DONE:
        break;
    default:
        return refuse(p, s, MINIPROXY_CAUSE_RESPONSE_CODING);
    }
    b = s->down.buffer;
    /* Bytes behind the response answer nothing (RFC 9112 section 6.3). */
    if (has_received(b) || (s->flags & (KEEPS_SERVER | UP_DONE)) != (KEEPS_SERVER | UP_DONE)) {
        if ((s->flags & UP_DONE) == 0) stop_up(s);
        close_servers(p, s, (s->flags & UP_CUT) != 0);
    }
    b = s->up.buffer;
    if (b != NULL) b->out = b->out_end;
    return next_request(p, s);
}

static enum next on_exchange(struct miniproxy *p, struct miniproxy_session *s)
{
    enum state state = (enum state)s->state;
    enum next next;
    if ((s->client.ready & MINIPROXY_BROKEN) != 0) return cut(p, s, MINIPROXY_CAUSE_CLIENT_GONE);
    if ((s->flags & UP_DONE) == 0) {
        next = send_request(p, s);
        if (next == NEXT_STATE) return next;
    }
    return state == STATE_AWAIT ? await_response(p, s) : relay_response(p, s);
}

/* ---- TUNNEL ---- */

enum tunnelled { TUNNEL_RUNS, TUNNEL_ENDED, TUNNEL_BROKEN };

/* One direction. What a side had sent before it went is delivered first (RFC 9110 section 9.3.6): a direction that
 * cannot be written any more ends alone, and the other one runs until it comes to its own end. */
static enum tunnelled tunnel(struct miniproxy *p, struct miniproxy_session *s, struct miniproxy_pipe *pipe)
{
    struct miniproxy_conn *to = sink_of(s, pipe);
    int n;
    if ((pipe->flags & PIPE_FINISHED) != 0) return TUNNEL_ENDED;
    if ((pipe->flags & PIPE_EOF) == 0) {
        switch (pump(p, s, pipe)) {
        case PUMP_ON:
            return TUNNEL_RUNS;
        case PUMP_STUCK:
            give_back(p, pipe);
            pipe->flags |= PIPE_FINISHED;
            s->cause = pipe == &s->up ? MINIPROXY_CAUSE_RESPONSE_RESET : MINIPROXY_CAUSE_CLIENT_GONE;
            return TUNNEL_ENDED;
        case PUMP_LOST:
            s->cause = pipe == &s->up ? MINIPROXY_CAUSE_CLIENT_GONE : MINIPROXY_CAUSE_RESPONSE_RESET;
            return TUNNEL_BROKEN;
        default:
            pipe->flags |= PIPE_EOF;
        }
    }
    if ((to->ready & MINIPROXY_WR) == 0) return TUNNEL_RUNS;
    n = p->config.port->finish(p->config.port_data, to);
    if (n == MINIPROXY_AGAIN) {
        to->ready &= (uint8_t)~MINIPROXY_WR;
        return TUNNEL_RUNS;
    }
    pipe->flags |= PIPE_FINISHED;
    return TUNNEL_ENDED;
}

/* Say 200 to CONNECT. No Content-Length or Transfer-Encoding (RFC 9110 section 9.3.6). SOCKS5 wants an address of the
 * proxy's own, which nobody needs. */
static bool greet(struct miniproxy *p, struct miniproxy_session *s)
{
    static const char greeting[] = "HTTP/1.1 200 Connection established\r\n\r\n";
    static const char of_socks[10] = {5, 0, 0, 1};
    size_t len = is_socks(s) ? sizeof of_socks : sizeof greeting - 1;
    struct miniproxy_buffer *b;
    if (!borrow(p, s, &s->down)) return false;
    b = s->down.buffer;
    b->out = 0;
    b->out_end = u16(len);
    if (!has_received(b)) b->in = b->in_end = b->out_end; /* else it stands where the head of a parent's answer stood */
    memcpy(b->u.data, is_socks(s) ? of_socks : greeting, len);
    s->flags = (s->flags & ~(uint32_t)GREETING_DUE) | HAS_ANSWERED;
    return true;
}

OUTLINED static enum next on_tunnel(struct miniproxy *p, struct miniproxy_session *s)
{
    enum tunnelled up, down;
    if ((s->flags & GREETING_DUE) != 0 && !greet(p, s)) return NEXT_WAIT;
    up = tunnel(p, s, &s->up);
    down = tunnel(p, s, &s->down);
    if (up == TUNNEL_ENDED && (s->client.ready & MINIPROXY_BROKEN) != 0)
        down = TUNNEL_BROKEN; /* nobody reads any more */
    if (down == TUNNEL_ENDED && (server_of(s)->ready & MINIPROXY_BROKEN) != 0) up = TUNNEL_BROKEN;
    if (down == TUNNEL_BROKEN && up == TUNNEL_RUNS)
        return next_request(p, s); /* which lingers: the client still sends */
    if (up == TUNNEL_BROKEN || down == TUNNEL_BROKEN || (up == TUNNEL_ENDED && down == TUNNEL_ENDED))
        return end_session(p, s, false);
    return NEXT_WAIT;
}

/* ==== 10  Scheduler ================================================================================ */

/* Keep the deadlines of an exchange: one for each direction, after whom it waits for. Progress starts them again. No peer
 * is to blame while a limit holds a direction back. */
static void watch_exchange(struct miniproxy *p, struct miniproxy_session *s)
{
    enum miniproxy_timeout kind = is_held_up(p, s, &s->up) ? MINIPROXY_TIMEOUT_WRITE : MINIPROXY_TIMEOUT_BODY;
    bool rationed = MINIPROXY_WITH_LIMITS && is_rationed(s, &s->up);
    if (rationed || (kind == MINIPROXY_TIMEOUT_BODY && (s->flags & EXPECTS_100) != 0)) {
        if (s->wait_lane == 0) disarm(p, s, MINIPROXY_TIMER_SIDE);
    } else if ((s->flags & UP_DONE) == 0 && s->wait_lane == 0) {
        if (p->moved_up || !is_armed(s, MINIPROXY_TIMER_SIDE, kind)) arm(p, s, MINIPROXY_TIMER_SIDE, kind);
    }
    if (is_held_up(p, s, &s->down)) kind = MINIPROXY_TIMEOUT_WRITE;
    else kind = s->state == STATE_RELAY ? MINIPROXY_TIMEOUT_RESPONSE : MINIPROXY_TIMEOUT_FIRST_BYTE;
    if ((MINIPROXY_WITH_LIMITS && is_rationed(s, &s->down)) ||
        (kind == MINIPROXY_TIMEOUT_FIRST_BYTE && (s->flags & (UP_DONE | EXPECTS_100)) == 0))
        disarm(p, s, MINIPROXY_TIMER_PHASE);
    else if (!is_armed(s, MINIPROXY_TIMER_PHASE, kind) || (p->moved_down && kind != MINIPROXY_TIMEOUT_FIRST_BYTE))
        arm(p, s, MINIPROXY_TIMER_PHASE, kind);
}

/* A tunnel may idle for long, but where buffers are few nobody may keep one for as long. */
static void watch_tunnel(struct miniproxy *p, struct miniproxy_session *s)
{
    bool half = ((s->up.flags | s->down.flags) & PIPE_FINISHED) != 0, moved = p->moved_up || p->moved_down;
    enum miniproxy_timeout kind = half ? MINIPROXY_TIMEOUT_HALF_CLOSED : MINIPROXY_TIMEOUT_TUNNEL;
    bool up_stalls = BUFFER_RESERVE > 0 && has_sendable(s->up.buffer);
    bool down_stalls = BUFFER_RESERVE > 0 && has_sendable(s->down.buffer);
    if (down_stalls) kind = MINIPROXY_TIMEOUT_WRITE;
    if (MINIPROXY_WITH_LIMITS && !down_stalls && (is_rationed(s, &s->up) || is_rationed(s, &s->down)))
        disarm(p, s, MINIPROXY_TIMER_PHASE);
    else if ((down_stalls ? p->moved_down : moved) || !is_armed(s, MINIPROXY_TIMER_PHASE, kind))
        arm(p, s, MINIPROXY_TIMER_PHASE, kind);
    if (s->wait_lane != 0) return;
    if (!up_stalls) disarm(p, s, MINIPROXY_TIMER_SIDE);
    else if (p->moved_up || !is_armed(s, MINIPROXY_TIMER_SIDE, MINIPROXY_TIMEOUT_WRITE))
        arm(p, s, MINIPROXY_TIMER_SIDE, MINIPROXY_TIMEOUT_WRITE);
}

OUTLINED static void watch(struct miniproxy *p, struct miniproxy_session *s)
{
    bool waits = s->wait_lane != 0, watched = is_armed(s, MINIPROXY_TIMER_SIDE, MINIPROXY_TIMEOUT_BUFFER);
    if (waits && !watched) arm(p, s, MINIPROXY_TIMER_SIDE, MINIPROXY_TIMEOUT_BUFFER);
    if (!waits && watched) disarm(p, s, MINIPROXY_TIMER_SIDE);
    if (s->state == STATE_AWAIT || s->state == STATE_RELAY) {
        if ((s->flags & UP_DONE) != 0 && !waits) disarm(p, s, MINIPROXY_TIMER_SIDE);
        watch_exchange(p, s);
    } else if (s->state == STATE_TUNNEL) {
        watch_tunnel(p, s);
    } else if (s->state == STATE_REPLY && p->moved_down) {
        arm(p, s, MINIPROXY_TIMER_PHASE, MINIPROXY_TIMEOUT_WRITE);
    }
}

static enum next step(struct miniproxy *p, struct miniproxy_session *s)
{
    bool gone = (s->client.ready & MINIPROXY_BROKEN) != 0;
    enum next next;
    switch (s->state) {
    case STATE_IDLE: return on_idle(p, s);
    case STATE_HEAD:
        next = is_socks(s) ? on_socks(p, s) : on_head(p, s);
        return next == NEXT_DECISION ? decide_request(p, s) : next;
    case STATE_LOGIN:
        if (gone) return cut(p, s, MINIPROXY_CAUSE_CLIENT_GONE);
        return MINIPROXY_WITH_PBKDF2 ? on_login(p, s) : NEXT_WAIT;
    case STATE_RESOLVE:
        if (gone) return cut(p, s, MINIPROXY_CAUSE_CLIENT_GONE);
        return hop_of(s) != NULL ? on_hop_resolve(p, s) : on_resolve(p, s);
    case STATE_CONNECT:
        if (gone) return cut(p, s, MINIPROXY_CAUSE_CLIENT_GONE);
        if (MINIPROXY_WITH_REUSE && (s->flags & IS_WRITTEN) != 0 && is_like_origin(s)) return on_reconnect(p, s);
        return on_connect(p, s);
    case STATE_SOCKS_HOP:
        if (gone) return cut(p, s, MINIPROXY_CAUSE_CLIENT_GONE);
        return MINIPROXY_WITH_ROUTES ? on_socks_parent(p, s) : NEXT_WAIT;
    case STATE_AWAIT:
    case STATE_RELAY: return MINIPROXY_WITH_FORWARDING ? on_exchange(p, s) : NEXT_WAIT;
    case STATE_TUNNEL: return on_tunnel(p, s);
    case STATE_REPLY: return on_reply(p, s);
    case STATE_LINGER: return on_linger(p, s);
    default: return NEXT_WAIT;
    }
}

/* Do what can be done for one session, at most one buffer a direction. */
static void visit(struct miniproxy *p, struct miniproxy_session *s)
{
    bool granted = (s->flags & IS_GRANTED) != 0;
    unsigned steps = 0;
    p->moved_up = p->moved_down = p->more = false;
    while (step(p, s) == NEXT_STATE) {
        if (s->state == STATE_FREE) return;
        if (++steps == VISIT_STATES) {
            p->more = true;
            break;
        }
    }
    if (granted && (s->flags & IS_GRANTED) != 0 && s->lane == 0) { /* it did not want it any more */
        drop_grant(p, s);
        grant(p);
    }
    if (MINIPROXY_WITH_LIMITS) drop_allowance(p, s);
    watch(p, s);
    if (p->more) run_soon(p, s, 1);
}

/* Visit everybody who stands in a queue now; who comes meanwhile waits for the next round. */
static void run_lane(struct miniproxy *p, unsigned lane)
{
    uint16_t last = p->run[lane].tail, number;
    while ((number = p->run[lane].head) != 0) {
        struct miniproxy_session *s = &p->sessions[number - 1];
        p->run[lane].head = s->run_next;
        if (s->run_next == 0) p->run[lane].tail = 0;
        s->lane = 0;
        if (s->state == STATE_FREE) free_slot(p, s);
        else visit(p, s);
        if (number == last) break;
    }
}

/* ---- deadlines ---- */

#if MINIPROXY_WITH_TLS

/* Time is up: was it the handshake that took it? The port then tells the same. */
static bool is_late(struct miniproxy_conn *c)
{
    if (c->no_relay != MINIPROXY_TLS_BEGUN) return false;
    c->no_relay = MINIPROXY_TLS_LATE;
    return true;
}

static enum miniproxy_cause late_connect(struct miniproxy_session *s)
{
    enum miniproxy_cause cause = MINIPROXY_CAUSE_CONNECT_TIMEOUT;
    for (unsigned i = 0; i < MINIPROXY_ATTEMPTS; i++)
        if ((s->servers_open >> i & 1u) != 0 && is_late(&s->server[i])) cause = MINIPROXY_CAUSE_TLS_TIMEOUT;
    return cause;
}

#else

static bool is_late(struct miniproxy_conn *c)
{
    (void)c;
    return false;
}

static enum miniproxy_cause late_connect(struct miniproxy_session *s)
{
    (void)s;
    return MINIPROXY_CAUSE_CONNECT_TIMEOUT;
}

#endif

/* Timeouts after which a request is refused, or an exchange that can be no more is cut off. */
static enum miniproxy_cause timeout_cause(enum miniproxy_timeout kind)
{
    switch (kind) {
    case MINIPROXY_TIMEOUT_HEAD: return MINIPROXY_CAUSE_HEAD_TIMEOUT;
    case MINIPROXY_TIMEOUT_BODY: return MINIPROXY_CAUSE_BODY_TIMEOUT;
    case MINIPROXY_TIMEOUT_DNS: return MINIPROXY_CAUSE_DNS_TIMEOUT;
    case MINIPROXY_TIMEOUT_LOGIN: return MINIPROXY_CAUSE_LOGIN_QUEUE;
    case MINIPROXY_TIMEOUT_FIRST_BYTE: return MINIPROXY_CAUSE_FIRST_BYTE_TIMEOUT;
    case MINIPROXY_TIMEOUT_RESPONSE: return MINIPROXY_CAUSE_READ_TIMEOUT;
    case MINIPROXY_TIMEOUT_WRITE: return MINIPROXY_CAUSE_WRITE_TIMEOUT;
    case MINIPROXY_TIMEOUT_TOTAL: return MINIPROXY_CAUSE_TOTAL_TIMEOUT;
    default: return MINIPROXY_CAUSE_TUNNEL_TIMEOUT;
    }
}

static enum next on_timeout(struct miniproxy *p, struct miniproxy_session *s, unsigned which,
                            enum miniproxy_timeout kind)
{
    enum state state = (enum state)s->state;
    enum miniproxy_cause cause = timeout_cause(kind);
    switch (kind) {
#if MINIPROXY_WITH_ROUTES
    case MINIPROXY_TIMEOUT_HOP: return hop_failed(p, s, late_connect(s));
    case MINIPROXY_TIMEOUT_CHECK: return cut(p, s, late_connect(s));
#endif
    case MINIPROXY_TIMEOUT_DNS:
        s->dns_ms = p->now_ms - s->mark_ms;
        break;
    case MINIPROXY_TIMEOUT_CONNECT:
        s->connect_ms = p->now_ms - s->mark_ms;
        cause = late_connect(s);
        break;
    case MINIPROXY_TIMEOUT_ATTEMPT:
        s->flags |= NEXT_ATTEMPT;
        return NEXT_WAIT;
    case MINIPROXY_TIMEOUT_REFUSE:
        cause = over_client_limit(p, s) ? MINIPROXY_CAUSE_CLIENT_LIMIT : MINIPROXY_CAUSE_SESSIONS_FULL;
        return refuse_bare(p, s, cause);
    case MINIPROXY_TIMEOUT_BUFFER:
        if (state != STATE_IDLE || !is_silent(p, &s->client)) return refuse_bare(p, s, MINIPROXY_CAUSE_BUFFERS_FULL);
        leave_wait(p, s); /* it did not need one */
        return NEXT_WAIT;
    case MINIPROXY_TIMEOUT_HEAD:
        is_late(&s->client);
        if (state == STATE_IDLE) return end_session(p, s, false); /* it has asked nothing: nothing to answer */
        break;
    case MINIPROXY_TIMEOUT_IDLE:
    case MINIPROXY_TIMEOUT_LINGER:
        return end_session(p, s, false);
    case MINIPROXY_TIMEOUT_WRITE:
        if (state == STATE_TUNNEL) return cut(p, s, MINIPROXY_CAUSE_TUNNEL_TIMEOUT);
        if (which == MINIPROXY_TIMER_SIDE) break;
        if (state == STATE_REPLY) return end_session(p, s, true);
        return cut(p, s, MINIPROXY_CAUSE_CLIENT_WRITE_TIMEOUT);
    case MINIPROXY_TIMEOUT_TOTAL:
        if (state == STATE_REPLY) return end_session(p, s, true);
        break; /* in RELAY nothing else may be said: the port may have been offered a head, and repeats that */
    case MINIPROXY_TIMEOUT_TUNNEL:
    case MINIPROXY_TIMEOUT_HALF_CLOSED:
    case MINIPROXY_TIMEOUT_TUNNEL_TOTAL:
        return cut(p, s, cause);
    default:
        break;
    }
    if (state == STATE_RELAY && which == MINIPROXY_TIMER_SIDE) {
        stop_up(s);
        return NEXT_WAIT;
    }
    if (kind == MINIPROXY_TIMEOUT_FIRST_BYTE && state == STATE_AWAIT) note_member(p, s, cause);
    tell_rest(p, s);
    return state == STATE_RELAY ? cut(p, s, cause) : refuse(p, s, cause);
}

static void run_timers(struct miniproxy *p)
{
    for (unsigned kind = 0; kind < MINIPROXY_TIMEOUT_COUNT; kind++) {
        uint16_t number;
        while ((number = p->timers[kind].head) != 0 && time_reached(p->now_ms, timer_at(p, number)->due_ms)) {
            struct miniproxy_session *s = &p->sessions[(number - 1) / MINIPROXY_TIMERS_EACH];
            unsigned which = (number - 1u) % MINIPROXY_TIMERS_EACH;
            disarm(p, s, which);
            on_timeout(p, s, which, (enum miniproxy_timeout)kind);
            if (s->state != STATE_FREE) run_soon(p, s, 0);
        }
    }
}

static uint32_t next_deadline(struct miniproxy *p)
{
    uint32_t wait_ms = next_check(p), left_ms;
    if (p->accept_paused && !p->draining) {
        left_ms = time_left(p->now_ms, p->accept_retry_ms);
        if (left_ms < wait_ms) wait_ms = left_ms;
    }
    for (unsigned kind = 0; kind < MINIPROXY_TIMEOUT_COUNT; kind++) {
        if (p->timers[kind].head == 0) continue;
        left_ms = time_left(p->now_ms, timer_at(p, p->timers[kind].head)->due_ms);
        if (left_ms < wait_ms) wait_ms = left_ms;
    }
    if (MINIPROXY_WITH_LIMITS && limits_left(p) < wait_ms) wait_ms = limits_left(p);
    return wait_ms;
}

/* ---- newcomers ---- */

/* Whether an idle session can be closed: it cannot when a request has just arrived, which is then no longer overlooked.
 */
static bool is_quiet(struct miniproxy *p, struct miniproxy_session *s)
{
    int n;
    if (s->state != STATE_IDLE || s->wait_lane != 0 || s->up.buffer != NULL || (s->flags & IS_RESERVED) != 0)
        return false;
    s->client.ready |= MINIPROXY_RD;
    n = fill_idle(p, s);
    if (is_plain(n)) refuse_plain(p, s);
    else if (n <= 0 && s->wait_lane == 0) return true;
    run_soon(p, s, 0);
    return false;
}

/* The session that can best be missed: idle for longest, then one whose client never said anything, then one that has
 * its reply and does not close. Nobody who has just come. like: of its listener, and none that is silent, for that may
 * be a handshake. */
static bool evict(struct miniproxy *p, const struct miniproxy_conn *like)
{
    static const uint8_t queues[] = {MINIPROXY_TIMEOUT_IDLE, MINIPROXY_TIMEOUT_HEAD, MINIPROXY_TIMEOUT_LINGER};
    for (unsigned i = 0; i < sizeof queues; i++) {
        uint16_t number = p->timers[queues[i]].head;
        for (unsigned looks = 0; number != 0 && looks < EVICT_LOOKS; looks++) {
            struct miniproxy_session *s = &p->sessions[(number - 1) / MINIPROXY_TIMERS_EACH];
            number = timer_at(p, number)->next;
            if (like != NULL && (queues[i] == MINIPROXY_TIMEOUT_HEAD || s->client.listener != like->listener)) continue;
            if (queues[i] != MINIPROXY_TIMEOUT_IDLE && p->now_ms - s->mark_ms < EVICT_AGE_MS) continue;
            if (queues[i] == MINIPROXY_TIMEOUT_LINGER ? (s->flags & IS_RESERVED) != 0 : !is_quiet(p, s)) continue;
            p->counters.evicted++;
            end_session(p, s, false);
            return true;
        }
    }
    return false;
}

/* True when there is, or could be made, a place for one more ordinary session. */
static bool make_room(struct miniproxy *p)
{
    return p->counters.active - p->reserved < MINIPROXY_SESSIONS || evict(p, NULL);
}

/* Has this client as many sessions as it may have, besides s? An idle one of its own gives way first. */
static bool over_client_limit(struct miniproxy *p, const struct miniproxy_session *s)
{
    unsigned count = 0;
    struct miniproxy_session *idle = NULL;
    if (p->config.sessions_per_client >= MINIPROXY_SESSIONS) return false; /* then it is the house that is full */
    for (uint16_t number = *peer_bucket(p, &s->client_addr); number != 0; number = p->sessions[number - 1].peer_next) {
        struct miniproxy_session *other = &p->sessions[number - 1];
        if (other == s || (other->flags & IS_RESERVED) != 0 || !same_ip(&other->client_addr, &s->client_addr)) continue;
        count++;
        if (other->state == STATE_IDLE && is_armed(other, MINIPROXY_TIMER_PHASE, MINIPROXY_TIMEOUT_IDLE))
            idle = other; /* the list begins with the latest: this ends with the oldest */
    }
    if (count < p->config.sessions_per_client) return false;
    if (idle == NULL || !is_quiet(p, idle)) return true;
    p->counters.evicted++;
    end_session(p, idle, false);
    return false;
}

/* The oldest of those who are to be refused gets its answer now, to make a place for the next. */
static void hurry_reserved(struct miniproxy *p)
{
    struct miniproxy_session *oldest = &p->sessions[p->refused[0] - 1];
    if (oldest->state == STATE_IDLE || oldest->state == STATE_HEAD) {
        refuse_bare(p, oldest, MINIPROXY_CAUSE_SESSIONS_FULL);
        reply_bare(p, oldest);
    }
    /* Without memory only a part of the answer has left, or nothing: that must not look like an end. */
    if (oldest->state != STATE_FREE) end_session(p, oldest, oldest->state == STATE_REPLY);
}

static struct miniproxy_session *take_slot(struct miniproxy *p)
{
    struct miniproxy_session *s;
    unsigned i, slot;
    if (p->slots_free != 0) {
        s = &p->sessions[p->slots_free - 1];
        p->slots_free = s->run_next;
    } else if (p->slots_used < MINIPROXY_SLOTS) {
        slot = p->slots_used++;
        s = &p->sessions[slot];
        s->client.id = u16(slot * (1 + MINIPROXY_ATTEMPTS));
        for (i = 0; i < MINIPROXY_ATTEMPTS; i++) s->server[i].id = u16(s->client.id + 1u + i);
    } else {
        return NULL;
    }
    return s;
}

/* False: it has come to be refused. */
static bool welcome(struct miniproxy *p, struct miniproxy_session *s)
{
    bool room = make_room(p);
    p->counters.accepted++;
    if (++p->counters.active > p->counters.active_peak) p->counters.active_peak = p->counters.active;
    s->flags = 0;
    s->interim = 0;
    s->client.ready |= MINIPROXY_RD | MINIPROXY_WR;
    if (is_balanced(p, s)) s->flags |= HEADER_DUE; /* its client is still to be told */
    join_peers(p, s);
    enter(p, s, STATE_IDLE);
    run_soon(p, s, 0);
    if (room && (is_balanced(p, s) || !over_client_limit(p, s))) {
        arm(p, s, MINIPROXY_TIMER_PHASE, MINIPROXY_TIMEOUT_HEAD);
        return true;
    }
    if (p->reserved == MINIPROXY_RESERVED) hurry_reserved(p);
    s->flags |= IS_RESERVED;
    p->refused[p->reserved++] = number_of(p, s);
    arm(p, s, MINIPROXY_TIMER_PHASE, MINIPROXY_TIMEOUT_REFUSE);
    return false;
}

/* Who idles gives way to a newcomer, here too. */
static int accept_one(struct miniproxy *p, struct miniproxy_session *s)
{
    int result = p->config.port->accept(p->config.port_data, &s->client, &s->client_addr);
    if (!MINIPROXY_WITH_TLS || result != MINIPROXY_EFULL) return result;
    (void)evict(p, &s->client);
    return p->config.port->accept(p->config.port_data, &s->client, &s->client_addr);
}

static void accept_some(struct miniproxy *p)
{
    struct miniproxy_session *s;
    int result;
    if (p->accept_paused && time_reached(p->now_ms, p->accept_retry_ms)) p->accept_paused = 0;
    for (unsigned i = 0; i < ACCEPTS_A_POLL && p->accept_ready && !p->accept_paused && !p->draining; i++) {
        s = take_slot(p);
        if (s == NULL) return; /* the run queue still holds ended sessions: next round */
        s->client.ready = 0;
        if (MINIPROXY_WITH_TLS) s->client.no_relay = 0; /* an accept that failed may have left it */
        s->client_addr.family = 0;
        result = accept_one(p, s);
        if (result == MINIPROXY_OK) {
            if (!welcome(p, s)) return; /* those who are refused get their turn before more come */
            continue;
        }
        free_slot(p, s);
        if (result == MINIPROXY_AGAIN) p->accept_ready = 0;
        if (result == MINIPROXY_ERESOURCES) {
            p->accept_paused = 1;
            p->accept_retry_ms = p->now_ms + ACCEPT_RETRY_MS;
            p->counters.accept_paused++;
        }
    }
}

/* ==== 11  API ====================================================================================== */

enum { DRAIN_BEGINS = 1, DRAINS }; /* miniproxy.draining */

static struct miniproxy *proxy_of(const struct miniproxy_session *s, unsigned slot)
{
    return (struct miniproxy *)(void *)((unsigned char *)(uintptr_t)(s - slot) - offsetof(struct miniproxy, sessions));
}

void miniproxy_wake(struct miniproxy_conn *c, unsigned ready)
{
    unsigned slot = c->id / (1 + MINIPROXY_ATTEMPTS), which = c->id % (1 + MINIPROXY_ATTEMPTS);
    size_t offset = which == 0 ? offsetof(struct miniproxy_session, client)
                               : offsetof(struct miniproxy_session, server) + (which - 1) * sizeof *c;
    struct miniproxy_session *s = (struct miniproxy_session *)(void *)((unsigned char *)c - offset);
    if (s->state == STATE_FREE) return;
    c->ready |= (uint8_t)(ready & (MINIPROXY_RD | MINIPROXY_WR | MINIPROXY_BROKEN));
    run_soon(proxy_of(s, slot), s, 0);
}

void miniproxy_wake_accept(struct miniproxy *p)
{
    p->accept_ready = 1;
}

static bool is_pseudonym(const char *name)
{
    size_t len = strlen(name);
    if (len == 0 || len > MINIPROXY_NAME_MAX || !is_letter((unsigned char)*name)) return false;
    for (; *name != '\0'; name++)
        if (!is_token((unsigned char)*name)) return false;
    return true;
}

static bool is_realm(const char *realm)
{
    size_t len = strlen(realm);
    for (; *realm != '\0'; realm++)
        if (*realm < 0x20 || *realm > 0x7e || *realm == '"' || *realm == '\\') return false;
    return len <= REALM_MAX;
}

#if MINIPROXY_WITH_PAC
static bool has_sound_pac(const struct miniproxy_config *config)
{
    return is_sound_pac(config->pac);
}
#else
static bool has_sound_pac(const struct miniproxy_config *config)
{
    (void)config;
    return true;
}
#endif

bool miniproxy_init(struct miniproxy *p, const struct miniproxy_config *config)
{
    static const uint32_t defaults[] = {
#define X(NAME, name, ms, meaning) ms,
        MINIPROXY_TIMEOUTS(X)
#undef X
    };
    p->config = *config;
    if (p->config.name == NULL) p->config.name = "miniproxy";
    if (p->config.realm == NULL) p->config.realm = "proxy";
    if (p->config.sessions_per_client == 0) p->config.sessions_per_client = MINIPROXY_SESSIONS_PER_CLIENT;
    for (unsigned i = 0; i < MINIPROXY_TIMEOUT_COUNT; i++) {
        if (p->config.timeout_ms[i] == 0) p->config.timeout_ms[i] = defaults[i];
        if (p->config.timeout_ms[i] > TIMEOUT_MAX_MS) return false;
    }
    if (p->config.timeout_ms[MINIPROXY_TIMEOUT_ATTEMPT] < ATTEMPT_MIN_MS)
        p->config.timeout_ms[MINIPROXY_TIMEOUT_ATTEMPT] = ATTEMPT_MIN_MS;
    p->accept_ready = 1;
    if (config->policy != NULL && miniproxy_check_policy(config->policy) >= 0) return false;
    return p->config.port != NULL && is_pseudonym(p->config.name) && is_realm(p->config.realm) && has_sound_pac(config);
}

/* Idle connections end, unless a request is waiting to be read: that is still served. */
static void begin_drain(struct miniproxy *p)
{
    p->draining = DRAINS;
    for (unsigned i = 0; i < p->slots_used; i++) {
        struct miniproxy_session *s = &p->sessions[i];
        if (is_quiet(p, s)) end_session(p, s, false);
        else if (s->state != STATE_FREE && is_check(s)) cut(p, s, MINIPROXY_CAUSE_STOPPED); /* nobody wants to know */
    }
}

uint32_t miniproxy_poll(struct miniproxy *p, uint32_t now_ms)
{
    bool time_passed = now_ms != p->now_ms;
    p->now_ms = now_ms;
    if (p->draining == DRAIN_BEGINS) begin_drain(p);
    if (time_passed) run_timers(p); /* no timeout is 0: nothing that was armed meanwhile is due */
    run_checks(p);
    if (MINIPROXY_WITH_LIMITS) run_limits(p);
    accept_some(p);
    run_lane(p, 0);
    run_lane(p, 1);
    if (run_logins(p)) return 0;
    if (p->run[0].head != 0 || p->run[1].head != 0) return 0;
    if (p->accept_ready && !p->accept_paused && !p->draining) return 0;
    return next_deadline(p);
}

bool miniproxy_set_policy(struct miniproxy *p, const struct miniproxy_policy *policy)
{
    if (policy != NULL && miniproxy_check_policy(policy) >= 0) return false;
    if (MINIPROXY_WITH_LIMITS && policy != p->config.policy) retire_buckets(p);
    p->config.policy = policy;
    forget_hops(p);
    return true;
}

bool miniproxy_policy_in_use(const struct miniproxy *p, const struct miniproxy_policy *policy)
{
    if (p->config.policy == policy) return true;
    for (unsigned i = 0; i < p->slots_used; i++)
        if (p->sessions[i].state != STATE_FREE && p->sessions[i].policy == policy) return true;
    return false;
}

void miniproxy_drain(struct miniproxy *p)
{
    if (p->draining == 0) p->draining = DRAIN_BEGINS;
}

unsigned miniproxy_active(const struct miniproxy *p)
{
    return p->counters.active;
}

void miniproxy_stop(struct miniproxy *p)
{
    p->draining = DRAINS;
    for (unsigned i = 0; i < p->slots_used; i++) {
        if (p->sessions[i].state == STATE_FREE) continue;
        if (p->sessions[i].cause == MINIPROXY_CAUSE_NONE) p->sessions[i].cause = MINIPROXY_CAUSE_STOPPED;
        end_session(p, &p->sessions[i], true);
    }
}

const struct miniproxy_counters *miniproxy_counters(const struct miniproxy *p)
{
    return &p->counters;
}
