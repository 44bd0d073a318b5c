/* SPDX-License-Identifier: MIT
 *
 * The access log: one line a transaction, whole or lost; syslog; and messages.
 */
#define _GNU_SOURCE
#include "desktop.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifndef PIPE_BUF
#define PIPE_BUF 512 /* POSIX has no less */
#endif

enum { FLUSH_MS = 20, END_MS = 500 };

/* ---- Outlets
 *
 * A pipe, a terminal or a socket may have a reader that is slow, or has stopped for ever. Nobody waits for it: what it
 * does not take is kept, as far as there is room, and goes before what comes later. So a line is there in full or not at
 * all. */

static bool must_wait(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK;
}

static bool same_file(int a, int b)
{
    struct stat of_a, of_b;
    return fstat(a, &of_a) == 0 && fstat(b, &of_b) == 0 && of_a.st_dev == of_b.st_dev && of_a.st_ino == of_b.st_ino;
}

/* Not to block is a property that is shared with whoever has inherited the descriptor too, as the shell, so it is set on a
 * second one for the same pipe or terminal. Where that cannot be had, to look before each write has to do. */
static int second_descriptor(int fd)
{
    int second = -1;
#ifdef __linux__
    char path[32];
    struct stat s;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY || fstat(fd, &s) != 0) return fd;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (S_ISFIFO(s.st_mode) || S_ISCHR(s.st_mode)) second = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
#endif
    return second >= 0 ? second : fd;
}

static void use_descriptor(struct outlet *o, int fd)
{
    struct stat s;
    o->fd = fd;
    o->is_file = fstat(fd, &s) == 0 && S_ISREG(s.st_mode);
}

static bool outlet_open(struct outlet *o, int fd)
{
    use_descriptor(o, fd);
    pthread_mutex_init(&o->lock, NULL);
    o->kept = malloc(LOG_KEPT_MAX);
    return o->kept != NULL;
}

/* A pipe that takes anything takes so much in one piece: lines as far as they fit, or a part of one that does not. */
static size_t piece_of(const char *lines, size_t len)
{
    size_t piece = PIPE_BUF;
    if (len <= PIPE_BUF) return len;
    while (piece > 0 && lines[piece - 1] != '\n') piece--;
    return piece > 0 ? piece : PIPE_BUF;
}

/* What can be written now. Returns how many octets that were; errno says why it was not all. */
static size_t push(const struct outlet *o, const char *lines, size_t len)
{
    size_t done = 0;
    while (done < len) {
        struct pollfd ready = {.fd = o->fd, .events = POLLOUT};
        ssize_t n;
        errno = EAGAIN;
        if (!o->is_file && poll(&ready, 1, 0) == 0) break;
        n = write(o->fd, lines + done, o->is_file ? len - done : piece_of(lines + done, len - done));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        done += (size_t)n;
    }
    return done;
}

/* With the lock. True: nothing is kept any more. */
static bool push_kept(struct outlet *o)
{
    size_t len = atomic_load(&o->kept_len), done = push(o, o->kept, len);
    int error = errno;
    memmove(o->kept, o->kept + done, len - done);
    atomic_store(&o->kept_len, len - done);
    errno = error;
    return done == len;
}

/* With the lock. Lines that do not fit are left out; false: there were some. */
static bool keep(struct outlet *o, const char *lines, size_t len)
{
    size_t before = atomic_load(&o->kept_len), taken = len;
    while (taken > 0 && (taken > LOG_KEPT_MAX - before || lines[taken - 1] != '\n')) taken--;
    memcpy(o->kept + before, lines, taken);
    atomic_store(&o->kept_len, before + taken);
    return taken == len;
}

/* False: something is lost; errno says why. */
static bool outlet_write(struct outlet *o, const char *lines, size_t len)
{
    size_t done = 0;
    int error;
    bool ok;
    pthread_mutex_lock(&o->lock);
    if (push_kept(o)) done = push(o, lines, len);
    error = errno;
    ok = done == len || ((done > 0 || must_wait(error)) && keep(o, lines + done, len - done));
    pthread_mutex_unlock(&o->lock);
    errno = error;
    return ok;
}

/* True: nothing is kept any more. */
static bool outlet_flush(struct outlet *o)
{
    bool done;
    if (atomic_load(&o->kept_len) == 0) return true;
    pthread_mutex_lock(&o->lock);
    done = push_kept(o);
    pthread_mutex_unlock(&o->lock);
    return done;
}

/* How many lines are given up. */
static unsigned outlet_forget(struct outlet *o)
{
    unsigned lines = 0;
    for (size_t i = 0; i < atomic_load(&o->kept_len); i++) lines += o->kept[i] == '\n';
    atomic_store(&o->kept_len, 0);
    return lines;
}

