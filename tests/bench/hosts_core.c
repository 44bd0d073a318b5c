/* SPDX-License-Identifier: MIT
 *
 * The core, with its look-up of host names for tests/bench/hosts.c.
 */
#include "miniproxy.c"

bool hosts_lookup(const struct miniproxy_hosts *hosts, const char *name);

bool hosts_lookup(const struct miniproxy_hosts *hosts, const char *name)
{
    return hosts_match(hosts, name);
}
