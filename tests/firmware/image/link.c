/* SPDX-License-Identifier: MIT
 *
 * Between driver and stack. The linker puts __wrap_ethernet_receive in place of the driver's function (--wrap).
 */
#include "link.h"

#include "board.h"
#include "net.h"

#include "lwip/netif.h"
#include "lwip/pbuf.h"

#include <stdlib.h>
#include <string.h>

struct link_counters link_counters;

static struct {
    uint32_t lost, twice, late, random;
    netif_linkoutput_fn send;
    struct pbuf *next; /* a frame that comes behind the one that was handed over last */
} spoiled;

struct pbuf *__real_ethernet_receive(void);
struct pbuf *__wrap_ethernet_receive(void);
bool __real_ethernet_pending(void);
bool __wrap_ethernet_pending(void);

static bool happens(uint32_t per_mille)
{
    uint32_t x = spoiled.random;

    if (per_mille == 0) return false;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    spoiled.random = x;
    return x % 1000 < per_mille;
}

static struct pbuf *copy(struct pbuf *p)
{
    struct pbuf *other = net_frame_alloc(p->tot_len);

    if (other != NULL) pbuf_copy(other, p);
    return other;
}

struct pbuf *__wrap_ethernet_receive(void)
{
    struct pbuf *p = spoiled.next;

    spoiled.next = NULL;
    if (p != NULL) return p;
    p = __real_ethernet_receive();
    while (p != NULL && happens(spoiled.lost)) {
        link_counters.lost_in++;
        pbuf_free(p);
        p = __real_ethernet_receive();
    }
    if (p == NULL) return NULL;
    if (happens(spoiled.twice) && (spoiled.next = copy(p)) != NULL) link_counters.twice++;
    if (spoiled.next == NULL && happens(spoiled.late)) {
        struct pbuf *behind = __real_ethernet_receive();

        spoiled.next = behind != NULL ? p : NULL;
        link_counters.late += behind != NULL;
        return behind != NULL ? behind : p;
    }
    return p;
}

bool __wrap_ethernet_pending(void)
{
    return spoiled.next != NULL || __real_ethernet_pending();
}

static err_t send(struct netif *netif, struct pbuf *p)
{
    if (happens(spoiled.lost)) {
        link_counters.lost_out++;
        return ERR_OK;
    }
    if (happens(spoiled.twice)) {
        link_counters.twice++;
        (void)spoiled.send(netif, p);
    }
    return spoiled.send(netif, p);
}

static uint32_t number(const char *text, const char *name)
{
    const char *at = strstr(text, name);

    return at == NULL ? 0 : (uint32_t)strtoul(at + strlen(name), NULL, 10);
}

void link_spoil(struct netif *netif)
{
    const char *text = getenv("MINIPROXY_LINK");

    if (text == NULL) return;
    spoiled.lost = number(text, "lost=");
    spoiled.twice = number(text, "twice=");
    spoiled.late = number(text, "late=");
    spoiled.random = number(text, "seed=") * 2654435761u | 1;
    spoiled.send = netif->linkoutput;
    netif->linkoutput = send;
}

void link_mend(void)
{
    spoiled.lost = spoiled.twice = spoiled.late = 0;
}
