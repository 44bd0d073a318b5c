/* SPDX-License-Identifier: MIT
 *
 * The core between a client and an origin in memory, to count instructions: instructions get|connect TIMES.
 */
#include "miniproxy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GET_LEN = 700, CONNECT_LEN = 290, BODY_LEN = 250 };

/* What still has to come from one side. */
struct side {
    const char *data;
    size_t left;
};

static struct miniproxy proxy;
static struct miniproxy_conn *client, *server;
static struct side from_client, from_server;
static char request[GET_LEN + 1], response[512];
static unsigned long closes, events;
static bool pending, is_connect;

static int port_accept(void *port, struct miniproxy_conn *c, struct miniproxy_addr *peer)
{
    (void)port;
    if (!pending) return MINIPROXY_AGAIN;
    pending = false;
    client = c;
    *peer = (struct miniproxy_addr){.ip = {127, 0, 0, 1}, .port = 9, .family = 4};
    miniproxy_wake(c, MINIPROXY_RD | MINIPROXY_WR);
    return MINIPROXY_OK;
}

static int port_resolve(void *port, struct miniproxy_conn *c, const char *host, struct miniproxy_addr *out, int max)
{
    (void)port, (void)c, (void)host, (void)max;
    out[0] = (struct miniproxy_addr){.ip = {192, 0, 9, 1}, .family = 4};
    return 1;
}

static int port_connect(void *port, struct miniproxy_conn *c, const struct miniproxy_addr *to)
{
    (void)port, (void)to;
    server = c;
    miniproxy_wake(c, MINIPROXY_WR);
    return MINIPROXY_OK;
}

static int port_recv(void *port, struct miniproxy_conn *c, void *buf, size_t len)
{
    struct side *side = c == client ? &from_client : &from_server;
    size_t n = side->left < len ? side->left : len;
    (void)port;
    if (n == 0) return MINIPROXY_AGAIN;
    memcpy(buf, side->data, n);
    side->data += n;
    side->left -= n;
    return (int)n;
}

/* The origin answers as soon as the request arrives. */
static int port_send(void *port, struct miniproxy_conn *c, const void *buf, size_t len)
{
    (void)port, (void)buf;
    if (c == server && from_server.left == 0 && !is_connect) {
        from_server.data = response;
        from_server.left = strlen(response);
        miniproxy_wake(c, MINIPROXY_RD);
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
    (void)port, (void)c, (void)hard;
    closes++;
}

static const struct miniproxy_port memory_port = {port_accept, port_resolve, port_connect, port_recv,
                                                  port_send,   port_finish,  port_close,  NULL};
static const struct miniproxy_rule rules[] = {{.verdict = MINIPROXY_ALLOW}};
static const struct miniproxy_policy policy = {.rules = rules, .rule_count = 1};

static void on_event(void *app, const struct miniproxy_event *e)
{
    (void)app;
    events++;
    if (e->status == 200) return;
    fprintf(stderr, "status %u, %s\n", e->status, miniproxy_cause_token((enum miniproxy_cause)e->cause));
    exit(1);
}

static const char get_head[] =
    "GET http://www.example.com/some/page?with=query HTTP/1.1\r\nHost: www.example.com\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:100.0)\r\n"
    "Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\n"
    "Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate\r\nReferer: http://www.example.com/\r\n"
    "DNT: 1\r\nCache-Control: max-age=0\r\nCookie: ";
static const char connect_head[] =
    "CONNECT www.example.com:443 HTTP/1.1\r\nHost: www.example.com:443\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:100.0)\r\nX-Fill: ";
static const char response_head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 250\r\n\r\n";

/* The last field is filled up to the length that is wanted. */
static void make_messages(void)
{
    const char *head = is_connect ? connect_head : get_head;
    size_t len = is_connect ? CONNECT_LEN : GET_LEN;
    memset(request, 'c', len - 4);
    memcpy(request, head, strlen(head));
    memcpy(request + len - 4, "\r\n\r\n", 4);
    memcpy(response, response_head, sizeof response_head - 1);
    memset(response + sizeof response_head - 1, 'x', BODY_LEN);
}

int main(int argc, char **argv)
{
    const struct miniproxy_config config = {.port = &memory_port, .policy = &policy, .event = on_event};
    unsigned long times = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
    is_connect = argc == 3 && strcmp(argv[1], "connect") == 0;
    make_messages();
    if (times == 0 || !miniproxy_init(&proxy, &config)) return 2;
    for (unsigned long i = 0; i < times; i++) {
        from_client = (struct side){request, is_connect ? CONNECT_LEN : GET_LEN};
        if (i == 0 || is_connect) {
            pending = true;
            miniproxy_wake_accept(&proxy);
        } else {
            miniproxy_wake(client, MINIPROXY_RD);
        }
        for (int visit = 0; visit < 10 && miniproxy_poll(&proxy, 1) == 0; visit++) {}
        if (is_connect) {
            /* CONNECT's event comes when the tunnel ends. */
            miniproxy_stop(&proxy);
            if (!miniproxy_init((memset(&proxy, 0, sizeof proxy), &proxy), &config)) return 2;
        }
    }
    if (events != times) {
        fprintf(stderr, "%lu events after %lu requests\n", events, times);
        return 1;
    }
    return 0;
}
