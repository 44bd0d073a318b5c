/* SPDX-License-Identifier: MIT
 *
 * TLS for the command: files of certificates and keys, what is told of handshakes, and miniproxy_tls between a worker's
 * core and its port.
 */
#define _GNU_SOURCE
#include "desktop.h"

#if MINIPROXY_WITH_TLS

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <mbedtls/error.h>

#define SYSTEM_CA "/etc/ssl/certs/ca-certificates.crt"

enum { FILE_OCTETS_MAX = 16 * 1024 * 1024, PIPE_OCTETS_MAX = 1024 * 1024, ERROR_TEXT_MAX = 160 };

int miniproxy_tls_entropy(void *out, size_t len)
{
    return random_bytes(out, len) ? 0 : -1;
}

static void error_text(int error, char text[ERROR_TEXT_MAX])
{
    int len = snprintf(text, ERROR_TEXT_MAX, "mbedTLS -0x%04x: ", (unsigned)-error);
    mbedtls_strerror(error, text + len, (size_t)(ERROR_TEXT_MAX - len));
}

/* ---- Files */

static bool complain(const char *option, const char *file, const char *what, int error)
{
    char text[ERROR_TEXT_MAX];
    error_text(error, text);
    say("%s %s: %s (%s)", option, file, what, text);
    return false;
}

/* A NUL stands behind the octets, and is counted if they are PEM: that is how mbedTLS wants it. A pipe does not say how
 * much is in it. */
static bool read_octets(FILE *f, struct tls_file *into)
{
    struct stat st;
    size_t size;
    if (fstat(fileno(f), &st) != 0) return false;
    if (st.st_size > FILE_OCTETS_MAX) {
        errno = EFBIG;
        return false;
    }
    size = S_ISREG(st.st_mode) ? (size_t)st.st_size : PIPE_OCTETS_MAX;
    into->data = calloc(1, size + 1);
    if (into->data == NULL) return false;
    into->len = fread(into->data, 1, size, f);
    if (!S_ISREG(st.st_mode) && into->len == size && getc(f) != EOF) {
        errno = EFBIG;
        return false;
    }
    if (strstr((const char *)into->data, "-----BEGIN ") != NULL) into->len++;
    return !ferror(f);
}

static bool read_file(struct tls_file *into, const char *option, const char *file)
{
    FILE *f = fopen(file, "rb");
    bool ok = f != NULL && read_octets(f, into);
    if (!ok) say("%s %s: cannot be read: %s", option, file, strerror(errno));
    if (f != NULL) fclose(f);
    return ok;
}

static void free_file(struct tls_file *file)
{
    volatile uint8_t *p = file->data; /* it may be a key */
    if (p == NULL) return;
    while (file->len > 0) p[--file->len] = 0;
    free(file->data);
    file->data = NULL;
}

