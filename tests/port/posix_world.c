/* SPDX-License-Identifier: MIT */
#include "posix_world.h"

#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#if !MINIPROXY_POSIX_POLL
#include <sys/epoll.h>
#endif

/* ---- Peers ---- */

enum { PEERS_MAX = 512, OWN_MAX = 32 };

struct miniproxy_posix posix;

static int peer_fd[PEERS_MAX]; /* -1: gone */
static int peer_count;
static struct miniproxy_addr listens[2], own[OWN_MAX]; /* where a peer connects to: IPv4, IPv6; and all there are */
static unsigned own_count;
static struct rlimit starved_from;
static bool starved;

static socklen_t to_sockaddr(struct sockaddr_storage *out, const struct miniproxy_addr *a)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(a->port)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(a->port)};

    memcpy(&in.sin_addr, a->ip, 4);
    memcpy(&in6.sin6_addr, a->ip, MINIPROXY_IP_LEN);
    memset(out, 0, sizeof *out);
    if (a->family == 4) memcpy(out, &in, sizeof in);
    else memcpy(out, &in6, sizeof in6);
    return a->family == 4 ? sizeof in : sizeof in6;
}

static struct miniproxy_addr from_sockaddr(const struct sockaddr *sa)
{
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct miniproxy_addr a = {.family = sa->sa_family == AF_INET ? 4 : 6};

    if (a.family == 4) {
        memcpy(&in, sa, sizeof in);
        memcpy(a.ip, &in.sin_addr, 4);
        a.port = ntohs(in.sin_port);
    } else {
        memcpy(&in6, sa, sizeof in6);
        memcpy(a.ip, &in6.sin6_addr, MINIPROXY_IP_LEN);
        a.port = ntohs(in6.sin6_port);
    }
    return a;
}

struct miniproxy_addr posix_world_loopback(int family, uint16_t port)
{
    struct miniproxy_addr a = {.family = (uint8_t)family, .port = port};

    if (family == 4) a.ip[0] = 127;
    a.ip[family == 4 ? 3 : MINIPROXY_IP_LEN - 1] = 1;
    return a;
}

static uint32_t now_ms(struct conformance_world *w)
{
    (void)w;
    return miniproxy_posix_now_ms();
}

static void wait_ms(struct conformance_world *w, uint32_t ms)
{
    (void)w;
    miniproxy_posix_wait(&posix, ms);
}

static int add_peer(int fd)
{
    if (fd < 0) return MINIPROXY_EFAIL;
    if (peer_count == PEERS_MAX || fcntl(fd, F_SETFL, O_NONBLOCK) != 0) {
        close(fd);
        return MINIPROXY_EFAIL;
    }
    peer_fd[peer_count] = fd;
    return peer_count++;
}

int posix_world_peer_fd(int peer)
{
    return peer_fd[peer];
}

int posix_world_peer_to(const struct miniproxy_addr *to)
{
    struct sockaddr_storage sa;
    socklen_t len = to_sockaddr(&sa, to);
    int peer = add_peer(socket(sa.ss_family, SOCK_STREAM, 0));

    if (peer < 0) return peer;
    if (connect(peer_fd[peer], (struct sockaddr *)&sa, len) == 0 || errno == EINPROGRESS) return peer;
    return MINIPROXY_EREFUSED;
}

static int peer_connect(struct conformance_world *w, int family)
{
    (void)w;
    return posix_world_peer_to(&listens[family == 6]);
}

static int listen_with(int family, int backlog, struct miniproxy_addr *at)
{
    struct miniproxy_addr any = posix_world_loopback(family, 0);
    struct sockaddr_storage sa;
    socklen_t len = to_sockaddr(&sa, &any);
    int peer = add_peer(socket(sa.ss_family, SOCK_STREAM, 0));

    if (peer < 0) return peer;
    if (bind(peer_fd[peer], (struct sockaddr *)&sa, len) != 0 || listen(peer_fd[peer], backlog) != 0 ||
        getsockname(peer_fd[peer], (struct sockaddr *)&sa, &len) != 0)
        return MINIPROXY_EFAIL;
    *at = from_sockaddr((struct sockaddr *)&sa);
    return peer;
}

static int peer_listen(struct conformance_world *w, int family, struct miniproxy_addr *at)
{
    (void)w;
    return listen_with(family, 64, at);
}

static int peer_accept(struct conformance_world *w, int listener)
{
    int fd = accept(peer_fd[listener], NULL, NULL);

    (void)w;
    return fd < 0 && errno == EAGAIN ? MINIPROXY_AGAIN : add_peer(fd);
}

