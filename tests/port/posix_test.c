/* SPDX-License-Identifier: MIT
 *
 * The POSIX port: the conformance tests, and what is its own. Argument: the results file; its name is the suite's.
 */
#include "posix_world.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const struct miniproxy_port *const port = &miniproxy_posix_port;
static struct miniproxy_posix second; /* instances beside the one of the world; zeroed by second_begin */
static struct miniproxy_posix third;

static bool check(bool condition, const char *expected)
{
    return conformance_check(condition, expected);
}

/* Let the port work for a while. */
static void settle(uint32_t ms)
{
    uint32_t start_ms = miniproxy_posix_now_ms();

    while (miniproxy_posix_now_ms() - start_ms < ms) miniproxy_posix_wait(&posix, 5);
}

static bool begin(struct miniproxy_posix *instance)
{
    static struct miniproxy proxy;

    memset(instance, 0, sizeof *instance);
    return check(miniproxy_posix_init(instance, &proxy), "an instance starts");
}

/* Whatever were to look at it now would notice. */
static void end(struct miniproxy_posix *instance)
{
    miniproxy_posix_end(instance);
    memset(instance, 0xA5, sizeof *instance);
}

/* ---- Sockets ---- */

static int option_of(int fd, int level, int name)
{
    int value = 0;
    socklen_t len = sizeof value;

    return getsockopt(fd, level, name, &value, &len) == 0 ? value : -1;
}

