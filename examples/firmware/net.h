/* SPDX-License-Identifier: MIT
 *
 * The network interface on lwIP: address, link, frames. The same for all boards, with and without threads.
 *
 * The address comes from DHCP. For a static one define, as strings, FIRMWARE_ADDRESS, FIRMWARE_NETMASK,
 * FIRMWARE_GATEWAY and FIRMWARE_DNS.
 */
#ifndef NET_H
#define NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct netif;
struct pbuf;

#ifndef FIRMWARE_HOSTNAME
#define FIRMWARE_HOSTNAME "miniproxy"
#endif

struct net_counters {
    uint32_t received, dropped; /* frames; dropped: for want of a pbuf, or of a share */
    uint32_t reserve;           /* frames that came in by the reserve */
};
extern struct net_counters net_counters;

/* After lwip_init, or in the thread of lwIP. */
void net_start(void);

/* Hand received frames to lwIP, a limited number; watch the link. True: there may be more. */
bool net_poll(void);

/* There is a frame to be handed over. For cpu_sleep: arms the interrupt. */
bool net_wanted(void);

/* True once after the address has changed, when there is one: it is in *address, network order. */
bool net_address_news(uint32_t *address);

/* "mp-" and the MAC address: a pseudonym for Via that no other device has. */
enum { NET_NAME_LEN = 16 };
void net_device_name(char out[NET_NAME_LEN]);

/* For drivers: a pbuf for a frame of len octets with its padding, or NULL. */
struct pbuf *net_frame_alloc(size_t len);

#endif
