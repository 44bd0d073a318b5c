/* SPDX-License-Identifier: MIT
 *
 * What TLS costs a board, in cycles of the core's clock; where the emulator counts time by instructions, in these. The
 * image is that of the product: the linker puts the functions below in place of those of their names. They also give it
 * a shared key, which the product has none of.
 */
#include "board.h"
#include "console.h"
#include "cpu.h"
#include "net.h"
#include "port/miniproxy_tls.h"
#include "tls.h"

/* Instructions of a loop whose time says how many of them a cycle is. */
enum { LOOP = 2 * 100000 };

static const uint8_t key[16] = "0123456789abcdef";
static const struct miniproxy_tls_psk psks[] = {{.identity = "bench", .key = key, .key_len = sizeof key}};

static uint64_t busy;              /* without what was slept */
static uint32_t counted;           /* up to when */
static uint32_t turn, longest_turn; /* of the main loop */
static uint32_t handshake, last_handshake, longest_step;
static bool forget;                /* a turn that prints */

static void count(void)
{
    uint32_t at = cpu_cycles();
    busy += at - counted;
    turn += at - counted;
    counted = at;
}

void __real_cpu_sleep(uint32_t ms, bool (*wanted)(void));
void __wrap_cpu_sleep(uint32_t ms, bool (*wanted)(void));
void __wrap_cpu_sleep(uint32_t ms, bool (*wanted)(void))
{
    count();
    __real_cpu_sleep(ms, wanted);
    counted = cpu_cycles();
}

/* The first in each turn of the loop. */
bool __real_net_poll(void);
bool __wrap_net_poll(void);
bool __wrap_net_poll(void)
{
    count();
    if (forget) longest_turn = longest_step = 0;
    else if (turn > longest_turn) longest_turn = turn;
    forget = false;
    turn = 0;
    return __real_net_poll();
}

int __real_mbedtls_ssl_handshake_step(mbedtls_ssl_context *ssl);
int __wrap_mbedtls_ssl_handshake_step(mbedtls_ssl_context *ssl);
int __wrap_mbedtls_ssl_handshake_step(mbedtls_ssl_context *ssl)
{
    uint32_t began = cpu_cycles(), took;
    int result = __real_mbedtls_ssl_handshake_step(ssl);
    took = cpu_cycles() - began;
    handshake += took;
    if (took > longest_step) longest_step = took;
    if (result == 0 && mbedtls_ssl_is_handshake_over(ssl)) {
        last_handshake = handshake;
        handshake = 0;
    }
    return result;
}

const char *__real_miniproxy_tls_init(struct miniproxy_tls *tls, const struct miniproxy_tls_config *config, int *error);
const char *__wrap_miniproxy_tls_init(struct miniproxy_tls *tls, const struct miniproxy_tls_config *config, int *error);
const char *__wrap_miniproxy_tls_init(struct miniproxy_tls *tls, const struct miniproxy_tls_config *config, int *error)
{
    struct miniproxy_tls_config with_key = *config;
    with_key.psks = psks;
    with_key.psk_count = 1;
    return __real_miniproxy_tls_init(tls, &with_key, error);
}

static uint32_t loop(void)
{
    uint32_t began = cpu_cycles(), left = LOOP / 2;
    __asm volatile("1: subs %0, #1\n bne 1b\n" : "+r"(left)::"cc");
    return cpu_cycles() - began;
}

/* For log_counters. */
void __real_tls_counters(void);
void __wrap_tls_counters(void);
void __wrap_tls_counters(void)
{
    uint64_t until_now;
    count();
    until_now = busy;
    __real_tls_counters();
    console_printf("tls instructions=%u loop=%u busy=%llu turn=%u step=%u handshake=%u\n", LOOP, loop(),
                   (unsigned long long)until_now, longest_turn, longest_step, last_handshake);
    forget = true;
}
