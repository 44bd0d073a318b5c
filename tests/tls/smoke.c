/* SPDX-License-Identifier: MIT
 *
 * Does mbedTLS, as it is built here, do what the port expects of it? A server and a client in memory, with certificates
 * made on the spot: every kind of handshake, whether a session leaves anything behind, and how many octets it takes at
 * most. Arguments: the name of the suite, the results file.
 */
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/ecp.h>
#include <mbedtls/error.h>
#include <mbedtls/pk.h>
#include <mbedtls/platform.h>
#include <mbedtls/rsa.h>
#include <mbedtls/ssl.h>
#include <mbedtls/ssl_ticket.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>
#if defined MBEDTLS_PSA_CRYPTO_C
#include <psa/crypto.h>
#endif

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

static FILE *results;
static const char *suite;
static int failed;

static void expect(bool ok, const char *name, const char *what)
{
    failed += !ok;
    fprintf(results, "%s\t%s\t%s: %s\t-\n", ok ? "pass" : "fail", suite, name, what);
    printf("%s %s: %s\n", ok ? "pass" : "FAIL", name, what);
}

static void must(int error, const char *what)
{
    char text[128];

    if (error == 0) return;
    mbedtls_strerror(error, text, sizeof text);
    printf("%s: -0x%04x %s\n", what, (unsigned)-error, text);
    expect(false, what, text);
    exit(1);
}

/* ---- Memory, by whose call is running */

enum side { SERVER, CLIENT, COMMON, SIDES };

static enum side running = COMMON;
static struct account {
    size_t used, peak;
    unsigned blocks, peak_blocks;
} accounts[SIDES];
static unsigned foreign; /* frees, in the name of one, of what another one took */

struct block {
    size_t size;
    enum side side;
    max_align_t data[];
};

static void *counting_calloc(size_t count, size_t size)
{
    struct account *account = &accounts[running];
    struct block *block = calloc(1, sizeof *block + count * size);

    if (!block) return NULL;
    block->size = count * size;
    block->side = running;
    account->used += block->size;
    account->blocks++;
    if (account->used > account->peak) {
        account->peak = account->used;
        account->peak_blocks = account->blocks;
    }
    return block->data;
}

static void counting_free(void *data)
{
    struct block *block;

    if (!data) return;
    block = (struct block *)((char *)data - offsetof(struct block, data));
    foreign += block->side != running;
    accounts[block->side].used -= block->size;
    accounts[block->side].blocks--;
    free(block);
}

/* ---- Random numbers, as the port brings them */

static mbedtls_ctr_drbg_context drbg;

static int entropy(void *unused, unsigned char *out, size_t len)
{
    (void)unused;
    return getrandom(out, len, 0) == (ssize_t)len ? 0 : -1;
}

#if defined MBEDTLS_PSA_CRYPTO_EXTERNAL_RNG
psa_status_t mbedtls_psa_external_get_random(mbedtls_psa_external_random_context_t *context, uint8_t *out, size_t size,
                                             size_t *len)
{
    (void)context;
    *len = size;
    return entropy(NULL, out, size) == 0 ? PSA_SUCCESS : PSA_ERROR_INSUFFICIENT_ENTROPY;
}
#endif

/* ---- Certificates: an authority's and one that it signed, of either kind */

struct identity {
    mbedtls_pk_context key;
    mbedtls_x509_crt cert;
    struct identity *issuer;
    const char *name;
};

static struct identity ecdsa_root = {.issuer = &ecdsa_root, .name = "CN=root of ECDSA"};
static struct identity rsa_root = {.issuer = &rsa_root, .name = "CN=root of RSA"};
static struct identity ecdsa = {.issuer = &ecdsa_root, .name = "CN=proxy.test"};
static struct identity rsa = {.issuer = &rsa_root, .name = "CN=proxy.test"};
static struct identity *const identities[] = {&ecdsa_root, &rsa_root, &ecdsa, &rsa};
enum { IDENTITIES = sizeof identities / sizeof identities[0] };

static unsigned char der[4096];