static struct miniproxy_addr peer_address(struct conformance_world *w, int peer)
{
    struct sockaddr_storage sa;
    socklen_t len = sizeof sa;

    (void)w;
    if (getsockname(peer_fd[peer], (struct sockaddr *)&sa, &len) != 0) abort();
    return from_sockaddr((struct sockaddr *)&sa);
}

static int peer_result(ssize_t n)
{
    if (n > 0) return (int)n;
    if (n == 0) return MINIPROXY_EOF;
    return errno == EAGAIN ? MINIPROXY_AGAIN : MINIPROXY_ERESET;
}

static int peer_send(struct conformance_world *w, int peer, const void *data, size_t len)
{
    (void)w;
    return peer_result(send(peer_fd[peer], data, len, MSG_NOSIGNAL));
}

static int peer_recv(struct conformance_world *w, int peer, void *data, size_t len)
{
    (void)w;
    return peer_result(recv(peer_fd[peer], data, len, 0));
}

static void peer_finish(struct conformance_world *w, int peer)
{
    (void)w;
    if (shutdown(peer_fd[peer], SHUT_WR) != 0) abort();
}

static void peer_reset(struct conformance_world *w, int peer)
{
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};

    (void)w;
    setsockopt(peer_fd[peer], SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(peer_fd[peer]);
    peer_fd[peer] = -1;
}

static void starve(struct conformance_world *w, bool on)
{
    struct rlimit limit;
    int lowest;

    (void)w;
    if (on == starved) return;
    starved = on;
    if (!on) {
        if (setrlimit(RLIMIT_NOFILE, &starved_from) != 0) abort();
        return;
    }
    /* The lowest free descriptor is the first beyond the limit. */
    lowest = dup(0);
    close(lowest);
    if (getrlimit(RLIMIT_NOFILE, &starved_from) != 0) abort();
    limit = starved_from;
    limit.rlim_cur = (rlim_t)lowest;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) abort();
}

static void hold_names(struct conformance_world *w, bool on)
{
    (void)w;
    /* So that a name which has been resolved before is looked up again. */
    if (on) miniproxy_posix_flush_names(&posix);
    posix_world_hold(on);
}

static void clear(struct conformance_world *w)
{
    starve(w, false);
    posix_world_hold(false);
    while (peer_count > 0)
        if (peer_fd[--peer_count] >= 0) close(peer_fd[peer_count]);
}

static struct miniproxy_addr refusing(struct conformance_world *w, int family)
{
    struct miniproxy_addr at = {.family = 0};
    int peer = listen_with(family, 1, &at);

    (void)w;
    close(peer_fd[peer]);
    peer_fd[peer] = -1;
    return at;
}

/* A listener whose queue is full drops what else comes. */
static struct miniproxy_addr silent(struct conformance_world *w)
{
    struct miniproxy_addr at = {.family = 0};

    (void)w;
    listen_with(4, 0, &at);
    for (int i = 0; i < 3; i++) posix_world_peer_to(&at);
    return at;
}

static bool own_address(struct conformance_world *w, unsigned index, struct miniproxy_addr *at)
{
    (void)w;
    if (index < own_count) *at = own[index];
    return index < own_count;
}

/* ---- Names ---- */

static pthread_mutex_t names_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t names_free = PTHREAD_COND_INITIALIZER;
static bool names_held, signals_open;
static unsigned lookups, held, releases;

void posix_world_hold(bool on)
{
    pthread_mutex_lock(&names_lock);
    names_held = on;
    if (!on) {
        releases++;
        held = 0;
    }
    pthread_cond_broadcast(&names_free);
    pthread_mutex_unlock(&names_lock);
}

static unsigned read_locked(const unsigned *value)
{
    unsigned result;

    pthread_mutex_lock(&names_lock);
    result = *value;
    pthread_mutex_unlock(&names_lock);
    return result;
}

unsigned posix_world_lookups(void)
{
    return read_locked(&lookups);
}

unsigned posix_world_held(void)
{
    return read_locked(&held);
}

bool posix_world_signals_blocked(void)
{
    return !signals_open;
}

