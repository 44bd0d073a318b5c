/* SPDX-License-Identifier: MIT
 *
 * 1 addresses and errors · 2 names · 3 readiness: by epoll, by poll · 4 the port table · 5 API.
 *
 * A connection's handle is its descriptor + 1. Everything but the resolver's helper threads,
 * miniproxy_posix_interrupt and miniproxy_posix_flush_names runs in the thread of the main loop.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* accept4, EAI_NODATA */
#endif
#include "miniproxy_posix.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#if !MINIPROXY_POSIX_POLL
#include <sys/epoll.h>
#include <sys/eventfd.h>
#endif

#if MINIPROXY_POSIX_LISTENERS < 1 || MINIPROXY_POSIX_LISTENERS > 32
#error "MINIPROXY_POSIX_LISTENERS must be 1..32: each has one bit of accept_ready"
#endif
#if MINIPROXY_POSIX_RESOLVERS < 1 || MINIPROXY_POSIX_RESOLVERS > 256
#error "MINIPROXY_POSIX_RESOLVERS must be 1..256: names are resolved on these threads only"
#endif
#if MINIPROXY_POSIX_NAMES < 1 || MINIPROXY_POSIX_NAMES > 10000
#error "MINIPROXY_POSIX_NAMES must be 1..10000: every lookup needs an entry"
#endif
#if MINIPROXY_POSIX_NAME_S < 1 || MINIPROXY_POSIX_NAME_S > 86400 || MINIPROXY_POSIX_NO_NAME_S < 1 || \
    MINIPROXY_POSIX_NO_NAME_S > 86400
#error "MINIPROXY_POSIX_NAME_S and MINIPROXY_POSIX_NO_NAME_S must be 1..86400: who asked has to find the answer"
#endif
_Static_assert(MINIPROXY_CONNS < UINT16_MAX, "lists hold a connection's id + 1 in 16 bits");

/* Bits of conn->port_flags. */
enum {
    FLAG_LAST = 1,     /* an end, error or urgent data was signalled: no other edge need come for what can be read */
    FLAG_WRITABLE = 2, /* writability was signalled: an attempt is decided */
    FLAG_LOST = 4      /* the socket has reported its error, and would report a plain end from now on */
};

/* ==== 1  Addresses and errors ====================================================================== */

static uint64_t clock_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

/* The socket address of a, its length as result; 0 for a family that this build does not have. */
static socklen_t sockaddr_of(struct sockaddr_storage *out, const struct miniproxy_addr *a)
{
    struct sockaddr_in *in = (struct sockaddr_in *)out;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;

    memset(out, 0, sizeof *out);
    if (a->family == 4) {
        in->sin_family = AF_INET;
        in->sin_port = htons(a->port);
        memcpy(&in->sin_addr, a->ip, 4);
        return sizeof *in;
    }
    if (a->family == 6 && MINIPROXY_WITH_IPV6) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(a->port);
        memcpy(&in6->sin6_addr, a->ip, MINIPROXY_IP_LEN);
        return sizeof *in6;
    }
    return 0;
}

/* The other way. An IPv4 address inside an IPv6 one becomes family 4, what cannot be represented family 0. */
static struct miniproxy_addr addr_of(const struct sockaddr *from)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)from;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)from;
    struct miniproxy_addr a = {.family = 0};

    if (from->sa_family == AF_INET) {
        a.family = 4;
        a.port = ntohs(in->sin_port);
        memcpy(a.ip, &in->sin_addr, 4);
    } else if (from->sa_family == AF_INET6) {
        bool mapped = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr);

        a.family = mapped ? 4 : MINIPROXY_WITH_IPV6 ? 6 : 0;
        a.port = ntohs(in6->sin6_port);
        memcpy(a.ip, in6->sin6_addr.s6_addr + (mapped ? 12 : 0), mapped ? 4 : MINIPROXY_IP_LEN);
    }
    return a;
}

static bool addr_is_unspecified(const struct miniproxy_addr *a)
{
    static const uint8_t zeros[MINIPROXY_IP_LEN];

    return memcmp(a->ip, zeros, a->family == 4 ? 4 : MINIPROXY_IP_LEN) == 0;
}

static bool addr_is_same_host(const struct miniproxy_addr *a, const struct miniproxy_addr *b)
{
    return a->family == b->family && memcmp(a->ip, b->ip, a->family == 4 ? 4 : MINIPROXY_IP_LEN) == 0;
}

/* What a connection to `to` really leads to: an unspecified address means this host. */
static struct miniproxy_addr destination_of(const struct miniproxy_addr *to)
{
    struct sockaddr_storage sa;
    struct miniproxy_addr a = {.family = 0};