static void certify(struct identity *identity)
{
    mbedtls_x509write_cert request;
    mbedtls_mpi serial;
    int len;

    mbedtls_mpi_init(&serial);
    must(mbedtls_mpi_lset(&serial, 7), "serial");
    mbedtls_x509write_crt_init(&request);
    mbedtls_x509write_crt_set_md_alg(&request, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(&request, &identity->key);
    mbedtls_x509write_crt_set_issuer_key(&request, &identity->issuer->key);
    must(mbedtls_x509write_crt_set_subject_name(&request, identity->name), "subject");
    must(mbedtls_x509write_crt_set_issuer_name(&request, identity->issuer->name), "issuer");
    must(mbedtls_x509write_crt_set_serial(&request, &serial), "serial");
    must(mbedtls_x509write_crt_set_validity(&request, "20200101000000", "20991231235959"), "validity");
    must(mbedtls_x509write_crt_set_basic_constraints(&request, identity->issuer == identity, -1), "constraints");
    len = mbedtls_x509write_crt_der(&request, der, sizeof der, mbedtls_ctr_drbg_random, &drbg);
    must(len < 0 ? len : 0, "certificate");
    must(mbedtls_x509_crt_parse_der(&identity->cert, der + sizeof der - len, (size_t)len), "parse");
    mbedtls_x509write_crt_free(&request);
    mbedtls_mpi_free(&serial);
}

/* As a program finds it: read, not just made. */
static void reread_key(mbedtls_pk_context *key)
{
    int len = mbedtls_pk_write_key_der(key, der, sizeof der);
    const unsigned char *begin = der + sizeof der - len;

    must(len < 0 ? len : 0, "write key");
    mbedtls_pk_free(key);
    mbedtls_pk_init(key);
#if MBEDTLS_VERSION_MAJOR >= 3
    must(mbedtls_pk_parse_key(key, begin, (size_t)len, NULL, 0, mbedtls_ctr_drbg_random, &drbg), "parse key");
#else
    must(mbedtls_pk_parse_key(key, begin, (size_t)len, NULL, 0), "parse key");
#endif
}

static void make_key(struct identity *identity)
{
    bool elliptic = identity == &ecdsa || identity == &ecdsa_root;
    mbedtls_pk_context *key = &identity->key;
    int error;

    mbedtls_pk_init(key);
    must(mbedtls_pk_setup(key, mbedtls_pk_info_from_type(elliptic ? MBEDTLS_PK_ECKEY : MBEDTLS_PK_RSA)), "pk");
    error = elliptic
        ? mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(*key), mbedtls_ctr_drbg_random, &drbg)
        : mbedtls_rsa_gen_key(mbedtls_pk_rsa(*key), mbedtls_ctr_drbg_random, &drbg, 2048, 65537);
    must(error, "key");
    reread_key(key);
}

/* A key of RSA keeps what it has worked out in its first operations for the next: the constant of its modulus, also in
 * the certificate of an authority, and its blinding, which grows once more the second time. Sessions share keys; so this
 * memory must have been taken before there are any, or the session that came first would take it, and free it from under
 * the others. */
enum { WARM = 2 };

static void warm_up(mbedtls_pk_context *private_key, mbedtls_pk_context *public_key)
{
    static const unsigned char hash[32] = "any";
    size_t len;

    for (int i = 0; i < WARM; i++) {
#if MBEDTLS_VERSION_MAJOR >= 3
        must(mbedtls_pk_sign(private_key, MBEDTLS_MD_SHA256, hash, sizeof hash, der, sizeof der, &len,
                             mbedtls_ctr_drbg_random, &drbg), "sign");
#else
        must(mbedtls_pk_sign(private_key, MBEDTLS_MD_SHA256, hash, sizeof hash, der, &len, mbedtls_ctr_drbg_random,
                             &drbg), "sign");
#endif
        must(mbedtls_pk_verify(public_key, MBEDTLS_MD_SHA256, hash, sizeof hash, der, len), "verify");
    }
}

