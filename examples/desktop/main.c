/* SPDX-License-Identifier: MIT
 *
 * The miniproxy command: start, signals, end. The main thread only waits for signals; workers do the rest.
 */
#define _GNU_SOURCE
#include "desktop.h"
#include "policy.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

struct program {
    struct options options;
    struct miniproxy_addr listen[MINIPROXY_POSIX_LISTENERS]; /* with the ports that were bound */
    struct shared shared;
    struct worker *workers[WORKERS_MAX];
    struct tables *tables; /* the newest */
    bool reporting; /* counters have been asked for */
};

static struct program program;

/* ---- Counters */

#define COUNTERS(X)                                                                                                    \
    X(accepted) X(requests) X(tunnels) X(reused) X(retried) X(evicted) X(accept_paused) X(buffer_waits)                \
    X(active) X(active_peak) X(buffers) X(buffers_peak) X(bytes_up) X(bytes_down)

struct totals {
#define X(name) uint64_t name;
    COUNTERS(X)
#undef X
    uint64_t status[6], cause[MINIPROXY_CAUSE_COUNT];
};

static void add(struct totals *t, const struct miniproxy_counters *c)
{
#define X(name) t->name += c->name;
    COUNTERS(X)
#undef X
    for (unsigned i = 0; i < 6; i++) t->status[i] += c->status[i];
#if MINIPROXY_WITH_CAUSE_COUNTERS
    for (unsigned i = 0; i < MINIPROXY_CAUSE_COUNT; i++) t->cause[i] += c->cause[i];
#endif
}

static void print_totals(const struct totals *t, FILE *out)
{
#define X(name) fprintf(out, " " #name "=%llu", (unsigned long long)t->name);
    COUNTERS(X)
#undef X
    fprintf(out, " no_status=%llu", (unsigned long long)t->status[0]);
    for (unsigned i = 1; i < 6; i++) fprintf(out, " status_%uxx=%llu", i, (unsigned long long)t->status[i]);
    for (unsigned i = 1; i < MINIPROXY_CAUSE_COUNT; i++) {
        if (t->cause[i] == 0) continue;
        fprintf(out, " cause.%s=%llu", miniproxy_cause_token((enum miniproxy_cause)i), (unsigned long long)t->cause[i]);
    }
}

/* A line for each worker, then their sum; of the peaks it is the most they can have been together. */
static void print_counters(FILE *out)
{
    struct totals sum = {0};
    for (unsigned i = 0; i < program.options.workers; i++) {
        const struct worker *w = program.workers[i];
        const struct miniproxy_counters *c = atomic_load(&w->ended) ? miniproxy_counters(&w->proxy) : &w->snapshot;
        struct totals one = {0};
        add(&one, c);
        add(&sum, c);
        fprintf(out, "miniproxy: counters worker=%u", i);
        print_totals(&one, out);
        fputc('\n', out);
    }
    fprintf(out, "miniproxy: counters sum");
    print_totals(&sum, out);
    fprintf(out, " log_lines_lost=%llu", atomic_load(&program.shared.log.lost));
    if (program.options.syslog.family != 0) fprintf(out, " syslog_dropped=%lu", log_syslog_dropped(&program.shared.log));
    fputc('\n', out);
}

#if MINIPROXY_WITH_HITS
/* Of the policy in force; a worker that still had another when it answered counts for nothing. */
static void print_hits(FILE *out)
{
    const struct tables *t = program.tables;
    uint64_t *hits;
    if (t->compiled == NULL) return;
    hits = calloc(t->policy.rule_count + 1u, sizeof *hits);
    for (unsigned i = 0; hits != NULL && i < program.options.workers; i++) {
        const struct worker *w = program.workers[i];
        for (unsigned rule = 0; w->hits != NULL && w->hits_of == t && rule <= t->policy.rule_count; rule++)
            hits[rule] += w->hits[rule];
    }
    if (hits != NULL) tables_print_hits(t, hits, out);
    free(hits);
}
#else
static void print_hits(FILE *out)
{
    (void)out;
}
#endif

#if MINIPROXY_WITH_ROUTES

