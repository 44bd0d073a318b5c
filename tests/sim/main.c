/* SPDX-License-Identifier: MIT */
/* sim [--seeds FROM..TO | --seed N] [--verbose] [--jobs K] [--results FILE] | sim --split [--verbose] [--results FILE]
 */
#include "sim.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { JOBS_MAX = 16, REPORTS_MAX = 12, TRACE_LINES = 45, STUCK_AFTER_S = 60 };

/* What the jobs share. */
struct shared {
    uint64_t checks[JOBS_MAX][PROPERTY_COUNT];
    uint64_t current[JOBS_MAX];
    uint32_t causes[MINIPROXY_CAUSE_COUNT]; /* events of each, over all seeds */
    uint32_t tallies[TALLY_COUNT + 1];
    uint32_t violations[PROPERTY_COUNT];
    uint32_t reported, crashes;
    uint64_t done;
};

static struct shared *shared;
static unsigned job;
static bool first_only; /* one violation is enough */

static const char *const names[] = {
#define X(NAME, text, ids) text,
    PROPERTIES(X)
#undef X
};
static const char *const requirements[] = {
#define X(NAME, text, ids) ids,
    PROPERTIES(X)
#undef X
};

void reached(unsigned cause)
{
    __atomic_fetch_add(&shared->causes[cause], 1, __ATOMIC_RELAXED);
}

void tally(enum tally t)
{
    __atomic_fetch_add(&shared->tallies[t], 1, __ATOMIC_RELAXED);
}

void checked(enum property p)
{
    shared->checks[job][p]++;
}

/* ---- One seed ---- */

static bool run_seed(uint64_t seed)
{
    if (setjmp(world.escape) != 0) return false;
    run_world(seed);
    return true;
}

/* Play the seed again and show the end of its trace. */
static void report(uint64_t seed)
{
    char *text = NULL, *line, *lines[TRACE_LINES];
    size_t size = 0;
    unsigned n = 0;
    FILE *memory = open_memstream(&text, &size);
    if (memory == NULL) abort();
    world.trace_to = memory;
    world.tracing = true;
    (void)run_seed(seed);
    world.tracing = false;
    fclose(memory);
    for (line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) lines[n++ % TRACE_LINES] = line;
    printf("\nVIOLATION (%s) at seed %llu, step %llu, %llu ms: %s\n  replay: sim --seed %llu --verbose\n",
           names[world.broken], (unsigned long long)seed, (unsigned long long)world.step,
           (unsigned long long)world.now_ms, world.message, (unsigned long long)seed);
    for (unsigned i = n > TRACE_LINES ? n - TRACE_LINES : 0; i < n; i++) printf("    %s\n", lines[i % TRACE_LINES]);
    fflush(stdout);
    free(text);
}

static void run_range(uint64_t from, uint64_t to, uint64_t stride, unsigned brief)
{
    for (uint64_t seed = from; seed <= to; seed += stride) {
        if (first_only && shared->reported + shared->crashes > 0) break;
        shared->current[job] = seed;
        alarm(STUCK_AFTER_S);
        if (!run_seed(seed)) {
            shared->violations[world.broken]++;
            if (__atomic_fetch_add(&shared->reported, 1, __ATOMIC_RELAXED) < brief) report(seed);
            else if (shared->reported < 200)
                printf("violation (%s) at seed %llu: %s\n", names[world.broken], (unsigned long long)seed,
                       world.message);
        }
        if (__atomic_add_fetch(&shared->done, 1, __ATOMIC_RELAXED) % 5000 == 0)
            printf("%llu seeds\n", (unsigned long long)shared->done), fflush(stdout);
    }
    fflush(stdout);
}

/* ---- Jobs: a crash costs one seed, not the run ---- */

static pid_t start_job(unsigned number, uint64_t from, uint64_t to, uint64_t stride, unsigned brief)
{
    pid_t pid;
    fflush(stdout);
    pid = fork();
    if (pid != 0) return pid;
    job = number;
    run_range(from, to, stride, brief);
    fflush(stdout);
    _exit(0);
}

