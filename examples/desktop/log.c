/* SPDX-License-Identifier: MIT
 *
 * The access log: one line a transaction, written as a whole; syslog; and messages.
 */
#define _GNU_SOURCE
#include "desktop.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

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
    /* Where stderr is broken there is nobody left to tell. */
    if (write(STDERR_FILENO, line, len) < 0) return;
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

static int open_file(const struct log *log)
{
    int fd = open(log->file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0) say("cannot write the log %s: %s", log->file, strerror(errno));
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
    log->file = strcmp(o->log_file, "-") == 0 ? NULL : o->log_file;
    log->style = (struct miniproxy_log){.format = o->log_format, .query = o->log_query};
    pthread_mutex_init(&log->lock, NULL);
    log->fd = log->file == NULL ? STDOUT_FILENO : open_file(log);
    return log->fd >= 0 && open_syslog(log, o);
}

/* After the old file was moved away. Where the new one cannot be opened, the old one goes on. */
void log_reopen(struct log *log)
{
    int fd;
    if (log->file == NULL || (fd = open_file(log)) < 0) return;
    pthread_mutex_lock(&log->lock);
    close(log->fd);
    log->fd = fd;
    log->torn = log->said = false;
    pthread_mutex_unlock(&log->lock);
}

/* line: behind one octet of room, which becomes a line feed when the line before it could only be written in part. */
static void write_line(struct log *log, char *line, size_t len)
{
    size_t done;
    ssize_t n = 0;
    pthread_mutex_lock(&log->lock);
    line[0] = '\n';
    for (done = log->torn ? 0 : 1; done < len; done += (size_t)n) {
        do n = write(log->fd, line + done, len - done);
        while (n < 0 && errno == EINTR);
        if (n < 0) break;
        log->torn = true;
    }
    if (n >= 0) log->torn = false;
    else atomic_fetch_add(&log->lost, 1);
    if (n < 0 && !log->said) {
        log->said = true;
        say("cannot write the log: %s; lines are lost until that changes (SIGUSR1 tells how many)", strerror(errno));
    }
    pthread_mutex_unlock(&log->lock);
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
    size_t len = news->compose(&log->style, &now, news, line + 1, LOG_LINE_MAX - 2);
    line[1 + len] = '\n';
    if (len > 0) write_line(log, line, len + 2);
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
