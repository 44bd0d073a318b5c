/* SPDX-License-Identifier: MIT
 *
 * Look-ups of host names in arbitrary octets: a name's length, the name, a blob. It starts with what tells the formats
 * apart, so that few inputs are refused at once; no checksum is asked for.
 */
#define MINIPROXY_WITH_HOST_BLOBS 1
#include "../../miniproxy.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char name[256];
    size_t len = size > 0 ? data[0] : 0;
    struct miniproxy_hosts hosts = {.names = NULL};
    if (size < len + 1) return 0;
    memcpy(name, data + 1, len);
    name[len] = '\0';
    hosts.blob = data + 1 + len;
    hosts.blob_len = (uint32_t)(size - 1 - len);
    (void)is_sound_blob(&hosts);
    (void)hosts_match(&hosts, name);
    return 0;
}