static void make_identities(void)
{
    for (size_t i = 0; i < IDENTITIES; i++) {
        mbedtls_x509_crt_init(&identities[i]->cert);
        make_key(identities[i]);
    }
    for (size_t i = 0; i < IDENTITIES; i++) certify(identities[i]);
    for (size_t i = 0; i < IDENTITIES; i++) reread_key(&identities[i]->key);
    for (size_t i = 0; i < IDENTITIES; i++) warm_up(&identities[i]->key, &identities[i]->cert.pk);
}

static void free_identities(void)
{
    for (size_t i = 0; i < IDENTITIES; i++) {
        mbedtls_pk_free(&identities[i]->key);
        mbedtls_x509_crt_free(&identities[i]->cert);
    }
}

/* ---- The wire: two pipes */

static struct pipe {
    unsigned char data[8192];
    size_t len;
} pipes[2]; /* to the server, to the client */

static int pipe_send(void *to, const unsigned char *data, size_t len)
{
    struct pipe *pipe = to;
    size_t room = sizeof pipe->data - pipe->len;

    if (room == 0) return MBEDTLS_ERR_SSL_WANT_WRITE;
    if (len > room) len = room;
    memcpy(pipe->data + pipe->len, data, len);
    pipe->len += len;
    return (int)len;
}

/* no more than 1000 octets at once, so that records arrive in pieces */
static int pipe_recv(void *from, unsigned char *data, size_t len)
{
    struct pipe *pipe = from;

    if (pipe->len == 0) return MBEDTLS_ERR_SSL_WANT_READ;
    if (len > pipe->len) len = pipe->len;
    if (len > 1000) len = 1000;
    memcpy(data, pipe->data, len);
    pipe->len -= len;
    memmove(pipe->data, pipe->data + len, pipe->len);
    return (int)len;
}

struct wire {
    struct pipe *in, *out;
};

static const struct wire wires[2] = {{&pipes[0], &pipes[1]}, {&pipes[1], &pipes[0]}};

static int wire_send(void *wire, const unsigned char *data, size_t len)
{
    return pipe_send(((const struct wire *)wire)->out, data, len);
}

static int wire_recv(void *wire, unsigned char *data, size_t len)
{
    return pipe_recv(((const struct wire *)wire)->in, data, len);
}

/* ---- One session of each side */

enum { MUTUAL = 1, RESUMED = 2, STRANGER = 4, STALE = 8 };

struct kind {
    const char *name;
    int minor;                 /* of the protocol: 3 is TLS 1.2 */
    int suites[2];             /* {0}: any, the library's choice */
    struct identity *identity; /* NULL: a secret that both have */
    int flags;
};

static mbedtls_ssl_config configs[2];
static mbedtls_ssl_context ssl[2];
static mbedtls_ssl_ticket_context tickets;
static mbedtls_ssl_session session; /* what the client keeps to resume */
static unsigned resumed;

/* A ticket's key is replaced in the first call after its time, with memory that outlives the session. Writing leaves
 * nothing else behind, so it can always be done in the name of all. Reading does, in the session; a ticket that is none
 * comes first: it replaces the key, and no more. */
static int write_ticket(void *context, const mbedtls_ssl_session *from, unsigned char *begin, const unsigned char *end,
                        size_t *len, uint32_t *lifetime)
{
    enum side side = running;
    int error;

    running = COMMON;
    error = mbedtls_ssl_ticket_write(context, from, begin, end, len, lifetime);
    running = side;
    return error;
}

static int parse_ticket(void *context, mbedtls_ssl_session *to, unsigned char *data, size_t len)
{
    unsigned char none[64] = {0};
    enum side side = running;
    int error;

    running = COMMON;
    mbedtls_ssl_ticket_parse(context, to, none, sizeof none);
    running = side;
    error = mbedtls_ssl_ticket_parse(context, to, data, len);
    resumed += error == 0;
    return error;
}