/* A reader that is only slow gets what is kept. */
static void outlet_end(struct outlet *o)
{
    const uint32_t start_ms = miniproxy_posix_now_ms();
    while (!outlet_flush(o) && must_wait(errno) && miniproxy_posix_now_ms() - start_ms < END_MS)
        poll(&(struct pollfd){.fd = o->fd, .events = POLLOUT}, 1, FLUSH_MS);
}

/* ---- Messages */

static struct outlet messages = {.fd = STDERR_FILENO}; /* kept NULL: nothing is served yet, and writes may wait */

void say_lines(const char *lines, size_t len)
{
    /* Where stderr is broken there is nobody left to tell. */
    if (messages.kept != NULL) outlet_write(&messages, lines, len);
    else if (write(messages.fd, lines, len) < 0) return;
}

void say(const char *format, ...)
{
    char line[1024] = "miniproxy: ";
    size_t start = strlen(line), len;
    va_list args;
    va_start(args, format);
    vsnprintf(line + start, sizeof line - start - 1, format, args);
    va_end(args);
    len = strlen(line);
    line[len++] = '\n';
    say_lines(line, len);
}

bool stdout_has_all(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) return true;
    say("cannot write to standard output: %s", strerror(errno));
    return false;
}

/* ---- Time */

/* Minutes east of UTC, which a struct tm does not tell everywhere. */
static int zone_of(time_t now)
{
    struct tm here, utc;
    int days;
    if (localtime_r(&now, &here) == NULL || gmtime_r(&now, &utc) == NULL) return 0;
    days = here.tm_year != utc.tm_year ? here.tm_year - utc.tm_year : here.tm_yday - utc.tm_yday;
    return (days * 24 + here.tm_hour - utc.tm_hour) * 60 + here.tm_min - utc.tm_min;
}

static struct miniproxy_log_time time_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (struct miniproxy_log_time){.unix_s = now.tv_sec,
                                       .ms = (uint16_t)(now.tv_nsec / 1000000),
                                       .zone_min = (int16_t)zone_of(now.tv_sec)};
}

/* ---- The file */

/* A FIFO that nobody reads is an error, rather than something to wait for. */
static int open_file(const struct log *log)
{
    int fd = open(log->file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0640);
    if (fd < 0) say("cannot write the log %s: %s", log->file, errno == ENXIO ? "nobody reads it" : strerror(errno));
    return fd;
}

static bool open_syslog(struct log *log, const struct options *o)
{
    if (o->syslog.family == 0) return true;
    gethostname(log->host, sizeof log->host - 1);
    log->syslog_style = (struct miniproxy_log){.format = &miniproxy_log_syslog,
                                               .query = o->log_query,
                                               .host = log->host,
                                               .process = (uint32_t)getpid(),
                                               .facility = SYSLOG_FACILITY};
    if (miniproxy_posix_syslog_open(&log->syslog, &o->syslog)) return true;
    say("cannot open a socket for --syslog: %s", strerror(errno));
    return false;
}

bool log_open(struct log *log, const struct options *o)
{
    int fd;
    log->file = strcmp(o->log_file, "-") == 0 ? NULL : o->log_file;
    log->style = (struct miniproxy_log){.format = o->log_format, .query = o->log_query};
    pthread_mutex_init(&log->lock, NULL);
    fd = log->file == NULL ? second_descriptor(STDOUT_FILENO) : open_file(log);
    if (fd < 0) return false;
    if (!outlet_open(&log->out, fd) || !outlet_open(&messages, second_descriptor(STDERR_FILENO))) {
        say("no memory for the log");
        return false;
    }
    return open_syslog(log, o);
}

static void count_lost(struct log *log, unsigned lines, int error)
{
    if (lines == 0) return;
    atomic_fetch_add(&log->lost, lines);
    if (atomic_exchange(&log->said, true)) return;
    say("cannot write the log: %s; lines are lost until that changes (SIGUSR1 tells how many)",
        must_wait(error) ? "nobody reads it, or not fast enough" : strerror(error));
}

/* After the old file was moved away. Where the new one cannot be opened, the old one goes on. */
void log_reopen(struct log *log)
{
    unsigned lost = 0;
    int fd, old = log->out.fd;
    if (log->file == NULL || (fd = open_file(log)) < 0) return;
    outlet_flush(&log->out);
    pthread_mutex_lock(&log->out.lock);
    if (!same_file(fd, old)) lost = outlet_forget(&log->out);
    close(old);
    use_descriptor(&log->out, fd);
    pthread_mutex_unlock(&log->out.lock);
    atomic_fetch_add(&log->lost, lost);
    atomic_store(&log->said, false);
}

