/* SPDX-License-Identifier: MIT
 *
 * The image under test: what its files share.
 */
#ifndef IMAGE_H
#define IMAGE_H

/* A line on the console: what of lwIP's pools is in use, the most that was, and what there is; what the port and the C
 * library hold; octets of each stack that were never used. Before it a line for each TCP connection. */
void image_print_pools(void);

/* Octets that the heap's user (the C library) may have. */
unsigned image_heap_used(void);

#endif
