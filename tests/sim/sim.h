/* SPDX-License-Identifier: MIT
 *
 * The simulated world: virtual time, seeded chance, a modelled network with clients, origins and DNS around the real
 * core. One world a process at a time; everything in it follows from the seed.
 *
 *   time.c     virtual time, chance, events on the network
 *   world.c    the loop that plays events and polls the core
 *   link.c     connections as the peers see them: two byte queues with latency, FIN and RST
 *   port.c     the same connections as the core sees them, with a check of its side of the contract
 *   secure.c   TLS between the two: clients' and origins' own, and the port of TLS that is tested
 *   papers.c   certificates
 *   ties.c     whose connections these are: what the core may resolve and connect now
 *   rules.c    policies, and an own reference of what they say
 *   limits.c   limits, and accounts of what they allow
 *   routes.c   parents and groups, what becomes of them, and a model of what the core has to know of them
 *   heads.c    lines of heads that are told
 *   plan.c     the generator: hosts, clients, requests, answers
 *   message.c  a strict HTTP/1.1 parser of the simulation's own
 *   client.c   clients      origin.c  origins      tunnel.c  both ends of a tunnel
 *   check.c    what must hold: after each event, and when the world has come to rest
 *   split.c    every split of canonical exchanges     main.c  seeds, jobs, results
 */
#ifndef SIM_H
#define SIM_H

#include "../../miniproxy.h"

#include <setjmp.h>
#include <stdio.h>

/* ---- Properties: what is checked, and the requirements it proves ---- */

#if MINIPROXY_WITH_TLS
#define PROPERTIES_OF_TLS(X)                                                                                           \
    X(SECURE, "an origin gets nothing over TLS before it has proved its name, nor one without TLS", "L04,T20")         \
    X(PROOF, "clients that prove nothing get nothing, tickets hold as long as they are to", "-")
#else
#define PROPERTIES_OF_TLS(X)
#endif

#if MINIPROXY_WITH_LIMITS
#define PROPERTIES_OF_LIMITS(X)                                                                                        \
    X(LIMITS, "nobody has more octets, requests or transactions than limits allow", "-")
#else
#define PROPERTIES_OF_LIMITS(X)
#endif

#if MINIPROXY_WITH_SOCKS5
#define PROPERTIES_OF_SOCKS(X)                                                                                         \
    X(SOCKS, "clients of SOCKS5 are told what they wait for, and refused with the code of the cause", "N01,N04,N05")
#else
#define PROPERTIES_OF_SOCKS(X)
#define PROPERTY_SOCKS PROPERTY_CAUSE
#endif

#if MINIPROXY_WITH_HEADS
#define PROPERTIES_OF_HEADS(X)                                                                                         \
    X(HEADS, "lines of heads are told as they were sent, once each, without logins and cookies", "G02")
#else
#define PROPERTIES_OF_HEADS(X)
#endif

#if MINIPROXY_WITH_ROUTES
#define PROPERTIES_OF_ROUTES(X)                                                                                        \
    X(ROUTE, "requests go by the hops of their route, in its order, and by none that is down", "-")                    \
    X(HOP_LOGIN, "a parent gets its own login, and nobody else gets it", "H06")                                        \
    X(FAILOVER, "what may be repeated is not lost while a hop works, all else is sent once", "G05")                    \
    X(NO_PARENT, "no_parent is said only when no hop of the route was left", "S07")                                    \
    X(HEALTH, "hops are down and up as their results say, and each change is told once", "G05")                        \
    X(CHECKS, "checks are made when they are due, and of the policy in force", "G05")
#else
#define PROPERTIES_OF_ROUTES(X)
#endif

