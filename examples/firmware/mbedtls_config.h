/* SPDX-License-Identifier: MIT
 *
 * How mbedTLS, 3.6 or 2.28, is built for a board with 64 KB of RAM: TLS 1.2 alone, one curve, one key length, nothing from
 * libc but strings. For MBEDTLS_CONFIG_FILE, in the library and in whatever includes its headers alike.
 */
#ifndef FIRMWARE_MBEDTLS_CONFIG_H
#define FIRMWARE_MBEDTLS_CONFIG_H

/* 1: connections to origins too. Brings RSA, P-384 and SHA-512, which public authorities sign with. */
#ifndef FIRMWARE_TLS_CLIENT
#define FIRMWARE_TLS_CLIENT 0
#endif

/* ---- The platform: no clock, so the dates of certificates are not looked at */

#define MBEDTLS_HAVE_ASM
#define MBEDTLS_PLATFORM_C
#define MBEDTLS_PLATFORM_MEMORY
#define MBEDTLS_PLATFORM_NO_STD_FUNCTIONS
#define MBEDTLS_PLATFORM_EXIT_MACRO(status) ((void)(status))
#define MBEDTLS_PLATFORM_PRINTF_MACRO(...) 0
#define MBEDTLS_PLATFORM_FPRINTF_MACRO(...) 0
#define MBEDTLS_PLATFORM_SNPRINTF_MACRO snprintf
#define MBEDTLS_X509_REMOVE_INFO

/* ---- TLS */

#define MBEDTLS_SSL_TLS_C
#define MBEDTLS_SSL_SRV_C
#if FIRMWARE_TLS_CLIENT
#define MBEDTLS_SSL_CLI_C
#define MBEDTLS_KEY_EXCHANGE_ECDHE_RSA_ENABLED
#endif
#define MBEDTLS_SSL_PROTO_TLS1_2
#define MBEDTLS_KEY_EXCHANGE_ECDHE_ECDSA_ENABLED
#define MBEDTLS_KEY_EXCHANGE_PSK_ENABLED
#define MBEDTLS_SSL_ALL_ALERT_MESSAGES
#define MBEDTLS_SSL_EXTENDED_MASTER_SECRET
#define MBEDTLS_SSL_MAX_FRAGMENT_LENGTH
#define MBEDTLS_SSL_SERVER_NAME_INDICATION
/* Browsers send records of up to 16384 octets, and one that does not fit ends the connection. What this side sends it
 * can cut as it likes; the certificates have to fit. */
#ifndef MBEDTLS_SSL_IN_CONTENT_LEN
#define MBEDTLS_SSL_IN_CONTENT_LEN 16384
#endif
#ifndef MBEDTLS_SSL_OUT_CONTENT_LEN
#define MBEDTLS_SSL_OUT_CONTENT_LEN 4096
#endif

/* ---- Ciphers, hashes, curves */

#define MBEDTLS_AES_C
#define MBEDTLS_AES_ROM_TABLES     /* else they are worked out in 8 KB of RAM */
#define MBEDTLS_AES_FEWER_TABLES
#define MBEDTLS_GCM_C
#define MBEDTLS_CCM_C
#define MBEDTLS_CIPHER_C
#define MBEDTLS_MD_C
#define MBEDTLS_SHA256_C
#define MBEDTLS_SHA256_SMALLER     /* 1.4 KB; little is hashed */
#define MBEDTLS_BIGNUM_C
#define MBEDTLS_ECP_C
#define MBEDTLS_ECP_DP_SECP256R1_ENABLED
#define MBEDTLS_ECP_NIST_OPTIM
#define MBEDTLS_ECDH_C
#define MBEDTLS_ECDSA_C
#define MBEDTLS_CTR_DRBG_C
/* A signature is interrupted for others' sake: MINIPROXY_TLS_SLICE_OPS */
#define MBEDTLS_SSL_ASYNC_PRIVATE
#define MBEDTLS_ECP_RESTARTABLE
#ifndef MBEDTLS_BUILD_INFO_H
#define MBEDTLS_ECDH_LEGACY_CONTEXT /* 2.28 wants it for that */
#endif

#if FIRMWARE_TLS_CLIENT
#define MBEDTLS_ECP_DP_SECP384R1_ENABLED
#define MBEDTLS_SHA512_C
#define MBEDTLS_RSA_C
#define MBEDTLS_PKCS1_V15
#define MBEDTLS_PKCS1_V21
#define MBEDTLS_X509_RSASSA_PSS_SUPPORT
#define MBEDTLS_MPI_MAX_SIZE 512   /* RSA of 4096 bits; on the stack, too */
#else
#define MBEDTLS_MPI_MAX_SIZE 48
#endif

#ifdef MBEDTLS_BUILD_INFO_H /* 3.x */
#if FIRMWARE_TLS_CLIENT
#define MBEDTLS_SHA384_C /* with it mbedTLS offers AES-256, whether it can do that or not */
#else
#define MBEDTLS_AES_ONLY_128_BIT_KEY_LENGTH
#endif
#define MBEDTLS_BLOCK_CIPHER_NO_DECRYPT /* AEAD ciphers only ever encrypt a block */
#else
#define MBEDTLS_SHA224_C
#define MBEDTLS_X509_CHECK_KEY_USAGE
#define MBEDTLS_X509_CHECK_EXTENDED_KEY_USAGE
#endif

/* ---- Certificates and keys, in DER */

#define MBEDTLS_ASN1_PARSE_C
#define MBEDTLS_ASN1_WRITE_C
#define MBEDTLS_OID_C
#define MBEDTLS_PK_C
#define MBEDTLS_PK_PARSE_C
#define MBEDTLS_X509_USE_C
#define MBEDTLS_X509_CRT_PARSE_C

#ifndef MBEDTLS_BUILD_INFO_H
#include "mbedtls/check_config.h"
#endif

#endif
