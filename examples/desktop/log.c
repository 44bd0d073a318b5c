/* SPDX-License-Identifier: MIT
 *
 * The access log: one line a transaction, written as a whole; and messages.
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

/* ---- Text that cannot overflow: what has no room is left out. LOG_LINE_MAX leaves room for every line. */

struct text {
    char *at, *end;
};

static void put(struct text *t, const char *s, size_t len)
{
    if (len > (size_t)(t->end - t->at)) return;
    memcpy(t->at, s, len);
    t->at += len;
}

static void put_format(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put_format(struct text *t, const char *format, ...)
{
    char small[256];
    va_list args;
    int len;
    va_start(args, format);
    len = vsnprintf(small, sizeof small, format, args);
    va_end(args);
    if (len > 0 && (size_t)len < sizeof small) put(t, small, (size_t)len);
}

static void put_word(struct text *t, const char *s)
{
    put(t, s, strlen(s));
}

/* Length of the well-formed UTF-8 character at s (RFC 3629), 0 if there is none. */
static size_t utf8_len(const char *s, size_t len)
{
    const unsigned char *p = (const unsigned char *)s;
    size_t n;
    if (p[0] < 0x80) return 1;
    n = p[0] >= 0xc2 && p[0] <= 0xdf ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 : p[0] >= 0xf0 && p[0] <= 0xf4 ? 4 : 0;
    if (n == 0 || n > len) return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f)) return 0; /* overlong; surrogates */
    if ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f)) return 0; /* overlong; above U+10FFFF */
    return n;
}

/* For a field of a CLF line: nothing in it can end the field or the line. blank: blanks end it too. */
static void put_clf(struct text *t, const char *s, size_t len, bool blank)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c < 0x20 || c >= 0x7f || c == '"' || c == '\\' || (blank && c == ' ')) put_format(t, "\\x%02x", c);
        else put(t, s + i, 1);
    }
}

/* The inside of a JSON string (RFC 8259). An octet that is not UTF-8 becomes the four characters \xHH. */
static void put_json(struct text *t, const char *s, size_t len)
{
    for (size_t i = 0, n; i < len; i += n) {
        unsigned char c = (unsigned char)s[i];
        n = utf8_len(s + i, len - i);
        if (n == 0) {
            n = 1;
            put_format(t, "\\\\x%02x", c);
        } else if (c == '"' || c == '\\') {
            put_format(t, "\\%c", c);
        } else if (c < 0x20 || c == 0x7f) {
            put_format(t, "\\u%04x", c);
        } else {
            put(t, s + i, n);
        }
    }
}

/* ---- What is logged */

#if MINIPROXY_WITH_ROUTES
/* False: no hop was used. */
static bool hop_of(const struct miniproxy_event *e, char out[HOP_TEXT_MAX])
{
    if (e->hop != NULL) hop_text(e->hop, out);
    return e->hop != NULL;
}
#else
enum { HOP_TEXT_MAX = 1 };
static bool hop_of(const struct miniproxy_event *e, char out[HOP_TEXT_MAX])
{
    (void)e, (void)out;
    return false;
}
#endif

/* A target in three parts: before and behind userinfo, which is not logged, for it may be a password. */
struct target {
    const char *before, *behind;
    size_t before_len, behind_len;
};

static struct target split_target(const char *s, size_t len, bool query)
{
    struct target t = {s, s, 0, len};
    const char *colon = memchr(s, ':', len), *start = s, *end;
    if (colon != NULL && s + len - colon >= 3 && memcmp(colon, "://", 3) == 0) start = colon + 3;
    for (end = start; end < s + len && strchr("/?#", *end) == NULL; end++) {}
    while (end > start && end[-1] != '@') end--;
    if (end > start) {
        t.before_len = (size_t)(start - s);
        t.behind = end;
        t.behind_len = len - (size_t)(end - s);
    }
    if (!query) {
        const char *mark = memchr(t.behind, '?', t.behind_len);
        if (mark != NULL) t.behind_len = (size_t)(mark - t.behind);
    }
    return t;
}

static const char *source_word(const struct miniproxy_event *e)
{
    return e->source == MINIPROXY_BY_PROXY ? "proxy" : e->source == MINIPROXY_BY_ORIGIN ? "origin" : "-";
}

static bool is_socks(const struct miniproxy_event *e)
{
#if MINIPROXY_WITH_SOCKS5
    return e->socks;
#else
    return (void)e, false;
#endif
}