#define PROPERTIES(X)                                                                                                  \
    X(CONTRACT, "the core calls only open connections and closes each once", "Z08")                                    \
    X(SEND_REPEATS, "a refused send is repeated with the same bytes", "-")                                             \
    X(POLICY_CONNECT, "only addresses that the policy allows are connected, each checked", "R01,R02,K10")              \
    X(UP_CONTENT, "request bodies reach the origin octet for octet, by length and chunked", "C01,B17,C06")             \
    X(DOWN_CONTENT, "responses reach the client octet for octet", "C01,B16,B19")                                       \
    X(UP_WELL_FORMED, "each request at an origin is one well-formed message", "T02,T03,M15,C10")                       \
    X(UP_HOP, "hop-by-hop fields and credentials stay at the proxy, Via is added", "H01,H03,H06,V01")                  \
    X(DOWN_WELL_FORMED, "each response at a client is one well-formed message", "M15,M18,B18,E07")                     \
    X(DOWN_HOP, "hop-by-hop fields of an origin stay at the proxy, Via is added", "H02,H07,V02,C07")                   \
    X(ORDER, "one final response a request, in order", "P06,S15,B20,B23")                                              \
    X(TRUNCATION, "a truncated message is never passed on as a complete one", "B14,B15,B22,L02,M12")                   \
    X(RETRY, "only idempotent requests are repeated, once, on a stale connection", "H13,D05")                          \
    X(REUSE, "a kept origin connection serves one client and one host", "P08,P09")                                     \
    X(CLOSES, "nothing follows a response that says close", "P02,P03,P04,K06")                                         \
    X(CAUSE, "each refusal has a reason that really happened", "S01,S02,S03,S05,S06,S07,S08,Q06,D06")                  \
    X(MALFORMED, "malformed requests are refused with the right status",                                               \
      "M04,M07,M08,B02,B05,B09,B10,C02,T07,T08,K01,K09")                                                               \
    X(LOGIN, "credentials are asked for, checked for each request and throttled", "A01,A07,A10,A14,P07")               \
    X(REPLY_READABLE, "a reply of the proxy reaches a client that is still sending", "P11,A11,E03,T13")                \
    X(NO_SILENCE, "a request that was read gets a status", "S14,P05,P12")                                              \
    X(EVENTS, "one event a transaction, with the status that the client saw", "G01,S10")                               \
    X(COUNTERS, "counters agree with the events", "G04")                                                               \
    X(INTERIM, "interim responses are passed on in order, and bounded", "E06,E08,E01,E02")                             \
    X(TUNNEL, "tunnels carry every octet, half-closes and early bytes", "K03,K05,K07,K08,U02")                         \
    X(UPGRADE, "only a wanted upgrade switches protocols", "U01,U03,U04")                                              \
    X(TIME, "the returned wait is honest, no busy loop", "Z08,D01")                                                    \
    X(LIVENESS, "everything ends by its deadline", "Z02,Z03,K12,P10")                                                  \
    X(LEAK, "nothing is left when all is over", "Z06,Z07,Z08")                                                         \
    X(BUSY, "full pools and caps end in 503 or waiting", "Z04,Z05,P13")                                                \
    PROPERTIES_OF_TLS(X)                                                                                               \
    PROPERTIES_OF_LIMITS(X)                                                                                            \
    PROPERTIES_OF_SOCKS(X)                                                                                             \
    PROPERTIES_OF_HEADS(X)                                                                                             \
    PROPERTIES_OF_ROUTES(X)                                                                                            \
    X(DRAIN, "drain and stop accept nothing and come to an end", "-")                                                  \
    X(ASSERTION, "no assertion of the core fails", "-")

enum property {
#define X(NAME, text, ids) PROPERTY_##NAME,
    PROPERTIES(X)
#undef X
        PROPERTY_COUNT
};

_Noreturn void violation(enum property p, const char *format, ...) __attribute__((format(printf, 2, 3)));
void trace(const char *format, ...) __attribute__((format(printf, 1, 2)));
void checked(enum property p);
void reached(unsigned cause);

/* What must have happened at least once, or it was not tested: printed with how often it has. */
#if MINIPROXY_WITH_TLS
#define TALLIES_OF_TLS(X)                                                                                              \
    X(HTTPS, "https requests answered by their origins")                                                               \
    X(KEPT, "of these over a kept connection")                                                                         \
    X(AGAIN, "https requests repeated over a new connection")                                                          \
    X(WEBSOCKET, "upgrades over TLS")                                                                                  \
    X(NAME, "origins with another's name")                                                                             \
    X(EXPIRED, "origins whose certificate has expired")                                                                \
    X(FUTURE, "origins whose certificate is not valid yet")                                                            \
    X(SELF_SIGNED, "origins that vouch for themselves")                                                                \
    X(ISSUER, "origins with an unknown issuer")                                                                        \
    X(PURPOSE, "origins with a client's certificate")                                                                  \
    X(ALERT, "origins that send an alert")                                                                             \
    X(PLAIN, "origins that speak in clear")                                                                            \
    X(EMPTY, "origins that end the handshake")                                                                         \
    X(BROKEN, "handshakes of origins broken off or damaged")                                                           \
    X(LATE, "handshakes of origins that took too long")                                                                \
    X(UNTRUSTING, "https requests without anybody to trust")                                                           \
    X(FULL, "https requests without a session for them")                                                               \
    X(CUT, "responses that end without close_notify")                                                                  \
    X(RESUMED_12, "clients that resume a session of TLS 1.2")                                                          \
    X(RESUMED_13, "clients that resume a session of TLS 1.3")                                                          \
    X(OLD_KEY, "tickets taken after their key was replaced")                                                           \
    X(OLD_TICKET, "tickets refused for their age")                                                                     \
    X(BY_CERTIFICATE, "requests of users by their certificate")                                                        \
    X(BY_SECRET, "requests of users by their shared key")                                                              \
    X(NO_USER, "requests of clients whose proven name is no user's")                                                   \
    X(BAD_CERTIFICATE, "clients with a bad certificate")                                                               \
    X(NO_CERTIFICATE, "clients without a certificate")                                                                 \
    X(BAD_SECRET, "clients with a wrong shared key")                                                                   \
    X(NO_SECRET, "clients with a shared key that nobody knows")
