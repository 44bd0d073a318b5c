/* SPDX-License-Identifier: MIT
 *
 * In place of the POSIX port's header: examples/desktop, unchanged, then runs on lwIP. The meaning of each function is
 * that of port/miniproxy_posix.h; shim.c says where it differs. A process has one stack and so one instance.
 */
#ifndef MINIPROXY_POSIX_H
#define MINIPROXY_POSIX_H

#include "miniproxy.h"

#define MINIPROXY_POSIX_LISTENERS 8

struct miniproxy_posix {
    struct miniproxy *proxy; /* NULL: not begun */
    unsigned listeners_used;
    struct miniproxy_addr listeners[MINIPROXY_POSIX_LISTENERS]; /* as asked for, with the ports that were bound */
};

extern struct miniproxy_port miniproxy_posix_port;

bool miniproxy_posix_init(struct miniproxy_posix *posix, struct miniproxy *proxy);
int miniproxy_posix_listen(struct miniproxy_posix *posix, const struct miniproxy_addr *at, bool share);
void miniproxy_posix_stop_listening(struct miniproxy_posix *posix);
uint32_t miniproxy_posix_now_ms(void);
void miniproxy_posix_wait(struct miniproxy_posix *posix, uint32_t wait_ms);
void miniproxy_posix_interrupt(struct miniproxy_posix *posix);
void miniproxy_posix_flush_names(struct miniproxy_posix *posix);
void miniproxy_posix_end(struct miniproxy_posix *posix);

/* As in the other header, which the desktop's files may have found first. */
struct miniproxy_posix_syslog {
    int fd;
    uint32_t dropped;
    struct miniproxy_addr to;
};

bool miniproxy_posix_syslog_open(struct miniproxy_posix_syslog *syslog, const struct miniproxy_addr *to);
void miniproxy_posix_syslog_send(struct miniproxy_posix_syslog *syslog, const char *line, size_t len);

#endif
