/* SPDX-License-Identifier: MIT
 *
 * Blobs of host names: what examples/desktop/hostset.c makes, the core finds, against a reading of the same names that
 * knows nothing of blobs.
 *
 *     test check RESULTS LIST...             the lists are files with one name a line
 *     test blob exact|hashed LIST OUT        write a blob of a list, every name with all below it
 */
#include "examples/desktop/policy.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { NAME_SIZE = 300, SMALL_SETS = 300, NON_MEMBERS = 300000 };
static const double most_octets[] = {[BLOB_EXACT] = 7.6, [BLOB_HASHED] = 3.6};
static const char *const format_names[] = {"exact", "hashed"};

static FILE *results;
static unsigned failures;

static void check(bool ok, const char *name, const char *what)
{
    fprintf(results, "%s\thosts\t%s%s\t-\n", ok ? "pass" : "fail", name, what);
    printf("%s  %s%s\n", ok ? "pass" : "fail", name, what);
    failures += !ok;
}

static uint32_t random_number(uint32_t below)
{
    static uint64_t state = 1;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % below;
}

static bool asked(const struct miniproxy_hosts *hosts, const char *name)
{
    const struct miniproxy_addr client = {.ip = {127, 0, 0, 1}, .family = 4};
    const struct miniproxy_rule rule = {.verdict = MINIPROXY_ALLOW, .special_purpose = 1, .hosts = hosts};
    const struct miniproxy_policy policy = {.rules = &rule, .rule_count = 1};
    const struct miniproxy_question question = {
        .client = &client, .host = name, .path = "/", .path_len = 1, .method = MINIPROXY_GET};
    return miniproxy_decide(&policy, &question, NULL) == MINIPROXY_ALLOWED;
}

static bool is_sound(const uint8_t *blob, uint32_t len)
{
    const struct miniproxy_hosts hosts = {.blob = blob, .blob_len = len};
    const struct miniproxy_rule rule = {.hosts = &hosts};
    const struct miniproxy_policy policy = {.rules = &rule, .rule_count = 1};
    return miniproxy_check_policy(&policy) == -1;
}

static uint8_t *build(enum blob_format format, char *const *names, size_t count, struct miniproxy_hosts *hosts)
{
    const char *problem;
    uint8_t *blob = hostset_build(format, (const char *const *)names, count, NULL, 0, &hosts->blob_len, &problem);
    if (blob == NULL) printf("no blob: %s\n", problem != NULL ? problem : "no memory");
    hosts->blob = blob;
    return blob;
}

/* ---- Lists ---- */

struct list {
    char **names; /* with a dot in front */
    size_t count;
    char **table; /* the same hashed, for the other reading */
    size_t slots;
};

static size_t slot_of(const struct list *l, const char *name)
{
    size_t hash = 5381;
    for (const char *p = name; *p != '\0'; p++) hash = hash * 33 + (unsigned char)*p;
    hash %= l->slots;
    while (l->table[hash] != NULL && strcmp(l->table[hash], name) != 0) hash = (hash + 1) % l->slots;
    return hash;
}

static bool read_list(struct list *l, const char *path)
{
    char line[NAME_SIZE];
    FILE *f = fopen(path, "r");
    if (f == NULL) return false;
    l->names = NULL;
    for (l->count = 0; fgets(line + 1, sizeof line - 1, f) != NULL; l->count++) {
        line[0] = '.';
        line[strcspn(line, "\r\n")] = '\0';
        if (l->count % 4096 == 0) l->names = realloc(l->names, (l->count + 4096) * sizeof *l->names);
        l->names[l->count] = strdup(line);
    }
    fclose(f);
    l->slots = 4 * l->count + 1;
    l->table = calloc(l->slots, sizeof *l->table);
    for (size_t i = 0; i < l->count; i++) l->table[slot_of(l, l->names[i] + 1)] = l->names[i] + 1;
    return l->count > 0;
}

static bool is_below(const struct list *l, const char *name)
{
    for (; name != NULL; name = strchr(name, '.')) {
        name += *name == '.';
        if (l->table[slot_of(l, name)] != NULL) return true;
    }
    return false;
}

/* Names that are not in a list and how many a blob matches all the same. */
struct misses {
    const struct list *list;
    const struct miniproxy_hosts *hosts;
    size_t asked, found;
};

static void miss(struct misses *m, const char *name)
{
    if (*name == '\0' || is_below(m->list, name)) return;
    m->asked++;
    if (asked(m->hosts, name) && m->found++ < 5) printf("not in the list: %s\n", name);
}

