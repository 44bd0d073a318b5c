/* SPDX-License-Identifier: MIT
 *
 * `miniproxy cert`: a certificate for --tls-cert that vouches for itself, and its key.
 */
#define _GNU_SOURCE
#include "desktop.h"

#if MINIPROXY_WITH_TLS

#include "port/miniproxy_sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <mbedtls/asn1write.h>
#include <mbedtls/ecp.h>
#include <mbedtls/error.h>
#include <mbedtls/oid.h>

/* DAYS_DEFAULT: Apple's systems take no certificate that is valid for longer. */
enum { NAMES_MAX = 32, DAYS_DEFAULT = 825, DAYS_MAX = 36500, NAME_OCTETS_MAX = 253, COMMON_NAME_MAX = 64 };
enum { DAY_S = 86400, PEM_MAX = 8192, PATH_OCTETS_MAX = 4096 };

struct request {
    const char *names[NAMES_MAX];
    unsigned name_count;
    unsigned days;
    const char *out;
    char host[NAME_OCTETS_MAX + 1];
};

static int random_function(void *context, unsigned char *out, size_t len)
{
    (void)context;
    return random_bytes(out, len) ? 0 : MBEDTLS_ERR_CTR_DRBG_ENTROPY_SOURCE_FAILED;
}

/* ---- The command line */

static bool is_name(const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._*";
    size_t len = strlen(name);
    struct miniproxy_addr a;
    if (miniproxy_addr_parse(&a, name, len)) return true;
    return len > 0 && len <= NAME_OCTETS_MAX && strspn(name, letters) == len;
}

static bool add_name(struct request *r, const char *name)
{
    if (!is_name(name)) {
        say("cert --name %s: expected the name of a host, or an IP address", name);
        return false;
    }
    if (r->name_count == NAMES_MAX) {
        say("cert --name %s: expected fewer names", name);
        return false;
    }
    r->names[r->name_count++] = name;
    return true;
}

static bool set_days(struct request *r, const char *text)
{
    char *end;
    unsigned long days = strtoul(text, &end, 10);
    r->days = (unsigned)days;
    if (*text >= '0' && *text <= '9' && *end == '\0' && days >= 1 && days <= DAYS_MAX) return true;
    say("cert --days %s: expected a number, 1 to 36500", text);
    return false;
}

static void add_default_names(struct request *r)
{
    r->names[r->name_count++] = "localhost";
    r->names[r->name_count++] = "127.0.0.1";
    r->names[r->name_count++] = "::1";
    if (gethostname(r->host, sizeof r->host - 1) == 0 && is_name(r->host) && strcmp(r->host, "localhost") != 0)
        r->names[r->name_count++] = r->host;
}

static bool read_arguments(struct request *r, int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        bool has_value = i + 1 < argc;
        if (strcmp(argv[i], "--name") == 0 && has_value) {
            if (!add_name(r, argv[++i])) return false;
        } else if (strcmp(argv[i], "--days") == 0 && has_value) {
            if (!set_days(r, argv[++i])) return false;
        } else if (strncmp(argv[i], "--", 2) != 0 && r->out == NULL && argv[i][0] != '\0') {
            r->out = argv[i];
        } else {
            r->out = NULL;
            break;
        }
    }
    if (r->out == NULL) {
        say("cert: expected miniproxy cert [--name NAME]... [--days N] OUT");
        return false;
    }
    if (r->name_count == 0) add_default_names(r);
    return true;
}

/* ---- Extensions, in DER, written from the end of a buffer to its start as mbedTLS does */

struct der {
    unsigned char *at, *start;
    unsigned char room[NAMES_MAX * (NAME_OCTETS_MAX + 4) + 16];
};

static int put_name(struct der *d, const char *name)
{
    enum { DNS_NAME = MBEDTLS_ASN1_CONTEXT_SPECIFIC | 2, IP_ADDRESS = MBEDTLS_ASN1_CONTEXT_SPECIFIC | 7 };
    struct miniproxy_addr a;
    bool literal = miniproxy_addr_parse(&a, name, strlen(name));
    const void *octets = literal ? (const void *)a.ip : name;
    size_t len = !literal ? strlen(name) : a.family == 4 ? 4 : 16;
    int error = mbedtls_asn1_write_raw_buffer(&d->at, d->start, octets, len);
    if (error >= 0) error = mbedtls_asn1_write_len(&d->at, d->start, len);
    if (error >= 0) error = mbedtls_asn1_write_tag(&d->at, d->start, literal ? IP_ADDRESS : DNS_NAME);
    return error;
}

