/* SPDX-License-Identifier: MIT
 *
 * In place of lwIP's memp.c: its pools with the same limits, but each element is a block of malloc's, so that the
 * sanitizers see what is used after its end. And its heap, counted.
 */
#include "stack.h"

#include "lwip/opt.h"

#include "lwip/api.h"
#include "lwip/dns.h"
#include "lwip/etharp.h"
#include "lwip/ip4_frag.h"
#include "lwip/ip6_frag.h"
#include "lwip/memp.h"
#include "lwip/netbuf.h"
#include "lwip/netdb.h"
#include "lwip/pbuf.h"
#include "lwip/priv/api_msg.h"
#include "lwip/priv/nd6_priv.h"
#include "lwip/priv/sockets_priv.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/priv/tcpip_priv.h"
#include "lwip/raw.h"
#include "lwip/sys.h"
#include "lwip/tcp.h"
#include "lwip/timeouts.h"
#include "lwip/udp.h"
#include "netif/ppp/ppp_opts.h"

#include <stdatomic.h>
#include <stdlib.h>

#define LWIP_MEMPOOL(name, num, size, desc) LWIP_MEMPOOL_DECLARE(name, num, size, desc)
#include "lwip/priv/memp_std.h"

const struct memp_desc *const memp_pools[MEMP_MAX] = {
#define LWIP_MEMPOOL(name, num, size, desc) &memp_##name,
#include "lwip/priv/memp_std.h"
};

static struct {
    unsigned limit, used;
    size_t size;
} pools[MEMP_MAX] = {
#define LWIP_MEMPOOL(name, num, size, desc) {(num), 0, (size)},
#include "lwip/priv/memp_std.h"
};

static unsigned refused;
static atomic_uint blocks;

void memp_init(void)
{
}

void *memp_malloc(memp_t type)
{
    void *element = NULL;
    SYS_ARCH_DECL_PROTECT(lock);

    SYS_ARCH_PROTECT(lock);
    if (pools[type].used < pools[type].limit) element = malloc(pools[type].size);
    if (element != NULL) pools[type].used++;
    else refused++;
    SYS_ARCH_UNPROTECT(lock);
    return element;
}

void memp_free(memp_t type, void *element)
{
    SYS_ARCH_DECL_PROTECT(lock);

    if (element == NULL) return;
    SYS_ARCH_PROTECT(lock);
    pools[type].used--;
    SYS_ARCH_UNPROTECT(lock);
    free(element);
}

void memp_init_pool(const struct memp_desc *pool)
{
    (void)pool;
}

/* Pools of others than lwIP's core have no limit. */
void *memp_malloc_pool(const struct memp_desc *pool)
{
    return malloc(pool->size);
}

void memp_free_pool(const struct memp_desc *pool, void *element)
{
    (void)pool;
    free(element);
}

void *heap_malloc(size_t size)
{
    void *block = malloc(size);

    if (block != NULL) atomic_fetch_add(&blocks, 1);
    return block;
}

void *heap_calloc(size_t count, size_t size)
{
    void *block = calloc(count, size);

    if (block != NULL) atomic_fetch_add(&blocks, 1);
    return block;
}

void heap_free(void *block)
{
    if (block != NULL) atomic_fetch_sub(&blocks, 1);
    free(block);
}

void pools_limit_connections(unsigned limit)
{
    if (limit > 0 && limit < pools[MEMP_TCP_PCB].limit) pools[MEMP_TCP_PCB].limit = limit;
}

struct pools_use pools_use(void)
{
    struct pools_use use = {
        .connections = pools[MEMP_TCP_PCB].used,
        .listeners = pools[MEMP_TCP_PCB_LISTEN].used,
        .segments = pools[MEMP_TCP_SEG].used,
        .pbufs = pools[MEMP_PBUF].used + pools[MEMP_PBUF_POOL].used,
        .blocks = atomic_load(&blocks),
        .refused = refused,
    };

#if LWIP_NETCONN
    use.sockets = pools[MEMP_NETCONN].used;
#endif
    return use;
}