static bool test_options(void)
{
    for (enum conformance_kind kind = 0; kind < CONFORMANCE_KINDS; kind++) {
        struct conformance_pair p;
        int fd;

        if (!posix_world.ipv6 && kind % 2 == 1) continue;
        if (!conformance_pair(&p, kind)) return false;
        fd = (int)p.c->handle - 1;
        check(option_of(fd, IPPROTO_TCP, TCP_NODELAY) > 0, "TCP_NODELAY");
        check(option_of(fd, SOL_SOCKET, SO_KEEPALIVE) > 0, "SO_KEEPALIVE");
        check((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0, "O_NONBLOCK");
        check((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0, "FD_CLOEXEC");
    }
    return true;
}

static bool test_listen(void)
{
    struct miniproxy_addr at = posix_world_loopback(4, 0), none = {.family = 0};
    int number;

    if (!begin(&second) || !begin(&third)) return false;
    number = miniproxy_posix_listen(&second, &at, true);
    check(number > 0, "the bound port");
    at.port = (uint16_t)number;
    check(miniproxy_posix_listen(&third, &at, true) == number, "another instance shares it");
    errno = 0;
    check(miniproxy_posix_listen(&third, &at, false) == -1 && errno == EADDRINUSE, "not without share");
    check(miniproxy_posix_listen(&third, &none, false) == -1 && errno == EAFNOSUPPORT, "no address");
    at.port = 0;
    for (int i = 1; i < MINIPROXY_POSIX_LISTENERS; i++)
        check(miniproxy_posix_listen(&third, &at, false) > 0, "up to MINIPROXY_POSIX_LISTENERS");
    check(miniproxy_posix_listen(&third, &at, false) == -1 && errno == ENOSPC, "and no more");
    end(&second);
    end(&third);
    return true;
}

/* Both families on one port, and a listener of one family does not speak for the other. */
static bool test_families_apart(void)
{
    struct miniproxy_addr any4 = {.family = 4}, any6 = {.family = 6}, to;
    struct miniproxy_conn *c = conformance_take();
    int number, peer = -1;

    if (!posix_world.ipv6) return true;
    if (!begin(&second)) return false;
    number = miniproxy_posix_listen(&second, &any6, false);
    any4.port = any6.port = (uint16_t)number;
    check(number > 0 && miniproxy_posix_listen(&second, &any4, false) == number, "both families on one port");
    end(&second);
    if (!begin(&second)) return false;
    check(miniproxy_posix_listen(&second, &any6, false) == number, "the port is free again");
    to = posix_world_loopback(4, (uint16_t)number);
    if (begin(&third)) peer = miniproxy_posix_listen(&third, &to, false);
    check(peer == number && port->connect(&second, c, &to) == MINIPROXY_AGAIN, "IPv4 is not our own");
    port->close(&second, c, true);
    end(&second);
    end(&third);
    return true;
}

/* A listener on all addresses has this host's, and no others. Nothing is sent: connect fails before. */
static bool test_not_own(void)
{
    struct miniproxy_addr any = {.family = 4}, elsewhere = {.ip = {198, 51, 100, 1}, .family = 4};
    struct miniproxy_conn *c = conformance_take();

    if (!begin(&second)) return false;
    elsewhere.port = (uint16_t)miniproxy_posix_listen(&second, &any, false);
    posix_world_fail(CALL_CONNECT, ECONNREFUSED, 1);
    check(port->connect(&second, c, &elsewhere) == MINIPROXY_EREFUSED, "another host's address is not our own");
    end(&second);
    return true;
}

static uint16_t local_port(const struct miniproxy_conn *c)
{
    struct sockaddr_in sa;
    socklen_t len = sizeof sa;

    return getsockname((int)c->handle - 1, (struct sockaddr *)&sa, &len) == 0 ? ntohs(sa.sin_port) : 0;
}

static bool test_listeners_take_turns(void)
{
    struct miniproxy_addr at[2] = {posix_world_loopback(4, 0), posix_world_loopback(4, 0)}, from;
    uint16_t last = 0;

    if (!begin(&second)) return false;
    for (int i = 0; i < 2; i++) at[i].port = (uint16_t)miniproxy_posix_listen(&second, &at[i], false);
    for (int i = 0; i < 8; i++) check(posix_world_peer_to(&at[i / 4]) >= 0, "a peer connects");
    miniproxy_posix_wait(&second, 100);
    miniproxy_posix_wait(&second, 0);
    for (int i = 0; i < 8; i++) {
        struct miniproxy_conn *c = conformance_take();
        uint16_t now;

        check(port->accept(&second, c, &from) == MINIPROXY_OK, "accept");
        now = local_port(c);
        check(now != last, "the listeners take turns");
        check(now == at[c->listener].port, "a connection's listener is told");
        last = now;
        port->close(&second, c, true);
    }
    end(&second);
    return true;
}

static bool test_stop_listening(void)
{
    struct miniproxy_addr at = posix_world_loopback(4, 0), from;
    struct miniproxy_conn *c = conformance_take();

    if (!begin(&second)) return false;
    at.port = (uint16_t)miniproxy_posix_listen(&second, &at, false);
    check(posix_world_peer_to(&at) >= 0, "a peer connects");
    miniproxy_posix_wait(&second, 100);
    miniproxy_posix_stop_listening(&second);
    check(port->accept(&second, c, &from) == MINIPROXY_AGAIN, "nobody is accepted any more");
    check(conformance_connect(c, &at) == MINIPROXY_EREFUSED, "nobody gets in");
    conformance_give(c, true);
    conformance_accept_woken();
    check(miniproxy_posix_listen(&second, &at, false) == at.port, "it listens again");
    check(posix_world_peer_to(&at) >= 0, "a peer connects");
    miniproxy_posix_wait(&second, 100);
    c = conformance_take();
    check(conformance_accept_woken(), "a wake");
    check(port->accept(&second, c, &from) == MINIPROXY_OK, "and is accepted");
    check(c->listener == 0, "listeners are counted from the beginning");
    port->close(&second, c, true);
    end(&second);
    return true;
}

static bool test_start_without_descriptors(void)
{
    static struct miniproxy proxy;
    bool started;

    memset(&second, 0, sizeof second);
    posix_world.starve(&posix_world, true);
    errno = 0;
    started = miniproxy_posix_init(&second, &proxy);
    check(!started && errno == EMFILE, "EMFILE");
    posix_world.starve(&posix_world, false);
    miniproxy_posix_end(&second); /* what has not begun */
    if (!begin(&second)) return false;
    miniproxy_posix_end(&second);
    end(&second); /* and what has ended */
    return true;
}

/* ---- Waiting ---- */

/* Nothing new happens: the wait has to last. */
static bool sleeps(const char *when)
{
    uint32_t start_ms;

    settle(40);
    start_ms = miniproxy_posix_now_ms();
    miniproxy_posix_wait(&posix, 100);
    return check(miniproxy_posix_now_ms() - start_ms >= 95, when);
}

static bool test_sleeps(void)
{
    struct miniproxy_addr from;
    struct conformance_pair p;
    char data[64] = "";
    char *bulk = calloc(1, 1 << 20);

    sleeps("while all is quiet");
    check(posix_world.peer_connect(&posix_world, 4) >= 0 && conformance_await_accept(), "a connection is pending");
    sleeps("while accept pauses");
    check(conformance_accept(conformance_take(), &from) == MINIPROXY_OK, "accept");
    if (!conformance_pair(&p, CONFORMANCE_ACCEPTED_4)) return false;
    posix_world.peer_send(&posix_world, p.peer, data, sizeof data);
    sleeps("while octets are not read");
    while (port->send(&posix, p.c, bulk, 1 << 20) > 0) continue;
    p.c->ready &= (uint8_t)~MINIPROXY_WR;
    sleeps("while nothing can be sent");
    posix_world.peer_finish(&posix_world, p.peer);
    sleeps("while EOF is not read");
    posix_world.peer_reset(&posix_world, p.peer);
    sleeps("while a reset is not noticed");
    if (!conformance_pair(&p, CONFORMANCE_CONNECTED_4)) return false;
    port->finish(&posix, p.c);
    posix_world.peer_finish(&posix_world, p.peer);
    check(conformance_recv(p.c, data, sizeof data) == MINIPROXY_EOF, "EOF");
    sleeps("while both directions are closed");
    free(bulk);
    return true;
}

/* With not one descriptor to spare, the port still waits for all that it has. */
static bool test_few_descriptors(void)
{
    struct conformance_pair p;
    struct rlimit before, few;
    bool ok;

    for (int i = 0; i < 20; i++)
        if (!conformance_pair(&p, CONFORMANCE_ACCEPTED_4)) return false;
    getrlimit(RLIMIT_NOFILE, &before);
    few = before;
    few.rlim_cur = 1 + posix.listeners_used + 20; /* the wake, the listeners, the connections */
    ok = check(setrlimit(RLIMIT_NOFILE, &few) == 0, "a lower limit") && sleeps("while all is quiet") &&
         check(posix_world.peer_send(&posix_world, p.peer, "x", 1) == 1, "the peer sends") &&
         check(conformance_await(p.c, MINIPROXY_RD), "a wake");
    setrlimit(RLIMIT_NOFILE, &before);
    return ok;
}

static void *interrupt_later(void *data)
{
    const struct timespec pause = {.tv_nsec = 50000000};

    nanosleep(&pause, NULL);
    miniproxy_posix_interrupt(data);
    return NULL;
}

static void on_signal(int number)
{
    (void)number;
    miniproxy_posix_interrupt(&posix);
}

static bool test_interrupt(void)
{
    uint32_t start_ms = miniproxy_posix_now_ms();
    pthread_t thread;

    check(pthread_create(&thread, NULL, interrupt_later, &posix) == 0, "a thread");
    miniproxy_posix_wait(&posix, MINIPROXY_FOREVER);
    pthread_join(thread, NULL);
    signal(SIGUSR1, on_signal);
    for (int i = 0; i < 10000; i++) on_signal(0); /* more than a pipe holds */
    raise(SIGUSR1);
    miniproxy_posix_wait(&posix, 5000);
    check(miniproxy_posix_now_ms() - start_ms < 2000, "a wait ends at once");
    return sleeps("after it");
}

/* ---- The stack's ways to end a connection ---- */

static bool test_broken_hint(void)
{
    struct conformance_pair p;

    if (!conformance_pair(&p, CONFORMANCE_ACCEPTED_4)) return false;
    settle(20);
    check(!(p.c->ready & MINIPROXY_BROKEN), "not before");
    posix_world.peer_reset(&posix_world, p.peer);
    return check(conformance_await(p.c, MINIPROXY_BROKEN), "BROKEN after a reset");
}

/* A transfer that comes short says that there is no more: the call that would say AGAIN is saved. */
static bool test_no_needless_calls(void)
{
    struct conformance_pair p;
    char data[100] = "";
    char *bulk = calloc(1, 64 << 20);
    int n = 0;

    if (!conformance_pair(&p, CONFORMANCE_CONNECTED_4)) return false;
    settle(20);
    check(posix_world.peer_send(&posix_world, p.peer, data, 10) == 10, "the peer sends");
    check(conformance_await(p.c, MINIPROXY_RD), "a wake");
    check(port->recv(&posix, p.c, data, sizeof data) == 10 && !(p.c->ready & MINIPROXY_RD), "a short recv");
    if (bulk != NULL) n = port->send(&posix, p.c, bulk, 64 << 20);
    check(n > 0 && n < 64 << 20 && !(p.c->ready & MINIPROXY_WR), "a short send");
    free(bulk);
    return true;
}

/* A server that has answered and closes while the request still comes: FIN, then reset. Its answer was complete. */
static bool test_fin_then_reset(void)
{
    struct conformance_pair p;
    char data[100] = "";
    int n;

    if (!conformance_pair(&p, CONFORMANCE_CONNECTED_4)) return false;
    check(conformance_send(p.c, data, 10) == 10, "send");
    settle(20);
    check(posix_world.peer_send(&posix_world, p.peer, data, sizeof data) == sizeof data, "the peer answers");
    posix_world.peer_finish(&posix_world, p.peer);
    close(dup(posix_world_peer_fd(p.peer)));
    posix_world.clear(&posix_world); /* closes with octets unread, which resets */
    settle(20);
    do n = port->send(&posix, p.c, data, sizeof data);
    while (n > 0);
    check(n == MINIPROXY_ERESET, "send meets the reset");
    check(conformance_recv(p.c, data, sizeof data) == sizeof data, "the answer is still there");
    return check(conformance_recv(p.c, data, sizeof data) == MINIPROXY_EOF, "and ends properly");
}

/* recv stops short at urgent data although more has come. */
static bool test_urgent(void)
{
    struct conformance_pair p;
    char data[100];
    int fd, n = 0;

    if (!conformance_pair(&p, CONFORMANCE_ACCEPTED_4)) return false;
    fd = posix_world_peer_fd(p.peer);
    check(send(fd, "ABx", 3, MSG_OOB) == 3 && send(fd, "CD", 2, 0) == 2, "the peer sends");
    settle(20);
    while (n < 4) {
        int more = conformance_recv(p.c, data + n, sizeof data - (size_t)n);
        if (!check(more > 0, "all but the urgent octet")) return false;
        n += more;
    }
    return check(memcmp(data, "ABCD", 4) == 0, "in order");
}

/* ---- Errors of the system ---- */

static bool test_accept_errors(void)
{
    static const struct {
        int error, result;
    } cases[] = {{ECONNABORTED, MINIPROXY_EFAIL}, {EPROTO, MINIPROXY_EFAIL}, {ENETDOWN, MINIPROXY_EFAIL},
                 {EMFILE, MINIPROXY_ERESOURCES}, {ENFILE, MINIPROXY_ERESOURCES}, {ENOBUFS, MINIPROXY_ERESOURCES},
                 {ENOMEM, MINIPROXY_ERESOURCES}, {EBADF, MINIPROXY_ERESOURCES}};
    struct miniproxy_conn *c = conformance_take();
    struct miniproxy_addr from;

    check(posix_world.peer_connect(&posix_world, 4) >= 0 && conformance_await_accept(), "a peer connects");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        posix_world_fail(CALL_ACCEPT, cases[i].error, 1);
        check(port->accept(&posix, c, &from) == cases[i].result, strerror(cases[i].error));
    }
    posix_world_fail(CALL_ACCEPT, EINTR, 3);
    return check(port->accept(&posix, c, &from) == MINIPROXY_OK, "EINTR is tried again");
}

static bool test_connect_errors(void)
{
    static const struct {
        int error, result;
    } cases[] = {{ECONNREFUSED, MINIPROXY_EREFUSED}, {ENETUNREACH, MINIPROXY_EUNREACHABLE},
                 {EHOSTUNREACH, MINIPROXY_EUNREACHABLE}, {EADDRNOTAVAIL, MINIPROXY_EUNREACHABLE},
                 {EAFNOSUPPORT, MINIPROXY_EUNREACHABLE}, {EACCES, MINIPROXY_EUNREACHABLE},
                 {EPERM, MINIPROXY_EUNREACHABLE}, {ETIMEDOUT, MINIPROXY_ETIMEDOUT}, {ECONNRESET, MINIPROXY_ERESET},
                 {EPIPE, MINIPROXY_ERESET}, {EMFILE, MINIPROXY_ERESOURCES}, {EIO, MINIPROXY_EFAIL}};
    struct miniproxy_conn *c = conformance_take();
    struct miniproxy_addr to, none = {.family = 0};

    check(posix_world.peer_listen(&posix_world, 4, &to) >= 0, "a peer listens");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        posix_world_fail(CALL_CONNECT, cases[i].error, 1);
        check(port->connect(&posix, c, &to) == cases[i].result && c->handle == 0, strerror(cases[i].error));
    }
    posix_world_fail(CALL_SOCKET, EMFILE, 1);
    check(port->connect(&posix, c, &to) == MINIPROXY_ERESOURCES, "no descriptor");
    posix_world_fail(CALL_SOCKET, EAFNOSUPPORT, 1);
    check(port->connect(&posix, c, &to) == MINIPROXY_EUNREACHABLE, "no such family");
    check(port->connect(&posix, c, &none) == MINIPROXY_EUNREACHABLE, "no address");
#if !MINIPROXY_POSIX_POLL
    posix_world_fail(CALL_EPOLL_CTL, ENOSPC, 1);
    check(port->connect(&posix, c, &to) == MINIPROXY_ERESOURCES, "no room in epoll");
#endif
    return check(conformance_connect(c, &to) == MINIPROXY_OK, "OK in the end");
}

