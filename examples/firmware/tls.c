/* SPDX-License-Identifier: MIT
 *
 * Certificate, randomness and console lines of TLS. The certificate and its key are tables in flash: certificate.sh makes
 * them anew in each build directory. A product does not have one key in all its devices: it reads the device's own from
 * where it was put when the device was made. Authorities are a table in flash as well: whoever one of them vouches for is
 * taken for the origin that a client asks for by https://.
 */
#include "tls.h"

#include "board.h"
#include "certificate.h"
#include "console.h"
#include "cpu.h"
#include "port/miniproxy_tls.h"

static struct miniproxy_tls tls;
static uint32_t longest_ms; /* turn of the loop while a TLS connection was open: what others may have waited */

/* The board's own source and nothing else. random.h is for sequence numbers: where it knows nothing that cannot be
 * guessed it still gives numbers, and keys made of them would be worth nothing. */
int miniproxy_tls_entropy(void *out, size_t len)
{
    return board_entropy(out, len) ? 0 : -1;
}

/*   TLS uptime peer done version suite
 *   TLS uptime peer full | plain | failed result= error= alert=      error: mbedTLS's, of which it is minus that */
static void event(void *app, const struct miniproxy_tls_event *e)
{
    uint32_t now_ms = cpu_now_ms();
    char text[MINIPROXY_ADDR_TEXT];
    (void)app;
    miniproxy_addr_format(e->peer, text);
    console_printf("TLS %u.%03u %s:%u ", now_ms / 1000, now_ms % 1000, text, e->peer->port);
    switch (e->what) {
    case MINIPROXY_TLS_DONE: console_printf("done %s %s\n", e->version, e->suite); break;
    case MINIPROXY_TLS_FULL: console_printf("full\n"); break;
    case MINIPROXY_TLS_PLAIN: console_printf("plain\n"); break;
    case MINIPROXY_TLS_FAILED:
        console_printf("failed result=%d error=0x%04x alert=%d\n", e->result, (uint32_t)-e->error, e->alert);
        break;
    }
}

void tls_start(struct miniproxy_config *config)
{
    const struct miniproxy_tls_config wanted = {
        .below = config->port, .below_data = config->port_data, .listeners = 1u << TLS_LISTENER, .cert = certificate,
        .cert_len = certificate_len, .key = certificate_key, .key_len = certificate_key_len,
#if FIRMWARE_TLS_CLIENT
        .ca = authorities, .ca_len = authorities_len,
#endif
        .event = event};
    int error = 0;
    const char *wrong = miniproxy_tls_init(&tls, &wanted, &error);
    if (wrong != NULL) {
        console_printf("TLS error=0x%04x: ", (uint32_t)-error);
        cpu_panic(wrong);
    }
    config->port = &miniproxy_tls_port;
    config->port_data = &tls;
}

uint32_t tls_poll(uint32_t now_ms)
{
    uint32_t wait_ms = miniproxy_tls_poll(&tls, now_ms), took_ms = cpu_now_ms() - now_ms;
    if (miniproxy_tls_active(&tls) > 0 && took_ms > longest_ms) longest_ms = took_ms;
    return wait_ms;
}

void tls_counters(void)
{
    console_printf("tls active=%u sessions=%u peak=%u of=%u common_peak=%u common_of=%u longest_ms=%u\n",
                   miniproxy_tls_active(&tls), MINIPROXY_TLS_SESSIONS, miniproxy_tls_peak(&tls),
                   sizeof tls.sessions[0].arena, miniproxy_tls_common_peak(&tls), sizeof tls.keys[0].arena, longest_ms);
}
