/* SPDX-License-Identifier: MIT
 *
 * Lines for logs that other programs read, of what the core tells by struct miniproxy_config.event, .hop and .head: Common
 * Log Format, Squid's native format, JSON, syslog (RFC 5424). No operating system, no heap, no printf, no clock.
 *
 * Nothing in a line can end it, or pass for another field of it, whatever clients and origins send. Userinfo of targets is
 * left out.
 */
#ifndef MINIPROXY_LOG_H
#define MINIPROXY_LOG_H

#include "miniproxy.h"
#include "miniproxy_watch.h"

/* When it was: seconds since 1970 (0: unknown) and milliseconds, and the time zone in minutes east of UTC, which CLF and
 * syslog show. Good until the year 9999. */
struct miniproxy_log_time {
    int64_t unix_s;
    uint16_t ms;
    int16_t zone_min;
};

/* A line of each, where other tools than people read it:
 *
 *   clf    CLIENT - USER [DATE] "METHOD TARGET HTTP/1.1" STATUS BYTES CAUSE SOURCE TOTAL_MS ADDRESS RULE, and where there is
 *          one via=HOST:PORT, id=N. Octets with a meaning there are \xHH
 *   squid  UNIX.MS TOTAL_MS CLIENT CODE/STATUS BYTES METHOD TARGET USER HIERARCHY/PEER -, with Squid's words for what became
 *          of it: TCP_MISS, TCP_TUNNEL, TCP_DENIED, NONE_NONE (it was not sent on), _ABORTED, _TIMEDOUT (the response was
 *          cut). Octets with a meaning there are %HH
 *   json   an object with all that is known. Octets that are not UTF-8 are the characters \xHH
 *   words  KIND KEY=VALUE…, for a console. KIND is transaction, alert, parent, member, tls or head; keys as in JSON; octets
 *          with a meaning there, blanks too, are \xHH
 *   syslog <PRIORITY>1 TIME HOST APP PROCESS KIND - and the words, for one datagram
 *
 * What is no transaction is in clf and squid a line that begins with "# ", a comment to programs that read these formats,
 * then time and words. In clf what TLS and hops tell looks like a transaction. */
struct miniproxy_log_format;
extern const struct miniproxy_log_format miniproxy_log_clf, miniproxy_log_squid, miniproxy_log_json, miniproxy_log_words,
    miniproxy_log_syslog;

struct miniproxy_log {
    const struct miniproxy_log_format *format;
    bool query;        /* targets with their query */
    /* syslog: names of printable ASCII, or NULL: "-" and "miniproxy"; 0: no process; 0..23, 3 is daemon, 16 local0 */
    const char *host, *app;
    uint32_t process;
    uint8_t facility;
};

/* Octets into which every line fits, when its target or text is cut to what room is left. */
#define MINIPROXY_LOG_LEAST (1100 + 6 * (MINIPROXY_METHOD_MAX + MINIPROXY_CREDENTIALS_MAX))

/* These write one line without its end, and return its length; it is not terminated. What can be long, targets and texts, is
 * cut to what room is left by the rest, and the line is whole all the same. 0: there is not even room for the rest. */
size_t miniproxy_log_event(const struct miniproxy_log *log, const struct miniproxy_log_time *now,
                           const struct miniproxy_event *event, char *out, size_t room);

/* From struct miniproxy_watch_config.alert. */
size_t miniproxy_log_alert(const struct miniproxy_log *log, const struct miniproxy_log_time *now,
                           const struct miniproxy_alert *alert, char *out, size_t room);

#if MINIPROXY_WITH_ROUTES
/* A hop went down or came up. */
size_t miniproxy_log_hop(const struct miniproxy_log *log, const struct miniproxy_log_time *now,
                         const struct miniproxy_hop *hop, const struct miniproxy_health *health, char *out, size_t room);
#endif

/* What went wrong with TLS where no transaction tells of it. */
struct miniproxy_log_tls {
    const struct miniproxy_addr *client, *address; /* one of them is NULL */
    const char *host;  /* what the origin at `address` should have proven to be, or NULL */
    const char *cause; /* as in events */
    const char *error; /* words for it, "" if there are none */
};
size_t miniproxy_log_tls(const struct miniproxy_log *log, const struct miniproxy_log_time *now,
                         const struct miniproxy_log_tls *tls, char *out, size_t room);

#if MINIPROXY_WITH_HEADS
/* A line of a head: "# TIME head client=… id=… side=client LINE", where LINE is as it was received
 * but for octets that could end it. */
size_t miniproxy_log_head(const struct miniproxy_log *log, const struct miniproxy_log_time *now,
                          const struct miniproxy_event *event, enum miniproxy_side side, const char *text, size_t len,
                          char *out, size_t room);
#endif

#endif
