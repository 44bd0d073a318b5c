/* SPDX-License-Identifier: MIT */
/* Connections: two byte queues with latency, FIN and RST in order, as TCP has them. */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

static void lane_new(struct lane *l)
{
    static const uint32_t sizes[] = {1, 7, 100, 600, 1500, 4096, 16384, 65536};
    unsigned n = 1;
    while (n < sizeof sizes / sizeof sizes[0] && sizes[n] <= world.mood.capacity_max) n++;
    l->size = sizes[below(n)];
    if (l->size < 600 && !world.mood.small) l->size = 600;
    l->data = malloc(l->size);
    if (l->data == NULL) abort();
}

static const struct peer_end wire_end;

struct conn *conn_new(bool of_client)
{
    struct conn *v;
    if (world.conn_count == CONNS_MAX) violation(PROPERTY_LIVENESS, "more than %d connections", CONNS_MAX);
    v = calloc(1, sizeof *v);
    if (v == NULL) abort();
    v->number = world.conn_count;
    v->of_client = of_client;
    v->end = &wire_end;
    lane_new(&v->in);
    lane_new(&v->out);
    world.conns[world.conn_count++] = v;
    return v;
}

void conn_free_all(void)
{
    for (unsigned i = 0; i < world.conn_count; i++) {
        free(world.conns[i]->in.data);
        free(world.conns[i]->out.data);
        free(world.conns[i]->refused);
        free(world.conns[i]);
    }
    world.conn_count = 0;
}

/* When something sent now arrives; never before what was sent earlier. */
static uint64_t arrival(struct lane *l)
{
    uint64_t when_ms = world.now_ms + below(world.mood.latency_ms + 1);
    if (when_ms < l->busy_until) when_ms = l->busy_until;
    l->busy_until = when_ms;
    return when_ms;
}

static void copy_in(struct lane *l, const uint8_t *data, uint32_t len)
{
    uint32_t at_byte = (uint32_t)(l->written % l->size), first = l->size - at_byte;
    if (first > len) first = len;
    memcpy(l->data + at_byte, data, first);
    memcpy(l->data, data + first, len - first);
    l->written += len;
}

static void copy_out(struct lane *l, uint8_t *data, uint32_t len)
{
    uint32_t at_byte = (uint32_t)(l->taken % l->size), first = l->size - at_byte;
    if (first > len) first = len;
    memcpy(data, l->data + at_byte, first);
    memcpy(data + first, l->data, len - first);
    l->taken += len;
}

static uint32_t room(const struct lane *l)
{
    return l->size - (uint32_t)(l->written - l->taken);
}

static uint32_t readable(const struct lane *l)
{
    return l->arrived > l->taken ? (uint32_t)(l->arrived - l->taken) : 0;
}

/* ---- Wakes ---- */

void link_wake_later(struct conn *v, unsigned bits)
{
    bits &= ~(unsigned)v->wake_due;
    if (bits == 0) return;
    v->wake_due |= (uint8_t)bits;
    after(below(world.mood.wake_delay_ms + 1), EVENT_WAKE, v->number, bits);
}

void link_wake(struct conn *v, unsigned bits)
{
    unsigned due = world.mood.edge_wakes ? bits : bits & (v->wanted | MINIPROXY_BROKEN);
    if (v->c == NULL) return;
    if (due != 0) link_wake_later(v, due);
}

/* ---- The peers' end ---- */

size_t wire_write(struct conn *v, const void *data, size_t len)
{
    uint32_t n = room(&v->in);
    if (v->in.fin_sent || v->in.reset_arrived) return 0;
    if (v->state == CONN_CLOSED) { /* nobody reads any more: swallowed, and answered by a reset when it arrives */
        v->in.written += len;
        v->in.taken = v->in.written;
        after(below(world.mood.latency_ms + 1), EVENT_ARRIVE_IN, v->number, v->in.written);
        return len;
    }
    if (n > len) n = (uint32_t)len;
    if (n == 0) return 0;
    copy_in(&v->in, data, n);
    at(arrival(&v->in), EVENT_ARRIVE_IN, v->number, v->in.written);
    return n;
}