/* RFC 5280 section 4.2.1.6; mbedTLS 2.28 has no function for it. */
static int set_names(mbedtls_x509write_cert *cert, const struct request *r)
{
    struct der *d = calloc(1, sizeof *d);
    unsigned char *end;
    int error = d == NULL ? MBEDTLS_ERR_X509_ALLOC_FAILED : 0;
    if (error != 0) return error;
    d->start = d->room;
    d->at = end = d->room + sizeof d->room;
    for (unsigned i = r->name_count; i > 0 && error >= 0; i--) error = put_name(d, r->names[i - 1]);
    if (error >= 0) error = mbedtls_asn1_write_len(&d->at, d->start, (size_t)(end - d->at));
    if (error >= 0)
        error = mbedtls_asn1_write_tag(&d->at, d->start, MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE);
    if (error >= 0)
        error = mbedtls_x509write_crt_set_extension(cert, MBEDTLS_OID_SUBJECT_ALT_NAME,
                                                    MBEDTLS_OID_SIZE(MBEDTLS_OID_SUBJECT_ALT_NAME), 0, d->at,
                                                    (size_t)(end - d->at));
    free(d);
    return error;
}

/* A SEQUENCE of one object identifier: id-kp-serverAuth (RFC 5280 section 4.2.1.12). */
static int set_purpose(mbedtls_x509write_cert *cert)
{
    static const unsigned char servers[] = {0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1};
    return mbedtls_x509write_crt_set_extension(cert, MBEDTLS_OID_EXTENDED_KEY_USAGE,
                                               MBEDTLS_OID_SIZE(MBEDTLS_OID_EXTENDED_KEY_USAGE), 0, servers,
                                               sizeof servers);
}

/* 20 octets of a digest of the key: RFC 7093 section 2. */
static int set_key_identifier(mbedtls_x509write_cert *cert, mbedtls_pk_context *key)
{
    unsigned char room[256], *at = room + sizeof room, extension[22] = {MBEDTLS_ASN1_OCTET_STRING, 20};
    uint8_t digest[MINIPROXY_DIGEST_LEN];
    int len = mbedtls_pk_write_pubkey(&at, room, key);
    if (len < 0) return len;
    miniproxy_sha256(digest, at, (size_t)len);
    memcpy(extension + 2, digest, 20);
    return mbedtls_x509write_crt_set_extension(cert, MBEDTLS_OID_SUBJECT_KEY_IDENTIFIER,
                                               MBEDTLS_OID_SIZE(MBEDTLS_OID_SUBJECT_KEY_IDENTIFIER), 0, extension,
                                               sizeof extension);
}

/* ---- The certificate */

static int make_key(mbedtls_pk_context *key)
{
    int error = mbedtls_pk_setup(key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY));
    if (error != 0) return error;
    return mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(*key), random_function, NULL);
}

static int set_serial(mbedtls_x509write_cert *cert)
{
    unsigned char serial[16];
    int error = random_function(NULL, serial, sizeof serial);
    serial[0] = (serial[0] & 0x3f) | 0x40; /* positive, and of this length */
    if (error != 0) return error;
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    return mbedtls_x509write_crt_set_serial_raw(cert, serial, sizeof serial);
#else
    mbedtls_mpi number;
    mbedtls_mpi_init(&number);
    error = mbedtls_mpi_read_binary(&number, serial, sizeof serial);
    if (error == 0) error = mbedtls_x509write_crt_set_serial(cert, &number);
    mbedtls_mpi_free(&number);
    return error;
#endif
}

/* From a day ago, for clocks that are slow. */
static int set_dates(mbedtls_x509write_cert *cert, unsigned days)
{
    char from[16] = "", to[16] = "";
    time_t begin = time(NULL) - DAY_S, end = begin + (time_t)days * DAY_S;
    struct tm tm;
    if (gmtime_r(&begin, &tm) != NULL) strftime(from, sizeof from, "%Y%m%d%H%M%S", &tm);
    if (gmtime_r(&end, &tm) != NULL) strftime(to, sizeof to, "%Y%m%d%H%M%S", &tm);
    return mbedtls_x509write_crt_set_validity(cert, from, to);
}

