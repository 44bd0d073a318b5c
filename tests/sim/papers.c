/* SPDX-License-Identifier: MIT */
/* Certificates of the simulated world. */
#include "sim.h"

#if MINIPROXY_WITH_TLS

#include "papers.h"

#include <mbedtls/ecp.h>
#include <mbedtls/oid.h>
#include <string.h>

enum { PAPERS_MAX = 1000, DER_MAX = 800 };

/* What a certificate is to say. */
struct paper {
    const char *name, *issuer, *from, *to;
    mbedtls_pk_context *key, *signer;
    const char *alt; /* NULL: none */
    bool alt_is_address, is_root, for_clients;
};

struct certificate {
    char name[48];
    uint8_t flaw;
    bool of_client;
    mbedtls_x509_crt crt;
};

mbedtls_x509_crt papers_root;
mbedtls_pk_context papers_key;
unsigned char papers_key_der[256];
size_t papers_key_len;

static mbedtls_pk_context root_key, rogue_key;
static struct certificate certificates[PAPERS_MAX];
static unsigned certificate_count;

static void must(int error, const char *what)
{
    if (error < 0) violation(PROPERTY_ASSERTION, "mbedTLS: %s fails with -0x%04x", what, (unsigned)-error);
}

/* Of its own, for what is made when depends on the seeds before. */
static int next_octets(void *context, unsigned char *out, size_t len)
{
    static uint64_t state = 1;
    (void)context;
    while (len-- > 0) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        *out++ = (unsigned char)(state >> 56);
    }
    return 0;
}

static void make_key(mbedtls_pk_context *pk)
{
    mbedtls_pk_init(pk);
    must(mbedtls_pk_setup(pk, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY)), "key");
    must(mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(*pk), next_octets, NULL), "key");
}

static void set_alt(mbedtls_x509write_cert *w, const struct paper *p)
{
    mbedtls_x509_san_list san;
    struct miniproxy_addr address;
    memset(&san, 0, sizeof san);
    if (p->alt == NULL) return;
    san.node.type = MBEDTLS_X509_SAN_DNS_NAME;
    san.node.san.unstructured_name.p = (unsigned char *)(uintptr_t)p->alt;
    san.node.san.unstructured_name.len = strlen(p->alt);
    if (p->alt_is_address) {
        miniproxy_addr_parse(&address, p->alt, strlen(p->alt));
        san.node.type = MBEDTLS_X509_SAN_IP_ADDRESS;
        san.node.san.unstructured_name.p = address.ip;
        san.node.san.unstructured_name.len = address.family == 4 ? 4 : 16;
    }
    must(mbedtls_x509write_crt_set_subject_alternative_name(w, &san), "name");
}

static void set_purpose(mbedtls_x509write_cert *w, const struct paper *p)
{
    mbedtls_asn1_sequence purpose;
    memset(&purpose, 0, sizeof purpose);
    purpose.buf.tag = MBEDTLS_ASN1_OID;
    purpose.buf.p = (unsigned char *)(uintptr_t)(p->for_clients ? MBEDTLS_OID_CLIENT_AUTH : MBEDTLS_OID_SERVER_AUTH);
    purpose.buf.len = p->for_clients ? MBEDTLS_OID_SIZE(MBEDTLS_OID_CLIENT_AUTH)
                                     : MBEDTLS_OID_SIZE(MBEDTLS_OID_SERVER_AUTH);
    must(mbedtls_x509write_crt_set_ext_key_usage(w, &purpose), "purpose");
}