static void run_jobs(uint64_t from, uint64_t to, unsigned jobs, unsigned brief)
{
    pid_t pids[JOBS_MAX];
    unsigned running = 0;
    int status;
    for (unsigned i = 0; i < jobs; i++, running++) pids[i] = start_job(i, from + i, to, jobs, brief);
    while (running > 0) {
        pid_t pid = wait(&status);
        unsigned i = 0;
        if (pid < 0) break;
        while (i < jobs && pids[i] != pid) i++;
        running--;
        if (i == jobs || (WIFEXITED(status) && WEXITSTATUS(status) == 0)) continue;
        printf("\nCRASH at seed %llu: %s %d\n", (unsigned long long)shared->current[i],
               WIFSIGNALED(status) ? "signal" : "exit status",
               WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        shared->crashes++;
        if (shared->crashes > 20 || shared->current[i] + jobs > to) continue;
        pids[i] = start_job(i, shared->current[i] + jobs, to, jobs, brief);
        running++;
    }
}

/* ---- Results ---- */

/* True: all of it. */
static bool print_tallies(void)
{
    static const char *const texts[] = {
#define X(NAME, text) text,
        TALLIES(X)
#undef X
        NULL
    };
    bool all = true;
    for (unsigned i = 0; texts[i] != NULL; i++) {
        printf("%s: %6u %s\n", SIM_VARIANT, shared->tallies[i], texts[i]);
        all = all && shared->tallies[i] > 0;
    }
    return all;
}

static bool write_results(const char *path, bool all_needed)
{
    FILE *f = path != NULL ? fopen(path, "w") : NULL;
    bool all = print_tallies(), good = shared->crashes == 0 && (all || !all_needed);
    for (unsigned p = 0; p < PROPERTY_COUNT; p++) {
        uint64_t checks = 0;
        const char *verdict;
        for (unsigned i = 0; i < JOBS_MAX; i++) checks += shared->checks[i][p];
        verdict = shared->violations[p] > 0 || (checks == 0 && all_needed) ? "fail" : checks == 0 ? "skip" : "pass";
        if (strcmp(verdict, "fail") == 0) good = false;
        if (f != NULL) fprintf(f, "%s\tsim\t%s: %s\t%s\n", verdict, SIM_VARIANT, names[p], requirements[p]);
        if (strcmp(verdict, "pass") != 0)
            printf("%s: %s (%u violations, %llu checks)\n", verdict, names[p], shared->violations[p],
                   (unsigned long long)checks);
    }
    if (f != NULL) {
        fprintf(f, "%s\tsim\t%s: no crash, no endless loop\tZ10\n", shared->crashes == 0 ? "pass" : "fail",
                SIM_VARIANT);
        if (TALLY_COUNT > 0)
            fprintf(f, "%s\tsim\t%s: all that it is there for has happened\t-\n", all || !all_needed ? "pass" : "fail",
                    SIM_VARIANT);
        fclose(f);
    }
    return good;
}

/* A property that nothing ever put to the test would pass as well: so say which causes have really happened. */
static void print_causes(void)
{
    unsigned missing = 0;
    printf("%s: events by cause:", SIM_VARIANT);
    for (unsigned i = 0; i < MINIPROXY_CAUSE_COUNT; i++) {
        if (shared->causes[i] == 0) missing++;
        else printf(" %s=%u", miniproxy_cause_token((enum miniproxy_cause)i), shared->causes[i]);
    }
    printf("\n%s: %u causes never reached:", SIM_VARIANT, missing);
    for (unsigned i = 0; i < MINIPROXY_CAUSE_COUNT; i++)
        if (shared->causes[i] == 0) printf(" %s", miniproxy_cause_token((enum miniproxy_cause)i));
    printf("\n");
}

static int run_one(uint64_t seed, bool verbose)
{
    bool good;
    world.tracing = verbose;
    world.trace_to = stdout;
    good = run_seed(seed);
    if (!good && !verbose) report(seed);
    printf("seed %llu: %s\n", (unsigned long long)seed, good ? "ok" : world.message);
    return good ? 0 : 1;
}

int main(int argc, char **argv)
{
    uint64_t from = 1, to = 1000, one = 0;
    unsigned jobs = 1, brief = REPORTS_MAX;
    bool verbose = false, split = false;
    const char *results = NULL;
    struct timespec start, end;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) return 2;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        char *dots;
        if (strcmp(argv[i], "--verbose") == 0) verbose = true;
        else if (strcmp(argv[i], "--split") == 0) split = true;
        else if (strcmp(argv[i], "--first") == 0) first_only = true;
        else if (strcmp(argv[i], "--seed") == 0) one = strtoull(value, NULL, 10), i++;
        else if (strcmp(argv[i], "--jobs") == 0) jobs = (unsigned)atoi(value), i++;
        else if (strcmp(argv[i], "--reports") == 0) brief = (unsigned)atoi(value), i++;
        else if (strcmp(argv[i], "--results") == 0) results = value, i++;
        else if (strcmp(argv[i], "--seeds") == 0) {
            from = strtoull(value, &dots, 10);
            if (strncmp(dots, "..", 2) == 0) to = strtoull(dots + 2, NULL, 10);
            else to = from, from = 1;
            i++;
        } else {
            fprintf(stderr,
                    "usage: %s [--seeds FROM..TO | --seed N | --split] [--verbose] [--jobs K] [--reports N] [--first] "
                    "[--results FILE]\n",
                    argv[0]);
            return 2;
        }
    }
    if (jobs < 1 || jobs > JOBS_MAX) jobs = 1;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (split) return split_main(results);
    if (one != 0) return run_one(one, verbose);
    clock_gettime(CLOCK_MONOTONIC, &start);
    run_jobs(from, to, jobs, brief);
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%s: %llu seeds in %ld s, %u violations, %u crashes\n", SIM_VARIANT, (unsigned long long)(to - from + 1),
           (long)(end.tv_sec - start.tv_sec), shared->reported, shared->crashes);
    print_causes();
    return write_results(results, to - from >= 2000 && !first_only) ? 0 : 1;
}
