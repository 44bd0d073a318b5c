/* SPDX-License-Identifier: MIT
 *
 * A set of host names in a flash partition: larger than the blob in it, replaced while the proxy runs, damaged.
 */
#include "examples/desktop/policy.h"
#include "unit.h"
#include "wire.h"

enum { ROOM = 8192, NAMES = 300 };

/* On the heap, so that the sanitizer sees a read behind it. */
struct partition {
    uint8_t *flash;
    struct miniproxy_hosts hosts;
    struct miniproxy_rule rules[2];
    struct miniproxy_policy policy;
};

static void make_partition(struct partition *p)
{
    memset(p, 0, sizeof *p);
    p->flash = malloc(ROOM);
    assert_non_null(p->flash);
    memset(p->flash, 0xff, ROOM); /* erased */
    p->hosts = (struct miniproxy_hosts){.blob = p->flash, .blob_len = ROOM};
    p->rules[0].hosts = &p->hosts; /* DENY */
    p->rules[1].verdict = MINIPROXY_ALLOW;
    p->policy = (struct miniproxy_policy){.rules = p->rules, .rule_count = 2};
}

/* What an update over the air does. The names are n0.WORD.example, n1.WORD.example, … and all below. Returns the
 * length.
 */
static uint32_t write_names(struct partition *p, enum blob_format format, const char *word)
{
    static char texts[NAMES][64];
    const char *names[NAMES], *problem = NULL;
    uint32_t len = 0;
    uint8_t *blob;
    for (unsigned i = 0; i < NAMES; i++) {
        snprintf(texts[i], sizeof texts[i], ".n%u.%s.example", i, word);
        names[i] = texts[i];
    }
    blob = hostset_build(format, names, NAMES, NULL, 0, &len, &problem);
    assert_non_null(blob);
    assert_true(len < ROOM);
    memset(p->flash, 0xff, ROOM);
    memcpy(p->flash, blob, len);
    free(blob);
    return len;
}

static bool is_blocked(const struct partition *p, const char *host)
{
    const struct miniproxy_addr client = {.ip = {10, 1, 2, 3}, .family = 4}, to = {.ip = {8, 8, 8, 8}, .family = 4};
    const struct miniproxy_question q = {.client = &client,
                                         .host = host,
                                         .path = "/",
                                         .path_len = 1,
                                         .address = &to,
                                         .port = 80,
                                         .method = MINIPROXY_GET};
    return miniproxy_decide(&p->policy, &q, NULL) == MINIPROXY_DENIED;
}

/* All members, what is below and above them, and names near them. */
static void check_names(const struct partition *p, const char *word)
{
    char host[80];
    for (unsigned i = 0; i < 2 * NAMES; i++) {
        snprintf(host, sizeof host, "n%u.%s.example", i, word);
        assert_int_equal(is_blocked(p, host), i < NAMES);
        snprintf(host, sizeof host, "a.n%u.%s.example", i, word);
        assert_int_equal(is_blocked(p, host), i < NAMES);
        snprintf(host, sizeof host, "zz%u.%s.example", i, word);
        assert_false(is_blocked(p, host));
        snprintf(host, sizeof host, "n%u.%s.examplf", i, word);
        assert_false(is_blocked(p, host));
    }
    assert_false(is_blocked(p, "example"));
    assert_false(is_blocked(p, "zzzz"));
    assert_false(is_blocked(p, "0"));
}

static void what_is_behind_a_blob_does_not_matter(const void *data)
{
    static const uint8_t behind[] = {0xff, 0x00, 0x80, 0x1f, 'm'};
    static const enum blob_format formats[] = {BLOB_EXACT, BLOB_HASHED};
    struct partition p;
    (void)data;
    make_partition(&p);
    for (unsigned f = 0; f < 2; f++) {
        uint32_t len = write_names(&p, formats[f], "one");
        for (unsigned i = 0; i < sizeof behind; i++) {
            memset(p.flash + len, behind[i], ROOM - len);
            assert_int_equal(miniproxy_check_policy(&p.policy), -1);
            check_names(&p, "one");
            p.hosts.blob_len = len; /* exactly as large */
            assert_int_equal(miniproxy_check_policy(&p.policy), -1);
            check_names(&p, "one");
            p.hosts.blob_len = len - 1; /* too small */
            assert_int_equal(miniproxy_check_policy(&p.policy), 0);
            p.hosts.blob_len = ROOM;
        }
    }
    free(p.flash);
}

