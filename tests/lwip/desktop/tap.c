/* SPDX-License-Identifier: MIT
 *
 * A tap device of Linux. Apart from lwIP's code, for the headers of both define the same names.
 */
#define _GNU_SOURCE
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

int tap_open(const char *name)
{
    struct ifreq request;
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

    if (fd < 0) return -1;
    memset(&request, 0, sizeof request);
    request.ifr_flags = IFF_TAP | IFF_NO_PI;
    strncpy(request.ifr_name, name, sizeof request.ifr_name - 1);
    if (ioctl(fd, TUNSETIFF, &request) != 0) {
        int error = errno;

        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

size_t tap_read(int fd, void *frame, size_t room)
{
    ssize_t got = read(fd, frame, room);

    return got > 0 ? (size_t)got : 0;
}

void tap_write(int fd, const void *frame, size_t len)
{
    ssize_t sent;

    do sent = write(fd, frame, len);
    while (sent < 0 && errno == EINTR);
}