static bool same_file(const struct tls_file *a, const struct tls_file *b)
{
    return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

static bool parse_certificates(mbedtls_x509_crt *list, const struct tls_file *data, const char *option, const char *file)
{
    int error = mbedtls_x509_crt_parse(list, data->data, data->len);
    /* above 0: so many could not be read, as some always are of the system's */
    if (error > 0 && list->version != 0 && strcmp(file, SYSTEM_CA) != 0)
        say("warning: %s %s: certificates in it that cannot be read, and are left out: %d", option, file, error);
    if (error >= 0 && list->version != 0) return true;
    return complain(option, file, "no certificate in it", error < 0 ? error : MBEDTLS_ERR_X509_INVALID_FORMAT);
}

static void warn_of_dates(const mbedtls_x509_crt *cert, const char *file)
{
    if (mbedtls_x509_time_is_past(&cert->valid_to))
        say("warning: --tls-cert %s: it has expired, and clients will not accept it", file);
    if (mbedtls_x509_time_is_future(&cert->valid_from))
        say("warning: --tls-cert %s: it is not valid yet, and clients will not accept it", file);
}

static void warn_of_readers(const char *file)
{
    struct stat st;
    if (stat(file, &st) == 0 && (st.st_mode & S_IROTH) != 0)
        say("warning: --tls-key %s: everybody on this machine can read it (chmod 600)", file);
}

#if MBEDTLS_VERSION_NUMBER >= 0x03000000
static int random_function(void *context, unsigned char *out, size_t len)
{
    (void)context;
    return random_bytes(out, len) ? 0 : MBEDTLS_ERR_CTR_DRBG_ENTROPY_SOURCE_FAILED;
}

static int parse_key(mbedtls_pk_context *key, const struct tls_file *data)
{
    return mbedtls_pk_parse_key(key, data->data, data->len, NULL, 0, random_function, NULL);
}

static int check_pair(const mbedtls_x509_crt *cert, const mbedtls_pk_context *key)
{
    return mbedtls_pk_check_pair(&cert->pk, key, random_function, NULL);
}
#else
static int parse_key(mbedtls_pk_context *key, const struct tls_file *data)
{
    return mbedtls_pk_parse_key(key, data->data, data->len, NULL, 0);
}

static int check_pair(const mbedtls_x509_crt *cert, const mbedtls_pk_context *key)
{
    return mbedtls_pk_check_pair(&cert->pk, key);
}
#endif

/* What miniproxy_tls_init would find wrong, and what it would not. */
static bool look_at_pair(struct tls_files *files, const char *cert_file, const char *key_file)
{
    mbedtls_x509_crt cert;
    mbedtls_pk_context key;
    int error;
    bool ok;
    mbedtls_x509_crt_init(&cert);
    mbedtls_pk_init(&key);
    ok = parse_certificates(&cert, &files->cert, "--tls-cert", cert_file);
    if (ok) warn_of_dates(&cert, cert_file);
    if (ok && (error = parse_key(&key, &files->key)) != 0)
        ok = complain("--tls-key", key_file, "no key in it that can be used", error);
    if (ok && (error = check_pair(&cert, &key)) != 0)
        ok = complain("--tls-key", key_file, "it is not the key of the certificate", error);
    if (ok) warn_of_readers(key_file);
    if (ok)
        snprintf(files->until, sizeof files->until, "%04u-%02u-%02u", (unsigned)cert.valid_to.year % 10000,
                 (unsigned)cert.valid_to.mon % 100, (unsigned)cert.valid_to.day % 100);
    mbedtls_pk_free(&key);
    mbedtls_x509_crt_free(&cert);
    return ok;
}

static bool load_trusted(struct tls_file *into, const char *option, const char *file)
{
    mbedtls_x509_crt list;
    bool ok;
    if (file == NULL) return true;
    mbedtls_x509_crt_init(&list);
    ok = read_file(into, option, file) && parse_certificates(&list, into, option, file);
    mbedtls_x509_crt_free(&list);
    return ok;
}

static bool load(struct tls_files *files, const struct options *o)
{
    const char *key_file = o->tls_key != NULL ? o->tls_key : o->tls_cert, *ca = o->ca;
    if (o->tls_cert != NULL) {
        if (!read_file(&files->cert, "--tls-cert", o->tls_cert)) return false;
        if (!read_file(&files->key, "--tls-key", key_file)) return false;
        if (!look_at_pair(files, o->tls_cert, key_file)) return false;
    }
    if (ca == NULL && access(SYSTEM_CA, R_OK) == 0) ca = SYSTEM_CA;
    return load_trusted(&files->client_ca, "--tls-client-ca", o->tls_client_ca) && load_trusted(&files->ca, "--ca", ca);
}

/* Workers have memory of their own for what they ask of mbedTLS; the thread that loads has this. */
struct tls_files *tls_load(const struct options *o)
{
    enum { ROOM = 2 * MINIPROXY_TLS_COMMON_ARENA };
    struct tls_files *files = calloc(1, sizeof *files);
    struct miniproxy_tls_region region;
    void *memory = malloc(ROOM);
    bool ok;
    if (files == NULL || memory == NULL) {
        say("no memory for certificates");
        free(files);
        free(memory);
        return NULL;
    }
    atomic_init(&files->holders, 1);
    miniproxy_tls_lend(&region, memory, ROOM);
    ok = load(files, o);
    miniproxy_tls_lend(NULL, NULL, 0);
    free(memory);
    if (!ok) tls_release(files);
    return ok ? files : NULL;
}

void tls_hold(struct tls_files *files)
{
    atomic_fetch_add(&files->holders, 1);
}

void tls_release(struct tls_files *files)
{
    if (files == NULL || atomic_fetch_sub(&files->holders, 1) > 1) return;
    free_file(&files->cert);
    free_file(&files->key);
    free_file(&files->client_ca);
    free_file(&files->ca);
    free(files);
}

bool tls_same_files(const struct tls_files *a, const struct tls_files *b)
{
    return same_file(&a->cert, &b->cert) && same_file(&a->key, &b->key) && same_file(&a->client_ca, &b->client_ca) &&
           same_file(&a->ca, &b->ca);
}

/* ---- What is told */

static const char *cause_of(const struct miniproxy_tls_event *e)
{
    if (e->what == MINIPROXY_TLS_FULL) return "tls_full";
    switch (e->result) {
    case MINIPROXY_ETLS_NAME: return "tls_wrong_name";
    case MINIPROXY_ETLS_EXPIRED: return "tls_expired";
    case MINIPROXY_ETLS_SELF_SIGNED: return "tls_self_signed";
    case MINIPROXY_ETLS_ISSUER: return "tls_unknown_issuer";
    case MINIPROXY_ETLS_CERTIFICATE: return miniproxy_cause_token(MINIPROXY_CAUSE_TLS_CERTIFICATE);
    case MINIPROXY_ETLS_ALERT: return "tls_alert";
    case MINIPROXY_ETLS_PROTOCOL: return "tls_protocol";
    case MINIPROXY_ETLS_TIMEOUT: return "tls_timeout";
    case MINIPROXY_ERESOURCES: return "tls_no_memory";
    default: return "tls_broken_off";
    }
}

/* Of plain HTTP at a TLS port a transaction tells. */
static void on_event(void *app, const struct miniproxy_tls_event *e)
{
    struct worker *w = app;
    char words[ERROR_TEXT_MAX] = "";
    struct miniproxy_log_tls line = {.client = e->host == NULL ? e->peer : NULL,
                                     .address = e->host != NULL ? e->peer : NULL,
                                     .host = e->host,
                                     .cause = cause_of(e)};
    if (e->what == MINIPROXY_TLS_DONE) atomic_fetch_add(&w->tls_done, 1);
    if (e->what == MINIPROXY_TLS_DONE || e->what == MINIPROXY_TLS_PLAIN) return;
    atomic_fetch_add(&w->tls_failed, 1);
    if (e->alert >= 0) snprintf(words, sizeof words, "the peer sent alert %d", e->alert);
    else if (e->error != 0) error_text(e->error, words);
    line.error = words;
    log_tls(&w->shared->log, w->line, &line);
}

/* ---- The layer */

static void fill_in(struct miniproxy_tls_config *tls, const struct tls_files *files)
{
    tls->cert = files->cert.data;
    tls->cert_len = files->cert.len;
    tls->key = files->key.data;
    tls->key_len = files->key.len;
    tls->client_ca = files->client_ca.data;
    tls->client_ca_len = files->client_ca.len;
    tls->ca = files->ca.data;
    tls->ca_len = files->ca.len;
}

bool tls_start(struct worker *w, struct miniproxy_config *config)
{
    const struct options *o = w->shared->options;
    struct miniproxy_tls_config tls = {
        .below = config->port,
        .below_data = config->port_data,
        .listeners = o->tls_listeners,
        .handshake_ms = o->tls_handshake_ms,
        .event = on_event,
        .app = w,
    };
    int error = 0;
    const char *wrong;
    char text[ERROR_TEXT_MAX];
    w->tls_files = w->shared->tls_files;
    tls_hold(w->tls_files);
    fill_in(&tls, w->tls_files);
    wrong = miniproxy_tls_init(&w->tls, &tls, &error);
    w->tls_started = true;
    config->port = &miniproxy_tls_port;
    config->port_data = &w->tls;
    if (wrong == NULL) return true;
    error_text(error, text);
    say("TLS cannot start: %s (%s)", wrong, text);
    return false;
}

/* New files wait until the last handshake has ended that began before the latest ones came. */
void tls_take_mail(struct worker *w)
{
    struct miniproxy_tls_config tls = {0};
    struct tls_files *files;
    const char *wrong;
    char text[ERROR_TEXT_MAX];
    int error;
    if (w->tls_before == NULL && atomic_load(&w->tls_mail) == NULL) return;
    if (miniproxy_tls_is_renewing(&w->tls)) return;
    tls_release(w->tls_before);
    w->tls_before = NULL;
    files = atomic_exchange(&w->tls_mail, NULL);
    if (files == NULL) return;
    fill_in(&tls, files);
    wrong = miniproxy_tls_renew(&w->tls, &tls, &error);
    if (wrong != NULL) {
        error_text(error, text);
        say("cannot take new certificates: %s (%s); the old ones stay in force", wrong, text);
        tls_release(files);
        return;
    }
    w->tls_before = w->tls_files;
    w->tls_files = files;
}

uint32_t tls_poll(struct worker *w, uint32_t now_ms, uint32_t wait_ms)
{
    uint32_t tls_wait_ms = miniproxy_tls_poll(&w->tls, now_ms);
    return tls_wait_ms < wait_ms ? tls_wait_ms : wait_ms;
}

void tls_end(struct worker *w)
{
    if (w->tls_started) miniproxy_tls_end(&w->tls);
    tls_release(w->tls_files);
    tls_release(w->tls_before);
    tls_release(atomic_exchange(&w->tls_mail, NULL));
}

#else

/* Not NULL: nothing is wrong with what there is not. */
struct tls_files *tls_load(const struct options *o)
{
    static struct tls_files none;
    (void)o;
    return &none;
}

void tls_release(struct tls_files *files)
{
    (void)files;
}

void tls_hold(struct tls_files *files)
{
    (void)files;
}

bool tls_same_files(const struct tls_files *a, const struct tls_files *b)
{
    return a == b;
}

bool tls_start(struct worker *w, struct miniproxy_config *config)
{
    (void)w;
    (void)config;
    return true;
}

void tls_take_mail(struct worker *w)
{
    (void)w;
}

uint32_t tls_poll(struct worker *w, uint32_t now_ms, uint32_t wait_ms)
{
    (void)w;
    (void)now_ms;
    return wait_ms;
}

void tls_end(struct worker *w)
{
    (void)w;
}

#endif
