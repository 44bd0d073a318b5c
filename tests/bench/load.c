/* SPDX-License-Identifier: MIT
 *
 * Both ends of a benchmark on loopback.
 *
 *   load origin                                       serve until killed; prints the port
 *   load get|new|connect PROXY ORIGIN COUNT THREADS   COUNT requests: on kept connections, on new ones, CONNECT alone
 *   load tunnel PROXY ORIGIN OCTETS 1                 one tunnel, OCTETS down
 *   load idle PROXY ORIGIN COUNT 1                    COUNT tunnels, held until standard input ends
 *
 * The origin answers every head with 250 octets, or with as many as a target /N asks for. Exit status 1: something went
 * wrong.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { HEAD_LEN = 700, BODY_LEN = 250, ROOM = 1 << 18, THREADS_MAX = 256, PATIENCE_S = 60 };

static unsigned short proxy_port, origin_port;
static const char *mode;
static unsigned long count_each;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static int dial(unsigned short port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {.tv_sec = PATIENCE_S};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) != 0) die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return fd;
}

static bool send_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        if (n <= 0) return false;
        data += n;
        len -= (size_t)n;
    }
    return true;
}

/* A head into buf, NUL-terminated; returns how many octets came behind it, or -1 when the peer has closed. */
static long read_head(int fd, char *buf, size_t size, char **behind)
{
    size_t len = 0;
    for (;;) {
        ssize_t n = recv(fd, buf + len, size - 1 - len, 0);
        if (n <= 0) return -1;
        len += (size_t)n;
        buf[len] = '\0';
        *behind = strstr(buf, "\r\n\r\n");
        if (*behind != NULL) break;
        if (len == size - 1) return -1;
    }
    *behind += 4;
    return (long)(buf + len - *behind);
}

/* ---- Origin: a thread a connection */

static void *serve(void *arg)
{
    static const char octets[ROOM];
    int fd = (int)(intptr_t)arg;
    char head[8192], answer[128 + BODY_LEN], *behind, *slash;
    for (;;) {
        unsigned long len;
        int n;
        if (read_head(fd, head, sizeof head, &behind) < 0) break;
        slash = strchr(head, ' ');
        slash = slash != NULL ? strchr(slash, '/') : NULL;
        len = slash != NULL ? strtoul(slash + 1, NULL, 10) : 0;
        if (len == 0) len = BODY_LEN;
        n = snprintf(answer, 128, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %lu\r\n\r\n", len);
        if (len == BODY_LEN) {
            memset(answer + n, 'x', BODY_LEN);
            if (!send_all(fd, answer, (size_t)n + BODY_LEN)) break;
            continue;
        }
        if (!send_all(fd, answer, (size_t)n)) break;
        while (len > 0 && send_all(fd, octets, len < ROOM ? len : ROOM)) len -= len < ROOM ? len : ROOM;
    }
    close(fd);
    return NULL;
}

static _Noreturn void origin(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    pthread_attr_t small;
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) != 0 || listen(fd, 4096) != 0) die("listen");
    getsockname(fd, (struct sockaddr *)&a, &len);
    printf("%d\n", ntohs(a.sin_port));
    fflush(stdout);
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 65536);
    pthread_attr_setdetachstate(&small, PTHREAD_CREATE_DETACHED);
    for (;;) {
        int peer = accept(fd, NULL, NULL);
        pthread_t thread;
        if (peer < 0) die("accept");
        setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (pthread_create(&thread, &small, serve, (void *)(intptr_t)peer) != 0) die("pthread_create");
    }
}

/* ---- Clients */

/* Read a response; its head must say 200 and its length. False: the peer has closed before it. */
static bool read_response(int fd, char *buf, size_t size, bool has_body)
{
    char *behind, *length;
    long have = read_head(fd, buf, size, &behind);
    unsigned long left;
    if (have < 0) return false;
    if (strncmp(buf, "HTTP/1.", 7) != 0 || strncmp(buf + 8, " 200", 4) != 0) {
        fprintf(stderr, "unexpected answer: %.100s\n", buf);
        exit(1);
    }
    if (!has_body) return true;
    length = strcasestr(buf, "\r\ncontent-length:");
    if (length == NULL) die("no length");
    left = strtoul(length + 17, NULL, 10);
    for (left -= (unsigned long)have; left > 0;) {
        ssize_t n = recv(fd, buf, size < left ? size : left, 0);
        if (n <= 0) die("recv");
        left -= (unsigned long)n;
    }
    return true;
}