uint32_t log_poll(struct log *log, uint32_t wait_ms)
{
    bool done = outlet_flush(&log->out);
    done = outlet_flush(&messages) && done;
    return done || wait_ms < FLUSH_MS ? wait_ms : FLUSH_MS;
}

bool log_waits(const struct log *log)
{
    return atomic_load(&log->out.kept_len) > 0 || atomic_load(&messages.kept_len) > 0;
}

void log_end(struct log *log)
{
    if (messages.kept == NULL) return;
    outlet_end(&log->out);
    count_lost(log, outlet_forget(&log->out), EAGAIN);
    outlet_end(&messages);
    free(log->out.kept);
    free(messages.kept);
    messages.kept = NULL;
}

static void write_line(struct log *log, const char *line, size_t len)
{
    if (!outlet_write(&log->out, line, len)) count_lost(log, 1, errno);
}

static void send_line(struct log *log, const char *line, size_t len)
{
    pthread_mutex_lock(&log->lock);
    miniproxy_posix_syslog_send(&log->syslog, line, len);
    pthread_mutex_unlock(&log->lock);
}

unsigned long log_syslog_dropped(struct log *log)
{
    unsigned long dropped;
    pthread_mutex_lock(&log->lock);
    dropped = log->syslog.dropped;
    pthread_mutex_unlock(&log->lock);
    return dropped;
}

/* ---- Lines */

/* Something to tell, and the function of port/miniproxy_log.h that does. */
struct news {
    size_t (*compose)(const struct miniproxy_log *style, const struct miniproxy_log_time *now, const struct news *news,
                      char *out, size_t room);
    const void *what, *more;
    const char *text;
    size_t len;
    unsigned side;
};

static void tell(struct log *log, char *line, const struct news *news)
{
    const struct miniproxy_log_time now = time_now();
    size_t len = news->compose(&log->style, &now, news, line, LOG_LINE_MAX - 1);
    line[len] = '\n';
    if (len > 0) write_line(log, line, len + 1);
    if (log->syslog_style.format == NULL) return;
    len = news->compose(&log->syslog_style, &now, news, line, LOG_LINE_MAX < SYSLOG_MAX ? LOG_LINE_MAX : SYSLOG_MAX);
    if (len > 0) send_line(log, line, len);
}

static size_t compose_event(const struct miniproxy_log *style, const struct miniproxy_log_time *now,
                            const struct news *news, char *out, size_t room)
{
    return miniproxy_log_event(style, now, news->what, out, room);
}

void log_event(struct log *log, char *line, const struct miniproxy_event *e)
{
    tell(log, line, &(struct news){.compose = compose_event, .what = e});
}

static size_t compose_tls(const struct miniproxy_log *style, const struct miniproxy_log_time *now,
                          const struct news *news, char *out, size_t room)
{
    return miniproxy_log_tls(style, now, news->what, out, room);
}

void log_tls(struct log *log, char *line, const struct miniproxy_log_tls *e)
{
    tell(log, line, &(struct news){.compose = compose_tls, .what = e});
}

static size_t compose_alert(const struct miniproxy_log *style, const struct miniproxy_log_time *now,
                            const struct news *news, char *out, size_t room)
{
    return miniproxy_log_alert(style, now, news->what, out, room);
}

void log_alert(struct log *log, char *line, const struct miniproxy_alert *alert)
{
    static const struct miniproxy_log words = {.format = &miniproxy_log_words};
    size_t len;
    tell(log, line, &(struct news){.compose = compose_alert, .what = alert});
    len = miniproxy_log_alert(&words, &(struct miniproxy_log_time){0}, alert, line, LOG_LINE_MAX);
    say("%.*s", (int)len, line);
}

#if MINIPROXY_WITH_ROUTES
static size_t compose_hop(const struct miniproxy_log *style, const struct miniproxy_log_time *now,
                          const struct news *news, char *out, size_t room)
{
    return miniproxy_log_hop(style, now, news->what, news->more, out, room);
}

void log_hop(struct log *log, char *line, const struct miniproxy_hop *hop, const struct miniproxy_health *health)
{
    tell(log, line, &(struct news){.compose = compose_hop, .what = hop, .more = health});
}
#endif

#if MINIPROXY_WITH_HEADS
static size_t compose_head(const struct miniproxy_log *style, const struct miniproxy_log_time *now,
                           const struct news *news, char *out, size_t room)
{
    return miniproxy_log_head(style, now, news->what, (enum miniproxy_side)news->side, news->text, news->len, out, room);
}

void log_head(struct log *log, char *line, const struct miniproxy_event *e, enum miniproxy_side side, const char *text,
              size_t len)
{
    tell(log, line, &(struct news){.compose = compose_head, .what = e, .text = text, .len = len, .side = side});
}
#endif
