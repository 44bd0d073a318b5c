/* SPDX-License-Identifier: MIT
 *
 * The core between a client and an origin in memory, to count instructions. Between phase_begin and phase_end it serves
 *
 *   1. a GET of 700 octets on a new connection, with a response of 250 octets of body: accept, name, connection, answer
 *   2. the same once more, on the connections that were kept
 *   3. a CONNECT of 290 octets on a new connection, until 200 has been sent
 *
 * tests/bench/instructions.py runs it and counts what is executed in those phases outside this file: the core and what
 * it calls of libc. So nothing here may call libc. It runs with and without an operating system; the result of main is
 * 0, or says which check failed.
 */
#include "miniproxy.h"

enum { GET_LEN = 700, CONNECT_LEN = 290, BODY_LEN = 250, STATUS_LEN = 12 };

static const char get_head[] =
    "GET http://www.example.com/some/page?with=query HTTP/1.1\r\nHost: www.example.com\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:100.0)\r\n"
    "Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\n"
    "Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate\r\nReferer: http://www.example.com/\r\n"
    "DNT: 1\r\nCache-Control: max-age=0\r\nCookie: ";
static const char connect_head[] = "CONNECT www.example.com:443 HTTP/1.1\r\nHost: www.example.com:443\r\n"
                                   "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:100.0)\r\nX-Fill: ";
static const char response_head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 250\r\n\r\n";
static const char success[] = "HTTP/1.1 200";

/* What still has to come from one side. */
struct side {
    const char *data;
    size_t left;
    bool eof;
};

static struct miniproxy proxy;
static struct miniproxy_conn *client, *server;
static struct side from_client, from_server;
static char request[GET_LEN], response[sizeof response_head - 1 + BODY_LEN];
static char to_client[2 * sizeof response]; /* what the client was sent in this phase */
static size_t to_client_len, to_server_len;
static unsigned accepts, connects, events;
static bool pending, is_connect;

int main(void);
void phase_begin(void);
void phase_end(void);

__attribute__((noinline)) void phase_begin(void)
{
    __asm__ volatile("");
}

__attribute__((noinline)) void phase_end(void)
{
    __asm__ volatile("");
}

static const struct miniproxy_addr client_addr = {.ip = {127, 0, 0, 1}, .port = 9, .family = 4};
static const struct miniproxy_addr server_addr = {.ip = {192, 0, 9, 1}, .family = 4};

/* Every copy, an assignment of structures too: a compiler may make a call of memcpy of that. */
static void copy(void *to, const void *from, size_t len)
{
    for (size_t i = 0; i < len; i++) ((char *)to)[i] = ((const char *)from)[i];
}

static int port_accept(void *port, struct miniproxy_conn *c, struct miniproxy_addr *peer)
{
    (void)port;
    if (!pending) return MINIPROXY_AGAIN;
    pending = false;
    accepts++;
    client = c;
    copy(peer, &client_addr, sizeof *peer);
    miniproxy_wake(c, MINIPROXY_RD | MINIPROXY_WR);
    return MINIPROXY_OK;
}

static int port_resolve(void *port, struct miniproxy_conn *c, const char *host, struct miniproxy_addr *out, int max)
{
    (void)port, (void)c, (void)host, (void)max;
    copy(out, &server_addr, sizeof *out);
    return 1;
}

static int port_connect(void *port, struct miniproxy_conn *c, const struct miniproxy_addr *to)
{
    (void)port, (void)to;
    connects++;
    server = c;
    miniproxy_wake(c, MINIPROXY_WR);
    return MINIPROXY_OK;
}

static int port_recv(void *port, struct miniproxy_conn *c, void *buf, size_t len)
{
    struct side *side = c == client ? &from_client : &from_server;
    size_t n = side->left < len ? side->left : len;
    (void)port;
    if (n == 0) return side->eof ? MINIPROXY_EOF : MINIPROXY_AGAIN;
    copy(buf, side->data, n);
    side->data += n;
    side->left -= n;
    return (int)n;
}

/* The origin answers as soon as the first of the request arrives. */
static int port_send(void *port, struct miniproxy_conn *c, const void *buf, size_t len)
{
    (void)port;
    if (c == server) {
        if (to_server_len == 0 && !is_connect) {
            from_server.data = response;
            from_server.left = sizeof response;
            miniproxy_wake(c, MINIPROXY_RD);
        }
        to_server_len += len;
    } else {
        size_t n = len < sizeof to_client - to_client_len ? len : sizeof to_client - to_client_len;
        copy(to_client + to_client_len, buf, n);
        to_client_len += n;
    }
    return (int)len;
}

