/* SPDX-License-Identifier: MIT
 *
 * The port on lwIP's sockets: the conformance tests, then what is its own: names with their late answers, lost events
 * of lwIP, what a closed connection still delivers, exhaustion, sleeping and waking, and that all comes back.
 *
 * sockets_test [RESULTS [SEED]]
 */
#include "world.h"

#include "lwip/api.h"
#include "lwip/priv/sockets_priv.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/sys.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ID "port-lwip-" WORLD_SUITE

static FILE *results;
static bool all = true;
static uint8_t data[65536];

static void report(struct conformance_world *w, const char *result, const char *name, const char *ids, const char *why)
{
    (void)w;
    if (why != NULL) printf("%s: %s: expected: %s\n", result, name, why);
    if (results == NULL) return;
    fprintf(results, "%s\t%s\t%s\t%s\n", result, ID, name, ids);
    fflush(results);
}

static bool check(bool condition, const char *expected)
{
    return conformance_check(condition, expected);
}

/* ---- Helpers ---- */

static void nap(unsigned ms)
{
    const struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    nanosleep(&time, NULL);
}

static void pass(uint32_t ms)
{
    uint32_t start_ms = sys_now();

    while (sys_now() - start_ms < ms) miniproxy_lwip_sockets_wait(&world_sockets, 5);
}

/* How long one wait takes. */
static uint32_t sleep_of(uint32_t ms)
{
    uint32_t start_ms = sys_now();

    miniproxy_lwip_sockets_wait(&world_sockets, ms);
    return sys_now() - start_ms;
}

/* The loop sleeps though something is left undone. The first wait may still report it. */
static bool sleeps(void)
{
    pass(20);
    return sleep_of(120) >= 100 && sleep_of(120) >= 100;
}

static int port_recv(struct miniproxy_conn *c, void *buf, size_t len)
{
    return (miniproxy_lwip_sockets_port.recv)(&world_sockets, c, buf, len);
}

static int port_send(struct miniproxy_conn *c, const void *buf, size_t len)
{
    return (miniproxy_lwip_sockets_port.send)(&world_sockets, c, buf, len);
}

static int port_finish(struct miniproxy_conn *c)
{
    return (miniproxy_lwip_sockets_port.finish)(&world_sockets, c);
}

static int port_accept(struct miniproxy_conn *c, struct miniproxy_addr *peer)
{
    return (miniproxy_lwip_sockets_port.accept)(&world_sockets, c, peer);
}

static int port_resolve(struct miniproxy_conn *c, const char *host, struct miniproxy_addr *out, int max)
{
    return (miniproxy_lwip_sockets_port.resolve)(&world_sockets, c, host, out, max);
}

static uint8_t octet(uint32_t key, uint32_t at)
{
    uint32_t x = (at + 1u) * 2654435761u + key * 40503u;

    return (uint8_t)(x >> 23 ^ x >> 11);
}

static void fill(uint8_t *to, size_t len, uint32_t key, uint32_t at)
{
    for (size_t i = 0; i < len; i++) to[i] = octet(key, at + (uint32_t)i);
}

static bool same(const uint8_t *got, int len, uint32_t key, uint32_t at)
{
    for (int i = 0; i < len; i++)
        if (got[i] != octet(key, at + (uint32_t)i)) return check(false, "octets arrive as they were sent");
    return true;
}

static bool peer_sends(int peer, const void *from, size_t len)
{
    uint32_t start_ms = sys_now();

    for (size_t sent = 0; sent < len;) {
        int n = world.peer_send(&world, peer, (const uint8_t *)from + sent, len - sent);

        if (n > 0) sent += (size_t)n;
        else if (n != MINIPROXY_AGAIN || sys_now() - start_ms > 5000) return check(false, "a peer sends");
        else nap(1);
    }
    return true;
}

static bool await_pcbs(unsigned most, uint32_t ms)
{
    uint32_t start_ms = sys_now();

    while (world_pcbs() > most)
        if (sys_now() - start_ms > ms) return false;
        else pass(20);
    return true;
}

static struct netconn *netconn_of(const struct miniproxy_conn *c)
{
    return lwip_socket_dbg_get_socket((int)c->handle - 1)->conn;
}

/* ---- What lwIP's sockets lose ---- */

/* lwIP tells of a FIN once, and not at all when the box of received segments is full. */
static bool fin_after_many(unsigned segments, bool together)
{
    struct conformance_pair p;
    unsigned got = 0;
    int n = 0;

    if (!conformance_pair(&p, CONFORMANCE_CONNECTED_4)) return false;
    for (unsigned i = 0; i < segments; i++) {
        fill(data, 1, 1, i);
        if (!peer_sends(p.peer, data, 1)) return false;
        if (!together) nap(1);
    }
    world.peer_finish(&world, p.peer);
    nap(300);
    while ((n = conformance_recv(p.c, data, 7)) > 0) {
        if (!same(data, n, 1, got)) return false;
        got += (unsigned)n;
    }
    return check(n == MINIPROXY_EOF, "EOF") && check(got == segments, "every octet before it");
}

static bool test_lost_fin(void)
{
    for (unsigned segments = 125; segments < 130; segments++)
        if (!fin_after_many(segments, false)) return false;
    return fin_after_many(150, true);
}