    if (sockaddr_of(&sa, to) > 0) a = addr_of((struct sockaddr *)&sa);
    if (addr_is_unspecified(&a)) {
        a.ip[(a.family == 4 ? 4 : MINIPROXY_IP_LEN) - 1] = 1;
        if (a.family == 4) a.ip[0] = 127;
    }
    return a;
}

static int error_of(int error)
{
    switch (error) {
    case ECONNREFUSED:
        return MINIPROXY_EREFUSED;
    case ENETUNREACH:
    case EHOSTUNREACH:
    case ENETDOWN:
    case EADDRNOTAVAIL:
    case EAFNOSUPPORT:
    case EACCES:
    case EPERM:
    case EINVAL: /* a link-local address, whose interface cannot be named */
        return MINIPROXY_EUNREACHABLE;
    case ETIMEDOUT:
        return MINIPROXY_ETIMEDOUT;
    case ECONNRESET:
    case ECONNABORTED:
    case EPIPE:
        return MINIPROXY_ERESET;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
    case ENOSPC: /* no room for another registration */
    case EAGAIN: /* no local port */
        return MINIPROXY_ERESOURCES;
    default:
        return MINIPROXY_EFAIL;
    }
}

static int fd_of(const struct miniproxy_conn *c)
{
    return (int)(c->handle - 1);
}

static bool set_option(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof value) == 0;
}

/* close that leaves errno as it was */
static void close_quietly(int fd)
{
    int error = errno;

    close(fd);
    errno = error;
}

static void raise_wake(const struct miniproxy_posix *posix)
{
    static const uint64_t one = 1; /* the size that an eventfd takes */
    int error = errno;

    /* When it fails, it is full: the wake is already there. */
    if (write(posix->wake_fd[1], &one, sizeof one) < 0) errno = error;
}

/* ==== 2  Names =====================================================================================
 *
 * One table is cache and list of lookups in one. It is static, so that a lookup, which nobody can cancel in libc, may
 * outlive an instance. Threads fill entries and raise the wake of each instance with connections on the list of an
 * entry; its loop then wakes those. An entry is not replaced while it is being looked up or anything waits for it.
 */
enum {
    HOST_MAX = 256,    /* with NUL; DNS names are shorter */
    FOUND_MAX = 64,    /* addresses that are looked at before MINIPROXY_ADDRESSES are chosen */
    RETRY_S = 1        /* how long a failure is kept: it has to reach who asked */
};

enum { NAME_FREE, NAME_QUEUED, NAME_RUNNING, NAME_KNOWN };

struct name {
    char host[HOST_MAX];
    struct miniproxy_addr found[MINIPROXY_ADDRESSES];
    uint64_t used, expires_ms;
    uint32_t waiters; /* of all instances */
    int result;       /* number of found, or an error */
    uint16_t next;    /* in the queue of lookups: index + 1 */
    uint8_t state;
    bool flushed;     /* while it was being looked up */
};

static struct {
    pthread_mutex_t lock; /* over all of this, and over waiters, waiters_of and waiting of every instance */
    pthread_cond_t work;
    struct miniproxy_posix *instances;
    uint64_t uses;
    unsigned threads, idle, queued;
    uint16_t head, tail; /* of the queue */
    uint32_t hash[MINIPROXY_POSIX_NAMES];
    struct name names[MINIPROXY_POSIX_NAMES];
} resolver = {.lock = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER};

/* out[0..max-1] from all: as they come while they fit, else the families in turn, so that both remain. */
static int choose(struct miniproxy_addr *out, int max, const struct miniproxy_addr *all, int count)
{
    int at[2] = {0, 0}; /* where IPv4 and IPv6 go on */
    int six = all[0].family == 6;

    if (count <= max) {
        memcpy(out, all, (size_t)count * sizeof *all);
        return count;
    }
    for (int n = 0; n < max; n++, six = !six) {
        while (at[six] < count && (all[at[six]].family == 6) != six) at[six]++;
        if (at[six] == count) six = !six;
        while ((all[at[six]].family == 6) != six) at[six]++;
        out[n] = all[at[six]++];
    }
    return max;
}

static int name_error(int error)
{
    switch (error) {
    case EAI_NONAME:
#ifdef EAI_NODATA
    case EAI_NODATA:
#endif
#ifdef EAI_ADDRFAMILY
    case EAI_ADDRFAMILY:
#endif
        return MINIPROXY_ENAME;
    case EAI_MEMORY:
        return MINIPROXY_ERESOURCES;
    default:
        return MINIPROXY_EDNS;
    }
}