/* Names that look like one of the list. */
static void miss_neighbours(struct misses *m, const char *name)
{
    char other[NAME_SIZE];
    size_t len = strlen(name), at;
    for (const char *parent = strchr(name, '.'); parent != NULL; parent = strchr(parent + 1, '.')) miss(m, parent + 1);
    snprintf(other, sizeof other, "%c%s", (int)('a' + random_number(26)), name);
    miss(m, other);
    snprintf(other, sizeof other, "%s%c", name, (int)('a' + random_number(26)));
    miss(m, other);
    snprintf(other, sizeof other, "%s.com", name);
    miss(m, other);
    memcpy(other, name, len + 1);
    at = random_number((uint32_t)len);
    if (other[at] != '.') other[at] = (char)('a' + random_number(26));
    miss(m, other);
    memmove(other + at, other + at + 1, len - at);
    miss(m, other);
}

static size_t members_missed(const struct list *l, const struct miniproxy_hosts *hosts)
{
    size_t missed = 0;
    char name[NAME_SIZE];
    for (size_t i = 0; i < l->count; i++) {
        const char *member = l->names[i] + 1;
        bool found = asked(hosts, member);
        snprintf(name, sizeof name, "x.%s", member);
        found = found && asked(hosts, name);
        snprintf(name, sizeof name, "a-b.c9_.WWW.%s.", member);
        found = found && asked(hosts, name);
        for (char *p = name; *p != '\0'; p++)
            if (*p >= 'a' && *p <= 'z' && random_number(2) == 0) *p = (char)(*p - 'a' + 'A');
        found = found && asked(hosts, name);
        if (!found && missed++ < 5) printf("in the list: %s\n", member);
    }
    return missed;
}

static void check_list(const char *path, const struct list *lists, unsigned count, const struct list *l)
{
    for (enum blob_format format = BLOB_EXACT; format <= BLOB_HASHED; format++) {
        struct miniproxy_hosts hosts = {.names = NULL};
        uint8_t *blob = build(format, l->names, l->count, &hosts);
        struct misses m = {l, &hosts, 0, 0};
        char name[NAME_SIZE];
        snprintf(name, sizeof name, "%s of %s", format_names[format], strrchr(path, '/') != NULL ? strrchr(path, '/') + 1 : path);
        check(blob != NULL && is_sound(blob, hosts.blob_len), name, ": is built and sound");
        if (blob == NULL) continue;
        printf("%s: %zu names, %u octets, %.3f each\n", name, l->count, hosts.blob_len, hosts.blob_len / (double)l->count);
        check(l->count >= 50000 && hosts.blob_len <= most_octets[format] * (double)l->count, name,
              format == BLOB_EXACT ? ": at least 50,000 names in at most 7.6 octets each"
                                   : ": at least 50,000 names in at most 3.6 octets each");
        check(members_missed(l, &hosts) == 0, name, ": all members and what is below them");
        for (unsigned i = 0; i < count; i++)
            for (size_t j = 0; j < lists[i].count; j++) miss(&m, lists[i].names[j] + 1);
        for (size_t j = 0; j < l->count; j++) miss_neighbours(&m, l->names[j] + 1);
        printf("%s: %zu names that are not in it, %zu found\n", name, m.asked, m.found);
        check(m.asked >= NON_MEMBERS && m.found == 0, name, ": none of 300,000 other names");
        free(blob);
    }
}

/* ---- Small sets ---- */

/* A name of few letters, so that names meet; sometimes a long one. */
static void random_name(char *name)
{
    static const char letters[] = "aab-_9z";
    size_t labels = 1 + random_number(4), longest = random_number(20) == 0 ? 63 : 3, at = 0;
    for (size_t i = 0; i < labels; i++) {
        size_t len = 1 + random_number((uint32_t)longest);
        if (at + len + 1 > 253) break;
        if (i > 0) name[at++] = '.';
        while (len-- > 0) name[at++] = letters[random_number(sizeof letters - 1)];
    }
    name[at] = '\0';
}

static bool naively(char *const *names, size_t count, const char *name)
{
    size_t len = strlen(name), n;
    for (size_t i = 0; i < count; i++) {
        bool below = names[i][0] == '.';
        n = strlen(names[i] + below);
        if (n > len || strcasecmp(name + len - n, names[i] + below) != 0) continue;
        if (n == len || (below && name[len - n - 1] == '.')) return true;
    }
    return false;
}