/* After both FINs lwIP frees the PCB of a socket without a word. */
static bool time_wait_ends(bool octets_unread)
{
    struct conformance_pair p, others[8];
    int n;

    if (!conformance_pair(&p, CONFORMANCE_CONNECTED_4)) return false;
    if (!check(port_finish(p.c) == MINIPROXY_OK, "finish: OK")) return false;
    fill(data, 3000, 2, 0);
    if (octets_unread && !peer_sends(p.peer, data, 3000)) return false;
    world.peer_finish(&world, p.peer);
    nap(3000); /* TIME_WAIT is over */
    for (size_t i = 0; i < 8; i++)
        if (!conformance_pair(&others[i], CONFORMANCE_ACCEPTED_4)) return false;
    for (uint32_t at = 0; octets_unread && at < 3000; at += (uint32_t)n) {
        n = conformance_recv(p.c, data, 700);
        if (!check(n > 0, "octets are still there") || !same(data, n, 2, at)) return false;
    }
    if (!check(conformance_recv(p.c, data, 10) == MINIPROXY_EOF, "EOF")) return false;
    conformance_give(p.c, false);
    for (size_t i = 0; i < 8; i++)
        if (!peer_sends(others[i].peer, data, 100) ||
            !check(conformance_recv(others[i].c, data, 100) > 0, "others live"))
            return false;
    return true;
}

static bool test_time_wait_ends(void)
{
    struct conformance_pair p;

    if (!time_wait_ends(false) || !time_wait_ends(true)) return false;
    /* read in time, closed late */
    if (!conformance_pair(&p, CONFORMANCE_CONNECTED_4)) return false;
    world.peer_finish(&world, p.peer);
    if (!check(conformance_recv(p.c, data, 10) == MINIPROXY_EOF, "EOF") ||
        !check(port_finish(p.c) == MINIPROXY_OK, "finish: OK"))
        return false;
    nap(3000);
    conformance_give(p.c, false);
    /* finished, read to the end in TIME_WAIT, closed after it */
    if (!conformance_pair(&p, CONFORMANCE_CONNECTED_4)) return false;
    if (!check(port_finish(p.c) == MINIPROXY_OK, "finish: OK")) return false;
    world.peer_finish(&world, p.peer);
    if (!check(conformance_recv(p.c, data, 10) == MINIPROXY_EOF, "EOF")) return false;
    nap(3000);
    conformance_give(p.c, true);
    return true;
}

static bool test_reset_while_pending(void)
{
    struct miniproxy_conn *c = conformance_take();
    struct miniproxy_addr from;
    int first = world.peer_connect(&world, 4), result;

    if (!check(conformance_await_accept(), "a wake")) return false;
    world.peer_reset(&world, first);
    pass(20);
    if (!check(world.peer_connect(&world, 4) >= 0, "a peer connects")) return false;
    do result = conformance_accept(c, &from);
    while (result == MINIPROXY_EFAIL);
    return check(result == MINIPROXY_OK, "the next one is accepted") &&
           check(port_accept(conformance_take(), &from) == MINIPROXY_AGAIN, "AGAIN after it");
}

/* What lwIP does for each SYN that finds no PCB. */
static void refuse_syns(void *unused)
{
    (void)unused;
    for (unsigned i = 0; i < world_sockets.listeners_used; i++) {
        const struct netconn *conn = lwip_socket_dbg_get_socket(world_sockets.listeners[i].fd)->conn;
        struct tcp_pcb_listen *pcb = (struct tcp_pcb_listen *)(void *)conn->pcb.tcp;

        for (int syns = 0; syns < 200; syns++) (pcb->accept)(pcb->callback_arg, NULL, ERR_MEM);
    }
}

/* Those who come when PCBs were short for long are welcome; and nobody is told of a shortage that is over. */
static bool test_shortage_of_pcbs(void)
{
    struct miniproxy_conn *c = conformance_take();
    struct miniproxy_addr from;

    world_locked(refuse_syns, NULL);
    return check(world.peer_connect(&world, 4) >= 0, "a peer connects") &&
           check(conformance_await_accept(), "a wake") &&
           check(port_accept(c, &from) == MINIPROXY_OK, "it is accepted") &&
           check(port_accept(conformance_take(), &from) == MINIPROXY_AGAIN, "AGAIN after it");
}

static void abort_pcb(void *conn)
{
    tcp_abort(((struct netconn *)conn)->pcb.tcp);
}

static bool test_given_up(void)
{
    struct conformance_pair p;

    if (!conformance_pair(&p, CONFORMANCE_ACCEPTED_4) || !peer_sends(p.peer, "abc", 3)) return false;
    pass(20);
    world_locked(abort_pcb, netconn_of(p.c)); /* as after the last retransmission */
    return check(conformance_recv(p.c, data, 10) == 3, "octets before it") &&
           check(conformance_recv(p.c, data, 10) == MINIPROXY_ETIMEDOUT, "ETIMEDOUT") &&
           check(conformance_recv(p.c, data, 10) < 0, "and no EOF afterwards") &&
           check(conformance_send(p.c, data, 10) < 0, "send fails, too");
}

static bool test_broken(void)
{
    struct conformance_pair p;

    if (!conformance_pair(&p, CONFORMANCE_ACCEPTED_4)) return false;
    if (!check(port_recv(p.c, data, 10) == MINIPROXY_AGAIN, "AGAIN")) return false;
    p.c->ready = 0;
    world.peer_reset(&world, p.peer);
    return check(conformance_await(p.c, MINIPROXY_BROKEN), "a reset is told as BROKEN");
}

