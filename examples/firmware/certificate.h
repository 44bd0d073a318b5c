/* SPDX-License-Identifier: MIT
 *
 * The listener's certificate and its key, and certificates of authorities one behind the other, DER: see certificate.sh.
 */
#ifndef CERTIFICATE_H
#define CERTIFICATE_H

#include <stddef.h>
#include <stdint.h>

extern const uint8_t certificate[], certificate_key[], authorities[];
extern const size_t certificate_len, certificate_key_len, authorities_len;

#endif