static void a_damaged_blob_is_refused(const void *data)
{
    struct partition p;
    uint32_t len;
    (void)data;
    make_partition(&p);
    assert_int_equal(miniproxy_check_policy(&p.policy), 0); /* erased */
    len = write_names(&p, BLOB_EXACT, "one");
    assert_int_equal(miniproxy_check_policy(&p.policy), -1);
    for (uint32_t at = 0; at < len; at++) {
        uint8_t bit = (uint8_t)(1u << unit_random(8));
        p.flash[at] ^= bit;
        if (miniproxy_check_policy(&p.policy) != 0) fail_msg("octet %u is damaged and taken", (unsigned)at);
        is_blocked(&p, "a.n17.one.example"); /* stays within the partition, as who did not ask would find out */
        p.flash[at] ^= bit;
    }
    assert_int_equal(miniproxy_check_policy(&p.policy), -1);
    for (uint32_t cut = 0; cut < len; cut += 97) { /* an update that was cut short */
        struct partition other;
        make_partition(&other);
        memcpy(other.flash, p.flash, cut);
        assert_int_equal(miniproxy_check_policy(&other.policy), 0);
        is_blocked(&other, "a.n17.one.example");
        free(other.flash);
    }
    free(p.flash);
}

static unsigned status_of(const char *host)
{
    char text[200];
    snprintf(text, sizeof text, "GET http://%s/ HTTP/1.1\r\nHost: %s\r\n\r\n", host, host);
    wire.answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    say(text);
    return wire.event.status;
}

/* Two partitions with a policy each, as miniproxy.h advises. */
static void an_update_is_taken_or_the_old_policy_stays(const void *data)
{
    struct partition a, b;
    (void)data;
    make_partition(&a);
    make_partition(&b);
    write_names(&a, BLOB_EXACT, "one");
    wire_start((struct miniproxy_config){.name = "p"});
    assert_true(miniproxy_set_policy(&wire.proxy, &a.policy));
    assert_int_equal(status_of("n5.one.example"), 403);
    assert_int_equal(status_of("n5.two.example"), 200);

    write_names(&b, BLOB_HASHED, "two");
    b.flash[100] ^= 4;
    assert_false(miniproxy_set_policy(&wire.proxy, &b.policy));
    assert_false(miniproxy_policy_in_use(&wire.proxy, &b.policy));
    assert_int_equal(status_of("n5.one.example"), 403);
    assert_int_equal(status_of("n5.two.example"), 200);

    b.flash[100] ^= 4;
    assert_true(miniproxy_set_policy(&wire.proxy, &b.policy));
    assert_int_equal(status_of("n5.two.example"), 403);
    assert_int_equal(status_of("n5.one.example"), 200);
    assert_false(miniproxy_policy_in_use(&wire.proxy, &a.policy));

    write_names(&a, BLOB_EXACT, "three"); /* the other one again */
    assert_true(miniproxy_set_policy(&wire.proxy, &a.policy));
    assert_int_equal(status_of("n5.three.example"), 403);
    assert_int_equal(status_of("n5.two.example"), 200);
    free(a.flash);
    free(b.flash);
}

int main(void)
{
    static struct unit_test tests[] = {
        {.name = "a partition may be larger than the blob in it", .run = what_is_behind_a_blob_does_not_matter},
        {.name = "a blob with any octet damaged is refused", .run = a_damaged_blob_is_refused},
        {.name = "a new blob is taken while the proxy runs, a damaged one is not",
         .run = an_update_is_taken_or_the_old_policy_stays},
    };
    return unit_run("partition", tests, sizeof tests / sizeof tests[0]);
}