static void write_paper(mbedtls_x509_crt *crt, const struct paper *p)
{
    unsigned char der[DER_MAX], serial[] = {1};
    char name[64], issuer[64];
    mbedtls_x509write_cert w;
    int len;
    snprintf(name, sizeof name, "CN=%s", p->name);
    snprintf(issuer, sizeof issuer, "CN=%s", p->issuer);
    mbedtls_x509write_crt_init(&w);
    mbedtls_x509write_crt_set_version(&w, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_md_alg(&w, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(&w, p->key);
    mbedtls_x509write_crt_set_issuer_key(&w, p->signer);
    must(mbedtls_x509write_crt_set_subject_name(&w, name), "subject");
    must(mbedtls_x509write_crt_set_issuer_name(&w, issuer), "issuer");
    must(mbedtls_x509write_crt_set_validity(&w, p->from, p->to), "validity");
    must(mbedtls_x509write_crt_set_serial_raw(&w, serial, sizeof serial), "serial");
    must(mbedtls_x509write_crt_set_basic_constraints(&w, p->is_root, -1), "constraints");
    if (!p->is_root) set_purpose(&w, p);
    set_alt(&w, p);
    len = mbedtls_x509write_crt_der(&w, der, sizeof der, next_octets, NULL);
    must(len, "certificate");
    mbedtls_x509write_crt_free(&w);
    mbedtls_x509_crt_init(crt);
    must(mbedtls_x509_crt_parse_der(crt, der + sizeof der - len, (size_t)len), "certificate");
}

void papers_make(void)
{
    int len;
    if (papers_key_len > 0) return;
    make_key(&root_key);
    make_key(&rogue_key);
    make_key(&papers_key);
    write_paper(&papers_root, &(struct paper){.name = "Root", .issuer = "Root", .from = "20200101000000",
                                              .to = "20990101000000", .key = &root_key, .signer = &root_key,
                                              .is_root = true});
    len = mbedtls_pk_write_key_der(&papers_key, papers_key_der, sizeof papers_key_der);
    must(len, "key");
    papers_key_len = (size_t)len;
    memmove(papers_key_der, papers_key_der + sizeof papers_key_der - len, papers_key_len);
}

static void write_certificate(struct certificate *c)
{
    char other[64];
    struct miniproxy_addr address;
    struct paper p = {.name = c->name, .issuer = "Root", .from = "20200101000000", .to = "20990101000000",
                      .key = &papers_key, .signer = &root_key, .for_clients = c->of_client};
    p.alt = c->of_client ? NULL : c->name;
    p.alt_is_address = miniproxy_addr_parse(&address, c->name, strlen(c->name));
    switch (c->flaw) {
    case FLAW_NAME: /* near ones: an address that is said to be a name, a host below the one that is asked for */
        snprintf(other, sizeof other, p.alt_is_address ? "%s" : "www.%s", c->name);
        p.name = p.alt = other;
        p.alt_is_address = false;
        break;
    case FLAW_EXPIRED: p.to = "20260101000000"; break;
    case FLAW_FUTURE: p.from = "20980101000000"; break;
    case FLAW_SELF_SIGNED: p.issuer = c->name, p.signer = &papers_key; break;
    case FLAW_ISSUER: p.signer = &rogue_key; break; /* who calls himself Root as well */
    case FLAW_PURPOSE: p.for_clients = !p.for_clients; break;
    default: break;
    }
    write_paper(&c->crt, &p);
    /* who has it must not know what it is for, or mbedTLS would not show it */
    c->crt.MBEDTLS_PRIVATE(ext_types) &= ~MBEDTLS_X509_EXT_EXTENDED_KEY_USAGE;
}

mbedtls_x509_crt *papers_of(const char *name, bool of_client, enum secure_fault flaw)
{
    struct certificate *c = certificates;
    for (unsigned i = 0; i < certificate_count; i++, c++)
        if (c->flaw == flaw && c->of_client == of_client && strcmp(c->name, name) == 0) return &c->crt;
    if (certificate_count == PAPERS_MAX) violation(PROPERTY_ASSERTION, "more than %d certificates", PAPERS_MAX);
    snprintf(c->name, sizeof c->name, "%s", name);
    c->flaw = (uint8_t)flaw;
    c->of_client = of_client;
    write_certificate(c);
    certificate_count++;
    return &c->crt;
}

#endif
