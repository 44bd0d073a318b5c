/* SPDX-License-Identifier: MIT
 *
 * In place of POSIX's: addresses are read by the core.
 */
#ifndef IMAGE_ARPA_INET_H
#define IMAGE_ARPA_INET_H

#include "miniproxy.h"

#include <string.h>

enum { AF_INET = 2, AF_INET6 = 10 };

static inline int inet_pton(int family, const char *text, void *out)
{
    struct miniproxy_addr a = {0};
    if (!miniproxy_addr_parse(&a, text, strlen(text)) || a.family != (family == AF_INET ? 4 : 6)) return 0;
    memcpy(out, a.ip, a.family == 4 ? 4 : sizeof a.ip);
    return 1;
}

#endif