/* Random names with and without all below them; against each other, and against what they are made of. */
static size_t small_set(enum blob_format format, size_t count)
{
    char **names = malloc((count + 1) * sizeof *names), name[NAME_SIZE];
    uint32_t alone = random_number(4);
    struct miniproxy_hosts hosts = {.names = NULL};
    uint8_t *blob;
    size_t wrong = 0;
    for (size_t i = 0; i < count; i++) {
        names[i] = malloc(NAME_SIZE);
        names[i][0] = '.';
        random_name(names[i] + 1);
        if (random_number(3) < alone) memmove(names[i], names[i] + 1, strlen(names[i]));
    }
    blob = build(format, names, count, &hosts);
    wrong += blob == NULL || !is_sound(blob, hosts.blob_len);
    for (size_t i = 0; blob != NULL && i < 400; i++) {
        random_name(name);
        if (i % 4 == 0 && count > 0) strcpy(name, names[i % count] + (names[i % count][0] == '.'));
        if (i % 8 == 0 && strlen(name) < 250) memmove(name + 2, name, strlen(name) + 1), memcpy(name, "a.", 2);
        if (asked(&hosts, name) != naively(names, count, name) && wrong++ < 3) printf("wrong: %s\n", name);
    }
    for (size_t i = 0; i < count; i++) free(names[i]);
    free(names);
    free(blob);
    return wrong;
}

static void check_small_sets(void)
{
    for (enum blob_format format = BLOB_EXACT; format <= BLOB_HASHED; format++) {
        size_t wrong = 0;
        for (size_t i = 0; i < SMALL_SETS; i++) wrong += small_set(format, i < 40 ? i : random_number(600));
        check(wrong == 0, format_names[format], ": random small sets, against a naive reading");
    }
}

static void check_builder(void)
{
    static const char *const names[] = {".example.com", "www.example.net", "x.example.com", ".example.org", "example.com"};
    static const char *const again[] = {"example.com", ".example.org", ".example.com", ".example.com", "www.example.net"};
    static const char *const bad[] = {"", ".", "a..b", "a.", "..a", "A.com", "a b", "caf\xc3\xa9.fr", "*.com"};
    char good[NAME_SIZE], label[NAME_SIZE];
    const char *problem, *goods[] = {good, "www.example.com"};
    uint32_t len, other_len;
    bool same = true, refused = true;
    for (enum blob_format format = BLOB_EXACT; format <= BLOB_HASHED; format++) {
        uint8_t *one = hostset_build(format, names, 5, NULL, 0, &len, &problem);
        uint8_t *other = hostset_build(format, again, 5, NULL, 0, &other_len, &problem);
        same = same && one != NULL && other != NULL && len == other_len && memcmp(one, other, len) == 0;
        free(one);
        free(other);
        memset(label, 'a', 64);
        label[64] = '\0';
        for (size_t i = 0; i <= sizeof bad / sizeof bad[0]; i++) {
            const char *name = i < sizeof bad / sizeof bad[0] ? bad[i] : label;
            one = hostset_build(format, &name, 1, NULL, 0, &len, &problem);
            refused = refused && one == NULL && problem != NULL;
            free(one);
        }
    }
    check(same, "builder", ": order, repetitions and covered names make no difference");
    check(refused, "builder", ": what is no host name is a problem");
    struct miniproxy_hosts hosts = {.blob = hostset_build(BLOB_HASHED, names, 5, NULL, 0, &len, &problem), .blob_len = len};
    bool found = false;
    for (unsigned i = 0; i < 40000000 && !found; i++) {
        snprintf(good, sizeof good, "host-%u", i);
        found = asked(&hosts, good);
    }
    free((void *)(uintptr_t)hosts.blob);
    hosts.blob = hostset_build(BLOB_HASHED, names, 5, goods, 2, &hosts.blob_len, &problem);
    check(found && hosts.blob != NULL && !asked(&hosts, good) && asked(&hosts, "www.example.com") &&
              asked(&hosts, "www.example.net"),
          "builder", ": a name that a hashed set matches by chance is not matched if it is said to be good");
    free((void *)(uintptr_t)hosts.blob);
}

/* ---- Damage ---- */

static uint32_t slow_crc32(const uint8_t *p, size_t len)
{
    uint32_t crc = UINT32_MAX;
    for (; len > 0; len--)
        for (int bit = (crc ^= *p++, 0); bit < 8; bit++) crc = (crc & 1) != 0 ? crc >> 1 ^ 0xEDB88320u : crc >> 1;
    return ~crc;
}