static int look_up(const char *host, struct miniproxy_addr found[MINIPROXY_ADDRESSES])
{
    const struct addrinfo hints = {.ai_family = MINIPROXY_WITH_IPV6 ? AF_UNSPEC : AF_INET,
                                   .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    struct miniproxy_addr all[FOUND_MAX];
    struct addrinfo *list = NULL;
    int count = 0, error = getaddrinfo(host, NULL, &hints, &list);

    if (error != 0) return name_error(error);
    for (const struct addrinfo *a = list; a != NULL && count < FOUND_MAX; a = a->ai_next) {
        all[count] = addr_of(a->ai_addr);
        if (all[count].family != 0) count++;
    }
    freeaddrinfo(list);
    return count > 0 ? choose(found, MINIPROXY_ADDRESSES, all, count) : MINIPROXY_ENAME;
}

/* The next name that somebody still waits for. Called and left with the lock. */
static struct name *next_lookup(void)
{
    for (;;) {
        struct name *name;

        while (resolver.head == 0) {
            resolver.idle++;
            pthread_cond_wait(&resolver.work, &resolver.lock);
            resolver.idle--;
        }
        name = &resolver.names[resolver.head - 1];
        resolver.head = name->next;
        resolver.queued--;
        if (name->waiters > 0) return name;
        name->state = NAME_FREE;
    }
}

static void keep_answer(struct name *name, const struct miniproxy_addr found[MINIPROXY_ADDRESSES], int result)
{
    size_t index = (size_t)(name - resolver.names);
    uint32_t seconds = RETRY_S;

    if (result > 0 && !name->flushed) seconds = MINIPROXY_POSIX_NAME_S;
    if (result == MINIPROXY_ENAME) seconds = MINIPROXY_POSIX_NO_NAME_S;
    if (result > 0) memcpy(name->found, found, (size_t)result * sizeof *found);
    name->result = result;
    name->state = NAME_KNOWN;
    name->expires_ms = clock_ms() + seconds * 1000u;
    for (const struct miniproxy_posix *p = resolver.instances; p != NULL; p = p->next)
        if (p->waiters_of[index] != 0) raise_wake(p);
}

static void *resolver_thread(void *unused)
{
    pthread_mutex_lock(&resolver.lock);
    for (;;) {
        struct miniproxy_addr found[MINIPROXY_ADDRESSES];
        struct name *name = next_lookup();
        int result;

        name->state = NAME_RUNNING;
        pthread_mutex_unlock(&resolver.lock);
        result = look_up(name->host, found);
        pthread_mutex_lock(&resolver.lock);
        keep_answer(name, found, result);
    }
    return unused;
}

/* The application's signals are not for the helpers: they take none. */
static void start_thread(void)
{
    pthread_attr_t detached;
    pthread_t thread;
    sigset_t all, before;

    if (pthread_attr_init(&detached) != 0) return;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &detached, resolver_thread, NULL) == 0) resolver.threads++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&detached);
}

static bool lookup_pending(const struct name *name)
{
    return name->state == NAME_QUEUED || name->state == NAME_RUNNING;
}

/* False: there is no thread, and none can be made. */
static bool queue_lookup(struct name *name)
{
    uint16_t number = (uint16_t)(name - resolver.names + 1);

    if (resolver.queued >= resolver.idle && resolver.threads < MINIPROXY_POSIX_RESOLVERS) start_thread();
    name->state = resolver.threads > 0 ? NAME_QUEUED : NAME_FREE;
    if (resolver.threads == 0) return false;
    name->flushed = false;
    name->next = 0;
    if (resolver.head == 0) resolver.head = number;
    else resolver.names[resolver.tail - 1].next = number;
    resolver.tail = number;
    resolver.queued++;
    pthread_cond_signal(&resolver.work);
    return true;
}

/* host in lower case, and its hash; false: too long for a name */
static bool name_key(char key[HOST_MAX], uint32_t *hash, const char *host)
{
    size_t len = strlen(host);

    if (len >= HOST_MAX) return false;
    *hash = 2166136261u;
    for (size_t i = 0; i <= len; i++) {
        key[i] = (char)(host[i] >= 'A' && host[i] <= 'Z' ? host[i] + ('a' - 'A') : host[i]);
        *hash = (*hash ^ (uint8_t)key[i]) * 16777619u;
    }
    return true;
}

/* A free entry, else the one that was not used for the longest time. NULL: none to spare. */
static struct name *spare_entry(void)
{
    struct name *spare = NULL;

    for (struct name *n = resolver.names; n < resolver.names + MINIPROXY_POSIX_NAMES; n++) {
        if (n->state == NAME_FREE) return n;
        if (n->state != NAME_KNOWN || n->waiters > 0) continue;
        if (spare == NULL || n->used < spare->used) spare = n;
    }
    return spare;
}

/* The entry of a name, new if need be, or NULL. */
static struct name *name_entry(const char *key, uint32_t hash)
{
    struct name *name;