/* A request of about HEAD_LEN octets, as browsers send them. */
static int make_get(char *out, const char *end)
{
    int n = snprintf(out, HEAD_LEN,
                     "GET http://127.0.0.1:%u/some/page?with=query HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n"
                     "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:100.0) Gecko/20100101 Firefox/100.0\r\n"
                     "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
                     "Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate\r\n"
                     "Referer: http://127.0.0.1/\r\n%sCookie: c=",
                     origin_port, origin_port, end);
    memset(out + n, 'c', (size_t)(HEAD_LEN - 4 - n));
    memcpy(out + HEAD_LEN - 4, "\r\n\r\n", 4);
    return HEAD_LEN;
}

static int make_connect(char *out)
{
    return snprintf(out, HEAD_LEN, "CONNECT 127.0.0.1:%u HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n\r\n", origin_port,
                    origin_port);
}

static void *work(void *arg)
{
    char *buf = malloc(ROOM), request[HEAD_LEN];
    bool keeps = strcmp(mode, "get") == 0, is_connect = strcmp(mode, "connect") == 0;
    int fd = -1, len = is_connect ? make_connect(request) : make_get(request, keeps ? "" : "Connection: close\r\n");
    (void)arg;
    if (buf == NULL) die("malloc");
    for (unsigned long i = 0; i < count_each; i++) {
        bool fresh = fd < 0;
        if (fresh) fd = dial(proxy_port);
        if (!send_all(fd, request, (size_t)len) || !read_response(fd, buf, ROOM, !is_connect)) {
            if (fresh) die("no answer");
            i--; /* it did not keep the connection after all: once more */
        } else if (keeps && strcasestr(buf, "connection: close") == NULL) {
            continue;
        }
        close(fd);
        fd = -1;
    }
    free(buf);
    return NULL;
}

static void tunnel(unsigned long octets)
{
    char *buf = malloc(ROOM), request[HEAD_LEN];
    int fd = dial(proxy_port), len = make_connect(request);
    if (buf == NULL) die("malloc");
    if (!send_all(fd, request, (size_t)len) || !read_response(fd, buf, ROOM, false)) die("tunnel");
    len = snprintf(request, sizeof request, "GET /%lu HTTP/1.1\r\n\r\n", octets);
    if (!send_all(fd, request, (size_t)len) || !read_response(fd, buf, ROOM, true)) die("tunnel");
    free(buf);
}

static void idle(unsigned long count)
{
    char *buf = malloc(ROOM), request[HEAD_LEN], byte;
    int len = make_connect(request);
    if (buf == NULL) die("malloc");
    for (unsigned long i = 0; i < count; i++) {
        int fd = dial(proxy_port);
        if (!send_all(fd, request, (size_t)len) || !read_response(fd, buf, ROOM, false)) die("tunnel");
    }
    printf("ready\n");
    fflush(stdout);
    while (read(0, &byte, 1) > 0) {}
}

int main(int argc, char **argv)
{
    struct rlimit files;
    pthread_t threads[THREADS_MAX];
    unsigned long count, n;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    if (argc == 2 && strcmp(argv[1], "origin") == 0) origin();
    if (argc != 6) return 2;
    mode = argv[1];
    proxy_port = (unsigned short)strtoul(argv[2], NULL, 10);
    origin_port = (unsigned short)strtoul(argv[3], NULL, 10);
    count = strtoul(argv[4], NULL, 10);
    n = strtoul(argv[5], NULL, 10);
    if (n == 0 || n > THREADS_MAX) return 2;
    if (strcmp(mode, "tunnel") == 0) tunnel(count);
    else if (strcmp(mode, "idle") == 0) idle(count);
    else {
        count_each = count / n;
        for (unsigned long i = 0; i < n; i++)
            if (pthread_create(&threads[i], NULL, work, NULL) != 0) die("pthread_create");
        for (unsigned long i = 0; i < n; i++) pthread_join(threads[i], NULL);
    }
    return 0;
}
