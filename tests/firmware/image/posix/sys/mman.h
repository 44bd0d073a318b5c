/* SPDX-License-Identifier: MIT
 *
 * In place of POSIX's: there is memory for one worker. See ../../posix.c.
 */
#ifndef IMAGE_SYS_MMAN_H
#define IMAGE_SYS_MMAN_H

#include <sys/types.h>

enum { PROT_READ = 1, PROT_WRITE = 2, MAP_PRIVATE = 2, MAP_ANONYMOUS = 32 };

#define MAP_FAILED ((void *)-1)

void *mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset);
int munmap(void *block, size_t len);

#endif