#else
#define TALLIES_OF_TLS(X)
#endif
#if MINIPROXY_WITH_ROUTES
#define TALLIES_OF_ROUTES(X)                                                                                           \
    X(BY_PROXY, "requests by an HTTP proxy")                                                                           \
    X(BY_SOCKS, "requests by a SOCKS5 server")                                                                         \
    X(BY_GROUP, "requests by a member of a group")                                                                     \
    X(AROUND, "requests past all hops, in a world with hops")                                                          \
    X(KEPT_BY_HOP, "of those by hops over a kept connection")                                                          \
    X(OTHER_ORIGIN, "of these for another origin than the one before")                                                 \
    X(TUNNEL_BY_PROXY, "tunnels by an HTTP proxy")                                                                     \
    X(TUNNEL_BY_SOCKS, "tunnels by a SOCKS5 server")                                                                   \
    X(TUNNEL_BY_GROUP, "tunnels by a member of a group")                                                               \
    X(TUNNEL_REFUSED, "tunnels that a proxy refused")                                                                  \
    X(SOCKS_REFUSED, "requests that a SOCKS5 server refused")                                                          \
    X(PARENT_LOGIN, "answers 407 of proxies")                                                                          \
    X(SOCKS_LOGIN, "logins that SOCKS5 servers refused")                                                               \
    X(SOCKS_INVALID, "SOCKS5 servers that speak something else")                                                       \
    X(FAILOVER_FIRST, "requests that went by another hop before they were sent")                                       \
    X(FAILOVER_SENT, "requests that were sent again by another hop")                                                   \
    X(AGAIN_SAME, "requests that were sent again by the same hop")                                                     \
    X(HOP_TIMEOUT, "hops that took too long")                                                                          \
    X(SILENCE, "hops that ended a new connection without a word")                                                      \
    X(MEMBER, "members of groups that did not answer in time, or not in HTTP")                                         \
    X(LOST, "requests that were lost at the last hop of all")                                                          \
    X(NONE_LEFT, "requests without a hop")                                                                             \
    X(DOWN, "hops that went down by requests")                                                                         \
    X(TRIAL, "trials of hops that were down")                                                                          \
    X(TRIAL_GOOD, "of which went well")                                                                                \
    X(TRIAL_LATE, "trials of those that had failed more than three")                                                   \
    X(CHECK_CONNECT_GOOD, "checks by a connection that went well")                                                     \
    X(CHECK_CONNECT_BAD, "and that failed")                                                                            \
    X(CHECK_REQUEST_GOOD, "checks by a request that went well")                                                        \
    X(CHECK_REQUEST_BAD, "and that failed")                                                                            \
    X(CHECK_DOWN, "hops that went down by checks")                                                                     \
    X(CHECK_UP, "hops that came up by checks")                                                                         \
    X(CHECK_QUEUED, "checks that waited for others")                                                                   \
    X(CHECK_OLD, "checks that ended after their policy was replaced")                                                  \
    X(CHECK_LAPSED, "checks that found nothing to connect with here")                                                  \
    X(CHECK_STOPPED, "checks under way when all was stopped")                                                          \
    X(CHECK_DRAINED, "checks under way when all was drained")                                                          \
    X(TURN, "requests by hops in turn")                                                                                \
    X(BY_ADDRESS, "ways that depended on an address")
#else
#define TALLIES_OF_ROUTES(X)
#endif
#define TALLIES(X) TALLIES_OF_TLS(X) TALLIES_OF_ROUTES(X)

enum tally {
#define X(NAME, text) TALLY_##NAME,
    TALLIES(X)
#undef X
        TALLY_COUNT
};

void tally(enum tally t);
/* Records that the property was tested, and stops the seed when it does not hold. */
#define REQUIRE(p, condition, ...) (checked(p), (condition) ? (void)0 : violation((p), __VA_ARGS__))

/* ---- Chance ---- */

uint64_t random_next(void);
uint32_t below(uint32_t n); /* 0..n-1; 0 for n = 0 */
bool one_in(uint32_t n);    /* never for n = 0 */
uint32_t between(uint32_t low, uint32_t high);
uint32_t spread(uint32_t max); /* 0..max, small ones more often */

/* Octet `at` of the payload named by key. */
static inline uint8_t pattern(uint32_t key, uint64_t at)
{
    uint32_t x = ((uint32_t)at + 1u) * 2654435761u ^ key * 0x9E3779B1u;
    return (uint8_t)(x >> 24 ^ x >> 9);
}

/* ---- Actors and links ---- */

enum {
    CLIENTS_MAX = 40,
    EXCHANGES_EACH = 6,
    EXCHANGES_MAX = CLIENTS_MAX * EXCHANGES_EACH,
    HOSTS_MAX = 8,
    MACHINES_MAX = 12,
    ROUTED = MINIPROXY_WITH_ROUTES ? 5 : 0, /* policies with routes, */
    HOPS_EACH = 7,                          /* the hops of each, */
    HOP_ADDRESSES = 2,                      /* and the machines of each hop, behind those of the origins */
    MACHINES_ALL = MACHINES_MAX + ROUTED * HOPS_EACH * HOP_ADDRESSES,
    CONNS_MAX = 2000,
    HEAD_TEXT_MAX = 12000,
    OUTBOX_MAX = 16384
};

struct conn;
struct exchange;
struct machine;
struct parent;