static void repair(uint8_t *blob, uint32_t len)
{
    uint32_t crc;
    for (int i = 0; i < 4 && len >= 12; i++) blob[8 + i] = (uint8_t)(len >> 8 * i);
    crc = len >= 8 ? slow_crc32(blob + 8, len - 8) : 0;
    for (int i = 0; i < 4 && len >= 8; i++) blob[4 + i] = (uint8_t)(crc >> 8 * i);
}

/* Look-ups that the sanitizers watch: the blob stands in memory of its very size. */
static void ask_damaged(const uint8_t *blob, uint32_t len)
{
    uint8_t *copy = malloc(len > 0 ? len : 1);
    const struct miniproxy_hosts hosts = {.blob = copy, .blob_len = len};
    char name[NAME_SIZE];
    if (len > 0) memcpy(copy, blob, len);
    for (int i = 0; i < 8; i++) {
        random_name(name);
        asked(&hosts, name);
    }
    asked(&hosts, "");
    asked(&hosts, ".");
    free(copy);
}

static void check_damage(enum blob_format format)
{
    char *names[40];
    struct miniproxy_hosts hosts = {.names = NULL};
    size_t accepted = 0, unrepaired = 0;
    uint8_t *blob;
    for (int i = 0; i < 40; i++) random_name(names[i] = malloc(NAME_SIZE));
    blob = build(format, names, 40, &hosts);
    uint8_t *damaged = malloc(hosts.blob_len);
    for (uint32_t len = 0; len < hosts.blob_len; len++) {
        memcpy(damaged, blob, hosts.blob_len);
        accepted += is_sound(damaged, len);
        repair(damaged, len);
        ask_damaged(damaged, len);
        for (unsigned bit = 0; bit < 8; bit++) {
            memcpy(damaged, blob, hosts.blob_len);
            damaged[len] ^= (uint8_t)(1u << bit);
            accepted += is_sound(damaged, hosts.blob_len);
            ask_damaged(damaged, hosts.blob_len);
            repair(damaged, hosts.blob_len);
            unrepaired += len > 16 && !is_sound(damaged, hosts.blob_len);
        }
    }
    for (unsigned i = 0; i < 20000; i++) { /* several octets, but for magic and format */
        memcpy(damaged, blob, hosts.blob_len);
        for (uint32_t n = 1 + random_number(i % 2 == 0 ? 8 : 300); n > 0; n--)
            damaged[17 + random_number(hosts.blob_len - 17)] = (uint8_t)random_number(256);
        ask_damaged(damaged, hosts.blob_len);
    }
    check(accepted == 0, format_names[format], ": every damaged octet and every truncation is refused");
    check(unrepaired == 0, format_names[format], ": hostile octets with the right sum are not read beyond");
    for (int i = 0; i < 40; i++) free(names[i]);
    free(damaged);
    free(blob);
}

static int write_blob(const char *kind, const char *path, const char *out)
{
    struct list list;
    struct miniproxy_hosts hosts = {.names = NULL};
    FILE *f;
    bool written;
    if (!read_list(&list, path)) return 2;
    if (build(strcmp(kind, "exact") == 0 ? BLOB_EXACT : BLOB_HASHED, list.names, list.count, &hosts) == NULL) return 2;
    f = fopen(out, "wb");
    if (f == NULL) return 2;
    written = fwrite(hosts.blob, 1, hosts.blob_len, f) == hosts.blob_len;
    return fclose(f) == 0 && written ? 0 : 2;
}

int main(int argc, char **argv)
{
    static struct list lists[8];
    const char *paths[8];
    unsigned count = 0;
    if (argc == 5 && strcmp(argv[1], "blob") == 0) return write_blob(argv[2], argv[3], argv[4]);
    if (argc < 3 || argc > 11 || (results = fopen(argv[2], "w")) == NULL) return 2;
    setvbuf(results, NULL, _IOLBF, 0);
    check_builder();
    check_small_sets();
    check_damage(BLOB_EXACT);
    check_damage(BLOB_HASHED);
    for (int i = 3; i < argc; i++) {
        paths[count] = argv[i];
        count += read_list(lists + count, argv[i]);
    }
    if (count == 0) fprintf(results, "%s\thosts\ta public list is there\t-\n", getenv("CI") != NULL ? "fail" : "skip");
    for (unsigned i = 0; i < count; i++) check_list(paths[i], lists, count, lists + i);
    return failures > 0;
}
