/* SPDX-License-Identifier: MIT
 *
 * TLS by mbedTLS (2.28 or 3.6), as a port that stands on any other port: for clients of some listeners, and for
 * connections to origins that the core asks to secure. The core does not know of it; build it with MINIPROXY_WITH_TLS 1.
 * port/README.md has the notes.
 *
 * Memory: each TLS connection has an arena of its own in struct miniproxy_tls, so none can take another's memory;
 * certificates, keys and what else all of them share have one more. mbedTLS is told to use these
 * (MBEDTLS_PLATFORM_MEMORY). An arena that is too small shows in miniproxy_tls_peak, and as ERESOURCES.
 */
#ifndef MINIPROXY_TLS_H
#define MINIPROXY_TLS_H

#include "miniproxy.h"

#include <mbedtls/version.h>
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/pk.h>
#include <mbedtls/ssl.h>
#include <mbedtls/x509_crt.h>
#if defined MBEDTLS_SSL_TICKET_C
#include <mbedtls/ssl_ticket.h>
#endif

/* TLS connections at the same time, clients' and origins' together. Range 1..65000. Cost: one arena each. A client that
 * comes when all are in use takes the place of one that idles; if none does it is told so by an alert, before any of
 * its octets has been read. */
#ifndef MINIPROXY_TLS_SESSIONS
#define MINIPROXY_TLS_SESSIONS 2
#endif

/* Octets of a connection's arena: mbedTLS's two record buffers (its MBEDTLS_SSL_IN_CONTENT_LEN and _OUT_CONTENT_LEN),
 * and what a handshake needs beside them. */
#ifndef MINIPROXY_TLS_HANDSHAKE_RAM
#define MINIPROXY_TLS_HANDSHAKE_RAM 14336
#endif
#ifndef MINIPROXY_TLS_ARENA
#define MINIPROXY_TLS_ARENA (MBEDTLS_SSL_IN_CONTENT_LEN + MBEDTLS_SSL_OUT_CONTENT_LEN + MINIPROXY_TLS_HANDSHAKE_RAM)
#endif

/* Octets of the arena of certificates and keys. System-wide sets of trusted roots need 1 MB or so. */
#ifndef MINIPROXY_TLS_COMMON_ARENA
#define MINIPROXY_TLS_COMMON_ARENA 8192
#endif

/* Sets of certificates and keys at the same time. Range 1..8. Cost: one common arena each. 2 and more:
 * miniproxy_tls_renew can take new ones while the old ones are in use. */
#ifndef MINIPROXY_TLS_GENERATIONS
#define MINIPROXY_TLS_GENERATIONS 1
#endif

/* 1: memory comes from libc's heap, for an mbedTLS that was built without MBEDTLS_PLATFORM_MEMORY, as Debian's is.
 * MINIPROXY_TLS_SESSIONS still bounds it. */
#ifndef MINIPROXY_TLS_HEAP
#define MINIPROXY_TLS_HEAP 0
#endif

/* Storage class of what tells mbedTLS's callbacks whose call they are in: _Thread_local where instances run in threads.
 */
#ifndef MINIPROXY_TLS_THREAD
#define MINIPROXY_TLS_THREAD
#endif

/* How much of a signature, and of what else mbedTLS can interrupt (as a client of TLS 1.2), is worked out before others
 * have their turn: operations as mbedtls_ecp_set_max_ops counts them, of which P-256 needs some 3,000 a signature. 0: all
 * at once. Works where mbedTLS is built with MBEDTLS_SSL_ASYNC_PRIVATE and MBEDTLS_ECP_RESTARTABLE. */
#ifndef MINIPROXY_TLS_SLICE_OPS
#define MINIPROXY_TLS_SLICE_OPS 500
#endif

#define MINIPROXY_TLS_HANDSHAKE_MS 10000u

/* ---- What the product must have */

/* Fill out[0..len) with octets of a true source of randomness: a hardware generator, a seed kept secret and used once.
 * There is no default: without this function a program does not link. 0: done; anything else: not now, and no
 * connection is made. */
int miniproxy_tls_entropy(void *out, size_t len);

/* ---- Events: what no transaction tells of */

enum miniproxy_tls_what {
    MINIPROXY_TLS_DONE,          /* a handshake has succeeded */
    MINIPROXY_TLS_FULL,          /* all MINIPROXY_TLS_SESSIONS are in use: turned away */
    MINIPROXY_TLS_PLAIN,         /* a client speaks plain HTTP */
    MINIPROXY_TLS_FAILED         /* a handshake failed: `result` and `error` tell why */
};

/* Pointers are valid during the call. */
struct miniproxy_tls_event {
    enum miniproxy_tls_what what;
    const struct miniproxy_addr *peer; /* client, or origin */
    const char *host;                  /* what an origin should prove to be; NULL: a client */
    const char *version, *suite;       /* when DONE, else NULL */
    int result;                        /* enum miniproxy_result */
    int error;                         /* mbedTLS's, negative, or 0 */
    int alert;                         /* that the peer sent (RFC 8446 section 6), or -1 */
    uint16_t conn;                     /* struct miniproxy_conn.id */
};

/* ---- API */

/* A key that client and proxy share (RFC 4279). All are static. */
struct miniproxy_tls_psk {
    const char *identity;
    const uint8_t *key;
    uint8_t key_len;
};

/* Certificates and keys: DER, several certificates one behind the other; or PEM, NUL-terminated with the NUL counted in
 * the length, if mbedTLS has MBEDTLS_PEM_PARSE_C. DER certificates are not copied: they stay where they are. */