static bool test_eof_not_broken(void)
{
    struct conformance_pair p;

    if (!conformance_pair(&p, CONFORMANCE_ACCEPTED_4) || !peer_sends(p.peer, "abc", 3)) return false;
    world.peer_finish(&world, p.peer);
    pass(20);
    if (!check(port_finish(p.c) == MINIPROXY_OK, "finish: OK")) return false;
    p.c->ready = 0;
    pass(50);
    return check(!(p.c->ready & MINIPROXY_BROKEN), "both FINs are no break") &&
           check(conformance_recv(p.c, data, 10) == 3, "the octets") &&
           check(conformance_recv(p.c, data, 10) == MINIPROXY_EOF, "EOF") &&
           check(conformance_recv(p.c, data, 10) == MINIPROXY_EOF, "EOF stays");
}

/* ---- Options, addresses, errors ---- */

static bool options_of(const struct miniproxy_conn *c)
{
    struct netconn *conn = netconn_of(c);

    return check(tcp_nagle_disabled(conn->pcb.tcp), "Nagle's algorithm is off") &&
           check(ip_get_option(conn->pcb.tcp, SOF_KEEPALIVE), "keepalive is on") &&
           check(netconn_is_nonblocking(conn), "it does not block");
}

static bool test_options(void)
{
    struct conformance_pair accepted, connected;

    return conformance_pair(&accepted, CONFORMANCE_ACCEPTED_4) && options_of(accepted.c) &&
           conformance_pair(&connected, CONFORMANCE_CONNECTED_6) && options_of(connected.c);
}

/* world.own: the twelfth leads to the listener of both families */
static bool test_both_families(void)
{
    struct miniproxy_addr four = world_here(4, world_sockets.listeners[2].port), six = four, from;
    struct miniproxy_conn *c = conformance_take(), *d = conformance_take();

    six = world_here(6, four.port);
    return check(world_peer_to(&four) >= 0, "a peer connects") &&
           check(conformance_accept(c, &from) == MINIPROXY_OK, "OK") && check(from.family == 4, "family 4") &&
           check(c->listener == 2, "its listener") && check(memcmp(from.ip, four.ip, 4) == 0, "its address") &&
           check(world_peer_to(&six) >= 0, "a peer connects") &&
           check(conformance_accept(d, &from) == MINIPROXY_OK, "OK") && check(from.family == 6, "family 6") &&
           check(memcmp(from.ip, six.ip, 16) == 0, "its address");
}

static bool test_connect_errors(void)
{
    const struct miniproxy_addr nowhere = {.ip = {203, 0, 113, 1}, .port = 80, .family = 4};
    const struct miniproxy_addr nowhere_6 = {.ip = {0x20, 1, 0x0d, 0xb8, [15] = 1}, .port = 80, .family = 6};
    const struct miniproxy_addr none = {.ip = {10, 8, 0, 1}, .port = 80};
    struct miniproxy_addr silent = world.silent(&world);
    uint32_t start_ms = sys_now();
    struct miniproxy_conn *c = conformance_take();
    int result;

    if (!check(conformance_connect(conformance_take(), &nowhere) == MINIPROXY_EUNREACHABLE, "EUNREACHABLE, IPv4") ||
        !check(conformance_connect(conformance_take(), &nowhere_6) == MINIPROXY_EUNREACHABLE, "EUNREACHABLE, IPv6") ||
        !check(conformance_connect(conformance_take(), &none) == MINIPROXY_EUNREACHABLE, "EUNREACHABLE, no family"))
        return false;
    do result = conformance_connect(c, &silent);
    while (result == CONFORMANCE_NO_WAKE && sys_now() - start_ms < 30000);
    return check(result == MINIPROXY_ETIMEDOUT, "ETIMEDOUT when lwIP gives up");
}

/* ---- Closing ---- */

/* The peer goes on sending, before the close and after it, and reads late. */
static bool test_close_unread(void)
{
    struct conformance_pair p;
    uint32_t sent = 0, got = 0;
    int n;

    if (!conformance_pair(&p, CONFORMANCE_ACCEPTED_4)) return false;
    fill(data, 9000, 3, 0);
    if (!peer_sends(p.peer, data, 9000)) return false;
    pass(20);
    if (!check(conformance_recv(p.c, data, 100) == 100, "some of it is read")) return false;
    for (;;) {
        fill(data, 1000, 4, sent);
        n = port_send(p.c, data, 1000);
        if (n < 0) break;
        sent += (uint32_t)n;
    }
    conformance_give(p.c, false);
    nap(50);
    for (int i = 0; i < 20; i++) world.peer_send(&world, p.peer, data, 3000);
    nap(50);
    while ((n = conformance_peer_recv(p.peer, data, 500)) > 0) {
        if (!same(data, n, 4, got)) return false;
        got += (uint32_t)n;
        if (got % 4000 < 500) world.peer_send(&world, p.peer, data, 1000);
    }
    return check(n == MINIPROXY_EOF, "FIN follows") && check(got == sent, "all that send had taken");
}

/* A peer that never reads does not hold a PCB for ever. MINIPROXY_LWIP_SOCKETS_LINGER_S is 3. */
static bool test_linger_ends(void)
{
    struct conformance_pair p;
    unsigned before;
    int n;

    if (!check(await_pcbs(0, 10000), "what was before has ended")) return false;
    before = world_pcbs();
    if (!conformance_pair(&p, CONFORMANCE_ACCEPTED_4)) return false;
    do n = port_send(p.c, data, 4000);
    while (n > 0);
    conformance_give(p.c, false);
    nap(500);
    if (!check(world_pcbs() >= before + 2, "it lingers")) return false;
    return check(await_pcbs(before + 1, 10000), "it ends; the peer's does not, until it reads");
}

