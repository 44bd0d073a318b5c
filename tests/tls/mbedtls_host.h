/* SPDX-License-Identifier: MIT
 *
 * How mbedTLS, 3.6 or 2.28, is built for the programs and tests on this machine: complete, so that the library's own
 * defaults have no part in it. Only what a proxy and its clients may agree on in good conscience: ephemeral keys or
 * secrets that both have, AEAD ciphers, SHA-2.
 */
#ifndef MBEDTLS_HOST_H
#define MBEDTLS_HOST_H

/* ---- The platform */

#define MBEDTLS_HAVE_ASM
#define MBEDTLS_HAVE_TIME
#define MBEDTLS_HAVE_TIME_DATE
#define MBEDTLS_PLATFORM_C
/* calloc and free are variables: mbedtls_platform_set_calloc_free */
#define MBEDTLS_PLATFORM_MEMORY
#define MBEDTLS_THREADING_C
#define MBEDTLS_THREADING_PTHREAD
#define MBEDTLS_ERROR_C
#define MBEDTLS_VERSION_C

/* ---- TLS */

#define MBEDTLS_SSL_TLS_C
#define MBEDTLS_SSL_SRV_C
#define MBEDTLS_SSL_CLI_C
#define MBEDTLS_SSL_PROTO_TLS1_2
#define MBEDTLS_KEY_EXCHANGE_ECDHE_ECDSA_ENABLED
#define MBEDTLS_KEY_EXCHANGE_ECDHE_RSA_ENABLED
#define MBEDTLS_KEY_EXCHANGE_ECDHE_PSK_ENABLED
#define MBEDTLS_KEY_EXCHANGE_PSK_ENABLED
#define MBEDTLS_SSL_ALL_ALERT_MESSAGES
#define MBEDTLS_SSL_ALPN
#define MBEDTLS_SSL_EXTENDED_MASTER_SECRET
#define MBEDTLS_SSL_MAX_FRAGMENT_LENGTH
/* by which a client is a user; TLS 1.3 insists on it */
#define MBEDTLS_SSL_KEEP_PEER_CERTIFICATE
#define MBEDTLS_SSL_SERVER_NAME_INDICATION
#define MBEDTLS_SSL_SESSION_TICKETS
#define MBEDTLS_SSL_TICKET_C
#ifndef MBEDTLS_SSL_IN_CONTENT_LEN
#define MBEDTLS_SSL_IN_CONTENT_LEN 16384
#endif
#ifndef MBEDTLS_SSL_OUT_CONTENT_LEN
#define MBEDTLS_SSL_OUT_CONTENT_LEN 16384
#endif

#ifdef MBEDTLS_BUILD_INFO_H /* 3.x */
#define MBEDTLS_SSL_PROTO_TLS1_3
#define MBEDTLS_SSL_TLS1_3_COMPATIBILITY_MODE
#define MBEDTLS_SSL_TLS1_3_KEY_EXCHANGE_MODE_EPHEMERAL_ENABLED
#define MBEDTLS_SSL_TLS1_3_KEY_EXCHANGE_MODE_PSK_EPHEMERAL_ENABLED
/* TLS 1.3 is made of PSA's functions, which ask the program for random numbers: mbedtls_psa_external_get_random. Its
 * table of keys does not grow: a key for each handshake under way, and two for its steps. */
#define MBEDTLS_PSA_CRYPTO_C
#define MBEDTLS_PSA_CRYPTO_EXTERNAL_RNG
/* Without this a handshake takes, for a moment, as much again as MBEDTLS_SSL_OUT_CONTENT_LEN, to copy what no other
 * processor sees anyway. */
#define MBEDTLS_PSA_ASSUME_EXCLUSIVE_BUFFERS
#ifndef MBEDTLS_PSA_KEY_SLOT_COUNT
#define MBEDTLS_PSA_KEY_SLOT_COUNT 512
#endif
#define MBEDTLS_HKDF_C
#endif

/* ---- Ciphers, hashes, curves */

#define MBEDTLS_AES_C
#define MBEDTLS_AESNI_C
#define MBEDTLS_GCM_C
#define MBEDTLS_CCM_C
#define MBEDTLS_CHACHA20_C
#define MBEDTLS_POLY1305_C
#define MBEDTLS_CHACHAPOLY_C
#define MBEDTLS_CIPHER_C
#define MBEDTLS_MD_C
#define MBEDTLS_SHA256_C
#define MBEDTLS_SHA512_C
#ifdef MBEDTLS_BUILD_INFO_H
#define MBEDTLS_AESCE_C
#define MBEDTLS_SHA384_C
#else /* in 2.28 these bring SHA-384 and SHA-224 with them, and these two checks can be left out */
#define MBEDTLS_SHA224_C
#define MBEDTLS_X509_CHECK_KEY_USAGE
#define MBEDTLS_X509_CHECK_EXTENDED_KEY_USAGE
#endif
#define MBEDTLS_BIGNUM_C
#define MBEDTLS_ECP_C
#define MBEDTLS_ECP_DP_SECP256R1_ENABLED
#define MBEDTLS_ECP_DP_SECP384R1_ENABLED
#define MBEDTLS_ECP_DP_CURVE25519_ENABLED
#define MBEDTLS_ECP_NIST_OPTIM
#define MBEDTLS_ECDH_C
#define MBEDTLS_ECDSA_C
#define MBEDTLS_ECDSA_DETERMINISTIC
#define MBEDTLS_HMAC_DRBG_C
#define MBEDTLS_RSA_C
#define MBEDTLS_PKCS1_V15
#define MBEDTLS_PKCS1_V21
#define MBEDTLS_GENPRIME
/* seeded with a function of the program's: MBEDTLS_ENTROPY_C stays out */
#define MBEDTLS_CTR_DRBG_C

/* handshakes in slices: MINIPROXY_TLS_SLICE_OPS */
#define MBEDTLS_SSL_ASYNC_PRIVATE
#define MBEDTLS_ECP_RESTARTABLE
#ifndef MBEDTLS_BUILD_INFO_H
#define MBEDTLS_ECDH_LEGACY_CONTEXT /* 2.28 wants it for that */
#endif

/* ---- Certificates and keys: reading, and making one's own */

#define MBEDTLS_ASN1_PARSE_C
#define MBEDTLS_ASN1_WRITE_C
#define MBEDTLS_BASE64_C
#define MBEDTLS_OID_C
#define MBEDTLS_PEM_PARSE_C
#define MBEDTLS_PEM_WRITE_C
#define MBEDTLS_PK_C
#define MBEDTLS_PK_PARSE_C
#define MBEDTLS_PK_WRITE_C
#define MBEDTLS_X509_USE_C
#define MBEDTLS_X509_CRT_PARSE_C
#define MBEDTLS_X509_RSASSA_PSS_SUPPORT
#define MBEDTLS_X509_CREATE_C
#define MBEDTLS_X509_CRT_WRITE_C

#ifndef MBEDTLS_BUILD_INFO_H
#include "mbedtls/check_config.h"
#endif

#endif