struct actor {
    void (*step)(struct actor *a);
    uint64_t step_at, later_at; /* times of the steps that are scheduled; 0: none */
    uint16_t number;
};

/* Something that goes wrong at an octet of a stream. */
enum trouble_kind { TROUBLE_NONE, TROUBLE_PAUSE, TROUBLE_STALL, TROUBLE_RESET, TROUBLE_FIN, TROUBLE_DAMAGE };
struct trouble {
    uint64_t at;
    uint32_t ms;
    uint8_t kind;
    bool reading, done;
};

struct lane { /* one direction of a connection */
    uint8_t *data;
    uint64_t written, arrived, taken; /* positions in the stream */
    uint64_t busy_until;              /* arrivals keep their order */
    uint32_t size;
    bool fin_sent, fin_arrived, reset_arrived;
};

/* What a peer does with its end of a connection: with the octets as they are on the way, or through TLS. */
struct peer_end {
    size_t (*write)(struct conn *v, const void *data, size_t len);
    size_t (*read)(struct conn *v, uint8_t *data, size_t len);
    void (*fin)(struct conn *v);
    void (*leave)(struct conn *v);
    bool (*eof)(const struct conn *v);
    bool (*was_reset)(const struct conn *v);
};

enum conn_state { CONN_QUEUED, CONN_CONNECTING, CONN_OPEN, CONN_CLOSED };

struct conn {
    struct miniproxy_conn *c; /* NULL: not in the core's hands */
    struct actor *peer;
    const struct peer_end *end;
    struct secure *secure;     /* TLS of the peer; NULL: plain */
    struct exchange *exchange; /* the one it was connected for */
    const struct machine *machine;
    struct parent *parent;     /* the hop that it leads to; NULL: to the origin itself */
    struct lane in, out; /* to the core, from the core */
    uint8_t *refused;    /* bytes of a send that got AGAIN */
    size_t refused_len, refused_size;
    uint64_t consumed, produced; /* octets that the port has taken in and sent */
    uint64_t received;           /* octets that the core has received through TLS */
    int connect_result;
    uint16_t number, generation, slot;
    uint8_t state, wanted, wake_due;
    bool of_client, is_check, finished, finish_again, broken, peer_gone, closed_hard;
};

/* For peers. */
size_t peer_write(struct conn *v, const void *data, size_t len); /* octets taken */
uint32_t peer_room(const struct conn *v);
size_t peer_read(struct conn *v, uint8_t *data, size_t len);
void peer_fin(struct conn *v);
void peer_reset(struct conn *v);
void peer_leave(struct conn *v); /* both directions: what still arrives is answered by a reset */
bool peer_eof(const struct conn *v);
bool peer_was_reset(const struct conn *v);
/* The same without TLS. */
size_t wire_write(struct conn *v, const void *data, size_t len);
size_t wire_read(struct conn *v, uint8_t *data, size_t len);
void wire_fin(struct conn *v);
void wire_leave(struct conn *v);
bool wire_eof(const struct conn *v);
bool wire_was_reset(const struct conn *v);

/* For the port. */
struct conn *conn_new(bool of_client);
void conn_free_all(void);
uint32_t conn_readable(const struct conn *v);
uint32_t conn_room(const struct conn *v);
void link_take(struct conn *v, uint8_t *data, uint32_t len);
void link_put(struct conn *v, const uint8_t *data, uint32_t len);
void link_fin(struct conn *v);
void link_close(struct conn *v, bool hard);
void link_break(struct conn *v);               /* an injected error: both sides see a reset */
void link_wake(struct conn *v, unsigned bits); /* the core waits for it, or may be told anyway */
void link_wake_later(struct conn *v, unsigned bits);

/* ---- Messages ---- */

enum message_event { MESSAGE_MORE, MESSAGE_HEAD, MESSAGE_BODY, MESSAGE_END, MESSAGE_BAD };
enum framing { FRAMING_NONE, FRAMING_LENGTH, FRAMING_CHUNKED, FRAMING_EOF };

struct field {
    const char *name, *value;
    unsigned name_len, value_len;
};

enum { FIELDS_SEEN_MAX = 200 };

struct message {
    bool request;
    uint8_t state, minor, framing;
    int status;
    unsigned field_count, head_len, line_len, trailer_count, digits;
    uint64_t length, left, body_at;
    const uint8_t *body; /* of MESSAGE_BODY */
    size_t body_len;
    const char *error;
    bool has_length, chunked;
    char method[40], target[4200];
    struct field fields[FIELDS_SEEN_MAX];
    char line[2048];
    char head[HEAD_TEXT_MAX];
};

void message_start(struct message *m, bool request);
enum message_event message_next(struct message *m, const uint8_t *data, size_t len, size_t *used);
void message_body(struct message *m, enum framing framing); /* after MESSAGE_HEAD of a response */
const struct field *message_field(const struct message *m, const char *name);
unsigned message_count(const struct message *m, const char *name);
bool message_lists(const struct message *m, const char *name, const char *element); /* in a comma-separated list */

/* ---- The plan ---- */

