/* SPDX-License-Identifier: MIT */
/* Refusals as HTML, in the smallest buffers, and texts of a product's own for some of them. */
#define MINIPROXY_WITH_HTML 1
#define MINIPROXY_BUFFER_SIZE 512
static inline const char *product_body(int cause, const char *standard)
{
    return cause % 2 == 0 ? standard : "Ask the caretaker.";
}
#define MINIPROXY_BODY(cause, standard) product_body((int)(cause), standard)