uint32_t peer_room(const struct conn *v)
{
    return room(&v->in);
}

size_t wire_read(struct conn *v, uint8_t *data, size_t len)
{
    uint32_t n = readable(&v->out);
    if (n > len) n = (uint32_t)len;
    if (n == 0) return 0;
    copy_out(&v->out, data, n);
    link_wake(v, MINIPROXY_WR);
    return n;
}

void wire_fin(struct conn *v)
{
    if (v->in.fin_sent) return;
    v->in.fin_sent = true;
    at(arrival(&v->in), EVENT_FIN_IN, v->number, 0);
}

void peer_reset(struct conn *v)
{
    if (v->peer_gone && v->in.fin_sent && v->broken) return;
    v->peer_gone = v->in.fin_sent = true;
    at(arrival(&v->in) + 1, EVENT_RESET_IN, v->number, world.mood.reset_drops ? 1 : 0);
}

void wire_leave(struct conn *v)
{
    if (readable(&v->out) > 0) {
        peer_reset(v); /* as TCP does when unread data is thrown away */
        return;
    }
    wire_fin(v);
    v->peer_gone = true;
}

bool wire_eof(const struct conn *v)
{
    return v->out.fin_arrived && readable(&v->out) == 0 && v->out.arrived == v->out.written && !v->out.reset_arrived;
}

bool wire_was_reset(const struct conn *v)
{
    return v->out.reset_arrived && readable(&v->out) == 0;
}

static const struct peer_end wire_end = {wire_write, wire_read, wire_fin, wire_leave, wire_eof, wire_was_reset};

size_t peer_write(struct conn *v, const void *data, size_t len)
{
    return v->end->write(v, data, len);
}

size_t peer_read(struct conn *v, uint8_t *data, size_t len)
{
    return v->end->read(v, data, len);
}

void peer_fin(struct conn *v)
{
    v->end->fin(v);
}

void peer_leave(struct conn *v)
{
    v->end->leave(v);
}

bool peer_eof(const struct conn *v)
{
    return v->end->eof(v);
}

bool peer_was_reset(const struct conn *v)
{
    return v->end->was_reset(v);
}

/* ---- The core's end ---- */

uint32_t conn_readable(const struct conn *v)
{
    return readable(&v->in);
}

uint32_t conn_room(const struct conn *v)
{
    return room(&v->out);
}

void link_take(struct conn *v, uint8_t *data, uint32_t len)
{
    copy_out(&v->in, data, len);
    v->consumed += len;
    if (v->peer != NULL) step_after(v->peer, below(world.mood.latency_ms + 1));
}

void link_put(struct conn *v, const uint8_t *data, uint32_t len)
{
    copy_in(&v->out, data, len);
    v->produced += len;
    at(arrival(&v->out), EVENT_ARRIVE_OUT, v->number, v->out.written);
}

void link_fin(struct conn *v)
{
    v->out.fin_sent = true;
    at(arrival(&v->out), EVENT_FIN_OUT, v->number, 0);
}

void link_close(struct conn *v, bool hard)
{
    bool unread = v->in.written > v->in.taken;
    v->state = CONN_CLOSED;
    v->closed_hard = hard;
    v->c = NULL;
    if (hard) {
        at(arrival(&v->out) + 1, EVENT_RESET_OUT, v->number, world.mood.reset_drops ? 1 : 0);
    } else if (unread && !v->broken) {
        if (!v->out.fin_sent) link_fin(v);
        at(arrival(&v->out) + 1, EVENT_RESET_OUT, v->number, 1);
    } else if (!v->out.fin_sent) {
        link_fin(v);
    }
    v->in.taken = v->in.written; /* thrown away: room for what a peer still writes */
    if (v->peer != NULL) step_after(v->peer, 0);
}

void link_break(struct conn *v)
{
    v->broken = true;
    v->in.taken = v->in.written;
    v->in.reset_arrived = true;
    after(0, EVENT_RESET_OUT, v->number, 0);
    v->wanted |= MINIPROXY_RD | MINIPROXY_WR;
    link_wake(v, MINIPROXY_RD | MINIPROXY_WR);
}