enum machine_kind {
    MACHINE_OK,
    MACHINE_SLOW,
    MACHINE_REFUSED,
    MACHINE_UNREACHABLE,
    MACHINE_BLACKHOLE,
    MACHINE_RESETS,
    MACHINE_SELF
};

struct machine {
    struct miniproxy_addr addr;
    uint8_t kind;
    bool special;
    uint32_t delay_ms;
};

struct host {
    char name[32];
    uint8_t machines[6];
    uint8_t count;
    int result;        /* > 0: addresses; or an error */
    uint32_t delay_ms; /* UINT32_MAX: never answers */
};

enum exchange_kind { EXCHANGE_FORWARD, EXCHANGE_CONNECT, EXCHANGE_UPGRADE, EXCHANGE_MALFORMED };
enum login { LOGIN_NONE, LOGIN_GOOD, LOGIN_WRONG, LOGIN_JUNK };

enum answer_fault {
    ANSWER_GOOD,
    ANSWER_GARBAGE,
    ANSWER_EMPTY,
    ANSWER_CUT,   /* FIN at an octet */
    ANSWER_RESET, /* RST at an octet */
    ANSWER_STALL, /* silence from an octet on */
    ANSWER_PAUSE,
    ANSWER_EXTRA,    /* octets behind the end */
    ANSWER_CONFLICT, /* lengths that contradict each other */
    ANSWER_BAD_CHUNK,
    ANSWER_BIG_HEAD,
    ANSWER_BAD_FIELD,
    ANSWER_INTERIMS, /* more than anybody needs */
    ANSWER_SWITCH    /* 101 that nobody asked for */
};

/* What is wrong with an origin's TLS (or, the first of them, with a client's certificate). */
enum secure_fault {
    FLAW_NONE,
    FLAW_NAME,
    FLAW_EXPIRED,
    FLAW_FUTURE,
    FLAW_SELF_SIGNED,
    FLAW_ISSUER,
    FLAW_PURPOSE,
    FAULT_ALERT, /* from here on it does not get as far as to its certificate */
    FAULT_PLAIN,
    FAULT_EMPTY,
    FAULT_COUNT
};

enum answer_when { WHEN_END, WHEN_HEAD, WHEN_PART };

struct answer {
    uint16_t status;
    uint8_t framing, fault, when, interims;
    bool http10, trailers, close, deaf;
    uint32_t len, fault_at, part, delay_ms, pause_ms, chunk_max, idle_ms, pad;
};

enum tunnel_end_kind { TUNNEL_FIN_FIRST, TUNNEL_FIN_LAST, TUNNEL_SILENT };

struct tunnel_end {
    uint64_t sent, got;
    uint32_t send_len, get_len, send_key, get_key;
    uint8_t kind;
    bool on, fin_sent, eof;
};

/* What has happened to an exchange or a client, and so may be the reason of a refusal. */
enum {
    HAPPENED_CUT = 1 << 0,
    HAPPENED_RESET = 1 << 1,
    HAPPENED_GARBAGE = 1 << 2,
    HAPPENED_EMPTY = 1 << 3,
    HAPPENED_SLOW = 1 << 4,
    HAPPENED_CONFLICT = 1 << 5,
    HAPPENED_BAD_CHUNK = 1 << 6,
    HAPPENED_BIG_HEAD = 1 << 7,
    HAPPENED_INTERIMS = 1 << 8,
    HAPPENED_SWITCH = 1 << 9,
    HAPPENED_STALE = 1 << 10,
    HAPPENED_FAULT = 1 << 11, /* an injected error on a connection to an origin */
    HAPPENED_RESOURCES = 1 << 12,
    HAPPENED_BAD_FIELD = 1 << 13,
    HAPPENED_NO_DNS = 1 << 14,
    HAPPENED_LATE_HANDSHAKE = 1 << 15, /* one that will not come to its end by itself */
    CLIENT_ABORTED = 1 << 16,
    CLIENT_FIN = 1 << 17,
    CLIENT_SLOW = 1 << 18,
    CLIENT_FAULT = 1 << 19,
    CLIENT_STOPS_READING = 1 << 20
};

#define CAUSES_MAX 4

struct client;