/* A signal during connect does not end the attempt. */
static bool test_connect_interrupted(void)
{
    struct miniproxy_conn *c = conformance_take();
    struct miniproxy_addr to = posix_world.silent(&posix_world);

    posix_world_fail(CALL_CONNECT, EINTR, 1);
    return check(port->connect(&posix, c, &to) == MINIPROXY_AGAIN && c->handle != 0, "AGAIN");
}

static bool test_transfer_errors(void)
{
    struct conformance_pair p;
    char data[10] = "";

    if (!conformance_pair(&p, CONFORMANCE_ACCEPTED_4)) return false;
    posix_world_fail(CALL_SEND, EINTR, 3);
    check(port->send(&posix, p.c, data, sizeof data) == sizeof data, "EINTR of send is tried again");
    posix_world_fail(CALL_RECV, EINTR, 3);
    check(port->recv(&posix, p.c, data, sizeof data) == MINIPROXY_AGAIN, "EINTR of recv is tried again");
    posix_world_fail(CALL_RECV, ETIMEDOUT, 1);
    check(port->recv(&posix, p.c, data, sizeof data) == MINIPROXY_ETIMEDOUT, "ETIMEDOUT of recv");
    posix_world_fail(CALL_RECV, EHOSTUNREACH, 1);
    check(port->recv(&posix, p.c, data, sizeof data) == MINIPROXY_ERESET, "other errors of recv");
    posix_world_fail(CALL_SEND, ETIMEDOUT, 1);
    check(port->send(&posix, p.c, data, sizeof data) == MINIPROXY_ETIMEDOUT, "ETIMEDOUT of send");
    posix_world_fail(CALL_SEND, EPIPE, 1);
    return check(port->send(&posix, p.c, data, sizeof data) == MINIPROXY_ERESET, "EPIPE of send");
}