static int port_finish(void *port, struct miniproxy_conn *c)
{
    (void)port, (void)c;
    return MINIPROXY_OK;
}

static void port_close(void *port, struct miniproxy_conn *c, bool hard)
{
    (void)port, (void)hard;
    if (c == client) client = NULL;
    if (c == server) server = NULL;
}

static void on_event(void *app, const struct miniproxy_event *e)
{
    (void)app;
    if (e->status == 200 && e->cause == MINIPROXY_CAUSE_NONE) events++;
}

static const struct miniproxy_port memory_port = {.accept = port_accept,
                                                  .resolve = port_resolve,
                                                  .connect = port_connect,
                                                  .recv = port_recv,
                                                  .send = port_send,
                                                  .finish = port_finish,
                                                  .close = port_close};
static const struct miniproxy_rule rules[] = {{.verdict = MINIPROXY_ALLOW}};
static const struct miniproxy_policy policy = {.rules = rules, .rule_count = 1};
static const struct miniproxy_config config = {.port = &memory_port, .policy = &policy, .event = on_event};

/* A message of len octets: its last field is filled up. */
static void make_request(const char *head, size_t len)
{
    size_t n = 0;
    while (head[n] != '\0') request[n] = head[n], n++;
    while (n < len - 4) request[n++] = 'c';
    for (; n < len; n++) request[n] = (len - n) % 2 == 0 ? '\r' : '\n';
    from_client.data = request;
    from_client.left = len;
    to_client_len = to_server_len = 0;
}

static void make_response(void)
{
    copy(response, response_head, sizeof response_head - 1);
    for (size_t n = sizeof response_head - 1; n < sizeof response; n++) response[n] = 'x';
}

/* Poll until nothing is left to be done. */
static void run(void)
{
    for (int visit = 0; visit < 20 && miniproxy_poll(&proxy, 1) == 0; visit++) {
    }
}

static void phase(bool new_connection)
{
    phase_begin();
    if (new_connection) {
        pending = true;
        miniproxy_wake_accept(&proxy);
    } else {
        miniproxy_wake(client, MINIPROXY_RD);
    }
    run();
    phase_end();
}

/* The client was sent a success, and the body that the origin sent, if any. */
static bool answered(size_t body_len)
{
    if (to_client_len < STATUS_LEN + body_len) return false;
    for (size_t i = 0; i < STATUS_LEN; i++)
        if (to_client[i] != success[i]) return false;
    for (size_t i = 1; i <= body_len; i++)
        if (to_client[to_client_len - i] != 'x') return false;
    return true;
}

/* A build that does no more than CONNECT has the last phase alone. */
#if MINIPROXY_WITH_FORWARDING

/* Without reuse each request has an origin connection of its own. */
enum { GETS = 2, GETS_ACCEPTS = 1, GETS_CONNECTS = MINIPROXY_WITH_REUSE ? 1 : 2 };

static bool get(bool new_connection)
{
    make_request(get_head, GET_LEN);
    phase(new_connection);
    return answered(BODY_LEN) && to_server_len > GET_LEN / 2;
}

#else

enum { GETS = 0, GETS_ACCEPTS = 0, GETS_CONNECTS = 0 };

static bool get(bool new_connection)
{
    (void)new_connection;
    return true;
}

#endif

static void hang_up(void)
{
    from_client.eof = from_server.eof = true;
    if (server != NULL) miniproxy_wake(server, MINIPROXY_RD);
    if (client != NULL) miniproxy_wake(client, MINIPROXY_RD);
    run();
    from_client.eof = from_server.eof = false;
}

int main(void)
{
    make_response();
    if (!miniproxy_init(&proxy, &config)) return 2;
    if (!get(true) || accepts != GETS_ACCEPTS || connects != (GETS > 0) || events != GETS / 2) return 3;
    if (!get(false) || accepts != GETS_ACCEPTS || connects != GETS_CONNECTS || events != GETS) return 4;
    hang_up();
    if (miniproxy_active(&proxy) != 0) return 5;

    is_connect = true;
    make_request(connect_head, CONNECT_LEN);
    phase(true);
    if (!answered(0) || accepts != GETS_ACCEPTS + 1 || connects != GETS_CONNECTS + 1 || to_server_len != 0 || client == NULL)
        return 6;
    hang_up(); /* CONNECT's event comes when the tunnel ends */
    if (events != GETS + 1 || miniproxy_active(&proxy) != 0) return 7;
    return 0;
}