struct exchange {
    uint32_t id;
    struct client *client;
    const char *method;
    const struct host *host; /* or NULL: a literal */
    const struct machine *literal;
    uint16_t port;
    uint8_t index, kind, login, req_framing;
    bool http10, says_close, expect, req_trailers, bad_body, options_star, nominates, early, websocket_junk;
    bool local_answer; /* answered by the proxy itself with a status of its own */
    bool half_head, https;
    uint8_t secure_fault;
    uint32_t req_len, req_chunk_max;
    uint8_t causes[CAUSES_MAX]; /* of a malformed one; 0 ends */
    struct answer answer;
    struct tunnel_end up, down; /* client's end, origin's end */
    /* what has been seen */
    uint32_t happened;
    uint32_t tls_results; /* of handshakes with origins that failed, a bit each: 1 << -result */
    const struct miniproxy_policy *policies[8]; /* in force since it began */
    uint8_t policy_count;
    uint64_t begun_ms, ended_ms; /* begin and event */
    uint8_t times_at_origin;
    bool origin_began, origin_done, origin_got_all, reused, resolved, connected;
    bool on_its_way; /* a way to its origin is looked for */
    bool origin_cut; /* its end was not told as TLS has it told */
    bool client_complete, client_close, by_proxy, written_all;
    uint16_t client_status;
    uint8_t interims_sent, interims_seen;
    uint32_t answer_head; /* octets that its attempt was answered with until the end of the final head */
    uint32_t interim_octets; /* of these, those of interim responses */
    uint64_t start_at, head_end_at; /* in the client's stream */
    uint64_t body_seen;
    const struct conn *attempt; /* the connection that carried it to an origin, */
    uint64_t received_before;   /* and what the core had received over it until then */
    uint8_t extensions;
    bool evented, line_unread;
    /* by hops: the last one, and those that were tried */
    const struct parent *by;
    uint64_t began_ms;
    uint8_t hops_tried, socks_reply;
    uint16_t parent_status; /* of a proxy that refused a tunnel or a login */
    uint32_t routes;        /* of the policy of `by` that it may go, a bit each */
    bool by_hops, written, parent_mute, socks_cut;
    uint16_t event_status;
    uint8_t event_cause, event_source;
    uint32_t told;        /* octets of the head, as its lines were told */
    uint16_t told_status; /* of the last head of a response */
    uint8_t told_hidden; /* lines that were not told completely */
    bool told_whole, told_part; /* the last line was the end, or not complete */
    char target[128];      /* as the origin must see it */
    char sent_target[256]; /* as the client wrote it */
    uint32_t head_len;
    char head[HEAD_TEXT_MAX];
};

struct outbox {
    uint32_t at, len;
    uint8_t data[OUTBOX_MAX];
};

enum client_phase { CLIENT_HEAD, CLIENT_WAIT_CONTINUE, CLIENT_BODY, CLIENT_WAIT_SWITCH, CLIENT_TUNNEL, CLIENT_DONE };

enum { LISTENER_PLAIN, LISTENER_TLS };

struct client {
    struct actor actor;
    struct conn *conn;
    struct miniproxy_addr addr;
    struct exchange *exchanges[EXCHANGES_EACH];
    uint8_t count, writing, reading, phase, ending;
    bool pipelines, started, accepted, over, stops_at_close, saw_close, saw_eof, saw_reset, stopped_writing, fin_sent,
        deaf, blind;
    bool speaks_tls;
    bool socks;          /* speaks SOCKS5: one request, a CONNECT, which is its exchange's head */
    uint8_t socks_write; /* what it writes next: socks.c */
    uint8_t socks_read;  /* what it is told next */
    uint8_t socks_code;  /* that its request is refused with */
    uint8_t socks_len, socks_answer[10];
    uint8_t listener; /* LISTENER_… */
    bool surplus; /* there were as many clients as there may be, or as many from its address */
    uint16_t session;
    uint32_t burst, gap_ms, read_burst, read_gap_ms, wait_until_set;
    uint64_t next_write_at, next_read_at, continue_at, written, read;
    uint64_t body_sent;
    struct trouble trouble;
    uint32_t happened;
    unsigned events, begins;
    uint64_t event_up, event_down;
    struct outbox outbox;
    struct message message;
};

/* ---- The world ---- */

struct mood {
    uint8_t amounts; /* 0 one octet at a time, 1 any, 2 as much as fits */
    uint32_t again_one_in, spurious_one_in, latency_ms, wake_delay_ms, capacity_max;
    uint32_t fail_at_call; /* 0: never */
    int fail_with;
    uint32_t resources_one_in; /* of accept, resolve, connect */
    uint32_t slice_ms;         /* what a slice of PBKDF2 takes while nothing else happens */
    bool edge_wakes, clears_rd, relays, broken_hint, reset_drops, small;
    uint32_t host_trouble_one_in, client_trouble_one_in, answer_trouble_one_in;
};

struct world {
    uint64_t seed, random, now_ms, step;
    uint32_t base_ms; /* the core's clock at the beginning */
    bool tracing;
    FILE *trace_to;
    jmp_buf escape;
    enum property broken;
    char message[600];
    struct mood mood;
    struct miniproxy proxy;
    struct miniproxy_config config;
    uint32_t timeout_ms[MINIPROXY_TIMEOUT_COUNT];
    const struct miniproxy_policy *policy;
    void (*connected)(struct conn *v); /* what becomes of a new connection to an origin */
    struct exchange *check; /* in place of that of a client, for checks */
    bool ended;             /* nobody is left but checks */
    const struct miniproxy_conn *unborn; /* TLS has failed before there was a connection, and it is to be closed */
    bool drained, stopped, woken, in_poll, accept_wanted, accept_wake_due, ever_full, resources_failed;
    uint32_t calls, calls_in_poll, slices;
    uint32_t swaps; /* of the policy */
    uint32_t open_clients;
    uint32_t login_failures[8];
    uint16_t machine_count, host_count, client_count, exchange_count, conn_count, origin_count;
    struct machine machines[MACHINES_ALL];
    struct host hosts[HOSTS_MAX];
    struct client clients[CLIENTS_MAX];
    struct exchange exchanges[EXCHANGES_MAX];
    struct conn *conns[CONNS_MAX];
    uint16_t queue[CLIENTS_MAX]; /* clients waiting to be accepted */
    uint16_t queue_len;
    uint32_t events, counted_status[6], counted_cause[MINIPROXY_CAUSE_COUNT];
    uint64_t counted_up, counted_down;
};