static int set_subject(mbedtls_x509write_cert *cert, const char *name)
{
    char subject[COMMON_NAME_MAX + 8];
    int error;
    snprintf(subject, sizeof subject, "CN=%.*s", COMMON_NAME_MAX, name);
    error = mbedtls_x509write_crt_set_subject_name(cert, subject);
    return error != 0 ? error : mbedtls_x509write_crt_set_issuer_name(cert, subject);
}

static int fill_in(mbedtls_x509write_cert *cert, mbedtls_pk_context *key, const struct request *r)
{
    int error;
    mbedtls_x509write_crt_set_version(cert, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_md_alg(cert, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(cert, key);
    mbedtls_x509write_crt_set_issuer_key(cert, key);
    if ((error = set_serial(cert)) != 0) return error;
    if ((error = set_subject(cert, r->names[0])) != 0) return error;
    if ((error = set_dates(cert, r->days)) != 0) return error;
    if ((error = mbedtls_x509write_crt_set_basic_constraints(cert, 0, -1)) != 0) return error;
    if ((error = mbedtls_x509write_crt_set_key_usage(cert, MBEDTLS_X509_KU_DIGITAL_SIGNATURE)) != 0) return error;
    if ((error = set_key_identifier(cert, key)) != 0) return error;
    if ((error = set_purpose(cert)) != 0) return error;
    return set_names(cert, r);
}

static int make_pem(const struct request *r, char key_pem[PEM_MAX], char *cert_pem, size_t cert_max)
{
    mbedtls_pk_context key;
    mbedtls_x509write_cert cert;
    int error;
    mbedtls_pk_init(&key);
    mbedtls_x509write_crt_init(&cert);
    error = make_key(&key);
    if (error == 0) error = fill_in(&cert, &key, r);
    if (error == 0) error = mbedtls_pk_write_key_pem(&key, (unsigned char *)key_pem, PEM_MAX);
    if (error == 0)
        error = mbedtls_x509write_crt_pem(&cert, (unsigned char *)cert_pem, cert_max, random_function, NULL);
    mbedtls_x509write_crt_free(&cert);
    mbedtls_pk_free(&key);
    return error;
}

/* ---- Files */

/* Never over what is there: it may be the key of a certificate in use. */
static bool write_new(const char *out, const char *suffix, mode_t mode, const char *text)
{
    char path[PATH_OCTETS_MAX];
    size_t len = strlen(text);
    int fd;
    bool ok;
    snprintf(path, sizeof path, "%s%s", out, suffix);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    ok = fd >= 0 && write(fd, text, len) == (ssize_t)len;
    if (fd >= 0 && close(fd) != 0) ok = false;
    if (!ok) say("cert: cannot write %s: %s", path, strerror(errno));
    return ok;
}

static void tell_use(const struct request *r)
{
    const char *name = r->names[0];
    printf("%s.pem is valid for %u days, for", r->out, r->days);
    for (unsigned i = 0; i < r->name_count; i++) printf("%s %s", i == 0 ? "" : ",", r->names[i]);
    printf("\n  miniproxy --tls-listen ADDR:3129 --tls-cert %s.pem --tls-key %s.key ...\n", r->out, r->out);
    printf("  curl -x https://%s%s%s:3129 --proxy-cacert %s.pem http://example.com/\n",
           strchr(name, ':') != NULL ? "[" : "", name, strchr(name, ':') != NULL ? "]" : "", r->out);
}

int tls_cert_command(int argc, char **argv)
{
    enum { CERT_PEM_MAX = NAMES_MAX * NAME_OCTETS_MAX * 2 + PEM_MAX };
    static char key_pem[PEM_MAX], cert_pem[CERT_PEM_MAX];
    struct request r = {.days = DAYS_DEFAULT};
    char text[128];
    int error;
    bool ok;
    if (!read_arguments(&r, argc, argv)) return EXIT_USAGE;
    error = make_pem(&r, key_pem, cert_pem, sizeof cert_pem);
    if (error != 0) {
        mbedtls_strerror(error, text, sizeof text);
        say("cert: cannot make it (mbedTLS -0x%04x: %s)", (unsigned)-error, text);
        return EXIT_FAILED;
    }
    ok = write_new(r.out, ".key", 0600, key_pem) && write_new(r.out, ".pem", 0644, cert_pem);
    memset(key_pem, 0, sizeof key_pem);
    if (!ok) return EXIT_FAILED;
    tell_use(&r);
    return EXIT_DRAINED;
}

#else

int tls_cert_command(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    say("cert: " TLS_MISSING);
    return EXIT_USAGE;
}

#endif
