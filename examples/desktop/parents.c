/* SPDX-License-Identifier: MIT
 *
 * Parents and members of groups of origins, as text and back.
 */
#include "desktop.h"

#if MINIPROXY_WITH_ROUTES

#include <string.h>
#include <strings.h>

#define TEXT_OF(value) #value
#define NUMBER(macro) TEXT_OF(macro)
#define CHECK_OCTETS_MAX 1000
#define HEX_DIGITS "0123456789abcdefABCDEF"

static bool read_port(const char *text, size_t len, uint16_t *port)
{
    unsigned value = 0;
    for (size_t i = 0; i < len && value <= UINT16_MAX; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        value = value * 10 + (unsigned)(text[i] - '0');
    }
    *port = (uint16_t)value;
    return len > 0 && value > 0 && value <= UINT16_MAX;
}

/* HOST, HOST:PORT, [IPv6] or [IPv6]:PORT, all of text[0..len). The host goes to `room`. */
static const char *read_authority(const char *text, size_t len, uint16_t standard, char *room, uint16_t *port)
{
    const bool brackets = len > 0 && text[0] == '[';
    const char *shut = brackets ? memchr(text, ']', len) : NULL, *host = text + brackets, *behind;
    struct miniproxy_addr a;
    const char *problem;
    size_t host_len;
    if (brackets && shut == NULL) return "expected ] behind an IPv6 address";
    behind = brackets ? shut + 1 : memchr(text, ':', len);
    if (behind == NULL) behind = text + len;
    host_len = (size_t)((brackets ? shut : behind) - host);
    *port = standard;
    if (behind < text + len && (*behind != ':' || !read_port(behind + 1, (size_t)(text + len - behind - 1), port)))
        return brackets || memchr(behind + 1, ':', (size_t)(text + len - behind - 1)) == NULL
                   ? "expected a port of 1 to 65535 behind the host"
                   : "expected an IPv6 address in brackets, as [fd00::1]:3128";
    memcpy(room, host, host_len);
    room[host_len] = '\0';
    if (miniproxy_addr_parse(&a, room, host_len))
        return (a.family == 6) == brackets ? NULL : "expected brackets around IPv6 addresses, and no others";
    if (brackets) return "expected an IPv6 address in the brackets";
    problem = room[0] == '.' ? "a host name" : tidy_host(room);
    return problem != NULL ? "expected a host name of letters, digits, - and _ between dots, or an IP address" : NULL;
}

static unsigned hex_value(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
}

/* "NAME:PASSWORD" with percent-encoded octets, which it loses. */
static const char *read_login(const char *text, size_t len, bool socks, char *room)
{
    const char *colon = memchr(text, ':', len);
    char *out = room, *password = NULL;
    if (colon == NULL) return "expected NAME:PASSWORD before the @";
    for (const char *p = text; p < text + len; p++) {
        unsigned octet = (unsigned char)*p;
        if (p == colon) password = out + 1;
        if (*p == '%') {
            if (text + len - p < 3 || strspn(p + 1, HEX_DIGITS) < 2)
                return "expected two hexadecimal digits behind each % of the login, as %40 for @";
            octet = hex_value(p[1]) << 4 | hex_value(p[2]);
            p += 2;
        }
        if (octet < 0x20 || octet == 0x7f) return "expected a login without control characters";
        if (octet == ':' && p < colon) return "expected a name without colon in the login";
        *out++ = (char)octet;
    }
    *out = '\0';
    if (colon == text || (socks && *password == '\0'))
        return socks ? "expected a login with a name and a password, for SOCKS5 knows no empty ones"
                     : "expected a name before the colon of the login";
    return out - room > MINIPROXY_CREDENTIALS_MAX
               ? "expected a login of at most " NUMBER(MINIPROXY_CREDENTIALS_MAX) " octets, its colon included"
               : NULL;
}

static const struct {
    const char *scheme;
    uint16_t port;
    uint8_t kind, secure;
} schemes[] = {
    {"http://", 3128, MINIPROXY_HOP_PROXY, 0},
    {"https://", 443, MINIPROXY_HOP_PROXY, 1},
    {"socks5://", 1080, MINIPROXY_HOP_SOCKS5, 0},
};

const char *parent_parse(struct miniproxy_hop *hop, const char *text, char *room)
{
    const char *at, *end, *problem;
    size_t i = 0, len;
    while (i < sizeof schemes / sizeof schemes[0] && strncmp(text, schemes[i].scheme, strlen(schemes[i].scheme)) != 0)
        i++;
    if (i == sizeof schemes / sizeof schemes[0])
        return "expected http://, https:// or socks5://, perhaps NAME:PASSWORD@, then host and port, as "
               "http://proxy.example:3128";
    *hop = (struct miniproxy_hop){.kind = schemes[i].kind, .secure = schemes[i].secure};
    text += strlen(schemes[i].scheme);
    len = strcspn(text, "/?#");
    end = text + len;
    for (at = end; at > text && at[-1] != '@'; at--) {
    }
    if (*end != '\0' && strcmp(end, "/") != 0)
        return at == text && strchr(end, '@') != NULL ? "expected / ? and # of a login as %2F, %3F and %23"
                                                      : "expected nothing behind host and port of a parent";
    if (at > text) {
        problem = read_login(text, (size_t)(at - text - 1), hop->kind == MINIPROXY_HOP_SOCKS5, room);
        if (problem != NULL) return problem;
        hop->login = room;
        room += strlen(room) + 1;
    }
    hop->host = room;
    problem = read_authority(at, (size_t)(end - at), schemes[i].port, room, &hop->port);
    return problem == NULL && hop->secure ? TLS_MISSING : problem;
}

const char *origin_parse(struct miniproxy_hop *hop, const char *text, char *room)
{
    *hop = (struct miniproxy_hop){.kind = MINIPROXY_HOP_ORIGIN, .host = room};
    if (strpbrk(text, "/@?") != NULL) return "expected HOST:PORT of an origin, as 10.0.0.1:8080";
    return read_authority(text, strlen(text), 80, room, &hop->port);
}

const char *check_problem(const char *url)
{
    char host[256];
    const char *rest = url + 7;
    uint16_t port;
    size_t len;
    if (strncmp(url, "https://", 8) == 0) return "expected a check by http://: checks do not speak TLS with origins";
    if (strncmp(url, "http://", 7) != 0) return "expected what a check asks for as \"http://host/path\"";
    if (strlen(url) > CHECK_OCTETS_MAX) return "expected a URL of at most " NUMBER(CHECK_OCTETS_MAX) " octets";
    len = strcspn(rest, "/?");
    if (len >= sizeof host || rest[len] != '/') return "expected what a check asks for as \"http://host/path\"";
    for (const char *p = rest; *p != '\0'; p++)
        if (*p <= ' ' || *p == 0x7f || *p == '#')
            return "expected the URL of a check as it is sent: printable ASCII without blanks and #";
    return read_authority(rest, len, 80, host, &port);
}

void hop_text(const struct miniproxy_hop *hop, char out[HOP_TEXT_MAX])
{
    snprintf(out, HOP_TEXT_MAX, strchr(hop->host, ':') != NULL ? "[%s]:%u" : "%s:%u", hop->host, hop->port);
}

bool same_hop(const struct miniproxy_hop *a, const struct miniproxy_hop *b)
{
    if (a->kind != b->kind || a->secure != b->secure || a->port != b->port || strcasecmp(a->host, b->host) != 0)
        return false;
    if ((a->login == NULL) != (b->login == NULL)) return false;
    return a->login == NULL || strcmp(a->login, b->login) == 0;
}

#endif