extern struct world world;
extern const struct miniproxy_port sim_port, sim_port_relay;

enum event_kind {
    EVENT_ARRIVE_IN,
    EVENT_ARRIVE_OUT,
    EVENT_FIN_IN,
    EVENT_FIN_OUT,
    EVENT_RESET_IN,
    EVENT_RESET_OUT,
    EVENT_WAKE,
    EVENT_WAKE_ACCEPT,
    EVENT_STEP,
    EVENT_START,
    EVENT_SLOT,
    EVENT_POLICY,
    EVENT_DRAIN,
    EVENT_STOP,
    EVENT_HOP,
    EVENT_END
};

struct event {
    uint64_t when_ms, value;
    uint32_t tie, who;
    uint8_t kind;
};

void after(uint64_t delay_ms, enum event_kind kind, uint32_t who, uint64_t value);
void at(uint64_t when_ms, enum event_kind kind, uint32_t who, uint64_t value);
void step_after(struct actor *a, uint64_t delay_ms);
uint64_t next_event_ms(void); /* UINT64_MAX: none */
struct event pop_event(void);
void play_network(const struct event *e);
void clear_network(uint64_t seed);
struct actor *actor_of(uint32_t number);
void run_world(uint64_t seed); /* longjmps to world.escape at a violation */
void settle(void);             /* polls and plays events until nothing is left to happen */
void start_core(void (*begin)(void *, const struct miniproxy_event *),
                void (*event)(void *, const struct miniproxy_event *));
void clear_world(uint64_t seed);

void port_reset(void);
void port_slot_due(uint32_t slot, uint64_t token);
unsigned port_open_slots(void);

/* The port asks these. tests/sim/conformance answers them in its own way. */
void tie_accept(struct client *cl, const struct miniproxy_conn *c);
/* What wants the name, and the host of that name. */
struct exchange *tie_resolve(const struct miniproxy_conn *c, const char *name, const struct host **host);
struct exchange *tie_secure(const struct miniproxy_conn *c, const char *host);
struct exchange *tie_connect(const struct miniproxy_conn *c, const struct miniproxy_addr *to, const struct machine *m);
void tie_fault(struct conn *v); /* an error was injected */
void tie_taken(const struct conn *v, uint32_t octets); /* the core has received so many */
/* What the core has been told. */
enum seen_call { SEEN_RESOLVE, SEEN_CONNECT, SEEN_RECV, SEEN_SEND, SEEN_CLOSE };
void tie_seen(const struct miniproxy_conn *c, enum seen_call what, const void *data, int result);

void make_plan(void);
struct exchange *exchange_new(struct client *cl);

/* TLS; without MINIPROXY_WITH_TLS these do nothing. */
void secure_start_port(void);                      /* world.config.port stands on another one from now on */
uint32_t secure_poll(uint32_t wait_ms);            /* when to poll again */
void secure_start_client(struct client *cl);       /* it has a connection */
void secure_start_origin(struct conn *v);
void secure_step(struct conn *v);                  /* what TLS has to do by itself */
uint64_t core_received(const struct conn *v);      /* octets of the peer's stream */
bool secure_tells_end(const struct conn *v);       /* the peer's FIN will be told apart from a cut */
bool secure_excuses(const struct exchange *ex, uint8_t cause);
const char *secure_name(const struct client *cl);  /* that it has proved, or NULL */
void secure_check_begin(const struct exchange *ex);
void secure_check_event(const struct exchange *ex, const struct miniproxy_event *e);
void secure_check_rest(void);

/* Limits; without MINIPROXY_WITH_LIMITS these do nothing. */
enum { SIM_POLICIES = 5, SIM_LIMITS = 3 };
#if MINIPROXY_WITH_LIMITS
extern struct miniproxy_limit sim_limits[SIM_POLICIES][SIM_LIMITS];
#endif
void make_limits(void);
void limits_check_begin(const struct exchange *ex);
void limits_check_way(struct exchange *ex);
void limits_check_taken(const struct exchange *ex, bool from_client, uint32_t octets);
bool limits_excuse(const struct exchange *ex, uint8_t cause);
void limits_check_rest(void);

/* ---- Routes; without MINIPROXY_WITH_ROUTES these do nothing. ---- */

enum parent_mode {
    MODE_UP,
    MODE_REFUSES,
    MODE_UNREACHABLE,
    MODE_HANGS,    /* does not accept */
    MODE_RESETS,   /* instead of accepting */
    MODE_MUTE,     /* accepts and says nothing */
    MODE_ENDS,     /* accepts and closes */
    MODE_SWALLOWS, /* closes when it has got a request */
    MODE_NONSENSE, /* speaks something else */
    MODE_REJECTS,  /* every login */
    MODE_NAMELESS, /* its name does not resolve */
    MODE_COUNT
};

