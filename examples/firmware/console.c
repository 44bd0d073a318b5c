/* SPDX-License-Identifier: MIT
 *
 * A printf of 400 octets of code and no memory of its own; the library's wants several KB and a heap.
 */
#include "console.h"

#include <stdarg.h>

#include "board.h"

void console_write(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '\n') board_uart_put('\r');
        board_uart_put((uint8_t)text[i]);
    }
}

static void put_text(const char *text)
{
    if (text == NULL) text = "(null)";
    while (*text != '\0') console_write(text++, 1);
}

static void put_number(uint64_t value, unsigned base, unsigned width)
{
    char digits[20];
    unsigned at = sizeof digits;
    do {
        digits[--at] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value != 0 && at > 0);
    while (sizeof digits - at < width && at > 0) digits[--at] = '0';
    console_write(digits + at, sizeof digits - at);
}

static void put_signed(int32_t value, unsigned width)
{
    if (value < 0) board_uart_put('-');
    put_number(value < 0 ? 0 - (uint32_t)value : (uint32_t)value, 10, width);
}

void console_printf(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    for (; *format != '\0'; format++) {
        unsigned width = 0, longs = 0;
        if (*format != '%') {
            console_write(format, 1);
            continue;
        }
        for (format++; *format >= '0' && *format <= '9'; format++) width = width * 10 + (unsigned)(*format - '0');
        for (; *format == 'l' || *format == 'h' || *format == 'z'; format++) longs += *format == 'l';
        switch (*format) {
        case 's': put_text(va_arg(args, const char *)); break;
        case 'c': board_uart_put((uint8_t)va_arg(args, int)); break;
        case 'd': put_signed(va_arg(args, int32_t), width); break;
        case 'u':
            if (longs == 2) put_number(va_arg(args, uint64_t), 10, width);
            else put_number(va_arg(args, uint32_t), 10, width);
            break;
        case 'x': put_number(va_arg(args, uint32_t), 16, width); break;
        case '\0': format--; break;
        default: console_write(format, 1);
        }
    }
    va_end(args);
}

void console_escaped(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c > 0x20 && c < 0x7f && c != '\\') console_write(text + i, 1);
        else console_printf("\\x%02x", c);
    }
}
