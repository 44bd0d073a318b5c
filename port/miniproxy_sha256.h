/* SPDX-License-Identifier: MIT
 *
 * SHA-256 (FIPS 180-4) for struct miniproxy_config.sha256, where the platform has none of its own.
 */
#ifndef MINIPROXY_SHA256_H
#define MINIPROXY_SHA256_H

#include <stddef.h>
#include <stdint.h>

void miniproxy_sha256(uint8_t digest[32], const void *data, size_t len);

#endif