static bool test_stop_listening(void)
{
    struct miniproxy_addr four = world_here(4, world_sockets.listeners[0].port), from;
    struct miniproxy_conn *c = conformance_take();
    unsigned sockets = world_sockets_open();
    int peers[3], late, n;

    for (int i = 0; i < 3; i++) peers[i] = world_peer_to(&four);
    if (!check(conformance_await_accept(), "a wake")) return false;
    pass(20);
    miniproxy_lwip_sockets_stop_listening(&world_sockets);
    for (int i = 0; i < 3; i++)
        if (!check(conformance_peer_recv(peers[i], data, 10) == MINIPROXY_ERESET, "who waits is reset")) return false;
    late = world_peer_to(&four);
    n = conformance_peer_recv(late, data, 10);
    if (!check(n == MINIPROXY_ERESET, "who comes later is refused")) return false;
    if (!check(port_accept(c, &from) == MINIPROXY_AGAIN, "accept says AGAIN")) return false;
    if (!check(sleeps(), "the loop sleeps")) return false;
    world.clear(&world);
    if (!check(world_sockets_open() == sockets - 4, "all sockets are closed")) return false;
    miniproxy_lwip_sockets_end(&world_sockets);
    return check(world_open(), "it starts again");
}

/* ---- Sleeping and waking ---- */

static bool test_sleeps(void)
{
    struct conformance_pair p, dead;
    struct miniproxy_conn *asking = conformance_take();
    struct miniproxy_addr list[2], from;

    if (!check(sleeps(), "nothing to do")) return false;
    if (!conformance_pair(&p, CONFORMANCE_ACCEPTED_4) || !peer_sends(p.peer, "abc", 3)) return false;
    if (!check(sleeps(), "octets that the core does not read")) return false;
    if (!conformance_pair(&dead, CONFORMANCE_ACCEPTED_4)) return false;
    world.peer_reset(&world, dead.peer);
    if (!check(sleeps(), "a connection that was reset")) return false;
    if (!check(port_accept(conformance_take(), &from) == MINIPROXY_AGAIN, "AGAIN")) return false;
    (void)conformance_accept_woken();
    if (!check(world.peer_connect(&world, 4) >= 0, "a peer connects") || !check(conformance_await_accept(), "a wake") ||
        !check(sleeps(), "a connection that the core does not accept"))
        return false;
    world_hold(true);
    return check(port_resolve(asking, "slow.test", list, 2) == MINIPROXY_AGAIN, "AGAIN") &&
           check(asking->ready == 0, "no wake yet") && check(sleeps(), "a name that is not answered");
}

static void *interrupt_later(void *unused)
{
#if LWIP_NETCONN_SEM_PER_THREAD
    netconn_thread_init();
#endif
    nap(50);
    miniproxy_lwip_sockets_interrupt(&world_sockets);
#if LWIP_NETCONN_SEM_PER_THREAD
    netconn_thread_cleanup();
#endif
    return unused;
}

static void *interrupt_often(void *unused)
{
#if LWIP_NETCONN_SEM_PER_THREAD
    netconn_thread_init();
#endif
    for (int i = 0; i < 3000; i++) miniproxy_lwip_sockets_interrupt(&world_sockets);
#if LWIP_NETCONN_SEM_PER_THREAD
    netconn_thread_cleanup();
#endif
    return unused;
}

static bool test_interrupt(void)
{
    pthread_t thread, often[3];
    uint32_t slept;

    miniproxy_lwip_sockets_interrupt(&world_sockets);
    miniproxy_lwip_sockets_interrupt(&world_sockets);
    if (!check(sleep_of(3000) < 500, "an interrupt before the sleep ends it")) return false;
    if (!check(sleep_of(120) >= 100, "one sleep only")) return false;
    for (int i = 0; i < 5; i++) {
        pthread_create(&thread, NULL, interrupt_later, NULL);
        slept = sleep_of(i % 2 == 0 ? 5000 : MINIPROXY_FOREVER);
        pthread_join(thread, NULL);
        if (!check(slept >= 30 && slept < 2000, "an interrupt ends the sleep")) return false;
    }
    for (int i = 0; i < 3; i++) pthread_create(&often[i], NULL, interrupt_often, NULL);
    for (int i = 0; i < 2000; i++) miniproxy_lwip_sockets_wait(&world_sockets, 1);
    for (int i = 0; i < 3; i++) pthread_join(often[i], NULL);
    pass(10);
    if (!check(sleep_of(120) >= 100, "none is left")) return false;
    pthread_create(&thread, NULL, interrupt_later, NULL);
    slept = sleep_of(5000);
    pthread_join(thread, NULL);
    return check(slept < 2000, "and the next still comes through");
}

/* ---- Names ---- */

static void *release_later(void *unused)
{
#if LWIP_NETCONN_SEM_PER_THREAD
    netconn_thread_init();
#endif
    nap(100);
    world_hold(false);
#if LWIP_NETCONN_SEM_PER_THREAD
    netconn_thread_cleanup();
#endif
    return unused;
}

