/* SPDX-License-Identifier: MIT
 *
 * Makes blobs of host names. miniproxy.c says what they look like, "blobs of host names"; this file is about how to get
 * there: the words of an exact blob and the slots of a hashed one.
 */
#include "policy.h"

#include <stdlib.h>
#include <string.h>

enum {
    HEADER = 28,
    SWAP = 3,
    BELOW = 0x1f,
    END = 0x20,
    DOT = '.' ^ SWAP,
    NAME_MAX_OCTETS = 253,
    LABEL_MAX_OCTETS = 63,
    BLOCK_NAMES = 16,
    CLASSES_MAX = 6,
    WORD_MAX = 8,
    WORDS_MAX = 256,
    WORD_SLOTS = 1024,       /* of a hash table with WORDS_MAX words */
    SAMPLE_OCTETS = 250000,  /* the words are learnt from so many */
    ROUNDS = 6,              /* of learning */
    SEEDS_MAX = 500
};

/* A name as text, and how much of it the one before it begins with, too. */
struct text {
    const uint8_t *octets;
    uint16_t len, common;
};

struct texts {
    struct text *list;
    size_t count;
    uint8_t *octets;
};

struct blob {
    uint8_t *data;
    size_t len, size;
    bool no_memory;
};

static void put(struct blob *b, uint64_t number, unsigned octets)
{
    if (b->no_memory) return;
    if (b->size - b->len < octets) {
        size_t size = b->size * 2 + 4096;
        uint8_t *data = realloc(b->data, size);
        if (data == NULL) {
            b->no_memory = true;
            return;
        }
        b->data = data;
        b->size = size;
    }
    for (; octets > 0; octets--, number >>= 8) b->data[b->len++] = (uint8_t)number;
}

static void set(struct blob *b, size_t at, uint64_t number, unsigned octets)
{
    for (; !b->no_memory && octets > 0; octets--, number >>= 8) b->data[at++] = (uint8_t)number;
}

