/* SPDX-License-Identifier: MIT
 *
 * What the audit says, in words: rules, sets, requests.
 */
#ifndef DESKTOP_POLICY_WORDS_H
#define DESKTOP_POLICY_WORDS_H

#include "policy_space.h"

enum { PHRASE_MAX = 1024, WIDTH = 110 };

/* A piece of text that is cut where it becomes too long. */
struct phrase {
    char text[PHRASE_MAX];
    size_t len;
};
void phrase_add(struct phrase *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* One paragraph, in lines of at most WIDTH columns: the first begins with `first`, the others with `indent` blanks. */
void tell(FILE *out, const char *first, unsigned indent, const char *format, ...) __attribute__((format(printf, 4, 5)));

/* "rule 3 (site.policy:39)", "rule 3 (site.policy:39, deny users display paths setup)". */
void phrase_rule(struct phrase *p, const struct compiled *c, int rule);
void phrase_rule_text(struct phrase *p, const struct compiled *c, int rule);

/* "via office (http://10.0.0.1:3128), then backup (socks5://10.0.0.2:1080)"; "directly", also for -1: no route. */
void phrase_way(struct phrase *p, const struct compiled *c, int route);
/* "route 1 (site.policy:50: route via office)" */
void phrase_origin(struct phrase *p, const char *what, int number, const struct rule_origin *origin);

/* "office (192.168.10.0/24)", or what the set has in it if it has no name. */
void phrase_nets(struct phrase *p, const struct compiled *c, const struct miniproxy_nets *nets);
void phrase_hosts(struct phrase *p, const struct compiled *c, const struct miniproxy_hosts *hosts);
void phrase_texts(struct phrase *p, const struct compiled *c, const struct miniproxy_texts *texts);
void phrase_types(struct phrase *p, const struct compiled *c, const struct miniproxy_texts *types);
void phrase_times(struct phrase *p, const struct compiled *c, const struct miniproxy_times *times);
void phrase_users(struct phrase *p, const struct compiled *c, unsigned users);
void phrase_ports(struct phrase *p, const struct compiled *c, const struct miniproxy_rule *r);
void phrase_methods(struct phrase *p, unsigned methods);

void phrase_days(struct phrase *p, unsigned days); /* "mon-fri", a bit each, Monday first */

const char *method_name(unsigned method);
void phrase_minute(struct phrase *p, int minute_of_week); /* "mon 14:30", "-" */

/* The words of `miniproxy policy explain` that stand for a request, ready for a shell. */
void phrase_command(struct phrase *p, const struct compiled *c, const struct space *s, const struct witness *w);

/* Why a rule does not match, its address and type left aside where they are not known yet (address NULL, type NULL).
 * False: it matches, as far as that. */
bool phrase_mismatch(struct phrase *p, const struct compiled *c, const struct miniproxy_rule *r,
                     const struct miniproxy_question *q);

/* Does the rule match this user, or this client instead? */
bool rule_covers_user(const struct miniproxy_rule *r, const struct miniproxy_question *q);

#endif