static bool test_answer_wakes(void)
{
    struct miniproxy_conn *c = conformance_take();
    struct miniproxy_addr list[2];
    uint32_t start_ms = sys_now();
    pthread_t thread;

    world_hold(true);
    if (!check(port_resolve(c, "slow.test", list, 2) == MINIPROXY_AGAIN, "AGAIN")) return false;
    pthread_create(&thread, NULL, release_later, NULL);
    while (c->ready == 0 && sys_now() - start_ms < 3000) miniproxy_lwip_sockets_wait(&world_sockets, 10000);
    pthread_join(thread, NULL);
    return check(sys_now() - start_ms < 1000, "an answer ends the sleep") &&
           check(port_resolve(c, "slow.test", list, 2) == 1 && list[0].ip[3] == 3, "and is the address");
}

static bool is_address(const struct miniproxy_addr *a, int family, uint8_t first, uint8_t last)
{
    return check(a->family == family && a->ip[0] == first && a->ip[family == 4 ? 3 : 15] == last, "the address");
}

static bool test_families(void)
{
    struct miniproxy_addr list[4];
    uint32_t start_ms;

    if (!check(conformance_resolve(conformance_take(), "known.test", list, 4) == 2, "two addresses") ||
        !is_address(&list[0], 6, 0, 1) || !is_address(&list[1], 4, 127, 1) ||
        !check(conformance_resolve(conformance_take(), "six.test", list, 4) == 1, "one address") ||
        !is_address(&list[0], 6, 0xfd, 6) ||
        !check(conformance_resolve(conformance_take(), "mapped.test", list, 4) == 1, "one address") ||
        !is_address(&list[0], 4, 127, 9))
        return false;
    start_ms = sys_now();
    return check(conformance_resolve(conformance_take(), "four.test", list, 4) == 1, "one address") &&
           is_address(&list[0], 4, 127, 6) &&
           check(sys_now() - start_ms < 500, "without waiting for the other family's");
}

static bool test_name_errors(void)
{
    struct miniproxy_addr list[2];
    char name[300];

    memset(name, 'a', 280);
    name[280] = '\0';
    for (int i = 60; i < 280; i += 60) name[i] = '.';
    return check(conformance_resolve(conformance_take(), name, list, 2) == MINIPROXY_ENAME, "too long: ENAME");
}

/* The second is asked when the first has been silent for as long as one alone would be. */
static bool test_second_server(void)
{
    struct miniproxy_addr list[2];
    int result;

    world_ask_the_dead_first(true);
    result = conformance_resolve(conformance_take(), "missing.test", list, 2);
    world_ask_the_dead_first(false);
    return check(result == MINIPROXY_ENAME, "ENAME");
}

/* More names than queries: the others wait, nobody starves, nobody gets another's answer. */
static bool test_many_names(void)
{
    enum { NAMES = 2 * MINIPROXY_LWIP_SOCKETS_QUERIES };
    struct miniproxy_conn *asking[NAMES], *beside = conformance_take();
    struct miniproxy_addr list[2];
    char name[32];

    world_hold(true);
    for (int i = 0; i < NAMES; i++) {
        snprintf(name, sizeof name, "held%d.test", i + 1);
        asking[i] = conformance_take();
        if (!check(port_resolve(asking[i], name, list, 2) == MINIPROXY_AGAIN, "AGAIN")) return false;
        asking[i]->ready = 0;
    }
    if (!check(port_resolve(beside, "n7.test", list, 2) == MINIPROXY_AGAIN, "AGAIN without a query")) return false;
    for (int i = 0; i < NAMES; i += 3) {
        conformance_give(asking[i], true);
        asking[i] = NULL;
    }
    pass(200);
    world_hold(false);
    if (!check(conformance_resolve(beside, "n7.test", list, 2) == 1 && list[0].ip[2] == 2 && list[0].ip[3] == 7, "n7"))
        return false;
    for (int i = 0; i < NAMES; i++) {
        snprintf(name, sizeof name, "held%d.test", i + 1);
        if (asking[i] == NULL) continue;
        if (!check(conformance_resolve(asking[i], name, list, 2) == 1, "one address") ||
            !check(list[0].ip[2] == 1 && list[0].ip[3] == i + 1, "of the name that was asked for"))
            return false;
    }
    return true;
}

/* The answers come when the instance, or its memory, is gone. */
static bool test_answers_after_end(void)
{
    struct miniproxy_conn *asking[8];
    struct miniproxy_addr list[2];
    char name[32];

    for (int turn = 0; turn < 3; turn++) {
        world_hold(true);
        for (int i = 0; i < 8; i++) {
            snprintf(name, sizeof name, "held%d.test", i + 1);
            asking[i] = conformance_take();
            port_resolve(asking[i], name, list, 2);
        }
        pass(20);
        for (int i = 0; i < 8; i++) conformance_give(asking[i], i % 2 == 0);
        miniproxy_lwip_sockets_end(&world_sockets);
        memset(&world_sockets, 0xa5, sizeof world_sockets);
        world_hold(false);
        nap(50);
        if (!check(world_open(), "it starts again")) return false;
    }
    return check(conformance_resolve(conformance_take(), "n5.test", list, 2) == 1, "and resolves");
}

/* ---- Exhaustion and soak ---- */

static bool test_no_sockets(void)
{
    struct miniproxy_lwip_sockets another = {.proxy = NULL};
    const struct miniproxy_addr any = {.family = 0};
    bool ok;

    world_starve_sockets(true);
    ok = check(!miniproxy_lwip_sockets_init(&another, NULL), "init: false");
    world_starve_sockets(false);
    ok = ok && check(miniproxy_lwip_sockets_init(&another, NULL), "init: true");
    world_starve_sockets(true);
    ok = ok && check(miniproxy_lwip_sockets_listen(&another, &any) == -1, "listen: -1");
    world_starve_sockets(false);
    ok = ok && check(miniproxy_lwip_sockets_listen(&another, &any) > 0, "listen: a port");
    miniproxy_lwip_sockets_end(&another);
    return ok;
}