static void enter_lookup(bool may_be_held)
{
    sigset_t mask;
    unsigned release;

    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    pthread_mutex_lock(&names_lock);
    if (!sigismember(&mask, SIGTERM) || !sigismember(&mask, SIGUSR1)) signals_open = true;
    lookups++;
    /* Who is released goes, even if names are held again by the time that its thread is scheduled. */
    release = releases;
    if (may_be_held && names_held) held++;
    while (may_be_held && names_held && release == releases) pthread_cond_wait(&names_free, &names_lock);
    pthread_mutex_unlock(&names_lock);
}

/* In front of the list. */
static void add_address(struct addrinfo **list, const struct miniproxy_addr *a)
{
    struct addrinfo *entry = calloc(1, sizeof *entry + sizeof(struct sockaddr_storage));
    struct sockaddr_storage sa;

    if (entry == NULL) abort();
    entry->ai_addrlen = to_sockaddr(&sa, a);
    entry->ai_addr = (struct sockaddr *)(entry + 1);
    entry->ai_family = sa.ss_family;
    memcpy(entry->ai_addr, &sa, sizeof sa);
    entry->ai_next = *list;
    *list = entry;
}

static void add_ipv4(struct addrinfo **list, int c, int d)
{
    const struct miniproxy_addr a = {.ip = {127, 0, (uint8_t)c, (uint8_t)d}, .family = 4};

    add_address(list, &a);
}

static void add_ipv6(struct addrinfo **list, int last)
{
    struct miniproxy_addr a = posix_world_loopback(6, 0);

    a.ip[MINIPROXY_IP_LEN - 1] = (uint8_t)last;
    add_address(list, &a);
}

static void add_mapped(struct addrinfo **list)
{
    const struct miniproxy_addr a = {.ip = {[10] = 0xff, 0xff, 127, 0, 0, 9}, .family = 6};

    add_address(list, &a);
}

int __wrap_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **list);
void __wrap_freeaddrinfo(struct addrinfo *list);

int __wrap_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **list)
{
    int number = 0;

    enter_lookup(strcmp(host, "slow.test") == 0 || strncmp(host, "held", 4) == 0);
    *list = NULL;
    if (service != NULL || hints->ai_socktype != SOCK_STREAM) return EAI_SERVICE;
    if (strcmp(host, "failing.test") == 0) return EAI_AGAIN;
    if (strcmp(host, "memory.test") == 0) return EAI_MEMORY;
    if (strcmp(host, "mapped.test") == 0) add_mapped(list);
    if (strcmp(host, "known.test") == 0) add_ipv6(list, 1);
    if (strcmp(host, "known.test") == 0) add_ipv4(list, 0, 1);
    if (strcmp(host, "other.test") == 0) add_ipv4(list, 0, 2);
    if (strcmp(host, "slow.test") == 0) add_ipv4(list, 0, 3);
    if (sscanf(host, "held%d.test", &number) == 1) add_ipv4(list, 1, number);
    if (sscanf(host, "n%d.test", &number) == 1) add_ipv4(list, 2, number);
    if (strcmp(host, "both.test") == 0) {
        add_ipv4(list, 3, 2);
        add_ipv4(list, 3, 1);
        for (int i = 18; i > 0; i--) add_ipv6(list, i);
    }
    return *list != NULL ? 0 : EAI_NONAME;
}

void __wrap_freeaddrinfo(struct addrinfo *list)
{
    while (list != NULL) {
        struct addrinfo *next = list->ai_next;
        free(list);
        list = next;
    }
}

/* ---- Calls that fail on demand ---- */

static struct {
    int error;
    unsigned times;
} faults[CALL_COUNT];
static unsigned calls[CALL_COUNT];

void posix_world_fail(enum posix_call call, int error, unsigned times)
{
    faults[call].error = error;
    faults[call].times = times;
}

unsigned posix_world_calls(enum posix_call call)
{
    return calls[call];
}

static bool fails(enum posix_call call)
{
    calls[call]++;
    if (faults[call].times == 0) return false;
    faults[call].times--;
    errno = faults[call].error;
    return true;
}

/* The linker sends every call of NAME to __wrap_NAME, and calls of __real_NAME to the function itself. */
#define WRAPPED(result, name, call, failed, parameters, arguments) \
    result __real_##name parameters;                               \
    result __wrap_##name parameters;                               \
    result __wrap_##name parameters                                \
    {                                                              \
        return fails(call) ? (failed) : __real_##name arguments;   \
    }

