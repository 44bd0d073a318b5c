/* SPDX-License-Identifier: MIT
 *
 * The listener's certificate and its key, DER: see certificate.sh.
 */
#ifndef CERTIFICATE_H
#define CERTIFICATE_H

#include <stddef.h>
#include <stdint.h>

extern const uint8_t certificate[], certificate_key[];
extern const size_t certificate_len, certificate_key_len;

#endif