static int connect_once(struct miniproxy_lwip_sockets *sockets, struct miniproxy_addr to)
{
    struct miniproxy_conn c = {.handle = 0};
    int result = (miniproxy_lwip_sockets_port.connect)(sockets, &c, &to);

    (miniproxy_lwip_sockets_port.close)(sockets, &c, true);
    return result;
}

/* lwIP moves a listener to its netif's new address. */
static bool moves(struct miniproxy_lwip_sockets *sockets, int family)
{
    struct miniproxy_addr old = world_nowhere(family, 1, 0), new = world_nowhere(family, 2, 0);
    int port = miniproxy_lwip_sockets_listen(sockets, &old);
    bool ok;

    if (!check(port > 0, "listen: a port")) return false;
    old.port = new.port = (uint16_t)port;
    ok = check(connect_once(sockets, old) == MINIPROXY_ESELF, "ESELF") &&
         check(connect_once(sockets, new) == MINIPROXY_AGAIN, "another's address");
    world_move_nowhere(2);
    ok = ok && check(connect_once(sockets, new) == MINIPROXY_ESELF, "ESELF at the new address") &&
         check(connect_once(sockets, old) == MINIPROXY_AGAIN, "the old one is somebody else's");
    world_move_nowhere(1);
    return ok && check(connect_once(sockets, old) == MINIPROXY_ESELF, "ESELF again");
}

static bool test_address_changes(void)
{
    struct miniproxy_lwip_sockets another = {.proxy = NULL};
    bool ok = check(miniproxy_lwip_sockets_init(&another, NULL), "init: true") && moves(&another, 4) && moves(&another, 6);

    miniproxy_lwip_sockets_end(&another);
    return ok;
}

static bool test_port_in_use(void)
{
    struct miniproxy_lwip_sockets another = {.proxy = NULL};
    struct miniproxy_addr at = world_here(4, world_sockets.listeners[0].port);
    bool ok = check(miniproxy_lwip_sockets_init(&another, NULL), "init: true") &&
              check(miniproxy_lwip_sockets_listen(&another, &at) == -1, "listen: -1, the address is in use");

    miniproxy_lwip_sockets_end(&another);
    return ok;
}

/* Nothing is left in the heap: no send is lost, no connection breaks, a connect says so. */
static bool test_no_memory(void)
{
    struct conformance_pair p;
    struct miniproxy_addr to;
    uint32_t sent = 0, got = 0;
    int n, result;

    if (!conformance_pair(&p, CONFORMANCE_ACCEPTED_4)) return false;
    if (!check(world.peer_listen(&world, 4, &to) >= 0, "a peer listens")) return false;
    world_starve_memory(1, 0);
    fill(data, 3000, 5, 0);
    n = port_send(p.c, data, 3000);
    result = conformance_connect(conformance_take(), &to);
    for (int i = 0; i < 10; i++) miniproxy_lwip_sockets_wait(&world_sockets, 20); /* poll has no semaphore either */
    world_starve_memory(0, 0);
    if (!check(n == MINIPROXY_AGAIN, "send says AGAIN") ||
        !check(result == MINIPROXY_ERESOURCES, "connect: ERESOURCES"))
        return false;
    p.c->ready &= (uint8_t)~MINIPROXY_WR;
    while (sent < 3000) {
        n = conformance_send(p.c, data + sent, 3000 - sent);
        if (!check(n > 0, "send takes octets afterwards")) return false;
        sent += (uint32_t)n;
    }
    while (got < 3000) {
        uint8_t back[500];

        n = conformance_peer_recv(p.peer, back, sizeof back);
        if (!check(n > 0, "the peer gets them") || !same(back, n, 5, got)) return false;
        got += (uint32_t)n;
    }
    return check(conformance_connect(conformance_take(), &to) == MINIPROXY_OK, "connect: OK afterwards");
}

/* Random connections doing random things. Each direction is a stream that must arrive without a gap; ends may be cut
 * short by a reset of either side, and only then. */
enum { SOAK_CONNS = 24 };

struct soak {
    struct miniproxy_conn *c;
    int listener, peer;
    bool finished, peer_finished, cut, ended, peer_ended;
    uint32_t up_sent, up_got, down_sent, down_got, key;
};

static uint32_t seed = 1;
static bool tolerant; /* memory fails: connections may end by it */

static uint32_t random_below(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return seed % n;
}

static void soak_end(struct soak *s, bool hard)
{
    if (s->c != NULL) conformance_give(s->c, hard);
    if (s->peer >= 0) world.peer_reset(&world, s->peer);
    *s = (struct soak){.peer = -1};
}

static int soak_listener[2];
static struct miniproxy_addr soak_at[2];

/* Are they two ends of one connection? Of those that failed one may still be queued. */
static bool soak_belong(const struct miniproxy_conn *c, int peer)
{
    ip_addr_t ip;
    u16_t local, remote;

    return netconn_addr(netconn_of(c), &ip, &local) == ERR_OK &&
           netconn_peer(lwip_socket_dbg_get_socket(world_peer_fd(peer))->conn, &ip, &remote) == ERR_OK &&
           local == remote && netconn_peer(netconn_of(c), &ip, &remote) == ERR_OK &&
           netconn_addr(lwip_socket_dbg_get_socket(world_peer_fd(peer))->conn, &ip, &local) == ERR_OK &&
           local == remote;
}