static uint32_t crc32(const uint8_t *p, size_t len)
{
    uint32_t crc = UINT32_MAX;
    for (; len > 0; len--) {
        crc ^= *p++;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

static void begin(struct blob *b, enum blob_format format, size_t count)
{
    put(b, 0x3168706d, 4); /* "mph1" */
    put(b, 0, 8);
    put(b, count, 4);
    put(b, format == BLOB_EXACT ? 1 : 2, 1);
    put(b, 0, HEADER - 17);
}

static void finish(struct blob *b)
{
    set(b, 8, b->len, 4);
    if (!b->no_memory) set(b, 4, crc32(b->data + 8, b->len - 8), 4);
}

/* ---- Names, sorted ---- */

static const char *what_is_wrong(const char *name)
{
    size_t len = strlen(name), label = 0;
    if (len == 0 || len > NAME_MAX_OCTETS) return "a host name must have 1 to 253 octets";
    for (const char *p = name; *p != '\0'; p++) {
        bool known = (*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9') || *p == '-' || *p == '_';
        if (*p != '.' && !known) return "a host name must consist of a-z, 0-9, '-', '_' and '.'";
        if (*p == '.' && label == 0) return "a host name must not have an empty label";
        label = *p == '.' ? 0 : label + 1;
        if (label > LABEL_MAX_OCTETS) return "a label of a host name must have at most 63 octets";
    }
    return label == 0 ? "a host name must not end with a dot" : NULL;
}

static int compare_texts(const void *a, const void *b)
{
    const struct text *x = a, *y = b;
    int order = memcmp(x->octets, y->octets, x->len < y->len ? x->len : y->len);
    return order != 0 ? order : (x->len > y->len) - (x->len < y->len);
}

static uint16_t common(const struct text *a, const struct text *b)
{
    uint16_t n = 0;
    while (n < a->len && n < b->len && a->octets[n] == b->octets[n]) n++;
    return n;
}

/* Does one text say all that a greater one says? */
static bool covers(const struct text *one, const struct text *other)
{
    uint16_t same = common(one, other);
    if (same == one->len && same == other->len) return true;
    return same + 1 == one->len && one->octets[same] == BELOW && (other->octets[same] == DOT || other->octets[same] == END);
}

static void drop_covered(struct texts *t)
{
    size_t kept = 0;
    for (size_t i = 0; i < t->count; i++) {
        if (kept > 0 && covers(t->list + kept - 1, t->list + i)) continue;
        t->list[kept++] = t->list[i];
    }
    t->count = kept;
}

/* What most texts end with is left out. Returns what it is. */
static uint8_t drop_ends(struct texts *t)
{
    uint8_t end;
    size_t alone = 0;
    for (size_t i = 0; i < t->count; i++) alone += t->list[i].octets[t->list[i].len - 1] == END;
    end = alone > t->count / 2 ? END : BELOW;
    for (size_t i = 0; i < t->count; i++) {
        if (t->list[i].octets[t->list[i].len - 1] == end) t->list[i].len--;
        t->list[i].common = i > 0 ? common(t->list + i - 1, t->list + i) : 0;
    }
    return end;
}

static void free_texts(struct texts *t)
{
    free(t->list);
    free(t->octets);
}

/* Sorted, each once, without those that others cover. False: no memory, or a problem. */
static bool make_texts(struct texts *t, const char *const *names, size_t count, const char **problem)
{
    size_t octets = 0;
    uint8_t *p;
    for (size_t i = 0; i < count; i++) {
        *problem = what_is_wrong(names[i] + (names[i][0] == '.'));
        if (*problem != NULL) return false;
        octets += strlen(names[i]) + 1; /* what it ends with in place of a dot or NUL */
    }
    t->octets = p = malloc(octets + 1);
    t->list = malloc((count + 1) * sizeof *t->list);
    t->count = count;
    if (t->octets == NULL || t->list == NULL) return false;
    for (size_t i = 0; i < count; i++) {
        const char *name = names[i] + (names[i][0] == '.');
        t->list[i].octets = p;
        for (size_t n = strlen(name); n > 0; n--) *p++ = (uint8_t)((name[n - 1] | 0x20) ^ SWAP);
        *p++ = name == names[i] ? END : BELOW;
        t->list[i].len = (uint16_t)(p - t->list[i].octets);
    }
    qsort(t->list, count, sizeof *t->list, compare_texts);
    drop_covered(t);
    return true;
}

/* ---- Words of an exact blob ----
 *
 * Learnt from a sample, as FSST does (Boncz, Neumann and Leis 2020): cut the texts into as few words as possible, count
 * the words and the pairs of neighbours, keep what shortens the texts most, and again.
 */

/* Up to WORD_MAX octets of 7 bits, and the dictionary from bit 56 on. */
typedef uint64_t word_key;

struct count {
    word_key key;
    uint32_t times;
};

struct words {
    uint8_t class_of[128];                        /* the dictionary used behind an octet */
    unsigned classes;
    word_key found[CLASSES_MAX][WORD_SLOTS];      /* hash table */
    uint8_t code[CLASSES_MAX][WORD_SLOTS];
    word_key list[CLASSES_MAX][WORDS_MAX];        /* those of code 0, 1, … */
    unsigned in_class[CLASSES_MAX];
    bool single[CLASSES_MAX][128];                /* octets that occur; they are words always */
    double blob_octets;                           /* of the names and the dictionaries, estimated */
};

static size_t slot_of(word_key key, size_t slots)
{
    return (size_t)((key * 0x9E3779B97F4A7C15u) >> 32) & (slots - 1);
}

static unsigned word_len(word_key key)
{
    unsigned len = 0;
    for (key &= (UINT64_C(1) << 56) - 1; key != 0; key >>= 7) len++;
    return len;
}

static size_t find_word(const struct words *w, unsigned class, word_key key)
{
    size_t at = slot_of(key, WORD_SLOTS);
    while (w->found[class][at] != 0 && w->found[class][at] != key) at = (at + 1) % WORD_SLOTS;
    return at;
}

static void add_word(struct words *w, unsigned class, word_key key)
{
    size_t at = find_word(w, class, key);
    w->found[class][at] = key;
    w->code[class][at] = (uint8_t)w->in_class[class];
    w->list[class][w->in_class[class]++] = key;
}

static unsigned class_before(const struct words *w, const struct text *t, size_t at)
{
    return w->class_of[at > 0 ? t->octets[at - 1] : DOT];
}

/* Cuts a text from octet `from` on into as few words as possible. Returns how many; they begin at cut[0], cut[1], …,
 * and cut[count] is the end. */
static unsigned cut_text(const struct words *w, const struct text *t, size_t from, uint16_t *cut)
{
    uint16_t fewest[NAME_MAX_OCTETS + 2], begin_of[NAME_MAX_OCTETS + 2];
    unsigned count;
    memset(fewest, 0xff, sizeof fewest);
    fewest[from] = 0;
    for (size_t at = from; at < t->len; at++) {
        unsigned class = class_before(w, t, at);
        word_key key = 0;
        for (size_t end = at + 1; end <= t->len && end - at <= WORD_MAX; end++) {
            key = key << 7 | t->octets[end - 1];
            if (end - at > 1 && w->found[class][find_word(w, class, key)] == 0) continue;
            if (fewest[at] + 1 >= fewest[end]) continue;
            fewest[end] = (uint16_t)(fewest[at] + 1);
            begin_of[end] = (uint16_t)at;
        }
    }
    count = fewest[t->len];
    cut[count] = t->len;
    for (unsigned i = count; i > 0; i--) cut[i - 1] = begin_of[cut[i]];
    return count;
}

static word_key key_of(const struct text *t, size_t begin_at, size_t end)
{
    word_key key = 0;
    for (; begin_at < end; begin_at++) key = key << 7 | t->octets[begin_at];
    return key;
}

static void count_key(struct count *counts, size_t slots, word_key key)
{
    size_t at = slot_of(key, slots);
    while (counts[at].key != 0 && counts[at].key != key) at = (at + 1) % slots;
    counts[at].key = key;
    counts[at].times++;
}

/* By dictionary, then by what a word saves. */
static int compare_counts(const void *a, const void *b)
{
    const struct count *x = a, *y = b;
    uint64_t x_saves = (uint64_t)x->times * word_len(x->key), y_saves = (uint64_t)y->times * word_len(y->key);
    if (x->key >> 56 != y->key >> 56) return x->key >> 56 < y->key >> 56 ? -1 : 1;
    if (x_saves != y_saves) return x_saves > y_saves ? -1 : 1;
    return x->key < y->key ? -1 : 1;
}

/* New dictionaries of the words and pairs that were counted in one of `step` texts. */
static void choose_words(struct words *w, struct count *counts, size_t slots, size_t step)
{
    const word_key text_bits = (UINT64_C(1) << 56) - 1;
    size_t n = 0;
    for (size_t i = 0; i < slots; i++)
        if (counts[i].key != 0) counts[n++] = counts[i];
    qsort(counts, n, sizeof *counts, compare_counts);
    memset(w->found, 0, sizeof w->found);
    memset(w->in_class, 0, sizeof w->in_class);
    for (unsigned class = 0; class < w->classes; class++)
        for (word_key octet = 0; octet < 128; octet++)
            if (w->single[class][octet]) add_word(w, class, octet);
    for (size_t i = 0; i < n; i++) {
        unsigned class = (unsigned)(counts[i].key >> 56), len = word_len(counts[i].key);
        bool pays = (uint64_t)counts[i].times * step * (len - 1) > len + 2 * w->classes;
        if (len > 1 && pays && w->in_class[class] < WORDS_MAX) add_word(w, class, counts[i].key & text_bits);
    }
}

/* One round of learning. False: no memory. */
static bool learn(struct words *w, const struct texts *t, size_t step)
{
    uint16_t cut[NAME_MAX_OCTETS + 2];
    size_t octets = 0, slots = 64;
    struct count *counts;
    for (size_t i = 0; i < t->count; i += step) octets += (size_t)(t->list[i].len - t->list[i].common);
    while (slots < 4 * octets) slots *= 2; /* at most a word and a pair an octet */
    counts = calloc(slots, sizeof *counts);
    if (counts == NULL) return false;
    for (size_t i = 0; i < t->count; i += step) {
        const struct text *text = t->list + i;
        unsigned n = cut_text(w, text, text->common, cut);
        for (unsigned j = 0; j < n; j++) {
            word_key class = (word_key)class_before(w, text, cut[j]) << 56;
            count_key(counts, slots, class | key_of(text, cut[j], cut[j + 1]));
            if (j + 1 < n && cut[j + 2] - cut[j] <= WORD_MAX)
                count_key(counts, slots, class | key_of(text, cut[j], cut[j + 2]));
        }
    }
    choose_words(w, counts, slots, step);
    free(counts);
    return true;
}

static unsigned most_words(const struct words *w)
{
    unsigned most = 1;
    for (unsigned class = 0; class < w->classes; class++)
        if (w->in_class[class] > most) most = w->in_class[class];
    return most;
}

/* Dictionaries for the classes of octets; the last holds all that no other names. */
static bool learn_words(struct words *w, const struct texts *t, const char *const *classes, unsigned class_count)
{
    size_t octets = 0, step, cut_into = 0;
    uint16_t cut[NAME_MAX_OCTETS + 2];
    memset(w, 0, sizeof *w);
    w->classes = class_count;
    memset(w->class_of, (int)class_count - 1, sizeof w->class_of);
    for (unsigned class = 0; class + 1 < class_count; class++)
        for (const char *p = classes[class]; *p != '\0'; p++) w->class_of[(*p | 0x20) ^ SWAP] = (uint8_t)class;
    for (size_t i = 0; i < t->count; i++) {
        const struct text *text = t->list + i;
        /* not from text->common on alone: the beginning of a block's first name is written otherwise, but its end too */
        for (size_t at = 0; at < text->len; at++) w->single[class_before(w, text, at)][text->octets[at]] = true;
        octets += (size_t)(text->len - text->common);
    }
    step = octets / SAMPLE_OCTETS + 1;
    for (int round = 0; round < ROUNDS; round++)
        if (!learn(w, t, step)) return false;
    for (size_t i = 0; i < t->count; i += step) cut_into += cut_text(w, t->list + i, t->list[i].common, cut);
    w->blob_octets = (double)(cut_into * step) + (double)(class_count * most_words(w) * 4);
    return true;
}

/* ---- Exact ---- */

static void put_dictionaries(struct blob *b, const struct words *w)
{
    unsigned most = most_words(w);
    size_t words, texts;
    set(b, 17, most - 1, 1);
    for (unsigned octet = 0; octet < 128; octet++) put(b, w->class_of[octet], 1);
    words = b->len;
    for (unsigned i = 0; i < w->classes * most; i++) put(b, 0, 2);
    texts = b->len;
    set(b, 24, texts, 3);
    for (unsigned len = WORD_MAX; len > 0; len--) { /* what a longer word ends with is there already */
        for (unsigned at = 0; at < w->classes * most && !b->no_memory; at++) {
            unsigned class = at / most, code = at % most;
            word_key key = code < w->in_class[class] ? w->list[class][code] : 0;
            uint8_t octets[WORD_MAX];
            size_t place = texts;
            if (word_len(key) != len) continue;
            for (unsigned i = len; i > 0; i--, key >>= 7) octets[i - 1] = (uint8_t)(key & 0x7f);
            octets[len - 1] |= 0x80;
            while (place + len <= b->len && memcmp(b->data + place, octets, len) != 0) place++;
            if (place + len > b->len) {
                place = b->len;
                for (unsigned i = 0; i < len; i++) put(b, octets[i], 1);
            }
            set(b, words + 2 * at, place - texts, 2);
        }
    }
}

static void put_name(struct blob *b, const struct words *w, const struct text *t, unsigned known, unsigned base)
{
    uint16_t cut[NAME_MAX_OCTETS + 2];
    unsigned count = cut_text(w, t, known, cut), more = known - base;
    unsigned follow = count + (more >= 15);
    put(b, (more < 15 ? more : 15) << 4 | (follow < 15 ? follow : 15), 1);
    if (follow >= 15) put(b, follow, 1);
    if (more >= 15) put(b, more - 15, 1);
    for (unsigned i = 0; i < count; i++) {
        unsigned class = class_before(w, t, cut[i]);
        put(b, w->code[class][find_word(w, class, key_of(t, cut[i], cut[i + 1]))], 1);
    }
}

static void put_block(struct blob *b, const struct words *w, const struct text *t, size_t count)
{
    unsigned own = t->common + 1u, base = own;
    for (size_t i = 1; i < count; i++)
        if (t[i].common < base) base = t[i].common;
    put(b, own, 1);
    for (unsigned i = 0; i < own; i++) put(b, t->octets[i], 1);
    put(b, base, 1);
    for (size_t i = 0; i < count; i++) put_name(b, w, t + i, i > 0 ? t[i].common : own, base);
}

static bool put_blocks(struct blob *b, const struct words *w, const struct texts *t, const char **problem)
{
    size_t blocks = (t->count + BLOCK_NAMES - 1) / BLOCK_NAMES, index;
    put_dictionaries(b, w);
    index = b->len;
    set(b, 18, blocks, 2);
    set(b, 20, index, 4);
    for (size_t i = 0; i < blocks; i++) put(b, 0, 3);
    for (size_t i = 0; i < blocks && !b->no_memory; i++) {
        size_t left = t->count - i * BLOCK_NAMES;
        set(b, index + 3 * i, b->len - index, 3);
        put_block(b, w, t->list + i * BLOCK_NAMES, left < BLOCK_NAMES ? left : BLOCK_NAMES);
    }
    put(b, 0x80, 1);
    if (blocks > UINT16_MAX || b->len - index > 0xffffff) *problem = "too many host names for one exact set: use hashed";
    return *problem == NULL;
}

static bool build_exact(struct blob *b, struct texts *t, const char **problem)
{
    /* letters that what comes next depends on in similar ways, in names read from their end */
    static const char *const classes[CLASSES_MAX] = {".", "r", "0123456789", "cn", "-aeiouy", ""};
    struct words *words = malloc(2 * sizeof *words);
    bool built = false;
    uint8_t end = drop_ends(t);
    /* few names do not pay for several dictionaries */
    if (words != NULL && learn_words(words, t, classes + CLASSES_MAX - 1, 1) &&
        learn_words(words + 1, t, classes, CLASSES_MAX)) {
        begin(b, BLOB_EXACT, t->count);
        set(b, 27, end == END, 1);
        built = put_blocks(b, words + (words[1].blob_octets < words[0].blob_octets), t, problem);
    }
    free(words);
    return built;
}

/* ---- Hashed ---- */

/* A filter under construction: every hash has four slots; taken from the end, each hash has one that no later one
 * uses. */
struct filter {
    unsigned log2_segment;
    uint32_t range, slots;
    uint64_t *hashes;
    uint32_t *degree, *indexes; /* of a slot: hashes that are left, the XOR of their indexes */
    uint32_t *order, *alone;    /* hashes in the order they were taken, and the slot that each had for itself */
    uint32_t *values;
};

static uint64_t hash_text(const struct text *t, uint32_t seed)
{
    uint64_t hash = seed;
    size_t len = t->octets[t->len - 1] == BELOW ? t->len - 1u : t->len;
    for (size_t i = 0; i < len; i++) hash = (hash ^ t->octets[i]) * 0x9E3779B97F4A7C15u;
    return hash;
}

/* The slots of a hash; returns its fingerprint. */
static uint32_t spread(const struct filter *f, uint64_t hash, uint32_t slot[4])
{
    uint32_t segment = (uint32_t)1 << f->log2_segment, low, first;
    hash = (hash ^ hash >> 32) * 0xD6E8FEB86659FD93u;
    hash ^= hash >> 32;
    low = (uint32_t)hash;
    first = (uint32_t)((hash >> 32) * f->range >> 32);
    for (unsigned i = 0; i < 4; i++) slot[i] = (first + i * segment) ^ (low >> 7 * i & (segment - 1));
    return (uint32_t)(hash * 0xD6E8FEB86659FD93u >> 40);
}

static bool alloc_filter(struct filter *f, size_t count)
{
    f->hashes = malloc((count + 1) * sizeof *f->hashes);
    f->degree = calloc(f->slots, sizeof *f->degree);
    f->indexes = calloc(f->slots, sizeof *f->indexes);
    f->values = calloc(f->slots, sizeof *f->values);
    f->order = malloc((f->slots + count) * sizeof *f->order); /* it is the list of slots to be looked at, too */
    f->alone = malloc((count + 1) * sizeof *f->alone);
    return f->hashes != NULL && f->degree != NULL && f->indexes != NULL && f->values != NULL && f->order != NULL &&
           f->alone != NULL;
}

static void free_filter(struct filter *f)
{
    free(f->hashes);
    free(f->degree);
    free(f->indexes);
    free(f->values);
    free(f->order);
    free(f->alone);
}

/* Take hashes away that have a slot for themselves until none is left. False: some are. */
static bool take_all(struct filter *f, size_t count)
{
    uint32_t *queue = f->order + count, queued = 0, slot[4];
    size_t taken = 0;
    for (uint32_t i = 0; i < count; i++) {
        spread(f, f->hashes[i], slot);
        for (int j = 0; j < 4; j++) f->degree[slot[j]]++, f->indexes[slot[j]] ^= i;
    }
    for (uint32_t i = 0; i < f->slots; i++)
        if (f->degree[i] == 1) queue[queued++] = i;
    while (queued > 0) {
        uint32_t at = queue[--queued], index = f->indexes[at];
        if (f->degree[at] != 1) continue;
        f->order[taken] = index;
        f->alone[taken++] = at;
        spread(f, f->hashes[index], slot);
        for (int j = 0; j < 4; j++) {
            f->indexes[slot[j]] ^= index;
            if (--f->degree[slot[j]] == 1) queue[queued++] = slot[j];
        }
    }
    return taken == count;
}

static void fill(struct filter *f, size_t count)
{
    uint32_t slot[4];
    while (count-- > 0) {
        uint32_t value = spread(f, f->hashes[f->order[count]], slot);
        for (int j = 0; j < 4; j++) value ^= f->values[slot[j]]; /* the one for itself is 0 still */
        f->values[f->alone[count]] = value;
    }
}

/* False: no memory. *solved: every text has its fingerprint. */
static bool try_seed(struct blob *b, struct filter *f, const struct texts *t, uint32_t seed, bool *solved)
{
    bool allocated = alloc_filter(f, t->count);
    *solved = false;
    if (allocated) {
        for (size_t i = 0; i < t->count; i++) f->hashes[i] = hash_text(t->list + i, seed);
        *solved = take_all(f, t->count);
    }
    if (*solved) {
        fill(f, t->count);
        b->len = 0;
        begin(b, BLOB_HASHED, t->count);
        set(b, 17, f->log2_segment, 1);
        set(b, 20, seed, 4);
        set(b, 24, f->range, 4);
        for (uint32_t i = 0; i < f->slots; i++) put(b, f->values[i], 3);
        put(b, 0, 1); /* one octet that means nothing */
        finish(b);
    }
    free_filter(f);
    return allocated;
}

/* Does the set match the name? The core says it. */
static bool is_matched(const struct miniproxy_hosts *hosts, const char *name)
{
    const struct miniproxy_addr client = {.ip = {127, 0, 0, 1}, .family = 4};
    const struct miniproxy_rule rule = {.verdict = MINIPROXY_ALLOW, .special_purpose = 1, .hosts = hosts};
    const struct miniproxy_policy policy = {.rules = &rule, .rule_count = 1};
    const struct miniproxy_question question = {
        .client = &client, .host = name, .path = "/", .path_len = 1, .method = MINIPROXY_GET};
    return miniproxy_decide(&policy, &question, NULL) == MINIPROXY_ALLOWED;
}

/* Is the name one that the texts cover? */
static bool is_covered(const struct texts *t, const char *name)
{
    uint8_t octets[NAME_MAX_OCTETS + 1];
    struct text text = {octets, 0, 0};
    size_t low = 0, high = t->count;
    for (size_t n = strlen(name); n > 0; n--) octets[text.len++] = (uint8_t)((name[n - 1] | 0x20) ^ SWAP);
    octets[text.len++] = END;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (compare_texts(t->list + middle, &text) <= 0) low = middle + 1;
        else high = middle;
    }
    return low > 0 && covers(t->list + low - 1, &text);
}

static bool matches_good(const struct blob *b, const struct texts *t, const char *const *good, size_t good_count)
{
    const struct miniproxy_hosts hosts = {.blob = b->data, .blob_len = (uint32_t)b->len};
    for (size_t i = 0; i < good_count; i++)
        if (is_matched(&hosts, good[i]) && !is_covered(t, good[i])) return true;
    return false;
}

static bool build_hashed(struct blob *b, const struct texts *t, const char *const *good, size_t good_count,
                         const char **problem)
{
    struct filter f = {.log2_segment = 2};
    uint32_t segments;
    /* floor(log(count) / log(2.91) - 0.5), by that paper */
    for (double least = 1.706 * 2.91 * 2.91 * 2.91; least <= (double)t->count && f.log2_segment < 18; least *= 2.91)
        f.log2_segment++;
    segments = (uint32_t)((double)t->count * 1.08 / (double)(UINT32_C(1) << f.log2_segment));
    segments = segments > 4 ? segments - 3 : 1;
    for (uint32_t seed = 1; seed <= SEEDS_MAX; seed++) {
        bool solved;
        f.range = segments << f.log2_segment;
        f.slots = (segments + 3) << f.log2_segment;
        if (!try_seed(b, &f, t, seed, &solved) || b->no_memory) return false;
        if (solved && !matches_good(b, t, good, good_count)) return true;
        if (!solved) segments += segments / 128 + 1;
    }
    *problem = "a hashed set of these host names matches a name that must not be matched: use exact";
    return false;
}

uint8_t *hostset_build(enum blob_format format, const char *const *names, size_t count, const char *const *good,
                       size_t good_count, uint32_t *len, const char **problem)
{
    struct texts t = {.list = NULL};
    struct blob b = {.data = NULL};
    bool built = false;
    *problem = NULL;
    for (size_t i = 0; i < good_count && *problem == NULL; i++) *problem = what_is_wrong(good[i]);
    if (*problem == NULL && make_texts(&t, names, count, problem))
        built = format == BLOB_EXACT ? build_exact(&b, &t, problem) : build_hashed(&b, &t, good, good_count, problem);
    if (built) finish(&b);
    free_texts(&t);
    if (built && !b.no_memory) {
        *len = (uint32_t)b.len;
        return b.data;
    }
    free(b.data);
    return NULL;
}