    for (size_t i = 0; i < MINIPROXY_POSIX_NAMES; i++) {
        name = &resolver.names[i];
        if (resolver.hash[i] == hash && name->state != NAME_FREE && strcmp(name->host, key) == 0) return name;
    }
    name = spare_entry();
    if (name == NULL) return NULL;
    memcpy(name->host, key, strlen(key) + 1);
    resolver.hash[name - resolver.names] = hash;
    name->state = NAME_FREE;
    return name;
}

static void join_waiters(struct miniproxy_posix *posix, struct miniproxy_conn *c, struct name *name)
{
    size_t index = (size_t)(name - resolver.names);
    struct miniproxy_posix_waiter *w = &posix->waiters[c->id];
    uint16_t first = posix->waiters_of[index];

    *w = (struct miniproxy_posix_waiter){.conn = c, .name = (uint16_t)(index + 1), .next = first};
    if (first != 0) posix->waiters[first - 1].prev = (uint16_t)(c->id + 1);
    posix->waiters_of[index] = (uint16_t)(c->id + 1);
    name->waiters++;
}

static void leave_waiters(struct miniproxy_posix *posix, uint16_t id)
{
    struct miniproxy_posix_waiter *w = &posix->waiters[id];

    if (w->name == 0) return;
    if (w->next != 0) posix->waiters[w->next - 1].prev = w->prev;
    if (w->prev != 0) posix->waiters[w->prev - 1].next = w->next;
    else posix->waiters_of[w->name - 1] = w->next;
    resolver.names[w->name - 1].waiters--;
    w->name = 0;
}

/* Wake whose names were answered: in the loop's thread, after raise_wake. */
static void take_answers(struct miniproxy_posix *posix)
{
    pthread_mutex_lock(&resolver.lock);
    for (size_t i = 0; i < MINIPROXY_POSIX_NAMES; i++)
        while (posix->waiters_of[i] != 0 && resolver.names[i].state == NAME_KNOWN) {
            struct miniproxy_conn *c = posix->waiters[posix->waiters_of[i] - 1].conn;

            leave_waiters(posix, c->id);
            miniproxy_wake(c, MINIPROXY_WR);
        }
    pthread_mutex_unlock(&resolver.lock);
}

static int port_resolve(void *port, struct miniproxy_conn *c, const char *host, struct miniproxy_addr *out, int max)
{
    struct miniproxy_posix *posix = port;
    char key[HOST_MAX];
    uint32_t hash;
    struct name *name;
    int result = MINIPROXY_ERESOURCES;

    if (!name_key(key, &hash, host)) return MINIPROXY_ENAME;
    pthread_mutex_lock(&resolver.lock);
    leave_waiters(posix, c->id);
    name = name_entry(key, hash);
    if (name != NULL && name->state == NAME_KNOWN && clock_ms() < name->expires_ms) {
        result = name->result > 0 ? choose(out, max, name->found, name->result) : name->result;
    } else if (name != NULL && (lookup_pending(name) || queue_lookup(name))) {
        join_waiters(posix, c, name);
        result = MINIPROXY_AGAIN;
    }
    if (name != NULL) name->used = ++resolver.uses;
    pthread_mutex_unlock(&resolver.lock);
    return result;
}

static void add_instance(struct miniproxy_posix *posix)
{
    pthread_mutex_lock(&resolver.lock);
    posix->next = resolver.instances;
    resolver.instances = posix;
    pthread_mutex_unlock(&resolver.lock);
}

static void remove_instance(struct miniproxy_posix *posix)
{
    struct miniproxy_posix **at = &resolver.instances;

    pthread_mutex_lock(&resolver.lock);
    for (size_t i = 0; i < MINIPROXY_POSIX_NAMES; i++)
        while (posix->waiters_of[i] != 0) leave_waiters(posix, (uint16_t)(posix->waiters_of[i] - 1));
    while (*at != posix) at = &(*at)->next;
    *at = posix->next;
    pthread_mutex_unlock(&resolver.lock);
}

void miniproxy_posix_flush_names(struct miniproxy_posix *posix)
{
    (void)posix; /* the table is one for all instances */
    pthread_mutex_lock(&resolver.lock);
    for (struct name *n = resolver.names; n < resolver.names + MINIPROXY_POSIX_NAMES; n++) {
        if (n->state == NAME_KNOWN) n->expires_ms = 0;
        n->flushed = n->state == NAME_RUNNING;
    }
    pthread_mutex_unlock(&resolver.lock);
}

/* ==== 3  Readiness =================================================================================
 *
 * Either section offers the same: make descriptors that do not block, watch them, wait.
 */

/* ready bits were signalled for c; last: no further signal is sure to come for what can be read. */
static void signal_conn(struct miniproxy_conn *c, unsigned ready, bool last)
{
    if (last) c->port_flags |= FLAG_LAST;
    if (ready & MINIPROXY_WR) c->port_flags |= FLAG_WRITABLE;
    miniproxy_wake(c, ready);
}