/* How a hop does in all workers, and where else it stands in the tables. */
static void print_parent(const struct tables *t, unsigned hop, FILE *out)
{
    const struct miniproxy_hop *h = &t->policy.hops[hop];
    uint64_t used = 0, failed = 0;
    unsigned up = 0, down = 0;
    char text[HOP_TEXT_MAX];
    for (unsigned i = 0; i < program.options.workers; i++) {
        const struct worker *w = program.workers[i];
        for (unsigned k = hop; w->health != NULL && w->hits_of == t && k < t->policy.hop_count; k++) {
            const struct miniproxy_health *health = &w->health[k];
            if (!same_hop(h, &t->policy.hops[k])) continue;
            used += health->used;
            failed += health->failed;
            if (health->down != 0) down++;
            else up++;
        }
    }
    hop_text(h, text);
    fprintf(out, "miniproxy: %s=%s state=%s used=%llu failed=%llu\n",
            h->kind == MINIPROXY_HOP_ORIGIN ? "member" : "parent", text,
            down == 0 ? "up"
            : up == 0 ? "down"
                      : "down_for_some",
            (unsigned long long)used, (unsigned long long)failed);
}

static void print_parents(FILE *out)
{
    const struct tables *t = program.tables;
    for (unsigned i = 0; i < t->policy.hop_count; i++) {
        unsigned before = 0;
        while (before < i && !same_hop(&t->policy.hops[before], &t->policy.hops[i])) before++;
        if (before == i) print_parent(t, i, out);
    }
}

#else

static void print_parents(FILE *out)
{
    (void)out;
}

#endif

static void print_report(FILE *out)
{
    print_hits(out);
    print_parents(out);
    print_counters(out);
}

/* Print on stderr in one piece. */
static void tell(void (*print)(FILE *out))
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    if (out == NULL) return;
    print(out);
    if (fclose(out) == 0) say_lines(text, len);
    free(text);
}

/* ---- The banner */

/* A session needs a descriptor for its client and one for the origin. */
static void print_file_limit(FILE *out)
{
    const unsigned long long own = 16 + program.options.workers * (MINIPROXY_POSIX_LISTENERS + 4);
    const unsigned long long sessions = (unsigned long long)program.options.workers * MINIPROXY_SESSIONS;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= 2 * sessions + own) return;
    fprintf(out, "  sessions: about %llu instead of %llu, for only %llu open files are allowed (ulimit -Hn)\n",
            limit.rlim_cur > own ? (limit.rlim_cur - own) / 2 : 0, sessions, (unsigned long long)limit.rlim_cur);
}

static void print_banner(FILE *out)
{
    const struct options *o = &program.options;
    char text[TEXT_MAX];
    fprintf(out, "miniproxy " MINIPROXY_VERSION " \"%s\" listens on", o->name);
    for (unsigned i = 0; i < o->listen_count; i++) {
        address_text(&program.listen[i], text);
        fprintf(out, "%s %s%s", i == 0 ? "" : ",", text, options_speak_tls(o, i) ? " (TLS)" : "");
    }
    if (o->workers > 1) fprintf(out, ", %u workers", o->workers);
    fputc('\n', out);
    tables_describe(program.tables, o, out);
    print_file_limit(out);
    options_reachable_text(&program.listen[0], text);
    fprintf(out, "  try: curl -x http%s://%s%s%s%s http://example.com/\n", options_speak_tls(o, 0) ? "s" : "", text,
            options_speak_tls(o, 0) ? " --proxy-cacert " : "", options_speak_tls(o, 0) ? o->tls_cert : "",
            policy_has_passwords(&program.tables->policy, MINIPROXY_AUTHENTICATED) ? " -U NAME:PASSWORD" : "");
    if (MINIPROXY_WITH_STATUS && o->policy_file == NULL && !o->no_pages)
        fprintf(out, "       and open http%s://%s/ in a browser\n", options_speak_tls(o, 0) ? "s" : "", text);
}

/* ---- Signals */

static void interrupt_all(void)
{
    for (unsigned i = 0; i < program.options.workers; i++) miniproxy_posix_interrupt(&program.workers[i]->posix);
}