/* Without memory neither side need come into being. */
static bool soak_begin(struct soak *s, uint32_t key)
{
    int six = (int)random_below(2), result = MINIPROXY_AGAIN, peer = MINIPROXY_AGAIN;
    bool accepted = random_below(2) == 0;
    struct miniproxy_conn *c = conformance_take();
    struct miniproxy_addr from;
    uint32_t start_ms = sys_now();

    if (accepted) peer = world.peer_connect(&world, six ? 6 : 4);
    while ((result == MINIPROXY_AGAIN || peer == MINIPROXY_AGAIN) && sys_now() - start_ms < (tolerant ? 100 : 5000)) {
        if (result == MINIPROXY_AGAIN && accepted) result = port_accept(c, &from);
        else if (result == MINIPROXY_AGAIN)
            result = (miniproxy_lwip_sockets_port.connect)(&world_sockets, c, &soak_at[six]);
        if (!accepted && peer == MINIPROXY_AGAIN) peer = world.peer_accept(&world, soak_listener[six]);
        miniproxy_lwip_sockets_wait(&world_sockets, 1);
    }
    if (result == MINIPROXY_OK && peer >= 0 && (!tolerant || soak_belong(c, peer))) {
        c->ready = MINIPROXY_RD | MINIPROXY_WR;
        *s = (struct soak){.c = c, .peer = peer, .key = key};
        return true;
    }
    conformance_give(c, true);
    if (peer >= 0) world.peer_reset(&world, peer);
    return check(tolerant, "a connection is made");
}

static bool soak_port_reads(struct soak *s)
{
    int n;

    if (s->ended || !(s->c->ready & MINIPROXY_RD)) return true;
    n = port_recv(s->c, data, 1 + random_below(4000));
    if (n == MINIPROXY_AGAIN) s->c->ready &= (uint8_t)~MINIPROXY_RD;
    if (n == MINIPROXY_AGAIN) return true;
    if (n > 0 && !same(data, n, s->key, s->up_got)) return false;
    if (n > 0) s->up_got += (uint32_t)n;
    else s->ended = true;
    if (n == MINIPROXY_EOF)
        return check(s->peer_finished && s->up_got == s->up_sent, "EOF comes after a FIN and all octets");
    return n > 0 || check(s->cut || tolerant, "an error comes of a reset only");
}

static bool soak_port_sends(struct soak *s)
{
    size_t len = 1 + random_below(4000);
    int n;

    if (s->finished || s->ended || !(s->c->ready & MINIPROXY_WR)) return true;
    fill(data, len, s->key + 1, s->down_sent);
    n = port_send(s->c, data, len);
    if (n == MINIPROXY_AGAIN) s->c->ready &= (uint8_t)~MINIPROXY_WR;
    if (n > 0) s->down_sent += (uint32_t)n;
    else if (n != MINIPROXY_AGAIN) return check(s->cut || tolerant, "send fails after a reset only");
    return true;
}

static bool soak_peer_reads(struct soak *s)
{
    int n;

    if (s->peer < 0 || s->peer_ended) return true;
    n = world.peer_recv(&world, s->peer, data, 1 + random_below(4000));
    if (n == MINIPROXY_AGAIN) return true;
    if (n > 0 && !same(data, n, s->key + 1, s->down_got)) return false;
    if (n > 0) s->down_got += (uint32_t)n;
    else s->peer_ended = true;
    if (n == MINIPROXY_EOF) return check(s->finished && s->down_got == s->down_sent, "a peer's EOF comes after all");
    return n > 0 || check(s->cut || tolerant, "a peer's error comes of a reset only");
}

static void soak_peer_sends(struct soak *s)
{
    size_t len = 1 + random_below(random_below(5) == 0 ? 4000 : 40);
    int n;

    if (s->peer < 0 || s->peer_finished || s->peer_ended) return;
    fill(data, len, s->key, s->up_sent);
    n = world.peer_send(&world, s->peer, data, len);
    if (n > 0) s->up_sent += (uint32_t)n;
}

static bool soak_step(struct soak *s, uint32_t key)
{
    if (s->c == NULL) return random_below(10) > 0 || soak_begin(s, key);
    switch (random_below(60)) {
    case 0:
        if (s->finished || s->ended) break;
        s->finished = port_finish(s->c) == MINIPROXY_OK;
        break;
    case 1:
        if (s->peer < 0 || s->peer_finished || s->peer_ended) break;
        world.peer_finish(&world, s->peer);
        s->peer_finished = true;
        break;
    case 2:
        if (random_below(4) > 0 || s->peer < 0) break;
        s->cut = true;
        world.peer_reset(&world, s->peer);
        s->peer = -1;
        break;
    case 3:
        if (random_below(8) == 0 || s->ended) soak_end(s, random_below(2) == 0);
        break;
    default: break;
    }
    if (s->c == NULL) return true;
    soak_peer_sends(s);
    if (random_below(2) == 0) soak_peer_sends(s);
    return (random_below(3) > 0 || soak_port_reads(s)) && (random_below(2) > 0 || soak_port_sends(s)) &&
           (random_below(2) > 0 || soak_peer_reads(s));
}