/* ---- Names ---- */

static int ask(struct miniproxy_conn *c, const char *host)
{
    struct miniproxy_addr list[MINIPROXY_ADDRESSES];

    return port->resolve(&posix, c, host, list, MINIPROXY_ADDRESSES);
}

/* Resolve to the end. The last octet of an IPv4 answer, or the error. */
static int answer(const char *host)
{
    struct miniproxy_addr list[MINIPROXY_ADDRESSES];
    struct miniproxy_conn *c = conformance_take();
    int count = conformance_resolve(c, host, list, MINIPROXY_ADDRESSES);

    conformance_give(c, false);
    return count > 0 ? list[count - 1].ip[3] : count;
}

static bool await_held(unsigned count)
{
    for (int i = 0; i < 1000 && posix_world_held() != count; i++) settle(5);
    return check(posix_world_held() == count, "lookups run side by side");
}

/* Runs first: there is no thread yet. */
static bool test_no_thread(void)
{
    struct miniproxy_conn *c = conformance_take();

    posix_world_fail(CALL_PTHREAD_CREATE, EAGAIN, 1);
    check(ask(c, "n1.test") == MINIPROXY_ERESOURCES, "ERESOURCES without a thread");
    return check(answer("n1.test") == 1, "and an answer when there is one");
}

