/* SPDX-License-Identifier: MIT
 *
 * SHA-256 (FIPS 180-4) for struct miniproxy_config.sha256, and PBKDF2-HMAC-SHA256 (RFC 8018 section 5.2) for
 * struct miniproxy_config.pbkdf2, where the platform has none of its own.
 */
#ifndef MINIPROXY_SHA256_H
#define MINIPROXY_SHA256_H

#include "../miniproxy.h"

void miniproxy_sha256(uint8_t digest[32], const void *data, size_t len);

/* Salts of at most 51 octets, passwords of any length. end leaves the state as it is. */
extern const struct miniproxy_pbkdf2_functions miniproxy_sha256_pbkdf2;

#endif
