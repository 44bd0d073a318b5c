/* SPDX-License-Identifier: MIT */
/* A product's own words in its refusals. */
static inline const char *product_body(int cause, const char *standard)
{
    return cause == 0 ? standard : "<!doctype html><title>Not available</title><p>Ask the caretaker.";
}
#define MINIPROXY_BODY(cause, standard) product_body((int)(cause), standard)
#define MINIPROXY_BODY_TYPE "text/html; charset=utf-8"