/* Runs next: there is one thread, and it is idle. */
static bool test_threads(void)
{
    unsigned before = posix_world_calls(CALL_PTHREAD_CREATE);

    check(answer("n4.test") == 4 && answer("n5.test") == 5 && answer("n6.test") == 6, "answers");
    check(posix_world_calls(CALL_PTHREAD_CREATE) == before, "one thread does for one lookup at a time");
    posix_world.hold_names(&posix_world, true);
    check(ask(conformance_take(), "held1.test") == MINIPROXY_AGAIN, "AGAIN");
    check(ask(conformance_take(), "held2.test") == MINIPROXY_AGAIN, "AGAIN");
    await_held(2);
    return check(posix_world_calls(CALL_PTHREAD_CREATE) == before + 1, "two for two");
}

static bool test_names_kept(void)
{
    unsigned before;

    miniproxy_posix_flush_names(&posix);
    before = posix_world_lookups();
    check(answer("n1.test") == 1 && answer("N1.Test") == 1 && answer("n1.test") == 1, "answers");
    check(answer("missing.test") == MINIPROXY_ENAME && answer("missing.test") == MINIPROXY_ENAME, "ENAME");
    check(posix_world_lookups() == before + 2, "one lookup each");
    settle(1100);
    check(answer("missing.test") == MINIPROXY_ENAME, "ENAME");
    check(posix_world_lookups() == before + 3, "ENAME is kept for less time");
    check(answer("n1.test") == 1 && posix_world_lookups() == before + 3, "than an answer");
    settle(1100);
    check(answer("n1.test") == 1 && posix_world_lookups() == before + 4, "which is not kept for ever");
    miniproxy_posix_flush_names(&posix);
    return check(answer("n1.test") == 1 && posix_world_lookups() == before + 5, "flush forgets it");
}