static bool soak(unsigned steps)
{
    static struct soak all_of[SOAK_CONNS];
    uint32_t begun = 0, moved = 0;
    bool ok = true;

    for (size_t i = 0; i < SOAK_CONNS; i++) all_of[i] = (struct soak){.peer = -1};
    for (int six = 0; six < 2; six++) {
        soak_listener[six] = world.peer_listen(&world, six ? 6 : 4, &soak_at[six]);
        if (soak_listener[six] < 0) return check(tolerant, "a peer listens");
    }
    for (unsigned step = 0; ok && step < steps; step++) {
        struct soak *s = &all_of[random_below(SOAK_CONNS)];
        bool was = s->c != NULL;

        ok = soak_step(s, 2 * step);
        if (!was && s->c != NULL) begun++;
        if (step % 8 == 0) miniproxy_lwip_sockets_wait(&world_sockets, random_below(20) == 0 ? 2 : 0);
        if (!was && s->c == NULL) continue;
        moved += s->up_got > 0;
    }
    for (size_t i = 0; i < SOAK_CONNS; i++) soak_end(&all_of[i], random_below(2) == 0);
    for (int six = 0; six < 2; six++) world.peer_reset(&world, soak_listener[six]);
    return ok && (tolerant || check(begun > 20 && moved > steps / 4, "the soak has done something"));
}

static bool test_soak(void)
{
    tolerant = false;
    return soak(30000);
}

static bool test_soak_without_memory(void)
{
    bool ok = true;

    tolerant = true;
    for (unsigned turn = 0; ok && turn < 4; turn++) {
        ok = soak(2000);
        world_starve_memory(turn % 2 == 0 ? 7 + random_below(60) : 0, turn % 2 == 0 ? 0 : 20000 + random_below(40000));
        ok = ok && soak(4000);
        world_starve_memory(0, 0);
        pass(50);
    }
    tolerant = false;
    return ok;
}

/* ---- All of them ---- */

static const struct {
    const char *name, *ids;
    bool (*run)(void);
} tests[] = {
    {"a FIN that finds the receive box full is not lost", "P12", test_lost_fin},
    {"a PCB that lwIP frees after TIME_WAIT is not used", "-", test_time_wait_ends},
    {"a connection that was reset before it was accepted", "-", test_reset_while_pending},
    {"after a shortage of PCBs", "-", test_shortage_of_pcbs},
    {"a connection that lwIP has given up", "-", test_given_up},
    {"a reset is told as BROKEN", "-", test_broken},
    {"both FINs are not told as BROKEN", "P12", test_eof_not_broken},
    {"Nagle off, keepalive on, not blocking", "-", test_options},
    {"one listener for both families", "-", test_both_families},
    {"connect: unreachable, and given up", "-", test_connect_errors},
    {"close delivers though the peer sends on", "P11", test_close_unread},
    {"a closed connection does not linger for ever", "-", test_linger_ends},
    {"stop listening, end and start again", "-", test_stop_listening},
    {"nothing keeps the loop busy", "-", test_sleeps},
    {"interrupt from other threads", "-", test_interrupt},
    {"an answer of the resolver ends the sleep", "D01", test_answer_wakes},
    {"IPv6 and IPv4 addresses of a name", "D01", test_families},
    {"a name that is too long", "-", test_name_errors},
    {"a name server that is silent, and one that answers", "-", test_second_server},
    {"more names than queries", "D01", test_many_names},
    {"answers after the end", "D01", test_answers_after_end},
    {"no sockets: init and listen", "-", test_no_sockets},
    {"listen: address in use", "-", test_port_in_use},
    {"a listener's address changes", "R04", test_address_changes},
    {"no memory: send waits, connect fails, both recover", "Z08", test_no_memory},
    {"soak", "-", test_soak},
    {"soak with failing memory", "Z08", test_soak_without_memory},
};

static void run_tests(const char *only)
{
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        bool ok;

        if (only != NULL && strcmp(only, tests[i].name) != 0) continue;
        conformance_begin(&world);
        ok = tests[i].run();
        ok = conformance_end() && ok;
        report(&world, ok ? "pass" : "fail", tests[i].name, tests[i].ids, conformance_why());
        all = all && ok;
    }
}

/* Everything that was taken is back. */
static bool is_balanced(unsigned blocks, unsigned sockets)
{
    uint32_t start_ms = sys_now();

    while (sys_now() - start_ms < 20000 && (world_blocks() != blocks || world_pcbs() != 0)) pass(50);
    if (world_blocks() != blocks) printf("%u blocks, %u before\n", world_blocks(), blocks);
    if (world_pcbs() != 0) printf("%u PCBs left\n", world_pcbs());
    return world_blocks() == blocks && world_pcbs() == 0 && world_sockets_open() == sockets;
}

int main(int argc, char **argv)
{
    const char *only = getenv("ONLY");
    unsigned blocks, sockets;
    bool ok;

    if (argc > 1) results = fopen(argv[1], "w");
    if (argc > 2) seed = (uint32_t)strtoul(argv[2], NULL, 10) * 2654435761u | 1u;
    setvbuf(stdout, NULL, _IONBF, 0);
    world.report = report;
    if (!world_begin()) return 1;
    blocks = world_blocks();
    sockets = world_sockets_open();
    if (only == NULL) all = conformance_run(&world);
    run_tests(only);
    ok = is_balanced(blocks, sockets);
    report(&world, ok ? "pass" : "fail", "all memory, PCBs and sockets are back", "-", ok ? NULL : "as at the start");
    world_close();
    if (results != NULL) fclose(results);
    return !(all && ok);
}