/* Whoever stands at one hop of one policy. */
struct parent {
    struct host host;
    struct machine *machines[HOP_ADDRESSES];
    uint16_t policy, index;
    uint8_t kind, mode;
    uint64_t mode_since_ms;
    char login[100], encoded[150]; /* "": none */
    char check[48];              /* its target; "": none */
    /* The model of its health. */
    uint32_t used, failed, turns, told, turn;
    uint64_t due_ms, check_ended_ms, up_since_ms; /* of the next trial; of the last check; UINT64_MAX: it is down */
    uint8_t streak, trials;
    bool down, checked, in_check, turn_unknown;
};

void routes_plan(uint32_t rush_ms);
void routes_event(struct parent *q); /* it takes its next mode */
void routes_poll(uint64_t due_ms);   /* after a poll */
bool routes_over(void);              /* only checks are left */
void routes_stop(void);
void routes_policy(void); /* another one is in force from now on */
struct parent *parent_at(unsigned number);
struct parent *parent_named(const char *name);
struct parent *parent_of(const struct machine *m);
const struct miniproxy_hop *hop_of_parent(const struct parent *q);
void try_hop(const struct miniproxy_conn *c, struct exchange *ex, struct parent *q);
void routes_direct(struct exchange *ex, const struct miniproxy_addr *address);
void routes_seen(unsigned session, const struct miniproxy_conn *c, enum seen_call what, const void *data, int result);
bool routes_deny(const struct miniproxy_policy *p, const struct exchange *ex, uint16_t groups);
bool routes_excuse(const struct exchange *ex, uint8_t cause);
void routes_check_event(struct exchange *ex, const struct miniproxy_event *e);
bool routes_repeat(const struct exchange *ex, const struct conn *before); /* may it come to another hop, or again? */
bool routes_leads(const struct exchange *ex, const struct parent *q);
const char *encode(char *out, const char *text);
void origin_break(struct parent *q);
/* The same as the core asks when a parent resolves the name. */
bool rules_allow_remote(const struct miniproxy_policy *p, const struct exchange *ex, uint16_t groups);
bool nets_have(const struct miniproxy_nets *nets, const struct miniproxy_addr *a);
bool hosts_have(const struct miniproxy_hosts *hosts, const struct exchange *ex);
#if MINIPROXY_WITH_ROUTES
void routes_told(void *app, const struct miniproxy_policy *policy, unsigned hop);
extern struct miniproxy_policy routed[ROUTED];
extern const struct miniproxy_policy *const unrouted[ROUTED];
#endif

void client_start(struct client *cl);
void client_tunnel(struct client *cl); /* begins behind what it is reading */

/* socks.c: clients that speak SOCKS5 */
void socks_put(struct exchange *ex);
bool socks_fill(struct client *cl);
size_t socks_take(struct client *cl, const uint8_t *data, size_t len);
void socks_check_event(const struct exchange *ex, const struct miniproxy_event *e);
void socks_check_end(const struct exchange *ex);

/* heads.c: lines of heads; without MINIPROXY_WITH_HEADS these do nothing */
void heads_start(void);
void heads_check_event(const struct exchange *ex, const struct miniproxy_event *e);
void origin_reset(void);
struct actor *origin_actor(uint32_t number);
void origin_new(struct conn *v);
void origin_cut(struct exchange *ex); /* what ends with its connection does not end */
bool tunnel_step(struct tunnel_end *t, struct conn *v, uint32_t burst, struct exchange *ex);
void tunnel_take(struct tunnel_end *t, const uint8_t *data, size_t len, struct exchange *ex);

extern const struct miniproxy_policy *const policies[];
extern const unsigned policy_count;
bool rules_allow(const struct miniproxy_policy *p, const struct exchange *ex, const struct miniproxy_addr *address,
                 bool special, uint16_t groups);
bool rules_may_allow(const struct miniproxy_policy *p, const struct exchange *ex,
                     uint16_t groups); /* for some address */
uint16_t login_groups(const struct miniproxy_policy *p, const struct exchange *ex);
unsigned method_bit(const char *method);

void on_begin(void *app, const struct miniproxy_event *e);
void on_event(void *app, const struct miniproxy_event *e);
#if MINIPROXY_WITH_PBKDF2
enum { KIOSK_ROUNDS = 8 * MINIPROXY_PBKDF2_SLICE + 2 };
extern const struct miniproxy_pbkdf2_functions sim_pbkdf2;
void sim_sha256(uint8_t digest[MINIPROXY_DIGEST_LEN], const void *data, size_t len);
void sim_entry(uint8_t entry[], const char *password, uint32_t rounds); /* salt and digest */
#endif
void make_users(void);

void check_step(void);
void check_rest(void);
struct exchange *current_exchange(struct client *cl);
struct client *client_at(const struct miniproxy_addr *a);

int split_main(const char *results);
struct actor *split_actor(uint32_t number);

#endif
