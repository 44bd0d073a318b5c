/* SPDX-License-Identifier: MIT
 *
 * Where lwIP asks: a table of routes, as a device with more than a default router has it, and the router of IPv6.
 */
#ifndef HOOKS_H
#define HOOKS_H

struct netif;
struct ip4_addr;
struct ip6_addr;

struct netif *stack_route4(const struct ip4_addr *to);
const struct ip6_addr *stack_router6(const struct ip6_addr *to);

#define LWIP_HOOK_IP4_ROUTE(to) stack_route4(to)
#define LWIP_HOOK_ND6_GET_GW(netif, to) stack_router6(to)

#endif