static void configure_version(mbedtls_ssl_config *config, int minor)
{
    mbedtls_ssl_conf_min_version(config, 3, minor);
    mbedtls_ssl_conf_max_version(config, 3, minor);
#if defined MBEDTLS_SSL_PROTO_TLS1_3
    mbedtls_ssl_conf_tls13_enable_signal_new_session_tickets(config,
                                                             MBEDTLS_SSL_TLS1_3_SIGNAL_NEW_SESSION_TICKETS_ENABLED);
#endif
}

static void configure(enum side side, const struct kind *kind)
{
    static const unsigned char secret[] = "sixteen octets..";
    mbedtls_ssl_config *config = &configs[side];
    bool proves = kind->identity && (side == SERVER || (kind->flags & MUTUAL));
    bool asks = kind->identity && (side == CLIENT || (kind->flags & MUTUAL));

    mbedtls_ssl_config_init(config);
    must(mbedtls_ssl_config_defaults(config, side == SERVER ? MBEDTLS_SSL_IS_SERVER : MBEDTLS_SSL_IS_CLIENT,
                                     MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT), "config");
    mbedtls_ssl_conf_rng(config, mbedtls_ctr_drbg_random, &drbg);
    configure_version(config, kind->minor);
    if (kind->suites[0]) mbedtls_ssl_conf_ciphersuites(config, kind->suites);
    if (proves) must(mbedtls_ssl_conf_own_cert(config, &kind->identity->cert, &kind->identity->key), "own");
    mbedtls_ssl_conf_authmode(config, asks ? MBEDTLS_SSL_VERIFY_REQUIRED : MBEDTLS_SSL_VERIFY_NONE);
    if (asks) {
        struct identity *trusted = (kind->flags & STRANGER) ? &rsa_root : kind->identity->issuer;

        mbedtls_ssl_conf_ca_chain(config, &trusted->cert, NULL);
    }
    if (!kind->identity) must(mbedtls_ssl_conf_psk(config, secret, 16, (const unsigned char *)"me", 2), "psk");
    if (side == SERVER) mbedtls_ssl_conf_session_tickets_cb(config, write_ticket, parse_ticket, &tickets);
}

static bool waits(int error)
{
    return error == MBEDTLS_ERR_SSL_WANT_READ || error == MBEDTLS_ERR_SSL_WANT_WRITE;
}

/* Both sides in turn until both say 0, one fails, or they have been waiting for too long. */
static int alternate(int (*step)(enum side))
{
    int said[2] = {MBEDTLS_ERR_SSL_WANT_READ, MBEDTLS_ERR_SSL_WANT_READ};

    for (int turn = 0; turn < 5000 && (waits(said[SERVER]) || waits(said[CLIENT])); turn++) {
        running = (enum side)(turn & 1);
        if (waits(said[running])) said[running] = step(running);
        if (said[running] && !waits(said[running])) break;
    }
    running = COMMON;
    return waits(said[SERVER]) || said[SERVER] == 0 ? said[CLIENT] : said[SERVER];
}

static int shake(enum side side)
{
    int error;
    do error = mbedtls_ssl_handshake(&ssl[side]);
    while (error == MBEDTLS_ERR_SSL_CRYPTO_IN_PROGRESS);
    return error;
}

static unsigned char payload[40000], arrived[sizeof payload];
static size_t sent, received;

/* the client sends, the server receives; then the other way round */
static enum side sender;

static int pass(enum side side)
{
    size_t *done = side == sender ? &sent : &received;
    int n;

    if (side == sender) n = mbedtls_ssl_write(&ssl[side], payload + sent, sizeof payload - sent);
    else n = mbedtls_ssl_read(&ssl[side], arrived + received, sizeof arrived - received);
#if defined MBEDTLS_SSL_PROTO_TLS1_3
    if (n == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET) return MBEDTLS_ERR_SSL_WANT_READ;
#endif
    if (n <= 0) return n == 0 ? -1 : n;
    *done += (size_t)n;
    return *done < sizeof payload ? MBEDTLS_ERR_SSL_WANT_READ : 0;
}

static int pass_all(enum side from)
{
    int error;

    sender = from;
    sent = received = 0;
    memset(arrived, 0, sizeof arrived);
    error = alternate(pass);
    return error ? error : memcmp(payload, arrived, sizeof payload);
}