WRAPPED(int, accept, CALL_ACCEPT, -1, (int fd, struct sockaddr *sa, socklen_t *len), (fd, sa, len))
WRAPPED(int, connect, CALL_CONNECT, -1, (int fd, const struct sockaddr *sa, socklen_t len), (fd, sa, len))
WRAPPED(ssize_t, recv, CALL_RECV, -1, (int fd, void *data, size_t len, int flags), (fd, data, len, flags))
WRAPPED(ssize_t, send, CALL_SEND, -1, (int fd, const void *data, size_t len, int flags), (fd, data, len, flags))
WRAPPED(int, socket, CALL_SOCKET, -1, (int family, int type, int protocol), (family, type, protocol))
WRAPPED(int, pthread_create, CALL_PTHREAD_CREATE, EAGAIN,
        (pthread_t *t, const pthread_attr_t *a, void *(*run)(void *), void *data), (t, a, run, data))
#if !MINIPROXY_POSIX_POLL
WRAPPED(int, accept4, CALL_ACCEPT, -1, (int fd, struct sockaddr *sa, socklen_t *len, int flags), (fd, sa, len, flags))
WRAPPED(int, epoll_ctl, CALL_EPOLL_CTL, -1, (int ep, int op, int fd, struct epoll_event *event), (ep, op, fd, event))
#endif

/* ---- The world ---- */

struct conformance_world posix_world = {
    .port = &miniproxy_posix_port,
    .port_data = &posix,
    .ipv4 = true,
    .many = 50,
    .listener = {0, 2},
    .room_max = 64 * 1024 * 1024,
    .now_ms = now_ms,
    .wait = wait_ms,
    .peer_connect = peer_connect,
    .peer_listen = peer_listen,
    .peer_accept = peer_accept,
    .peer_address = peer_address,
    .peer_send = peer_send,
    .peer_recv = peer_recv,
    .peer_finish = peer_finish,
    .peer_reset = peer_reset,
    .clear = clear,
    .refusing = refusing,
    .silent = silent,
    .own = own_address,
    .starve = starve,
    .known = {.host = "known.test", .address = {.ip = {127, 0, 0, 1}, .family = 4}},
    .other = {.host = "other.test", .address = {.ip = {127, 0, 0, 2}, .family = 4}},
    .missing = "missing.test",
    .failing = "failing.test",
    .both = "both.test",
    .hold_names = hold_names,
    .slow = {.host = "slow.test", .address = {.ip = {127, 0, 0, 3}, .family = 4}},
};

static void add_own(struct miniproxy_addr at, uint16_t port)
{
    at.port = port;
    if (own_count < OWN_MAX) own[own_count++] = at;
}

/* Every way to a listener on all addresses of a family. */
static void add_own_interfaces(int family, uint16_t port)
{
    struct ifaddrs *list = NULL;

    if (getifaddrs(&list) != 0) abort();
    for (const struct ifaddrs *i = list; i != NULL; i = i->ifa_next) {
        struct miniproxy_addr at;

        if (i->ifa_addr == NULL || !(i->ifa_flags & IFF_UP)) continue;
        if (i->ifa_addr->sa_family != (family == 4 ? AF_INET : AF_INET6)) continue;
        at = from_sockaddr(i->ifa_addr);
        /* Without its interface, a link-local address leads nowhere. */
        if (family == 4 || at.ip[0] != 0xfe) add_own(at, port);
    }
    freeifaddrs(list);
}

static bool begin_family(int family)
{
    const struct miniproxy_addr mapped = {.ip = {[10] = 0xff, 0xff, 127, 0, 0, 1}, .family = 6};
    const struct miniproxy_addr other = {.ip = {127, 1, 2, 3}, .family = 4};
    struct miniproxy_addr one = posix_world_loopback(family, 0), any = {.family = (uint8_t)family};
    int port = miniproxy_posix_listen(&posix, &one, false), any_port = miniproxy_posix_listen(&posix, &any, false);

    if (port < 0 || any_port < 0) return false;
    one.port = (uint16_t)port;
    listens[family == 6] = one;
    add_own(one, (uint16_t)port);
    add_own(one, (uint16_t)any_port);
    add_own(any, (uint16_t)port);
    add_own(any, (uint16_t)any_port);
    add_own_interfaces(family, (uint16_t)any_port);
    if (family == 4) {
        add_own(mapped, (uint16_t)port);
        add_own(mapped, (uint16_t)any_port);
        add_own(other, (uint16_t)any_port);
    }
    return true;
}

bool posix_world_begin(void)
{
    static struct miniproxy proxy;

    if (!miniproxy_posix_init(&posix, &proxy) || !begin_family(4)) return false;
    posix_world.ipv6 = begin_family(6);
    return true;
}
