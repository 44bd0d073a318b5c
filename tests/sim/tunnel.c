/* SPDX-License-Identifier: MIT */
/* One end of a tunnel: sends its pattern, checks the other end's, and closes in its own way. */
#include "sim.h"

/* Send at most `burst` octets. True: there is more to send at once. */
bool tunnel_step(struct tunnel_end *t, struct conn *v, uint32_t burst, struct exchange *ex)
{
    uint8_t data[2048];
    uint64_t n = t->send_len - t->sent;
    size_t taken;
    if (n > burst) n = burst;
    if (n > sizeof data) n = sizeof data;
    for (uint64_t i = 0; i < n; i++) data[i] = pattern(t->send_key, t->sent + i);
    taken = n > 0 ? peer_write(v, data, (size_t)n) : 0;
    t->sent += taken;
    if (t->sent == t->send_len && !t->fin_sent &&
        (t->kind == TUNNEL_FIN_FIRST || (t->kind == TUNNEL_FIN_LAST && t->eof))) {
        trace("request %u: FIN at the end of the tunnel", ex->id);
        t->fin_sent = true;
        peer_fin(v);
    }
    return taken > 0 && t->sent < t->send_len;
}

void tunnel_take(struct tunnel_end *t, const uint8_t *data, size_t len, struct exchange *ex)
{
    for (size_t i = 0; i < len; i++)
        REQUIRE(PROPERTY_TUNNEL, t->got + i < t->get_len && data[i] == pattern(t->get_key, t->got + i),
                "request %u: octet %llu of the tunnel is wrong", ex->id, (unsigned long long)(t->got + i));
    t->got += len;
}
