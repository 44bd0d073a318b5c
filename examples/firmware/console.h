/* SPDX-License-Identifier: MIT
 *
 * Text to the UART. Waits while the UART is busy: at 115200 baud a line of 100 octets takes 9 ms. A product that logs
 * much gives the UART a DMA channel, or sends its lines elsewhere.
 */
#ifndef CONSOLE_H
#define CONSOLE_H

#include <stddef.h>
#include <stdint.h>

void console_write(const char *text, size_t len);

/* Of printf: %s %c %d %u %x %%, and %llu. Numbers are 32 bits wide whatever their type: uint32_t is unsigned for one
 * compiler and unsigned long for another, so no compiler checks the formats. A width pads with zeros. \n becomes CR LF.
 */
void console_printf(const char *format, ...);

/* Text from outside: what is not printable ASCII, and blanks and backslashes, become \xHH. */
void console_escaped(const char *text, size_t len);

#endif
