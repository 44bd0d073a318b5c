/* SPDX-License-Identifier: MIT
 *
 * stack.c for stack_raw.c and stack_sockets.c. All of it with lwIP's core locked where there are threads.
 */
#ifndef STACK_LWIP_H
#define STACK_LWIP_H

#include "stack.h"

#include "lwip/netif.h"

/* Before lwip_init or tcpip_init: other local ports than the process that had the cable before. */
void stack_seed(void);

/* Make the netif, after lwip_init or tcpip_init. */
bool stack_plug_in(const struct stack_net *net, netif_input_fn input);

/* To wait for frames; hand one to lwIP, false: none was waiting. */
int stack_cable_fd(void);
bool stack_take_frame(void);

/* Forget all names that were resolved. */
void stack_age_names(void);

/* Is something that was sent before a close still on its way? For how long it is worth waiting. */
bool stack_delivering(void);
uint32_t stack_deliver_ms(void);

/* Remove what is closing and the netif, and print the account. */
void stack_unplug(void);

#endif
