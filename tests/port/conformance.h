/* SPDX-License-Identifier: MIT
 *
 * Does a port keep the contract of miniproxy.h, section 3? These tests need nothing but the port's table and a small
 * world around it, which a driver supplies: peers, that is the other ends of connections, and time. They take the place
 * of the core: conformance.c defines miniproxy_wake and miniproxy_wake_accept, so link it without miniproxy.c.
 *
 * conformance.c uses no more of libc than string.h, no heap, and three times CONFORMANCE_CHUNK and MINIPROXY_CONNS
 * connections of RAM. Peers may live in the same process, behind a wire, or in a model. posix_world.c is a driver.
 */
#ifndef CONFORMANCE_H
#define CONFORMANCE_H

#include "miniproxy.h"

/* Octets that are sent and received at once. Not more than one send of a peer must be able to take, in the end. */
#ifndef CONFORMANCE_CHUNK
#define CONFORMANCE_CHUNK 4096
#endif

/* A test fails when nothing has come of what it waits for after so many milliseconds. */
#ifndef CONFORMANCE_LIMIT_MS
#define CONFORMANCE_LIMIT_MS 5000u
#endif

/* A name and one address that it must resolve to. */
struct conformance_name {
    const char *host;
    struct miniproxy_addr address;
};

/* What the driver supplies. A peer is a number >= 0 of the driver's choice. No function may block for long. A negative
 * result is one of enum miniproxy_result. What is optional may be NULL; tests that need it are skipped. */
struct conformance_world {
    const struct miniproxy_port *port;
    void *port_data;
    void *data;            /* the driver's own */
    bool ipv4, ipv6;       /* families that peers have; conformance_run leaves the other out */
    unsigned many;         /* connections that are open at once in one of the tests, at most half of MINIPROXY_CONNS */
    uint8_t listener[2];   /* which of the port's listeners peer_connect leads to, with IPv4 and IPv6 */
    uint32_t room_max;     /* octets after which a peer that does not read has stopped the sender for sure */

    uint32_t (*now_ms)(struct conformance_world *w);
    /* Let the port and the network work for ms at most; may return earlier. Wakes come from inside it. */
    void (*wait)(struct conformance_world *w, uint32_t ms);

    /* A peer begins a connection to a listener of the port. */
    int (*peer_connect)(struct conformance_world *w, int family);
    /* A peer listens; *at is its address. */
    int (*peer_listen)(struct conformance_world *w, int family, struct miniproxy_addr *at);
    /* A peer out of a listening one's queue, or AGAIN. */
    int (*peer_accept)(struct conformance_world *w, int listener);
    /* The peer's own address, as accept must report it. */
    struct miniproxy_addr (*peer_address)(struct conformance_world *w, int peer);
    /* 1..len, AGAIN, EOF, ERESET. */
    int (*peer_send)(struct conformance_world *w, int peer, const void *data, size_t len);
    int (*peer_recv)(struct conformance_world *w, int peer, void *data, size_t len);
    void (*peer_finish)(struct conformance_world *w, int peer); /* FIN; it still receives */
    void (*peer_reset)(struct conformance_world *w, int peer);  /* and it is gone */
    /* All peers are gone; end of starve and hold_names. Called between tests. */
    void (*clear)(struct conformance_world *w);

    /* An address where nothing listens, but the host answers. Optional. */
    struct miniproxy_addr (*refusing)(struct conformance_world *w, int family);
    /* An address that does not answer at all. Optional. */
    struct miniproxy_addr (*silent)(struct conformance_world *w);
    /* The addresses by which the port's own listeners can be reached, one after the other; false: no more. Optional. */
    bool (*own)(struct conformance_world *w, unsigned index, struct miniproxy_addr *at);
    /* From now on, or no more: nothing is left to make a connection of. Optional. */
    void (*starve)(struct conformance_world *w, bool on);

    /* Names; a NULL host is skipped. */
    struct conformance_name known, other;
    const char *missing;   /* does not exist */
    const char *failing;   /* its resolution fails */
    const char *both;      /* has three addresses or more, of both families */
    /* While on: the name `slow` is not answered, others are. Optional. */
    void (*hold_names)(struct conformance_world *w, bool on);
    struct conformance_name slow;

    /* One result: "pass", "fail" or "skip", and for fail what was expected. ids: requirements, or "-". */
    void (*report)(struct conformance_world *w, const char *result, const char *name, const char *ids, const char *why);
};

/* Run all tests. True when none has failed. */
bool conformance_run(struct conformance_world *w);

/* For the tests of a driver's own, with the same connections and peers. */
enum conformance_kind { CONFORMANCE_ACCEPTED_4, CONFORMANCE_ACCEPTED_6, CONFORMANCE_CONNECTED_4,
                        CONFORMANCE_CONNECTED_6, CONFORMANCE_KINDS };

struct conformance_pair {
    struct miniproxy_conn *c;
    int peer;
};

void conformance_begin(struct conformance_world *w); /* before each test */
bool conformance_end(void);                          /* after it: false when the port has broken a rule beside */
bool conformance_check(bool condition, const char *expected); /* remembers the first that was not met */
const char *conformance_why(void);                   /* and tells it, NULL if none */
struct miniproxy_conn *conformance_take(void);       /* a connection as the core hands it over, NULL: none left */
void conformance_give(struct miniproxy_conn *c, bool hard);                 /* close it */
bool conformance_pair(struct conformance_pair *p, enum conformance_kind kind); /* connected to a peer */
bool conformance_await(const struct miniproxy_conn *c, unsigned ready);     /* a wake */
bool conformance_await_accept(void);
bool conformance_accept_woken(void);                 /* since this was last asked */
int conformance_accept(struct miniproxy_conn *c, struct miniproxy_addr *peer); /* these retry after AGAIN and a wake */
int conformance_connect(struct miniproxy_conn *c, const struct miniproxy_addr *to);
int conformance_resolve(struct miniproxy_conn *c, const char *host, struct miniproxy_addr *out, int max);
int conformance_recv(struct miniproxy_conn *c, void *data, size_t len);
int conformance_send(struct miniproxy_conn *c, const void *data, size_t len);
int conformance_peer_recv(int peer, void *data, size_t len);

/* What they return when a wake did not come in time. */
#define CONFORMANCE_NO_WAKE (-100)

#endif