/* Names the largest use of memory so far, and begins anew. */
static void report_memory(const struct kind *kind, const char *when)
{
    for (int side = SERVER; side <= CLIENT; side++) {
        struct account *account = &accounts[side];

        printf("memory: %s, %s: %s: peak %lu octets in %u blocks, %lu afterwards\n", kind->name, when,
               side == SERVER ? "server" : "client", (unsigned long)account->peak, account->peak_blocks,
               (unsigned long)account->used);
        account->peak = account->used;
    }
}

static void talk(const struct kind *kind)
{
    const char *version = mbedtls_ssl_get_version(&ssl[SERVER]), *name = mbedtls_ssl_get_ciphersuite(&ssl[CLIENT]);
    bool right = strcmp(version, kind->minor == 3 ? "TLSv1.2" : "TLSv1.3") == 0;

    printf("%s: %s %s\n", kind->name, version, name);
    if (kind->suites[0]) right = right && strcmp(name, mbedtls_ssl_get_ciphersuite_name(kind->suites[0])) == 0;
    expect(right, kind->name, "the version and the ciphers that were asked for");
    report_memory(kind, "handshake");
    expect(pass_all(CLIENT) == 0, kind->name, "from the client to the server");
    expect(pass_all(SERVER) == 0, kind->name, "from the server to the client");
    report_memory(kind, "data");
}

static void open_side(enum side side, bool resuming)
{
    running = side;
    mbedtls_ssl_init(&ssl[side]);
    must(mbedtls_ssl_setup(&ssl[side], &configs[side]), "setup");
    mbedtls_ssl_set_bio(&ssl[side], (void *)(uintptr_t)&wires[side], wire_send, wire_recv, NULL);
    if (side == CLIENT) must(mbedtls_ssl_set_hostname(&ssl[side], "proxy.test"), "name");
    if (resuming) must(mbedtls_ssl_set_session(&ssl[side], &session), "session");
    running = COMMON;
}

static void close_side(enum side side)
{
    running = side;
    mbedtls_ssl_free(&ssl[side]);
    running = COMMON;
}

static void meet(const struct kind *kind, bool resuming)
{
    size_t common = accounts[COMMON].used;
    unsigned resumed_before = resumed;
    int error;

    pipes[0].len = pipes[1].len = 0;
    accounts[SERVER].peak = accounts[CLIENT].peak = 0;
    foreign = 0;
    open_side(SERVER, false);
    open_side(CLIENT, resuming);
    error = alternate(shake);
    if (kind->flags & STRANGER) {
        expect(error == MBEDTLS_ERR_X509_CERT_VERIFY_FAILED, kind->name, "is refused");
    } else {
        expect(error == 0, kind->name, "a handshake");
        if (error) printf("%s: -0x%04x\n", kind->name, (unsigned)-error);
        else talk(kind);
    }
    expect(accounts[COMMON].used == common, kind->name, "a session takes nothing that is everybody's");
    if (!resuming && (kind->flags & RESUMED)) must(mbedtls_ssl_get_session(&ssl[CLIENT], &session), "session");
    if (resuming) {
        bool stale = kind->flags & STALE;

        expect(resumed == resumed_before + !stale, kind->name, stale ? "a ticket is too old" : "resumed by a ticket");
    }
    close_side(SERVER);
    close_side(CLIENT);
    expect(accounts[SERVER].used == 0 && accounts[CLIENT].used == 0, kind->name, "a session leaves nothing behind");
    expect(foreign == 0, kind->name, "each frees what it took itself");
}

