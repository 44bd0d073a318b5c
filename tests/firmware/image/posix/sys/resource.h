/* SPDX-License-Identifier: MIT
 *
 * In place of POSIX's: there are no limits but those of the memory.
 */
#ifndef IMAGE_SYS_RESOURCE_H
#define IMAGE_SYS_RESOURCE_H

typedef unsigned long rlim_t;

struct rlimit {
    rlim_t rlim_cur, rlim_max;
};

enum { RLIMIT_NOFILE = 7 };

static inline int getrlimit(int what, struct rlimit *limit)
{
    (void)what;
    limit->rlim_cur = limit->rlim_max = (rlim_t)-1;
    return -1;
}

static inline int setrlimit(int what, const struct rlimit *limit)
{
    (void)what;
    (void)limit;
    return 0;
}

#endif
