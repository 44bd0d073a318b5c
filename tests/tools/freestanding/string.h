/* SPDX-License-Identifier: MIT
 *
 * All of libc that miniproxy.c may use. The core is compiled against this header alone, so that anything else
 * it begins to call or include fails the build.
 */
#ifndef STRING_H
#define STRING_H

#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t len);
void *memmove(void *to, const void *from, size_t len);
void *memset(void *to, int value, size_t len);
void *memchr(const void *data, int value, size_t len);
int memcmp(const void *a, const void *b, size_t len);
size_t strlen(const char *text);
int strcmp(const char *a, const char *b);
char *strchr(const char *text, int value);

#endif