static bool test_names_failures(void)
{
    unsigned before = posix_world_lookups();
    char longest[300];

    memset(longest, 'a', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    check(answer(longest) == MINIPROXY_ENAME && posix_world_lookups() == before, "no name is so long");
    miniproxy_posix_flush_names(&posix);
    check(answer("failing.test") == MINIPROXY_EDNS && answer("memory.test") == MINIPROXY_ERESOURCES, "errors");
    settle(1100);
    check(answer("failing.test") == MINIPROXY_EDNS && posix_world_lookups() == before + 3, "are not kept");
    return check(answer("mapped.test") == 9, "a mapped address is an IPv4 address");
}

/* More addresses than there is room for: the families in turn, else as libc has sorted them. */
static bool test_names_order(void)
{
    struct miniproxy_addr list[4];
    bool ok = check(conformance_resolve(conformance_take(), "both.test", list, 4) == 4, "four addresses");

    for (int i = 0; i < 4 && ok; i++) {
        ok = check(list[i].family == (i % 2 == 0 ? 6 : 4), "IPv6 first, then in turn") &&
             check(list[i].ip[i % 2 == 0 ? 15 : 3] == i / 2 + 1, "each family in its order");
    }
    return ok;
}

static bool test_names_replaced(void)
{
    char host[32];
    unsigned before;

    miniproxy_posix_flush_names(&posix);
    for (int i = 1; i <= MINIPROXY_POSIX_NAMES; i++) {
        snprintf(host, sizeof host, "n%d.test", i);
        check(answer(host) == i, "an answer");
    }
    before = posix_world_lookups();
    check(answer("n1.test") == 1 && posix_world_lookups() == before, "the table holds MINIPROXY_POSIX_NAMES");
    check(answer("n99.test") == 99 && posix_world_lookups() == before + 1, "one more");
    check(answer("n1.test") == 1 && posix_world_lookups() == before + 1, "does not replace what was used");
    return check(answer("n2.test") == 2 && posix_world_lookups() == before + 2, "but what was used least recently");
}

static bool test_names_full(void)
{
    struct miniproxy_conn *c[MINIPROXY_POSIX_NAMES + 1];
    char host[32];

    posix_world.hold_names(&posix_world, true);
    for (int i = 0; i <= MINIPROXY_POSIX_NAMES; i++) {
        c[i] = conformance_take();
        snprintf(host, sizeof host, "held%d.test", i);
        check(ask(c[i], host) == (i < MINIPROXY_POSIX_NAMES ? MINIPROXY_AGAIN : MINIPROXY_ERESOURCES),
              "ERESOURCES once all entries are lookups");
    }
    await_held(MINIPROXY_POSIX_RESOLVERS);
    posix_world.hold_names(&posix_world, false);
    for (int i = 0; i < MINIPROXY_POSIX_NAMES; i++) check(conformance_await(c[i], MINIPROXY_WR), "all are answered");
    return check(answer(host) == MINIPROXY_POSIX_NAMES, "and there is room again");
}

/* A lookup that nobody waits for any more is not begun; one that runs is kept for who comes next. */
static bool test_names_abandoned(void)
{
    struct miniproxy_conn *c[6];
    unsigned before;
    char host[32];

    posix_world.hold_names(&posix_world, true);
    before = posix_world_lookups();
    for (int i = 1; i <= 5; i++) {
        c[i] = conformance_take();
        snprintf(host, sizeof host, "held%d.test", i + 20);
        check(ask(c[i], host) == MINIPROXY_AGAIN, "AGAIN");
        if (i == MINIPROXY_POSIX_RESOLVERS) await_held(MINIPROXY_POSIX_RESOLVERS);
    }
    conformance_give(c[1], true); /* runs */
    conformance_give(c[4], true); /* queued */
    posix_world.hold_names(&posix_world, false);
    check(answer("held25.test") == 25 && answer("held21.test") == 21, "answers");
    return check(posix_world_lookups() == before + 4, "the lookup in the queue was dropped, the other's answer kept");
}

static bool test_names_flushed_meanwhile(void)
{
    struct miniproxy_conn *c = conformance_take();
    unsigned before;

    posix_world.hold_names(&posix_world, true);
    before = posix_world_lookups();
    check(ask(c, "held30.test") == MINIPROXY_AGAIN, "AGAIN");
    await_held(1);
    miniproxy_posix_flush_names(&posix);
    posix_world.hold_names(&posix_world, false);
    check(answer("held30.test") == 30, "the answer comes");
    settle(1100);
    return check(answer("held30.test") == 30 && posix_world_lookups() == before + 2, "but is not kept");
}

static bool test_names_of_instances(void)
{
    struct miniproxy_addr list[MINIPROXY_ADDRESSES];
    struct miniproxy_conn *a = conformance_take(), *b = conformance_take(), *c = conformance_take();
    unsigned before;

    if (!begin(&second)) return false;
    posix_world.hold_names(&posix_world, true);
    before = posix_world_lookups();
    check(ask(a, "held40.test") == MINIPROXY_AGAIN, "AGAIN");
    check(port->resolve(&second, b, "held40.test", list, 1) == MINIPROXY_AGAIN, "AGAIN");
    check(port->resolve(&second, c, "held40.test", list, 1) == MINIPROXY_AGAIN, "AGAIN");
    port->close(&second, c, true);
    await_held(1);
    posix_world.hold_names(&posix_world, false);
    check(conformance_await(a, MINIPROXY_WR), "the first instance is woken");
    check(b->ready == 0, "each in its own loop");
    miniproxy_posix_wait(&second, 1000);
    check(b->ready == MINIPROXY_WR && c->ready == 0, "the second instance is woken");
    check(port->resolve(&second, b, "held40.test", list, 1) == 1, "and gets the answer");
    check(posix_world_lookups() == before + 1, "one lookup for both");
    end(&second);
    return true;
}

/* Does the table hold as many names as it should? */
static bool table_is_whole(void)
{
    unsigned before = 0;
    char host[32];

    for (int i = 0; i < 2 * MINIPROXY_POSIX_NAMES; i++) {
        if (i == MINIPROXY_POSIX_NAMES) before = posix_world_lookups();
        snprintf(host, sizeof host, "n%d.test", 100 + i % MINIPROXY_POSIX_NAMES);
        check(answer(host) == 100 + i % MINIPROXY_POSIX_NAMES, "an answer");
    }
    return check(posix_world_lookups() == before, "the table holds MINIPROXY_POSIX_NAMES");
}

static bool test_end_during_lookup(void)
{
    struct miniproxy_addr list[MINIPROXY_ADDRESSES];
    struct miniproxy_conn *c = conformance_take();
    uint32_t start_ms = miniproxy_posix_now_ms();

    if (!begin(&second)) return false;
    posix_world.hold_names(&posix_world, true);
    check(port->resolve(&second, c, "held50.test", list, 1) == MINIPROXY_AGAIN, "AGAIN");
    await_held(1);
    end(&second);
    check(miniproxy_posix_now_ms() - start_ms < 1000, "end does not wait for it");
    posix_world.hold_names(&posix_world, false);
    return check(answer("held50.test") == 50, "its answer is kept") && table_is_whole();
}

static bool test_signals_blocked(void)
{
    return check(answer("n3.test") == 3 && posix_world_signals_blocked(), "signals are blocked in the helper threads");
}

/* ---- All of them ---- */

static const struct {
    const char *name, *ids;
    bool (*run)(void);
} tests[] = {
    {"names: no thread", "Z08", test_no_thread}, /* first */
    {"names: threads come when they are needed", "D01", test_threads}, /* second */
    {"options of sockets", "P10", test_options},
    {"listen", "-", test_listen},
    {"the two families are apart", "R04", test_families_apart},
    {"another host on the same port", "R04", test_not_own},
    {"listeners take turns", "-", test_listeners_take_turns},
    {"stop listening", "-", test_stop_listening},
    {"start without descriptors", "Z08", test_start_without_descriptors},
    {"no busy loop", "Z08", test_sleeps},
    {"all descriptors in use", "Z08", test_few_descriptors},
    {"interrupt", "-", test_interrupt},
    {"a reset is hinted at", "-", test_broken_hint},
    {"no needless calls", "-", test_no_needless_calls},
    {"FIN, then reset: a proper end", "-", test_fin_then_reset},
    {"urgent data stops nothing", "-", test_urgent},
    {"errors of accept", "Z08", test_accept_errors},
    {"errors of connect", "Z08", test_connect_errors},
    {"connect is interrupted", "-", test_connect_interrupted},
    {"errors of recv and send", "-", test_transfer_errors},
    {"names: kept for a time, flushed", "D08", test_names_kept},
    {"names: failures", "D08", test_names_failures},
    {"names: order", "-", test_names_order},
    {"names: the oldest is replaced", "D08", test_names_replaced},
    {"names: all entries are lookups", "D08,Z08", test_names_full},
    {"names: nobody waits any more", "D01", test_names_abandoned},
    {"names: flushed during the lookup", "D08", test_names_flushed_meanwhile},
    {"names: shared by instances", "D01", test_names_of_instances},
    {"names: end during a lookup", "D01", test_end_during_lookup},
    {"names: threads take no signals", "-", test_signals_blocked},
};

static FILE *results;
static char suite[64] = "port-posix";

static void report(struct conformance_world *w, const char *result, const char *name, const char *ids, const char *why)
{
    (void)w;
    fprintf(results, "%s\t%s\t%s\t%s\n", result, suite, name, ids);
    if (strcmp(result, "fail") == 0) fprintf(stderr, "FAIL %s: expected: %s\n", name, why);
}

/* build/results/SUITE.tsv */
static void name_suite(const char *path)
{
    const char *slash = strrchr(path, '/'), *base = slash != NULL ? slash + 1 : path;

    snprintf(suite, sizeof suite, "%.*s", (int)strcspn(base, "."), base);
}

static bool run_own(void)
{
    bool all = true;

    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        bool ok;

        conformance_begin(&posix_world);
        ok = tests[i].run();
        ok = conformance_end() && ok;
        report(&posix_world, ok ? "pass" : "fail", tests[i].name, tests[i].ids, conformance_why());
        all = all && ok;
    }
    return all;
}

static int descriptors(void)
{
    int count = 0;

    for (int fd = 0; fd < 1024; fd++) count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

int main(int argc, char **argv)
{
    bool own, rules, leak;
    int before;

    results = argc > 1 ? fopen(argv[1], "w") : stdout;
    if (results == NULL) return 2;
    if (argc > 1) name_suite(argv[1]);
    posix_world.report = report;
    if (!posix_world_begin()) {
        perror("listen");
        return 2;
    }
    before = descriptors();
    own = run_own();
    rules = conformance_run(&posix_world);
    leak = descriptors() != before;
    report(&posix_world, leak ? "fail" : "pass", "no descriptor is lost", "Z08", "as many as before");
    miniproxy_posix_end(&posix);
    return fclose(results) != 0 || !own || !rules || leak;
}