static void stop_one_stage_further(void)
{
    int stage = atomic_load(&program.shared.stage);
    if (stage == STAGE_STOP) return;
    atomic_store(&program.shared.stage, stage + 1);
    interrupt_all();
    if (stage == STAGE_RUN)
        say("draining: ends when all transactions have, or in %g s; a second signal ends it at once",
            program.options.drain_ms / 1000.0);
}

static void reload_tables(void)
{
    const unsigned workers = program.options.workers;
    struct tables *tables = tables_build(&program.options);
    if (tables == NULL) {
        say(program.options.policy_file != NULL ? "the old policy stays in force" : "the old users stay in force");
        return;
    }
    for (unsigned i = 0; i < workers; i++) {
        struct tables *missed;
        tables_hold(tables);
        missed = atomic_exchange(&program.workers[i]->mail, tables);
        if (missed != NULL) tables_release(missed);
    }
    tables_release(program.tables);
    program.tables = tables;
    if (tables->compiled != NULL)
        say("reloaded: %u users, %u rules", tables->policy.user_count, tables->policy.rule_count);
    else
        say("reloaded: %u users", tables->policy.user_count);
}

/* Files that are as they were are not taken again. */
static void reload_tls(void)
{
    struct tls_files *files = tls_load(&program.options);
    if (files == NULL) {
        say("the old certificates stay in force");
        return;
    }
    if (tls_same_files(files, program.shared.tls_files)) {
        tls_release(files);
        return;
    }
    for (unsigned i = 0; i < program.options.workers; i++) {
        tls_hold(files);
        tls_release(atomic_exchange(&program.workers[i]->tls_mail, files));
    }
    tls_release(program.shared.tls_files);
    program.shared.tls_files = files;
    if (files->until[0] != '\0') say("reloaded: certificates, that of --tls-cert is valid until %s", files->until);
    else say("reloaded: certificates");
}

static void reload(void)
{
    if (atomic_load(&program.shared.stage) != STAGE_RUN) return;
    log_reopen(&program.shared.log);
    miniproxy_posix_flush_names(&program.workers[0]->posix);
    reload_tables();
    reload_tls();
    interrupt_all();
}

static void ask_for_counters(void)
{
    program.reporting = true;
    for (unsigned i = 0; i < program.options.workers; i++) atomic_store(&program.workers[i]->report_asked, true);
    interrupt_all();
}

#if MINIPROXY_WITH_MAINTENANCE

static void change_maintenance(void)
{
    const bool begins = !atomic_load(&program.shared.maintenance);
    const bool stays = program.tables->policy.maintenance != NULL;
    atomic_store(&program.shared.maintenance, begins);
    interrupt_all();
    say("maintenance %s",
        begins  ? "begins: new requests are answered by 503 until the next SIGUSR2"
        : stays ? "is over as far as SIGUSR2 goes, but the policy orders it too"
                : "is over");
}

#else

static void change_maintenance(void)
{
    say("maintenance: expected a build with MINIPROXY_WITH_MAINTENANCE");
}

#endif

/* A worker has ended or answered. Returns whether all have ended. */
static bool look_at_workers(void)
{
    unsigned ended = 0, answered = 0;
    for (unsigned i = 0; i < program.options.workers; i++) {
        bool is_ended = atomic_load(&program.workers[i]->ended);
        ended += is_ended;
        answered += is_ended || !atomic_load(&program.workers[i]->report_asked);
    }
    if (program.reporting && answered == program.options.workers) {
        program.reporting = false;
        tell(print_report);
    }
    return ended == program.options.workers;
}

/* Until all workers have ended. */
static void serve(const sigset_t *signals)
{
    bool done = false;
    while (!done) {
        int signal;
        if (sigwait(signals, &signal) != 0) continue;
        switch (signal) {
        case SIGTERM:
        case SIGINT: stop_one_stage_further(); break;
        case SIGHUP: reload(); break;
        case SIGUSR1: ask_for_counters(); break;
        case SIGUSR2: change_maintenance(); break;
        default: done = look_at_workers(); break;
        }
        if (log_waits(&program.shared.log)) interrupt_all(); /* they go on with it */
    }
}

