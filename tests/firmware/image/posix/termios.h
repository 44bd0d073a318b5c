/* SPDX-License-Identifier: MIT
 *
 * In place of POSIX's: there is no terminal.
 */
#ifndef IMAGE_TERMIOS_H
#define IMAGE_TERMIOS_H

typedef unsigned tcflag_t;

struct termios {
    tcflag_t c_lflag;
};

enum { ECHO = 1, ISIG = 2, TCSAFLUSH = 0 };

static inline int tcgetattr(int fd, struct termios *settings)
{
    (void)fd;
    settings->c_lflag = 0;
    return -1;
}

static inline int tcsetattr(int fd, int when, const struct termios *settings)
{
    (void)fd;
    (void)when;
    (void)settings;
    return -1;
}

#endif
