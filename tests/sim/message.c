/* SPDX-License-Identifier: MIT */
/* A strict parser of HTTP/1.1 messages, written for the simulation alone: what it accepts leaves no doubt. */
#include "sim.h"

#include <string.h>
#include <strings.h>

enum { IN_HEAD, IN_BODY, IN_SIZE, IN_CHUNK, IN_CHUNK_END, IN_TRAILERS, IN_END, IN_WAIT };

void message_start(struct message *m, bool request)
{
    memset(m, 0, offsetof(struct message, method));
    m->request = request;
    m->state = IN_HEAD;
}

static enum message_event bad(struct message *m, const char *error)
{
    m->error = error;
    return MESSAGE_BAD;
}

static bool token_char(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool value_char(unsigned char c)
{
    return c == '\t' || (c >= ' ' && c != 0x7f);
}

static bool parse_field(struct field *f, const char *line, unsigned len)
{
    unsigned i = 0;
    while (i < len && token_char((unsigned char)line[i])) i++;
    if (i == 0 || i == len || line[i] != ':') return false;
    f->name = line;
    f->name_len = i++;
    while (i < len && (line[i] == ' ' || line[i] == '\t')) i++;
    f->value = line + i;
    while (len > i && (line[len - 1] == ' ' || line[len - 1] == '\t')) len--;
    f->value_len = len - i;
    for (; i < len; i++)
        if (!value_char((unsigned char)line[i])) return false;
    return true;
}

static bool parse_request_line(struct message *m, const char *line, unsigned len)
{
    const char *space = memchr(line, ' ', len), *end = line + len;
    size_t n;
    if (space == NULL || space == line || (size_t)(space - line) >= sizeof m->method) return false;
    for (const char *p = line; p < space; p++)
        if (!token_char((unsigned char)*p)) return false;
    memcpy(m->method, line, (size_t)(space - line));
    m->method[space - line] = '\0';
    line = space + 1;
    space = memchr(line, ' ', (size_t)(end - line));
    if (space == NULL || space == line || end - space != 9 || memcmp(space, " HTTP/1.1", 9) != 0) return false;
    n = (size_t)(space - line);
    if (n >= sizeof m->target) return false;
    memcpy(m->target, line, n);
    m->target[n] = '\0';
    m->minor = 1;
    return strlen(m->target) == n;
}

static bool parse_status_line(struct message *m, const char *line, unsigned len)
{
    if (len < 13 || memcmp(line, "HTTP/1.1 ", 9) != 0 || line[12] != ' ') return false;
    m->status = 0;
    for (unsigned i = 9; i < 12; i++) {
        if (line[i] < '0' || line[i] > '9') return false;
        m->status = m->status * 10 + line[i] - '0';
    }
    for (unsigned i = 13; i < len; i++)
        if (!value_char((unsigned char)line[i])) return false;
    m->minor = 1;
    return m->status >= 100 && m->status <= 599;
}

static enum message_event find_framing(struct message *m)
{
    unsigned lengths = message_count(m, "Content-Length"), codings = message_count(m, "Transfer-Encoding");
    const struct field *f;
    if (lengths > 1 || codings > 1 || (lengths > 0 && codings > 0)) return bad(m, "more than one statement of length");
    m->framing = FRAMING_NONE;
    if (codings > 0) {
        f = message_field(m, "Transfer-Encoding");
        if (f->value_len != 7 || strncasecmp(f->value, "chunked", 7) != 0) return bad(m, "transfer coding");
        m->chunked = true;
        m->framing = FRAMING_CHUNKED;
    }
    if (lengths > 0) {
        f = message_field(m, "Content-Length");
        if (f->value_len == 0 || f->value_len > 18) return bad(m, "content length");
        for (unsigned i = 0; i < f->value_len; i++) {
            if (f->value[i] < '0' || f->value[i] > '9') return bad(m, "content length");
            m->length = m->length * 10 + (uint64_t)(f->value[i] - '0');
        }
        m->has_length = true;
        m->framing = FRAMING_LENGTH;
    }
    return MESSAGE_HEAD;
}

/* The head is in m->head, with its empty line. */
static enum message_event parse_head(struct message *m)
{
    const char *line = m->head, *end = m->head + m->head_len, *stop;
    bool first = true;
    m->field_count = 0;
    for (; line < end - 2; line = stop + 2, first = false) {
        stop = memchr(line, '\r', (size_t)(end - line));
        if (stop == NULL || stop[1] != '\n') return bad(m, "a bare CR in the head");
        if (first) {
            if (m->request ? !parse_request_line(m, line, (unsigned)(stop - line))
                           : !parse_status_line(m, line, (unsigned)(stop - line)))
                return bad(m, "the start line");
            continue;
        }
        if (m->field_count == FIELDS_SEEN_MAX) return bad(m, "too many fields");
        if (!parse_field(&m->fields[m->field_count++], line, (unsigned)(stop - line))) return bad(m, "a field line");
    }
    if (find_framing(m) == MESSAGE_BAD) return MESSAGE_BAD;
    m->state = IN_WAIT;
    if (m->request) message_body(m, (enum framing)m->framing);
    return MESSAGE_HEAD;
}

void message_body(struct message *m, enum framing framing)
{
    m->framing = (uint8_t)framing;
    m->left = framing == FRAMING_LENGTH ? m->length : 0;
    m->body_at = 0;
    m->line_len = 0;
    m->trailer_count = 0;
    m->state = framing == FRAMING_NONE || (framing == FRAMING_LENGTH && m->left == 0) ? IN_END
               : framing == FRAMING_CHUNKED                                           ? IN_SIZE
                                                                                      : IN_BODY;
}

static enum message_event parse_size(struct message *m)
{
    unsigned i = 0;
    m->left = 0;
    for (; i < m->line_len && strchr("0123456789abcdefABCDEF", m->line[i]) != NULL && m->line[i] != '\0'; i++) {
        char c = m->line[i];
        m->left = m->left * 16 + (uint64_t)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    if (i == 0 || i > 15) return bad(m, "a chunk size");
    if (i < m->line_len && m->line[i] != ';') return bad(m, "what follows a chunk size");
    m->line_len = 0;
    m->state = m->left == 0 ? IN_TRAILERS : IN_CHUNK;
    return MESSAGE_MORE;
}

/* Collect a line up to CRLF; true when it is complete, without them. */
static bool collect_line(struct message *m, const uint8_t *data, size_t len, size_t *used)
{
    while (*used < len) {
        char c = (char)data[(*used)++];
        if (c == '\n') {
            if (m->line_len == 0 || m->line[m->line_len - 1] != '\r') {
                m->error = "a lone LF";
                return true;
            }
            m->line_len--;
            return true;
        }
        if (m->line_len == sizeof m->line) {
            m->error = "a line without end";
            return true;
        }
        m->line[m->line_len++] = c;
    }
    return false;
}

static enum message_event next_line(struct message *m, const uint8_t *data, size_t len, size_t *used)
{
    struct field f;
    if (!collect_line(m, data, len, used)) return MESSAGE_MORE;
    if (m->error != NULL) return MESSAGE_BAD;
    if (m->state == IN_CHUNK_END) {
        if (m->line_len != 0) return bad(m, "no CRLF behind a chunk");
        m->state = IN_SIZE;
        return MESSAGE_MORE;
    }
    if (m->state == IN_SIZE) return parse_size(m);
    if (m->line_len == 0) {
        m->state = IN_END;
        return MESSAGE_MORE;
    }
    if (!parse_field(&f, m->line, m->line_len)) return bad(m, "a trailer line");
    if (f.name_len != 7 || strncasecmp(f.name, "X-Trail", 7) != 0) return bad(m, "a trailer that must not be there");
    m->trailer_count++;
    m->line_len = 0;
    return MESSAGE_MORE;
}

static enum message_event next_head(struct message *m, const uint8_t *data, size_t len, size_t *used)
{
    while (*used < len) {
        char c = (char)data[(*used)++];
        if (m->head_len == sizeof m->head) return bad(m, "a head without end");
        if (c == '\n' && (m->head_len == 0 || m->head[m->head_len - 1] != '\r')) return bad(m, "a lone LF in the head");
        m->head[m->head_len++] = c;
        if (c == '\n' && m->head_len >= 4 && m->head[m->head_len - 3] == '\n') return parse_head(m);
        if (c == '\n' && m->head_len == 2) return bad(m, "an empty line before the head");
    }
    return MESSAGE_MORE;
}

static enum message_event next_body(struct message *m, const uint8_t *data, size_t len, size_t *used)
{
    uint64_t n = len - *used;
    if (n == 0) return MESSAGE_MORE;
    if (m->framing != FRAMING_EOF) {
        if (n > m->left) n = m->left;
        m->left -= n;
        if (m->left == 0) m->state = m->state == IN_CHUNK ? IN_CHUNK_END : IN_END;
    }
    m->body = data + *used;
    m->body_len = (size_t)n;
    *used += (size_t)n;
    m->body_at += n;
    return MESSAGE_BODY;
}

/* Consumes data[*used..len) up to the next event. body_at is then the position behind the octets of MESSAGE_BODY. */
enum message_event message_next(struct message *m, const uint8_t *data, size_t len, size_t *used)
{
    enum message_event e;
    for (;;) {
        switch (m->state) {
        case IN_HEAD:
            return next_head(m, data, len, used);
        case IN_BODY:
        case IN_CHUNK:
            return next_body(m, data, len, used);
        case IN_END:
            m->state = IN_WAIT;
            return MESSAGE_END;
        case IN_WAIT:
            return MESSAGE_MORE;
        default:
            if (*used == len) return MESSAGE_MORE;
            e = next_line(m, data, len, used);
            if (e != MESSAGE_MORE) return e;
            break;
        }
    }
}

const struct field *message_field(const struct message *m, const char *name)
{
    for (unsigned i = 0; i < m->field_count; i++)
        if (m->fields[i].name_len == strlen(name) && strncasecmp(m->fields[i].name, name, m->fields[i].name_len) == 0)
            return &m->fields[i];
    return NULL;
}

unsigned message_count(const struct message *m, const char *name)
{
    unsigned n = 0;
    for (unsigned i = 0; i < m->field_count; i++)
        n += m->fields[i].name_len == strlen(name) && strncasecmp(m->fields[i].name, name, m->fields[i].name_len) == 0;
    return n;
}

bool message_lists(const struct message *m, const char *name, const char *element)
{
    for (unsigned i = 0; i < m->field_count; i++) {
        const struct field *f = &m->fields[i];
        const char *p = f->value, *end = f->value + f->value_len, *q;
        if (f->name_len != strlen(name) || strncasecmp(f->name, name, f->name_len) != 0) continue;
        for (; p < end; p = q + 1) {
            q = memchr(p, ',', (size_t)(end - p));
            if (q == NULL) q = end;
            while (p < q && (*p == ' ' || *p == '\t')) p++;
            size_t n = (size_t)(q - p);
            while (n > 0 && (p[n - 1] == ' ' || p[n - 1] == '\t')) n--;
            if (n == strlen(element) && strncasecmp(p, element, n) == 0) return true;
        }
    }
    return false;
}