/* ---- Start and end */

static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) say("cannot raise the limit of open files: %s", strerror(errno));
}

/* Blocked before any thread exists, so that all of them leave these signals to the main thread. */
static void block_signals(sigset_t *signals)
{
    sigemptyset(signals);
    sigaddset(signals, SIGHUP);
    sigaddset(signals, SIGUSR1);
    sigaddset(signals, SIGUSR2);
    sigaddset(signals, SIGNAL_OF_WORKERS);
    pthread_sigmask(SIG_BLOCK, signals, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* Until its workers are made these end it, whatever it waits for: a file that is a pipe, or a terminal. */
static void block_signals_to_end(sigset_t *signals)
{
    sigaddset(signals, SIGTERM);
    sigaddset(signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, signals, NULL);
}

static bool open_workers(struct tables *tables)
{
    memcpy(program.listen, program.options.listen, sizeof program.listen);
    for (unsigned i = 0; i < program.options.workers; i++) {
        program.workers[i] = worker_new(&program.shared, i, tables, program.listen);
        if (program.workers[i] == NULL) return false;
    }
    return true;
}

static void close_workers(void)
{
    for (unsigned i = 0; i < program.options.workers; i++)
        if (program.workers[i] != NULL) worker_free(program.workers[i]);
    if (program.tables != NULL) tables_release(program.tables);
    users_free(&program.options.users);
    tls_release(program.shared.tls_files);
}

static bool start(sigset_t *signals)
{
    if (!log_open(&program.shared.log, &program.options)) return false;
    alerts_start(&program.shared.alerts, &program.options, &program.shared.log);
    program.tables = tables_build(&program.options);
    if (program.tables == NULL) return false;
    program.shared.tls_files = tls_load(&program.options);
    if (program.shared.tls_files == NULL) return false;
    block_signals_to_end(signals); /* before there is a thread that could take one: ports may begin some */
    if (!open_workers(program.tables)) return false;
    tell(print_banner);
    return true;
}

/* All threads, until all of them have ended. */
static int run(const sigset_t *signals)
{
    for (unsigned i = 0; i < program.options.workers; i++) {
        if (pthread_create(&program.workers[i]->thread, NULL, worker_run, program.workers[i]) == 0) continue;
        say("cannot start a thread");
        log_end(&program.shared.log);
        exit(EXIT_FAILED); /* those that run cannot be waited for: they have no reason to end */
    }
    serve(signals);
    for (unsigned i = 0; i < program.options.workers; i++) pthread_join(program.workers[i]->thread, NULL);
    return EXIT_DRAINED;
}

/* Where standard descriptors are closed, no socket or log may get their numbers, or it would get what is written to them.
 * Read-only: who asks for a text on a closed standard output is told that it cannot be had. */
static void occupy_standard_descriptors(void)
{
    int fd;
    do fd = open("/dev/null", O_RDONLY);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0) close(fd);
}

int main(int argc, char **argv)
{
    sigset_t signals;
    int status;
    occupy_standard_descriptors();
    /* Names in policies are complete ones, so those of requests are, too: "http://hr/" must not become
     * hr.corp.example by a search list in resolv.conf. No name can be in "..", so nothing more is asked for (in "",
     * each name would be, a second time). Who sets LOCALDOMAIN wants a list. No thread is there yet. */
    setenv("LOCALDOMAIN", "..", 0);
    if (argc >= 2 && strcmp(argv[1], "hash") == 0) return users_hash_command(argc - 2, argv + 2);
    if (argc >= 2 && strcmp(argv[1], "cert") == 0) return tls_cert_command(argc - 2, argv + 2);
    if (argc >= 2 && strcmp(argv[1], "policy") == 0) return policy_command(argc - 2, argv + 2);
    status = options_parse(&program.options, argc, argv);
    if (status >= 0) return status;
    block_signals(&signals);
    raise_file_limit();
    program.shared.options = &program.options;
    program.shared.main = pthread_self();
    program.shared.workers = program.workers;
    status = start(&signals) ? run(&signals) : EXIT_FAILED;
    close_workers();
    log_end(&program.shared.log);
    return status;
}
