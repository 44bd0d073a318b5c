/* SPDX-License-Identifier: MIT */
/* Certificates of the simulated world, good ones and bad ones: made when they are needed, always the same. */
#ifndef SIM_PAPERS_H
#define SIM_PAPERS_H

#include "sim.h"

#include <mbedtls/pk.h>
#include <mbedtls/x509_crt.h>

extern mbedtls_x509_crt papers_root; /* whom all trust */
extern mbedtls_pk_context papers_key; /* of all certificates but issuers' */
extern unsigned char papers_key_der[256];
extern size_t papers_key_len;

/* Both take memory from wherever mbedTLS takes it now, and never give it back. */
void papers_make(void); /* once in a process */
mbedtls_x509_crt *papers_of(const char *name, bool of_client, enum secure_fault flaw);

#endif