static void put_clf_line(struct text *t, const struct miniproxy_event *e, const struct target *target, time_t now)
{
    char via[HOP_TEXT_MAX], address[TEXT_MAX] = "-", client[MINIPROXY_ADDR_TEXT], date[64] = "";
    struct tm tm;
    miniproxy_addr_format(e->client, client);
    if (e->address->family != 0) address_text(e->address, address);
    if (localtime_r(&now, &tm) != NULL) strftime(date, sizeof date, "%d/%b/%Y:%H:%M:%S %z", &tm);
    put_word(t, client);
    put_word(t, " - ");
    if (e->user != NULL) put_clf(t, e->user, strlen(e->user), true);
    else put_word(t, "-");
    put_format(t, " [%s] \"", date);
    if (e->method_len > 0) {
        put_clf(t, e->method, e->method_len, false);
        put_word(t, " ");
        put_clf(t, target->before, target->before_len, false);
        put_clf(t, target->behind, target->behind_len, false);
        put_word(t, is_socks(e) ? " SOCKS5" : " HTTP/1.1");
    } else {
        put_word(t, "-");
    }
    put_format(t, "\" %03u %llu %s %s %lu %s %d", e->status, (unsigned long long)e->bytes_down,
               miniproxy_cause_token((enum miniproxy_cause)e->cause), source_word(e), (unsigned long)e->total_ms,
               address, e->rule);
    if (hop_of(e, via)) {
        put_word(t, " via=");
        put_word(t, via);
    }
    put_word(t, "\n");
}

/* "key":"value", or null where there is none. */
static void put_pair(struct text *t, const char *key, const char *value)
{
    put_format(t, ",\"%s\":", key);
    if (value == NULL || value[0] == '\0') {
        put_word(t, "null");
    } else {
        put_word(t, "\"");
        put_json(t, value, strlen(value));
        put_word(t, "\"");
    }
}

static void put_json_request(struct text *t, const struct miniproxy_event *e, const struct target *target)
{
    if (e->method_len == 0) {
        put_word(t, ",\"method\":null,\"target\":null");
        return;
    }
    put_word(t, ",\"method\":\"");
    put_json(t, e->method, e->method_len);
    put_word(t, "\",\"target\":\"");
    put_json(t, target->before, target->before_len);
    put_json(t, target->behind, target->behind_len);
    put_word(t, "\"");
}

static void put_json_line(struct text *t, const struct miniproxy_event *e, const struct target *target,
                          const struct timespec *now)
{
    char via[HOP_TEXT_MAX], address[TEXT_MAX] = "", client[MINIPROXY_ADDR_TEXT], date[64] = "";
    enum miniproxy_cause cause = (enum miniproxy_cause)e->cause;
    struct tm tm;
    miniproxy_addr_format(e->client, client);
    if (e->address->family != 0) address_text(e->address, address);
    if (gmtime_r(&now->tv_sec, &tm) != NULL) strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm);
    put_format(t, "{\"time\":\"%s.%03dZ\",\"client\":\"%s\",\"client_port\":%u", date, (int)(now->tv_nsec / 1000000),
               client, e->client->port);
    put_pair(t, "user", e->user);
    put_json_request(t, e, target);
    put_format(t, ",\"status\":%u", e->status);
    put_pair(t, "by", e->source == MINIPROXY_BY_NOBODY ? NULL : source_word(e));
    put_pair(t, "cause", cause == MINIPROXY_CAUSE_NONE ? NULL : miniproxy_cause_token(cause));
    put_pair(t, "proxy_status", miniproxy_cause_type(cause));
    put_format(t, ",\"bytes_up\":%llu,\"bytes_down\":%llu", (unsigned long long)e->bytes_up,
               (unsigned long long)e->bytes_down);
    put_format(t, ",\"dns_ms\":%lu,\"connect_ms\":%lu,\"first_byte_ms\":%lu,\"total_ms\":%lu", (unsigned long)e->dns_ms,
               (unsigned long)e->connect_ms, (unsigned long)e->first_byte_ms, (unsigned long)e->total_ms);
    put_pair(t, "address", address);
    if (hop_of(e, via)) put_pair(t, "via", via);
    if (e->rule < 0) put_word(t, ",\"rule\":null");
    else put_format(t, ",\"rule\":%d", e->rule);
    if (is_socks(e)) put_word(t, ",\"socks\":true");
    put_format(t, ",\"reused\":%s,\"session\":%u}\n", e->reused ? "true" : "false", e->session);
}

/* ---- What TLS tells: the fields of a transaction, in the same places, as far as there are any */

static void put_clf_tls(struct text *t, const struct log_tls *e, time_t now)
{
    char address[TEXT_MAX] = "-", client[MINIPROXY_ADDR_TEXT] = "-", date[64] = "";
    struct tm tm;
    if (e->client != NULL) miniproxy_addr_format(e->client, client);
    if (e->address != NULL) address_text(e->address, address);
    if (localtime_r(&now, &tm) != NULL) strftime(date, sizeof date, "%d/%b/%Y:%H:%M:%S %z", &tm);
    put_format(t, "%s - - [%s] \"-\" 000 0 %s tls 0 %s -1 ", client, date, e->cause, address);
    put_clf(t, e->host != NULL ? e->host : "-", e->host != NULL ? strlen(e->host) : 1, true);
    put_word(t, " \"");
    put_clf(t, e->error, strlen(e->error), false);
    put_word(t, "\"\n");
}

