/* SPDX-License-Identifier: MIT
 *
 * Networks as the core wants them: no bits behind the prefix, ascending, disjoint. Host names, too.
 */
#include "desktop.h"

#include <stdlib.h>
#include <string.h>

static void clear_rest(uint8_t *ip, unsigned bits, unsigned len)
{
    for (unsigned i = 0; i < len; i++) {
        unsigned kept = bits <= 8 * i ? 0 : bits >= 8 * i + 8 ? 8 : bits - 8 * i;
        ip[i] &= (uint8_t)(0xff00u >> kept);
    }
}

static bool is_within(const uint8_t *ip, const uint8_t *net, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;
    return memcmp(ip, net, whole) == 0 && (rest == 0 || (ip[whole] ^ net[whole]) >> (8 - rest) == 0);
}

/* By address, a wider network before those in it. */
static int compare4(const void *a, const void *b)
{
    const struct miniproxy_net4 *x = a, *y = b;
    int order = memcmp(x->ip, y->ip, sizeof x->ip);
    return order != 0 ? order : (int)x->bits - (int)y->bits;
}

static int compare6(const void *a, const void *b)
{
    const struct miniproxy_net6 *x = a, *y = b;
    int order = memcmp(x->ip, y->ip, sizeof x->ip);
    return order != 0 ? order : (int)x->bits - (int)y->bits;
}

size_t nets_tidy4(struct miniproxy_net4 *nets, size_t count)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) clear_rest(nets[i].ip, nets[i].bits, sizeof nets[i].ip);
    if (count > 0) qsort(nets, count, sizeof *nets, compare4);
    for (size_t i = 0; i < count; i++)
        if (kept == 0 || !is_within(nets[i].ip, nets[kept - 1].ip, nets[kept - 1].bits)) nets[kept++] = nets[i];
    return kept;
}

size_t nets_tidy6(struct miniproxy_net6 *nets, size_t count)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) clear_rest(nets[i].ip, nets[i].bits, sizeof nets[i].ip);
    if (count > 0) qsort(nets, count, sizeof *nets, compare6);
    for (size_t i = 0; i < count; i++)
        if (kept == 0 || !is_within(nets[i].ip, nets[kept - 1].ip, nets[kept - 1].bits)) nets[kept++] = nets[i];
    return kept;
}

const char *tidy_host(char *name)
{
    char *p = name[0] == '.' ? name + 1 : name;
    size_t len = strlen(p), label = 0;
    bool digits = true;
    if (strncmp(name, "*.", 2) == 0) return "\".example.com\" for that name and all below it, without *";
    if (len > 0 && p[len - 1] == '.') p[--len] = '\0';
    if (len == 0 || len > 253) return "a host name of 1 to 253 octets";
    for (size_t i = 0; i <= len; i++) {
        unsigned char c = (unsigned char)p[i];
        if (c == '.' || c == '\0') {
            if (label == 0 || label > 63) return "labels of 1 to 63 octets between the dots of a host name";
            if (c == '\0') break;
            label = 0;
            digits = true;
            continue;
        }
        if (c >= 0x80) return "a host name in ASCII: an internationalized label is written as its A-label, xn--…";
        if (c >= 'A' && c <= 'Z') p[i] = (char)(c += 'a' - 'A');
        if ((c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_')
            return "a host name of letters, digits, -, _ and dots";
        digits = digits && c >= '0' && c <= '9';
        label++;
    }
    /* Names that end in a number are no names: the core takes no request for them (parse_name in miniproxy.c). */
    if (strncmp(p + len - label, "0x", 2) == 0) digits = true;
    return digits ? "a host name: addresses stand behind to, or are meant by literals" : NULL;
}