static void run(const struct kind *kind)
{
    size_t before = accounts[COMMON].used;

    configure(SERVER, kind);
    configure(CLIENT, kind);
    mbedtls_ssl_session_init(&session);
    must(mbedtls_ssl_ticket_setup(&tickets, mbedtls_ctr_drbg_random, &drbg, MBEDTLS_CIPHER_AES_256_GCM,
                                  (kind->flags & STALE) ? 1 : 3600), "tickets");
    if (kind->flags & STALE) sleep(2);
    meet(kind, false);
    if (kind->flags & STALE) sleep(2);
    if (kind->flags & RESUMED) meet(kind, true);
    mbedtls_ssl_ticket_free(&tickets);
    mbedtls_ssl_ticket_init(&tickets);
    mbedtls_ssl_session_free(&session);
    mbedtls_ssl_config_free(&configs[SERVER]);
    mbedtls_ssl_config_free(&configs[CLIENT]);
    expect(accounts[COMMON].used == before, kind->name, "a configuration leaves nothing behind");
}

static const struct kind kinds[] = {
    {"TLS 1.2, ECDSA, GCM", 3, {MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}, &ecdsa, 0},
    {"TLS 1.2, ECDSA, CCM", 3, {MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_CCM}, &ecdsa, 0},
    {"TLS 1.2, ECDSA, both prove themselves", 3, {0}, &ecdsa, MUTUAL},
    {"TLS 1.2, ECDSA, resumed", 3, {0}, &ecdsa, RESUMED},
    {"TLS 1.2, ECDSA, when keys of tickets are replaced", 3, {0}, &ecdsa, RESUMED | STALE},
    {"TLS 1.2, a stranger", 3, {0}, &ecdsa, STRANGER},
    {"TLS 1.2, RSA, ChaCha20", 3, {MBEDTLS_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256}, &rsa, 0},
    {"TLS 1.2, RSA, AES-256", 3, {MBEDTLS_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384}, &rsa, 0},
    {"TLS 1.2, secret, CCM", 3, {MBEDTLS_TLS_PSK_WITH_AES_128_CCM}, NULL, 0},
    {"TLS 1.2, secret, GCM", 3, {MBEDTLS_TLS_PSK_WITH_AES_128_GCM_SHA256}, NULL, 0},
    {"TLS 1.2, secret, ECDHE", 3, {MBEDTLS_TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256}, NULL, 0},
#if defined MBEDTLS_SSL_PROTO_TLS1_3
    {"TLS 1.3, ECDSA, GCM", 4, {MBEDTLS_TLS1_3_AES_128_GCM_SHA256}, &ecdsa, 0},
    {"TLS 1.3, ECDSA, ChaCha20", 4, {MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256}, &ecdsa, 0},
    {"TLS 1.3, ECDSA, both prove themselves", 4, {0}, &ecdsa, MUTUAL},
    {"TLS 1.3, ECDSA, resumed", 4, {0}, &ecdsa, RESUMED},
    {"TLS 1.3, ECDSA, when keys of tickets are replaced", 4, {0}, &ecdsa, RESUMED | STALE},
    {"TLS 1.3, a stranger", 4, {0}, &ecdsa, STRANGER},
    {"TLS 1.3, RSA, AES-256", 4, {MBEDTLS_TLS1_3_AES_256_GCM_SHA384}, &rsa, 0},
#endif
};

int main(int argc, char **argv)
{
    if (argc != 3 || !(results = fopen(argv[2], "w"))) return 2;
    suite = argv[1];
    printf("%s, a context of %lu octets\n", MBEDTLS_VERSION_STRING_FULL, (unsigned long)sizeof ssl[0]);
    mbedtls_platform_set_calloc_free(counting_calloc, counting_free);
    mbedtls_ctr_drbg_init(&drbg);
    must(mbedtls_ctr_drbg_seed(&drbg, entropy, NULL, NULL, 0), "seed");
#if defined MBEDTLS_PSA_CRYPTO_C
    must(psa_crypto_init(), "PSA");
#endif
    for (size_t i = 0; i < sizeof payload; i++) payload[i] = (unsigned char)(i * 31 >> 3);
    mbedtls_ssl_ticket_init(&tickets);
    make_identities();
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) run(&kinds[i]);
    free_identities();
    mbedtls_ctr_drbg_free(&drbg);
    expect(accounts[COMMON].used == 0, "in the end", "nothing is left");
    return fclose(results) == 0 && !failed ? 0 : 1;
}
