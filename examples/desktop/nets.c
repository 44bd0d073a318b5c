/* SPDX-License-Identifier: MIT
 *
 * Networks as the core wants them: no bits behind the prefix, ascending, disjoint.
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