static void put_json_tls(struct text *t, const struct log_tls *e, const struct timespec *now)
{
    char address[TEXT_MAX] = "", client[MINIPROXY_ADDR_TEXT] = "", date[64] = "";
    struct tm tm;
    if (e->client != NULL) miniproxy_addr_format(e->client, client);
    if (e->address != NULL) address_text(e->address, address);
    if (gmtime_r(&now->tv_sec, &tm) != NULL) strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm);
    put_format(t, "{\"time\":\"%s.%03dZ\"", date, (int)(now->tv_nsec / 1000000));
    put_pair(t, "client", client);
    put_format(t, ",\"client_port\":%u", e->client != NULL ? e->client->port : 0);
    put_pair(t, "by", "tls");
    put_pair(t, "cause", e->cause);
    put_pair(t, "address", address);
    put_pair(t, "host", e->host);
    put_pair(t, "error", e->error);
    put_word(t, "}\n");
}

/* ---- What hops tell, in the same way */

#if MINIPROXY_WITH_ROUTES

struct hop_words {
    char hop[HOP_TEXT_MAX];
    const char *kind, *state, *cause;
};

static void put_clf_hop(struct text *t, const struct hop_words *h, time_t now)
{
    char date[64] = "";
    struct tm tm;
    if (localtime_r(&now, &tm) != NULL) strftime(date, sizeof date, "%d/%b/%Y:%H:%M:%S %z", &tm);
    put_format(t, "- - - [%s] \"-\" 000 0 %s %s 0 - -1 state=%s via=", date, h->cause, h->kind, h->state);
    put_word(t, h->hop);
    put_word(t, "\n");
}

static void put_json_hop(struct text *t, const struct hop_words *h, const struct timespec *now)
{
    char date[64] = "";
    struct tm tm;
    if (gmtime_r(&now->tv_sec, &tm) != NULL) strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm);
    put_format(t, "{\"time\":\"%s.%03dZ\"", date, (int)(now->tv_nsec / 1000000));
    put_pair(t, "by", h->kind);
    put_pair(t, "cause", strcmp(h->cause, "-") == 0 ? NULL : h->cause);
    put_pair(t, "via", h->hop);
    put_pair(t, "state", h->state);
    put_word(t, "}\n");
}

#endif

/* ---- The file */

static int open_file(const struct log *log)
{
    int fd = open(log->file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0) say("cannot write the log %s: %s", log->file, strerror(errno));
    return fd;
}

bool log_open(struct log *log, const struct options *o)
{
    log->file = strcmp(o->log_file, "-") == 0 ? NULL : o->log_file;
    log->json = o->log_json;
    log->query = o->log_query;
    pthread_mutex_init(&log->lock, NULL);
    log->fd = log->file == NULL ? STDOUT_FILENO : open_file(log);
    return log->fd >= 0;
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

/* The line begins behind one octet, which becomes a line feed when the line before it could only be written in part. */
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

void log_event(struct log *log, char *line, const struct miniproxy_event *e)
{
    struct text t = {line + 1, line + LOG_LINE_MAX};
    struct target target = {"", "", 0, 0};
    struct timespec now;
    if (e->method_len > 0 && e->target_len == 0) target = (struct target){"", "-", 0, 1};
    if (e->method_len > 0 && e->target_len > 0) target = split_target(e->target, e->target_len, log->query);
    clock_gettime(CLOCK_REALTIME, &now);
    if (log->json) put_json_line(&t, e, &target, &now);
    else put_clf_line(&t, e, &target, now.tv_sec);
    write_line(log, line, (size_t)(t.at - line));
}

void log_tls(struct log *log, char *line, const struct log_tls *e)
{
    struct text t = {line + 1, line + LOG_LINE_MAX};
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (log->json) put_json_tls(&t, e, &now);
    else put_clf_tls(&t, e, now.tv_sec);
    write_line(log, line, (size_t)(t.at - line));
}

#if MINIPROXY_WITH_ROUTES
void log_hop(struct log *log, char *line, const struct miniproxy_hop *hop, const struct miniproxy_health *health)
{
    struct text t = {line + 1, line + LOG_LINE_MAX};
    struct timespec now;
    struct hop_words h = {.kind = hop->kind == MINIPROXY_HOP_ORIGIN ? "member" : "parent",
                          .state = health->down != 0 ? "down" : "up",
                          .cause =
                              health->down != 0 ? miniproxy_cause_token((enum miniproxy_cause)health->cause) : "-"};
    hop_text(hop, h.hop);
    clock_gettime(CLOCK_REALTIME, &now);
    if (log->json) put_json_hop(&t, &h, &now);
    else put_clf_hop(&t, &h, now.tv_sec);
    write_line(log, line, (size_t)(t.at - line));
}
#endif
