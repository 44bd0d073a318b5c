/* SPDX-License-Identifier: MIT
 *
 * The miniproxy command: what its files share. options.c reads the command line, users.c the users, policy.c builds the
 * tables of the core from both, log.c writes, alerts.c watches, worker.c runs one instance, main.c starts workers and answers signals.
 * tls.c and tls_cert.c do nothing but say so in a build without TLS.
 */
#ifndef DESKTOP_H
#define DESKTOP_H

#include "miniproxy.h"
#include "port/miniproxy_log.h"
#include "port/miniproxy_posix.h"
#include "port/miniproxy_watch.h"
#if MINIPROXY_WITH_TLS
#include "port/miniproxy_tls.h"
#endif

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

/* Networks of one family in one list. */
#ifndef NETS_MAX
#define NETS_MAX 256
#endif

/* Ranges of --connect-ports. */
#ifndef PORTS_MAX
#define PORTS_MAX 32
#endif

/* Names of --page-names, domains of --pac-direct. */
#ifndef PAGE_NAMES_MAX
#define PAGE_NAMES_MAX 32
#endif
#ifndef PAC_DIRECT_MAX
#define PAC_DIRECT_MAX 32
#endif

#ifndef USERS_MAX
#define USERS_MAX 10000
#endif

/* Rounds of PBKDF2 for one password: at most, and if "miniproxy hash" is not told. The latter is what OWASP's Password
 * Storage Cheat Sheet asks for PBKDF2-HMAC-SHA256: 0.3 s of one core, once for each user and worker, for logins are
 * remembered. */
#define USERS_ROUNDS_MAX 10000000
#ifndef USERS_ROUNDS_DEFAULT
#define USERS_ROUNDS_DEFAULT 600000
#endif

#ifndef WORKERS_MAX
#define WORKERS_MAX 64
#endif

enum {
    TEXT_MAX = MINIPROXY_ADDR_TEXT + 8 /* "[address]:port" */
};

