/* SPDX-License-Identifier: MIT
 *
 * The C library's system calls: files are the host's, by semihosting; standard error is the UART. Standard input and
 * output are descriptors 3 and 4 of the emulator, which it got from the launcher.
 */
#include "board.h"
#include "cpu.h"
#include "image.h"
#include "miniproxy.h"
#include "semihosting.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { SYS_OPEN = 1, SYS_CLOSE = 2, SYS_WRITE = 5, SYS_READ = 6, SYS_SEEK = 0xa, SYS_FLEN = 0xc, SYS_TIME = 0x11,
       SYS_ERRNO = 0x13 };
enum { READ = 0, APPEND = 8 }; /* modes of SYS_OPEN */
enum { FILES = 8, FIRST = 3, BLOCK = 256 };

static int32_t handles[FIRST + FILES]; /* + 1; 0: not open */

/* ---- Files */

static int failed(void)
{
    errno = (int)semihosting_call(SYS_ERRNO, NULL);
    return -1;
}

static int32_t host_open(const char *name, uint32_t mode)
{
    struct {
        const char *name;
        uint32_t mode, len;
    } block = {name, mode, strlen(name)};

    return semihosting_call(SYS_OPEN, &block);
}

/* Older emulators open for appending at the beginning. */
static void go_to_end(int32_t handle)
{
    int32_t len = semihosting_call(SYS_FLEN, &handle);
    int32_t block[2] = {handle, len};

    if (len > 0) semihosting_call(SYS_SEEK, block);
}

static bool open_standard(int fd)
{
    if (handles[fd] == 0) handles[fd] = host_open(fd == 0 ? "/dev/fd/3" : "/dev/fd/4", fd == 0 ? READ : APPEND) + 1;
    return handles[fd] > 0;
}

static bool is_open(int fd)
{
    errno = EBADF;
    if (fd < 0 || fd >= FIRST + FILES || fd == STDERR_FILENO) return false;
    return fd < FIRST ? open_standard(fd) : handles[fd] > 0;
}

int _open(const char *name, int flags, ...);
int _open(const char *name, int flags, ...)
{
    int32_t handle;
    int fd = FIRST;

    while (fd < FIRST + FILES && handles[fd] != 0) fd++;
    errno = EMFILE;
    if (fd == FIRST + FILES) return -1;
    handle = host_open(name, (flags & O_ACCMODE) == O_RDONLY ? READ : APPEND);
    if (handle < 0) return failed();
    if ((flags & O_ACCMODE) != O_RDONLY) go_to_end(handle);
    handles[fd] = handle + 1;
    return fd;
}

int _close(int fd);
int _close(int fd)
{
    int32_t handle;

    if (!is_open(fd)) return -1;
    handle = handles[fd] - 1;
    handles[fd] = 0;
    return semihosting_call(SYS_CLOSE, &handle) == 0 ? 0 : failed();
}

/* SYS_READ and SYS_WRITE return how many octets are left. */
static int transfer(uint32_t operation, int fd, const void *data, size_t len)
{
    struct {
        int32_t handle;
        const void *data;
        size_t len;
    } block = {is_open(fd) ? handles[fd] - 1 : -1, data, len};
    int32_t left;

    if (block.handle < 0) return -1;
    left = semihosting_call(operation, &block);
    if (left < 0 || (operation == SYS_WRITE && len > 0 && (size_t)left == len)) return failed();
    return (int)(len - (size_t)left);
}

int _read(int fd, char *data, int len);
int _read(int fd, char *data, int len)
{
    return transfer(SYS_READ, fd, data, (size_t)len);
}

int _write(int fd, const char *data, int len);
int _write(int fd, const char *data, int len)
{
    if (fd != STDERR_FILENO) return transfer(SYS_WRITE, fd, data, (size_t)len);
    for (int i = 0; i < len; i++) board_uart_put((uint8_t)data[i]);
    return len;
}

int _fstat(int fd, struct stat *s);
int _fstat(int fd, struct stat *s)
{
    (void)fd;
    memset(s, 0, sizeof *s);
    s->st_mode = S_IFREG;
    s->st_blksize = BLOCK;
    return 0;
}

int _isatty(int fd);
int _isatty(int fd)
{
    (void)fd;
    errno = ENOTTY;
    return 0;
}

off_t _lseek(int fd, off_t offset, int whence);
off_t _lseek(int fd, off_t offset, int whence)
{
    (void)fd;
    (void)offset;
    (void)whence;
    errno = ESPIPE;
    return -1;
}

/* ---- Memory */

static char heap[IMAGE_HEAP] __attribute__((aligned(8)));
static size_t heap_used;

void *_sbrk(ptrdiff_t more);
void *_sbrk(ptrdiff_t more)
{
    void *block = heap + heap_used;

    errno = ENOMEM;
    if (more > (ptrdiff_t)(sizeof heap - heap_used)) return (void *)-1;
    heap_used += (size_t)more;
    return block;
}

unsigned image_heap_used(void)
{
    return heap_used;
}

/* ---- Time: that of the host at start, then the board's clock */

int _gettimeofday(struct timeval *now, void *zone);
int _gettimeofday(struct timeval *now, void *zone)
{
    static uint64_t start_ms;
    uint64_t now_ms;

    (void)zone;
    if (start_ms == 0) start_ms = (uint64_t)(uint32_t)semihosting_call(SYS_TIME, NULL) * 1000 - cpu_now_ms();
    now_ms = start_ms + cpu_now_ms();
    now->tv_sec = (time_t)(now_ms / 1000);
    now->tv_usec = (suseconds_t)(now_ms % 1000 * 1000);
    return 0;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    struct timeval tv;

    if (clock == CLOCK_REALTIME) {
        _gettimeofday(&tv, NULL);
    } else {
        tv.tv_sec = (time_t)(cpu_now_ms() / 1000);
        tv.tv_usec = (suseconds_t)(cpu_now_ms() % 1000 * 1000);
    }
    now->tv_sec = tv.tv_sec;
    now->tv_nsec = tv.tv_usec * 1000;
    return 0;
}

/* ---- The end */

_Noreturn void _exit(int status)
{
    semihosting_exit(status);
    cpu_reset();
}

int gethostname(char *name, size_t len);
int gethostname(char *name, size_t len)
{
    strncpy(name, "board", len);
    return 0;
}

int _getpid(void);
int _getpid(void)
{
    return 1;
}

/* abort */
int _kill(int process, int number);
int _kill(int process, int number)
{
    (void)process;
    (void)number;
    cpu_panic("ERROR: aborted");
}