static void signal_wake(struct miniproxy_posix *posix)
{
    uint8_t drain[64];

    while (read(posix->wake_fd[0], drain, sizeof drain) == (ssize_t)sizeof drain) continue;
    take_answers(posix);
}

static int timeout_of(uint32_t wait_ms)
{
    if (wait_ms == MINIPROXY_FOREVER) return -1;
    return wait_ms > INT_MAX ? INT_MAX : (int)wait_ms;
}

#if !MINIPROXY_POSIX_POLL

/* epoll: a descriptor is registered once, for both directions and by edge. The user data is the connection; the
 * instance for any listener; NULL for the wake. */

static int open_socket(int family, int type)
{
    return socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

static int accept_socket(int listener, struct sockaddr *from, socklen_t *len)
{
    return accept4(listener, from, len, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

static bool watch(struct miniproxy_posix *posix, int fd, uint32_t events, void *what)
{
    struct epoll_event event = {.events = events, .data = {.ptr = what}};

    return epoll_ctl(posix->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

static bool watch_listener(struct miniproxy_posix *posix, int fd)
{
    return watch(posix, fd, EPOLLIN | EPOLLET, posix);
}

static bool watch_conn(struct miniproxy_posix *posix, struct miniproxy_conn *c)
{
    return watch(posix, fd_of(c), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET, c);
}

/* Nothing to do: closing the descriptor takes it off. */
static void unwatch_conn(struct miniproxy_posix *posix, const struct miniproxy_conn *c)
{
    (void)posix;
    (void)c;
}

static bool watch_begin(struct miniproxy_posix *posix)
{
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

    if (fd < 0) return false;
    posix->wake_fd[0] = posix->wake_fd[1] = fd;
    posix->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (posix->epoll_fd >= 0 && watch(posix, fd, EPOLLIN, NULL)) return true;
    if (posix->epoll_fd >= 0) close_quietly(posix->epoll_fd);
    close_quietly(fd);
    return false;
}

static void watch_end(struct miniproxy_posix *posix)
{
    close(posix->epoll_fd);
    close(posix->wake_fd[0]);
}

static void signal_events(struct miniproxy_conn *c, uint32_t events)
{
    unsigned ready = 0;

    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLPRI | EPOLLHUP)) ready |= MINIPROXY_RD;
    if (events & (EPOLLOUT | EPOLLHUP)) ready |= MINIPROXY_WR;
    if (events & EPOLLERR) ready |= MINIPROXY_RD | MINIPROXY_WR | MINIPROXY_BROKEN;
    signal_conn(c, ready, (events & (EPOLLRDHUP | EPOLLPRI | EPOLLHUP | EPOLLERR)) != 0);
}

void miniproxy_posix_wait(struct miniproxy_posix *posix, uint32_t wait_ms)
{
    struct epoll_event events[256];
    int count = epoll_wait(posix->epoll_fd, events, sizeof events / sizeof events[0], timeout_of(wait_ms));

    for (int i = 0; i < count; i++) {
        if (events[i].data.ptr == NULL) {
            signal_wake(posix);
        } else if (events[i].data.ptr == posix) {
            posix->accept_ready = UINT32_MAX;
            miniproxy_wake_accept(posix->proxy);
        } else {
            signal_events(events[i].data.ptr, events[i].events);
        }
    }
}

#else

/* poll: the set holds the wake, the listeners, the connections, without gaps, for poll refuses a set that is larger
 * than the number of descriptors a process may have. */

static bool make_nonblocking(int fd)
{
    return fcntl(fd, F_SETFL, O_NONBLOCK) == 0 && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0;
}

static int nonblocking_or_closed(int fd)
{
    if (fd < 0 || make_nonblocking(fd)) return fd;
    close_quietly(fd);
    return -1;
}

static int open_socket(int family, int type)
{
    return nonblocking_or_closed(socket(family, type, 0));
}

static int accept_socket(int listener, struct sockaddr *from, socklen_t *len)
{
    return nonblocking_or_closed(accept(listener, from, len));
}

static bool watch_listener(const struct miniproxy_posix *posix, int fd)
{
    (void)posix;
    (void)fd;
    return true;
}

static bool watch_conn(struct miniproxy_posix *posix, struct miniproxy_conn *c)
{
    posix->place[c->id] = (uint16_t)posix->open;
    posix->polled[posix->open++] = c;
    return true;
}

static void unwatch_conn(struct miniproxy_posix *posix, const struct miniproxy_conn *c)
{
    struct miniproxy_conn *last = posix->polled[--posix->open];

    posix->polled[posix->place[c->id]] = last;
    posix->place[last->id] = posix->place[c->id];
}

static bool watch_begin(struct miniproxy_posix *posix)
{
    if (pipe(posix->wake_fd) != 0) return false;
    if (make_nonblocking(posix->wake_fd[0]) && make_nonblocking(posix->wake_fd[1])) return true;
    close_quietly(posix->wake_fd[0]);
    close_quietly(posix->wake_fd[1]);
    return false;
}

static void watch_end(struct miniproxy_posix *posix)
{
    close(posix->wake_fd[0]);
    close(posix->wake_fd[1]);
}

/* Ask only for what is not known to be ready. Where that is nothing the descriptor stays out: a dead connection would
 * be reported for ever. */
static struct pollfd conn_request(const struct miniproxy_conn *c)
{
    struct pollfd p = {.fd = fd_of(c)};

    if (!(c->ready & MINIPROXY_RD)) p.events |= POLLIN;
    if (!(c->ready & MINIPROXY_WR)) p.events |= POLLOUT;
    if (p.events == 0) p.fd = -1;
    return p;
}

static void signal_events(struct miniproxy_conn *c, int events)
{
    unsigned ready = 0;

    if (events & (POLLIN | POLLHUP)) ready |= MINIPROXY_RD;
    if (events & (POLLOUT | POLLHUP)) ready |= MINIPROXY_WR;
    if (events & (POLLERR | POLLNVAL)) ready |= MINIPROXY_RD | MINIPROXY_WR | MINIPROXY_BROKEN;
    signal_conn(c, ready, (events & (POLLHUP | POLLERR | POLLNVAL)) != 0);
}

void miniproxy_posix_wait(struct miniproxy_posix *posix, uint32_t wait_ms)
{
    struct pollfd *listeners = posix->polls + 1, *conns = listeners + posix->listeners_used;

    posix->polls[0] = (struct pollfd){.fd = posix->wake_fd[0], .events = POLLIN};
    for (unsigned i = 0; i < posix->listeners_used; i++) {
        bool ask = !(posix->accept_ready >> i & 1u);

        listeners[i] = (struct pollfd){.fd = ask ? posix->listeners[i].fd : -1, .events = POLLIN};
    }
    for (unsigned i = 0; i < posix->open; i++) conns[i] = conn_request(posix->polled[i]);
    if (poll(posix->polls, 1u + posix->listeners_used + posix->open, timeout_of(wait_ms)) <= 0) return;
    if (posix->polls[0].revents != 0) signal_wake(posix);
    for (unsigned i = 0; i < posix->listeners_used; i++) {
        if (listeners[i].revents == 0) continue;
        posix->accept_ready |= 1u << i;
        miniproxy_wake_accept(posix->proxy);
    }
    for (unsigned i = 0; i < posix->open; i++)
        if (conns[i].revents != 0) signal_events(posix->polled[i], conns[i].revents);
}

#endif

/* ==== 4  The port table ============================================================================ */

/* Is it an address of this host? Only such a one can be bound. */
static bool address_is_local(const struct miniproxy_addr *a)
{
    struct miniproxy_addr any_port = *a;
    struct sockaddr_storage sa;
    socklen_t len;
    bool local;
    int fd;

    any_port.port = 0;
    len = sockaddr_of(&sa, &any_port);
    fd = open_socket(sa.ss_family, SOCK_DGRAM);
    if (fd < 0) return false;
    local = bind(fd, (struct sockaddr *)&sa, len) == 0;
    close(fd);
    return local;
}

static bool leads_to_listener(const struct miniproxy_posix *posix, const struct miniproxy_addr *to)
{
    for (unsigned i = 0; i < posix->listeners_used; i++) {
        const struct miniproxy_addr *at = &posix->listeners[i].at;

        if (at->port != to->port || at->family != to->family) continue;
        if (addr_is_same_host(at, to) || (addr_is_unspecified(at) && address_is_local(to))) return true;
    }
    return false;
}

/* A connection's new socket. False: errno says why, and the socket is closed. */
static bool attach(struct miniproxy_posix *posix, struct miniproxy_conn *c, int fd)
{
    c->handle = (intptr_t)fd + 1;
    c->port_flags = 0;
    if (watch_conn(posix, c)) return true;
    close_quietly(fd);
    c->handle = 0;
    return false;
}

static void detach(struct miniproxy_posix *posix, struct miniproxy_conn *c)
{
    unwatch_conn(posix, c);
    close(fd_of(c));
    c->handle = 0;
}

/* After these the next connection may still be accepted; all others mean that it is better to wait. */
static int accept_error(int error)
{
    switch (error) {
    case ECONNABORTED:
    case EHOSTUNREACH:
    case ENETDOWN:
    case ENETUNREACH:
    case EPERM:
    case EPROTO:
    case ETIMEDOUT:
        return MINIPROXY_EFAIL;
    default:
        return MINIPROXY_ERESOURCES;
    }
}

/* The listeners take turns. */
static int port_accept(void *port, struct miniproxy_conn *c, struct miniproxy_addr *peer)
{
    struct miniproxy_posix *posix = port;

    for (unsigned tried = 0; tried < posix->listeners_used;) {
        unsigned at = (posix->listener_next + tried) % posix->listeners_used;
        struct sockaddr_storage from;
        socklen_t len = sizeof from;
        int fd = -1;

        errno = EAGAIN;
        if (posix->accept_ready >> at & 1u)
            fd = accept_socket(posix->listeners[at].fd, (struct sockaddr *)&from, &len);
        if (fd < 0 && errno == EINTR) continue;
        if (fd < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            posix->accept_ready &= ~(1u << at);
            tried++;
            continue;
        }
        posix->listener_next = (uint16_t)(at + 1);
        if (fd < 0) return accept_error(errno);
        *peer = addr_of((struct sockaddr *)&from);
        c->listener = (uint8_t)at;
        return attach(posix, c, fd) ? MINIPROXY_OK : error_of(errno);
    }
    return MINIPROXY_AGAIN;
}

static int connect_begin(struct miniproxy_posix *posix, struct miniproxy_conn *c, const struct miniproxy_addr *to)
{
    struct miniproxy_addr destination = destination_of(to);
    struct sockaddr_storage sa;
    socklen_t len = sockaddr_of(&sa, &destination);
    bool under_way;
    int fd;

    if (len == 0) return MINIPROXY_EUNREACHABLE;
    if (leads_to_listener(posix, &destination)) return MINIPROXY_ESELF;
    fd = open_socket(sa.ss_family, SOCK_STREAM);
    if (fd < 0) return error_of(errno);
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    /* A signal that comes between does not stop the attempt. */
    under_way = connect(fd, (struct sockaddr *)&sa, len) != 0;
    if (under_way && errno != EINPROGRESS && errno != EINTR) {
        close_quietly(fd);
        return error_of(errno);
    }
    if (!attach(posix, c, fd)) return error_of(errno);
    return under_way ? MINIPROXY_AGAIN : MINIPROXY_OK;
}

static int port_connect(void *port, struct miniproxy_conn *c, const struct miniproxy_addr *to)
{
    int error = 0;
    socklen_t len = sizeof error;

    if (c->handle == 0) return connect_begin(port, c, to);
    if (!(c->port_flags & FLAG_WRITABLE)) return MINIPROXY_AGAIN;
    if (c->port_flags & FLAG_LAST) getsockopt(fd_of(c), SOL_SOCKET, SO_ERROR, &error, &len);
    if (error == 0) return MINIPROXY_OK;
    detach(port, c);
    return error_of(error);
}

static int port_recv(void *port, struct miniproxy_conn *c, void *buf, size_t len)
{
    ssize_t got;

    (void)port;
    do got = recv(fd_of(c), buf, len, 0);
    while (got < 0 && errno == EINTR);
    if (got > 0) {
        if ((size_t)got < len && !(c->port_flags & FLAG_LAST)) c->ready &= (uint8_t)~MINIPROXY_RD;
        return (int)got;
    }
    if (got == 0) return c->port_flags & FLAG_LOST ? MINIPROXY_ERESET : MINIPROXY_EOF;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return MINIPROXY_AGAIN;
    c->port_flags |= FLAG_LOST;
    return errno == ETIMEDOUT ? MINIPROXY_ETIMEDOUT : MINIPROXY_ERESET;
}

static int port_send(void *port, struct miniproxy_conn *c, const void *buf, size_t len)
{
    ssize_t sent;

    (void)port;
    do sent = send(fd_of(c), buf, len, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent > 0) {
        if ((size_t)sent < len) c->ready &= (uint8_t)~MINIPROXY_WR;
        return (int)sent;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK) return MINIPROXY_AGAIN;
    /* EPIPE: the peer's FIN came before its reset, so recv still ends as it should. */
    if (errno != EPIPE) c->port_flags |= FLAG_LOST;
    return errno == ETIMEDOUT ? MINIPROXY_ETIMEDOUT : MINIPROXY_ERESET;
}

static int port_finish(void *port, struct miniproxy_conn *c)
{
    (void)port;
    return shutdown(fd_of(c), SHUT_WR) == 0 ? MINIPROXY_OK : MINIPROXY_ERESET;
}

static void port_close(void *port, struct miniproxy_conn *c, bool hard)
{
    struct miniproxy_posix *posix = port;
    static const struct linger reset = {.l_onoff = 1, .l_linger = 0};

    if (posix->waiters[c->id].name != 0) {
        pthread_mutex_lock(&resolver.lock);
        leave_waiters(posix, c->id);
        pthread_mutex_unlock(&resolver.lock);
    }
    if (c->handle == 0) return;
    if (hard) setsockopt(fd_of(c), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    detach(posix, c);
}

#if MINIPROXY_WITH_INTERCEPTION

/* What Linux remembers of a connection that its packet filter has diverted (iptables or nftables, REDIRECT or DNAT). */
static int port_meant(void *port, struct miniproxy_conn *c, struct miniproxy_addr *to)
{
    (void)port;
#ifdef __linux__
    enum { ORIGINAL_DST = 80 }; /* SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST, of the kernel's own headers */
    struct sockaddr_storage sa = {.ss_family = AF_UNSPEC};
    socklen_t len = sizeof sa;

    if (getsockopt(fd_of(c), IPPROTO_IP, ORIGINAL_DST, &sa, &len) != 0) {
        len = sizeof sa;
        if (getsockopt(fd_of(c), IPPROTO_IPV6, ORIGINAL_DST, &sa, &len) != 0) return error_of(errno);
    }
    *to = addr_of((const struct sockaddr *)&sa);
    return to->family != 0 ? MINIPROXY_OK : MINIPROXY_EFAIL;
#else
    (void)c, (void)to;
    return MINIPROXY_EFAIL;
#endif
}

#endif

const struct miniproxy_port miniproxy_posix_port = {
    .accept = port_accept,
    .resolve = port_resolve,
    .connect = port_connect,
    .recv = port_recv,
    .send = port_send,
    .finish = port_finish,
    .close = port_close,
#if MINIPROXY_WITH_INTERCEPTION
    .meant = port_meant,
#endif
};

/* ==== 5  API ======================================================================================= */

bool miniproxy_posix_init(struct miniproxy_posix *posix, struct miniproxy *proxy)
{
    if (!watch_begin(posix)) return false;
    posix->proxy = proxy;
    add_instance(posix);
    return true;
}

/* What connections inherit from their listener is set here. Each family is bound on its own. */
static bool prepare_listener(int fd, int family, bool share)
{
    if (family == AF_INET6 && !set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1)) return false;
    if (share && !set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1)) return false;
    return set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1) && set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1) &&
           set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

int miniproxy_posix_listen(struct miniproxy_posix *posix, const struct miniproxy_addr *at, bool share)
{
    struct sockaddr_storage sa;
    struct sockaddr *address = (struct sockaddr *)&sa;
    socklen_t len = sockaddr_of(&sa, at);
    int fd;

    errno = len == 0 ? EAFNOSUPPORT : ENOSPC;
    if (len == 0 || posix->listeners_used == MINIPROXY_POSIX_LISTENERS) return -1;
    fd = open_socket(sa.ss_family, SOCK_STREAM);
    if (fd < 0) return -1;
    if (!prepare_listener(fd, sa.ss_family, share) || bind(fd, address, len) != 0 || listen(fd, SOMAXCONN) != 0 ||
        getsockname(fd, address, &len) != 0 || !watch_listener(posix, fd)) {
        close_quietly(fd);
        return -1;
    }
    posix->listeners[posix->listeners_used] = (struct miniproxy_posix_listener){.fd = fd, .at = addr_of(address)};
    return posix->listeners[posix->listeners_used++].at.port;
}

void miniproxy_posix_stop_listening(struct miniproxy_posix *posix)
{
    while (posix->listeners_used > 0) close(posix->listeners[--posix->listeners_used].fd);
    posix->accept_ready = 0;
}

uint32_t miniproxy_posix_now_ms(void)
{
    return (uint32_t)clock_ms();
}

void miniproxy_posix_interrupt(struct miniproxy_posix *posix)
{
    raise_wake(posix);
}

void miniproxy_posix_end(struct miniproxy_posix *posix)
{
    if (posix->proxy == NULL) return; /* it has not begun */
    miniproxy_posix_stop_listening(posix);
    remove_instance(posix);
    watch_end(posix);
    posix->proxy = NULL;
}

/* ---- Syslog */

/* Not connected: then a server that is not there yet costs no line beyond those that nobody heard. */
bool miniproxy_posix_syslog_open(struct miniproxy_posix_syslog *syslog, const struct miniproxy_addr *to)
{
    struct sockaddr_storage sa;
    errno = EAFNOSUPPORT;
    if (sockaddr_of(&sa, to) == 0) return false;
    syslog->fd = open_socket(sa.ss_family, SOCK_DGRAM);
    syslog->to = *to;
    syslog->dropped = 0;
    return syslog->fd >= 0;
}

void miniproxy_posix_syslog_send(struct miniproxy_posix_syslog *syslog, const char *line, size_t len)
{
    struct sockaddr_storage sa;
    socklen_t sa_len = sockaddr_of(&sa, &syslog->to);
    if (sendto(syslog->fd, line, len, 0, (struct sockaddr *)&sa, sa_len) < 0) syslog->dropped++;
}

void miniproxy_posix_syslog_close(struct miniproxy_posix_syslog *syslog)
{
    close(syslog->fd);
}