enum { EXIT_DRAINED = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

/* ---- users.c */

struct users {
    struct miniproxy_user *list;
    uint16_t count;
};

/* entry: MINIPROXY_SALT_LEN octets of salt, then MINIPROXY_DIGEST_LEN of digest; rounds as in struct miniproxy_user.
 * These return NULL, or what would have been right. */
const char *users_add(struct users *users, const char *name, const uint8_t entry[], uint32_t rounds);
const char *users_add_password(struct users *users, const char *name, const char *password);
/* "sha256:SALT:DIGEST" or "pbkdf2:ROUNDS:SALT:DIGEST", all of text. */
const char *users_parse_hash(const char *text, uint8_t entry[], uint32_t *rounds);

/* Add all users of a file. False: a line on stderr has said why. */
bool users_load(struct users *users, const char *file);
bool users_copy(struct users *users, const struct users *from);
void users_free(struct users *users);

/* `miniproxy hash [--rounds N] [NAME]`, its arguments behind "hash"; returns the exit status. */
int users_hash_command(int argc, char **argv);

bool random_bytes(void *out, size_t len);

/* ---- parents.c */

#if MINIPROXY_WITH_ROUTES

enum {
    PARENTS_MAX = MINIPROXY_ROUTE_HOPS, /* of --parent */
    CHECK_S_DEFAULT = 10,               /* of --check */
    HOP_TEXT_MAX = 264                  /* "host:port" */
};

/* A hop from "http://NAME:PASSWORD@HOST:PORT", https://… or socks5://…, or from "HOST:PORT" of an origin. `room` gets
 * its texts, at most the octets of `text` and 8 more. NULL, or what was expected. */
const char *parent_parse(struct miniproxy_hop *hop, const char *text, char *room);
const char *origin_parse(struct miniproxy_hop *hop, const char *text, char *room);
/* What is wrong with the URL of a check, or NULL. */
const char *check_problem(const char *url);

void hop_text(const struct miniproxy_hop *hop, char out[HOP_TEXT_MAX]);
/* The same server, spoken to in the same way. */
bool same_hop(const struct miniproxy_hop *a, const struct miniproxy_hop *b);

#endif

/* ---- options.c */

struct net_list {
    const char *text; /* as given; NULL: not given */
    struct miniproxy_net4 v4[NETS_MAX];
    struct miniproxy_net6 v6[NETS_MAX];
    struct miniproxy_nets nets;
};

struct port_range {
    uint16_t first, last;
};

struct options {
    struct miniproxy_addr listen[MINIPROXY_POSIX_LISTENERS];
    unsigned listen_count;
    uint32_t tls_listeners; /* bit i: listen[i] speaks TLS */
    uint32_t balanced_listeners, intercepting_listeners; /* the same: begins with the PROXY protocol; is diverted to */
    uint8_t forwarded;                                   /* enum miniproxy_forwarded */
    const char *tls_cert, *tls_key, *tls_client_ca, *ca; /* files, or NULL */
    uint32_t tls_handshake_ms;
    struct users users;     /* of --user */
    const char *users_file; /* of --users, or NULL */
    struct net_list clients;
    struct net_list private_nets; /* of --allow-private=NET,… */
    bool allow_private, insecure_auth;
    const char *ports_text;
    struct port_range ports[PORTS_MAX];
    unsigned port_count;
    struct net_list pages; /* whose clients may see pages of the proxy's own; text NULL: this machine's */
    bool no_pages;
    const char *page_names[PAGE_NAMES_MAX];
    struct miniproxy_texts page_name_texts;
    const char *contact, *maintenance; /* texts, NULL: none; of SIGUSR2 */
#if MINIPROXY_WITH_PAC
    bool serves_pac;
    struct miniproxy_pac pac;
    const char *pac_direct[PAC_DIRECT_MAX];
    struct miniproxy_texts pac_domains;
#endif
    const char *policy_file; /* in place of all options about who may go where, or NULL */
#if MINIPROXY_WITH_ROUTES
    struct miniproxy_hop parents[PARENTS_MAX]; /* their texts stay as long as the program */
    unsigned parent_count;
    const char *check; /* as in struct miniproxy_hop, for all of them */
    uint16_t check_s;
#endif
    uint32_t timeout_ms[MINIPROXY_TIMEOUT_COUNT];
    uint32_t drain_ms;
    uint64_t body_max;
    uint16_t per_client;
    unsigned workers;
    const char *log_file; /* "-": standard output */
    const struct miniproxy_log_format *log_format;
    bool log_query, log_heads;
    struct miniproxy_addr syslog; /* family 0: none */
    struct miniproxy_watch_config alerts; /* without where to */
    const char *name, *realm;
    char random_name[12];
};

/* Fill in *o, which must be zeroed and keeps pointers into argv. -1: go on; otherwise the exit status, and all has been
 * said. */
int options_parse(struct options *o, int argc, char **argv);
bool options_have_users(const struct options *o);

/* Whether logins may be asked for, given where it listens. False: a line on stderr has said why not. */
bool options_allow_logins(const struct options *o);

bool options_speak_tls(const struct options *o, unsigned listener);

/* How a program on this machine reaches a listener. */
void options_reachable_text(const struct miniproxy_addr *a, char out[TEXT_MAX]);

/* "address:port", with brackets around IPv6. */
void address_text(const struct miniproxy_addr *a, char out[TEXT_MAX]);

/* ---- nets.c */

/* Bring the networks of a set into the form of struct miniproxy_nets, in place. Return how many are left. */
size_t nets_tidy4(struct miniproxy_net4 *nets, size_t count);
size_t nets_tidy6(struct miniproxy_net6 *nets, size_t count);

/* Bring a host name into the core's notation, in place. NULL, or what was expected. */
const char *tidy_host(char *name);

/* ---- policy.c */

/* One version of the policy. It is shared by the workers and freed by the last one that lets go of it. */
struct tables {
    struct miniproxy_policy policy;
    struct compiled *compiled; /* of --policy, or NULL */
    struct miniproxy_rule rules[2 * (PORTS_MAX + 1) + 2];
    struct users users;
#if MINIPROXY_WITH_ROUTES
    struct miniproxy_route *routes; /* those of --policy and that of --parent; NULL: the former alone */
    struct miniproxy_hop *hops;
#endif
    atomic_uint holders;
};

/* Held once by the caller. NULL: a line on stderr has said why. */
struct tables *tables_build(const struct options *o);
void tables_hold(struct tables *t);
void tables_release(struct tables *t);
void tables_describe(const struct tables *t, const struct options *o, FILE *out);
/* How often each rule of --policy decided, and, last in `hits`, none did. */
void tables_print_hits(const struct tables *t, const uint64_t *hits, FILE *out);

/* ---- log.c */

/* Octets of the longest line: everything escaped as \u00XX. Where this is less, targets are cut to what there is room for. */
#ifndef LOG_LINE_MAX
#define LOG_LINE_MAX (6 * (MINIPROXY_BUFFER_SIZE + MINIPROXY_METHOD_MAX + MINIPROXY_CREDENTIALS_MAX) + 1024)
#endif

/* Octets of lines that are kept for a reader that is slow; what does not fit is lost. At least a line. */
#ifndef LOG_KEPT_MAX
#define LOG_KEPT_MAX (2 * LOG_LINE_MAX)
#endif

enum {
    SYSLOG_MAX = 2048, /* octets of a datagram, which every receiver should take (RFC 5424 section 6.1) */
    SYSLOG_FACILITY = 3 /* daemon */
};

/* Where lines go: a file, or what somebody reads. */
struct outlet {
    int fd;
    bool is_file;           /* it takes what it gets, or fails */
    char *kept;             /* LOG_KEPT_MAX octets: */
    atomic_size_t kept_len; /* lines that it has not taken yet; of the first one a part may have been */
    pthread_mutex_t lock;   /* around all this, so that lines stay whole in pipes too; nobody who has it waits */
};

struct log {
    const char *file;
    struct outlet out;
    struct miniproxy_log style, syslog_style; /* the latter without a format: there is no syslog */
    struct miniproxy_posix_syslog syslog;
    char host[256];
    pthread_mutex_t lock; /* around syslog */
    atomic_bool said;     /* a failure has been told */
    atomic_ullong lost;
};

bool log_open(struct log *log, const struct options *o);
void log_reopen(struct log *log);
/* After miniproxy_poll, with what that returned; returns the like, short while log_waits. */
uint32_t log_poll(struct log *log, uint32_t wait_ms);
/* There are lines or messages that a slow reader has not taken yet. */
bool log_waits(const struct log *log);
/* When no worker runs any more. Also after a log_open that failed. */
void log_end(struct log *log);
unsigned long log_syslog_dropped(struct log *log);

/* What port/miniproxy_log.h makes lines of. line: room for one, LOG_LINE_MAX octets. */
void log_event(struct log *log, char *line, const struct miniproxy_event *e);
void log_tls(struct log *log, char *line, const struct miniproxy_log_tls *e);
void log_alert(struct log *log, char *line, const struct miniproxy_alert *alert); /* on stderr, too */
#if MINIPROXY_WITH_ROUTES
void log_hop(struct log *log, char *line, const struct miniproxy_hop *hop, const struct miniproxy_health *health);
#endif
#if MINIPROXY_WITH_HEADS
void log_head(struct log *log, char *line, const struct miniproxy_event *e, enum miniproxy_side side, const char *text,
              size_t len);
#endif

/* Whole lines on stderr. From log_open on nobody waits for its reader: what that does not take in time is lost. */
void say_lines(const char *lines, size_t len);
/* Whether all was written to standard output that is its text. False: a line on stderr has said why not. */
bool stdout_has_all(void);
/* One line on stderr, "miniproxy: " in front. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- alerts.c */

/* One watch over all workers. */
struct alerts {
    struct miniproxy_watch watch;
    struct log *log;
    bool on;
    pthread_mutex_t lock;
    uint16_t sessions[WORKERS_MAX], buffers[WORKERS_MAX]; /* in use, by worker */
    char *line; /* room for one: that of the worker which holds the lock */
};

struct worker;
void alerts_start(struct alerts *alerts, const struct options *o, struct log *log);
void alerts_event(struct worker *w, const struct miniproxy_event *e);
#if MINIPROXY_WITH_ROUTES
void alerts_hop(struct worker *w, const struct miniproxy_hop *hop, bool down);
/* A worker's policy was replaced: what its hops said counts no more, what the new ones have inherited does. */
void alerts_hops(struct worker *w, const struct miniproxy_policy *old, const struct miniproxy_policy *policy);
#endif
/* After miniproxy_poll, with what that returned; returns the like. */
uint32_t alerts_poll(struct worker *w, uint32_t now_ms, uint32_t wait_ms);

/* ---- tls.c */

#if MINIPROXY_WITH_TLS
#define TLS_MISSING NULL /* what options and commands that need TLS say */
#define TLS_LAYER struct miniproxy_tls
#else
#define TLS_MISSING "expected a miniproxy that is built with TLS (\"make tls\" builds one)"
#define TLS_LAYER char
#endif

struct tls_file {
    uint8_t *data; /* NULL: none */
    size_t len;
};

/* One version of certificates and keys. It is shared by the workers and wiped by the last one that lets go of it. */
struct tls_files {
    struct tls_file cert, key, client_ca, ca;
    char until[12]; /* the last day of cert, "" if there is none */
    atomic_uint holders;
};

/* Read what the options name, and look at it. Held once by the caller. NULL: a line on stderr has said what is wrong. */
struct tls_files *tls_load(const struct options *o);
void tls_hold(struct tls_files *files);
void tls_release(struct tls_files *files); /* may be NULL */
bool tls_same_files(const struct tls_files *a, const struct tls_files *b);

/* Put TLS between the core that is about to get this configuration and the port in it. False: as above. */
bool tls_start(struct worker *w, struct miniproxy_config *config);
/* Take up new files: before miniproxy_poll, so that a request sent after their arrival was told finds them. */
void tls_take_mail(struct worker *w);
/* After miniproxy_poll, with what that returned; returns the like. */
uint32_t tls_poll(struct worker *w, uint32_t now_ms, uint32_t wait_ms);
void tls_end(struct worker *w);

/* ---- tls_cert.c */

/* `miniproxy cert [--name NAME]... [--days N] OUT`, its arguments behind "cert"; returns the exit status. */
int tls_cert_command(int argc, char **argv);

/* ---- worker.c */

struct held {
    struct tables *tables;
    struct miniproxy_policy policy; /* that of the tables, with this worker's own hits and health */
    struct held *next;
#if MINIPROXY_WITH_ROUTES
    struct miniproxy_health *health;
#endif
    uint32_t hits[];
};

enum stage { STAGE_RUN, STAGE_DRAIN, STAGE_STOP };

/* What all workers share. */
struct shared {
    const struct options *options;
    struct tls_files *tls_files; /* the newest */
    struct log log;
    struct alerts alerts;
    atomic_int stage;   /* enum stage; only grows */
    atomic_bool maintenance;  /* ordered by SIGUSR2 */
    struct worker **workers;  /* as many as the options say, once all are there */
    pthread_t main;           /* gets SIGALRM, which nothing else sends, when a worker has ended or answered */
};

#define SIGNAL_OF_WORKERS SIGALRM

/* What a worker has counted, for the others: at most PUBLISH_MS old, and complete. */
struct published {
    pthread_mutex_t lock;
    struct miniproxy_counters counters;
    uint32_t at_ms;
};

/* One instance with its thread. Too large for a stack and mostly untouched: see worker_new. */
struct worker {
    struct miniproxy proxy;
    struct miniproxy_posix posix;
#if MINIPROXY_WITH_METRICS
    struct published published;
    struct miniproxy_counters totals; /* of all workers, when somebody has asked this one */
#endif
    bool maintained;                  /* the core has been told so */
    bool tls_started;
    atomic_uint tls_done, tls_failed; /* handshakes */
    struct tls_files *tls_files, *tls_before; /* in force; those before, or NULL */
    _Atomic(struct tls_files *) tls_mail;     /* to be taken up, or NULL */
    struct shared *shared;
    unsigned index;      /* among the workers */
    uint32_t alerts_ms;  /* when alerts_poll looked at it last */
    struct held *held; /* tables that the core may still use, current one first */
    uint32_t held_checked_ms;
    uint8_t secret[MINIPROXY_SECRET_LEN]; /* of the logins it remembers */
    struct miniproxy_counters snapshot; /* valid once report_asked is false again, as is: */
    uint32_t *hits;                     /* of the newest tables, or NULL */
#if MINIPROXY_WITH_ROUTES
    struct miniproxy_health *health; /* the same */
#endif
    const struct tables *hits_of;
    atomic_bool report_asked, ended;
    _Atomic(struct tables *) mail; /* new tables to be taken up, or NULL */
    pthread_t thread;
    char *target[MINIPROXY_SLOTS]; /* whole target of the session's request, where the session cannot keep it */
    char line[LOG_LINE_MAX];
    TLS_LAYER tls;
};

/* Start all but the thread. `at` is where to listen; ports that were 0 become those that were bound. NULL: a line on
 * stderr has said why. */
struct worker *worker_new(struct shared *shared, unsigned index, struct tables *tables, struct miniproxy_addr *at);
void *worker_run(void *worker);
/* When the thread has been joined, or was never started. */
void worker_free(struct worker *w);

#endif