struct miniproxy_tls_config {
    const struct miniproxy_port *below;
    void *below_data;
    uint32_t listeners;                 /* bit i: the i-th listener of the port below speaks TLS */
    const uint8_t *cert, *key;          /* of the listeners, its own certificate first; NULL: none */
    size_t cert_len, key_len;
    /* Not NULL: clients must have a certificate that one of these has issued. Its common name can be a user of the policy
     * (struct miniproxy_port.client_name), as the identity of a shared key can. */
    const uint8_t *client_ca;
    size_t client_ca_len;
    const struct miniproxy_tls_psk *psks; /* instead of or beside certificates, TLS 1.2 */
    uint16_t psk_count;
    const uint8_t *ca;                  /* who is trusted on the way out; NULL: nobody, secure says ETLS_CONFIG */
    size_t ca_len;
    uint32_t handshake_ms;              /* 0: MINIPROXY_TLS_HANDSHAKE_MS */
    void (*event)(void *app, const struct miniproxy_tls_event *event); /* may be NULL */
    void *app;
};

struct miniproxy_tls;

/* The table for struct miniproxy_config.port; port_data is the struct miniproxy_tls. */
extern const struct miniproxy_port miniproxy_tls_port;

/* Prepare, after the port below and before miniproxy_init. *tls must be zeroed; it is the caller's (static storage). The
 * configuration is copied, what it points at is not, and must stay. NULL, or what is wrong with it: "certificate",
 * "key", "client_ca", "ca", "random", "memory"; *error, which may be NULL, is mbedTLS's error. */
const char *miniproxy_tls_init(struct miniproxy_tls *tls, const struct miniproxy_tls_config *config, int *error);

/* Take the certificates and keys of another configuration, cert, key, client_ca and ca; all else stays as it was. New
 * connections get these. Open ones are not touched by it, and handshakes that have begun end with what they began with:
 * what the configuration before points at must stay while miniproxy_tls_is_renewing. NULL, or what is wrong, as above;
 * then nothing has changed. "busy": all MINIPROXY_TLS_GENERATIONS are in use, try again later. Takes as long as
 * miniproxy_tls_init. */
const char *miniproxy_tls_renew(struct miniproxy_tls *tls, const struct miniproxy_tls_config *config, int *error);
bool miniproxy_tls_is_renewing(const struct miniproxy_tls *tls);

/* After each miniproxy_poll. Returns after how many milliseconds both must be called again at the latest; sleep no longer
 * than either says. */
uint32_t miniproxy_tls_poll(struct miniproxy_tls *tls, uint32_t now_ms);

/* Octets that were in use at once: of the connection's arena that needed most, and of the common one. */
size_t miniproxy_tls_peak(const struct miniproxy_tls *tls);
size_t miniproxy_tls_common_peak(const struct miniproxy_tls *tls);

/* TLS connections that are open. */
unsigned miniproxy_tls_active(const struct miniproxy_tls *tls);

/* What the program itself asks of mbedTLS, in this thread, takes its memory from here; NULL: not any more. For calls
 * outside of this port, to look at a new certificate for example. Aligned as uint64_t. */
struct miniproxy_tls_region;
void miniproxy_tls_lend(struct miniproxy_tls_region *region, void *memory, size_t size);

/* After miniproxy_stop, and before the port below is ended. */
void miniproxy_tls_end(struct miniproxy_tls *tls);

/* ---- Private ---- */

/* A region of memory with a first-fit allocator of our own. */
struct miniproxy_tls_region {
    unsigned char *memory;
    size_t size, used, peak; /* octets; peak: up to where it was ever used */
    bool exhausted;          /* more was asked for than there is */
};

struct miniproxy_tls_session {
    struct miniproxy_tls *tls;
    struct miniproxy_conn *conn; /* NULL: free */
    mbedtls_ssl_context ssl;
    uint32_t due_ms;             /* end of the handshake */
    uint16_t busy_next, busy_prev; /* session + 1, in the list of those that poll looks at */
    uint16_t retry;              /* octets of the send that has to be repeated */
    uint16_t flags;
    uint8_t state;
    int8_t result;               /* sticky error */
    uint8_t keys;                /* whose configuration `ssl` has */
    uint8_t reads;               /* left of this visit */
    const char *host;
    const struct miniproxy_tls_psk *psk; /* that the client has */
    struct miniproxy_addr peer;
    struct miniproxy_tls_region region;
#if !MINIPROXY_TLS_HEAP
    uint64_t arena[(MINIPROXY_TLS_ARENA + 7) / 8];
#endif
};

/* What all connections have in common, of one generation. */
struct miniproxy_tls_keys {
    mbedtls_ssl_config server, client;
    mbedtls_x509_crt cert, client_ca, ca;
    mbedtls_pk_context key;
#if defined MBEDTLS_SSL_TICKET_C
    mbedtls_ssl_ticket_context tickets;
#endif
    uint16_t sessions; /* that use it */
    struct miniproxy_tls_region region;
#if !MINIPROXY_TLS_HEAP
    uint64_t arena[(MINIPROXY_TLS_COMMON_ARENA + 7) / 8];
#endif
};

/* Every member is private to miniproxy_tls.c. */
struct miniproxy_tls {
    struct miniproxy_tls_config config;
    uint16_t free, used, busy, active; /* session + 1; high-water mark; first of the list; count */
    uint8_t newest; /* of keys */
    size_t peak;
    struct miniproxy_conn *newcomer; /* for whom the core is asked to make room */
    uint16_t session_of[MINIPROXY_CONNS]; /* by connection id: session + 1, 0: plain */
    mbedtls_ctr_drbg_context random;
    struct miniproxy_tls_keys keys[MINIPROXY_TLS_GENERATIONS];
    struct miniproxy_tls_session sessions[MINIPROXY_TLS_SESSIONS];
};

#endif
