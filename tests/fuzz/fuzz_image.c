/*
 * Mutated images against every reader: what `cr show` walks, page maps, bundles. Nothing may
 * crash, hang or read outside; errors are fine. Built with sanitizers to be worth running.
 *
 *	fuzz_image FILE|all [ROUNDS [SEED]]
 *
 * FILE is any image; its name tells the type. "all": one made-up image of every type. The
 * same FILE, ROUNDS and SEED do the same.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <xxhash.h>

#include "cmd/show.h"
#include "image/pages.h"
#include "image/store.h"
#include "sample_message.h"
#include "util/io.h"
#include "util/log.h"

#define ROUNDS		20000u
#define FILE_MAX	(1u << 20)

static uint64_t rng;

/* xorshift64*: the same sequence everywhere. */
static uint32_t rnd(uint32_t below)
{
	rng ^= rng >> 12;
	rng ^= rng << 25;
	rng ^= rng >> 27;
	return (uint32_t)((rng * 0x2545f4914f6cdd1dull) >> 33) % below;
}

/* In place within room bytes; returns the new size. */
static size_t mutate(uint8_t *p, size_t n, size_t room)
{
	static const uint32_t words[] = { 0, 1, 0x7f, 0x80, 0xff, 0x7fffffff, 0x80000000,
					  0xffffffff, 4096, 0xfffff000, 0x10000 };
	size_t at, k;
	uint32_t v;

	for (uint32_t i = 1 + rnd(4); i && n; i--) {
		at = rnd((uint32_t)n);
		switch (rnd(7)) {
		case 0:
			p[at] ^= (uint8_t)(1u << rnd(8));
			break;
		case 1:
			p[at] = (uint8_t)rnd(256);
			break;
		case 2:
			v = words[rnd(ARRAY_SIZE(words))];
			memcpy(p + at, &v, MIN(sizeof(v), n - at));
			break;
		case 3:		/* cut off */
			n = at;
			break;
		case 4:		/* take out */
			k = rnd((uint32_t)(n - at)) + 1;
			memmove(p + at, p + at + k, n - at - k);
			n -= k;
			break;
		case 5:		/* repeat a piece */
			k = rnd((uint32_t)(n - at)) + 1;
			k = MIN(k, room - n);
			memmove(p + at + k, p + at, n - at);
			n += k;
			break;
		default:	/* past the magics, where messages are */
			if (n > 12)
				p[8 + rnd((uint32_t)n - 8)] = (uint8_t)rnd(256);
			break;
		}
	}
	return n;
}

static int show_span(const char *name, const uint8_t *p, size_t n)
{
	struct show_style style = { .json = rnd(2) };
	const struct image_type *t = image_identify(name, p, n);
	struct json_object *o = NULL;
	struct image_reader rd;
	int r;

	if (!t || image_open_memory(t, name, p, n, &rd) < 0)
		return -EBADMSG;
	r = show_image(&style, name, &rd, &o);
	if (o && !json_object_to_json_string(o))
		abort();
	json_object_put(o);
	return r;
}

/* The image as the pagemap of process 1 in a directory whose parent is itself. */
static void try_pages(int dirfd, const uint8_t *p, size_t n)
{
	_cleanup_image_store_ struct image_store *s = NULL;
	_cleanup_pages_ struct pages_reader *r = NULL;
	_cleanup_close_ int fd = openat(dirfd, "pagemap-1.img",
					O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct page_run run;
	uint8_t sum = 0;

	if (fd < 0 || write_full(fd, p, n) < 0 || image_store_open_dir(dirfd, &s) < 0)
		abort();
	if (pages_open(s, &image_pagemap, 1, &r) < 0)
		return;
	for (int i = 0; i < 1000 && pages_next(r, &run) > 0; i++)
		if (run.data)
			sum ^= run.data[0] ^ run.data[run.n_pages * PAGE_BYTES - 1];
	if (sum)
		log_debug("%u", sum);
}

static int ignore_file(void *arg, const char *name, uint64_t bytes, uint64_t hash)
{
	*(uint64_t *)arg ^= strlen(name) ^ bytes ^ hash;
	return 0;
}

static void try_bundle(const uint8_t *region, size_t bytes)
{
	_cleanup_image_store_ struct image_store *s = NULL;
	uint64_t used, hash, sum = 0;

	if (image_bundle_open(region, bytes, &s) < 0)
		return;
	if (image_store_verify(s) < 0 || image_store_seal(s, &used, &hash) < 0 ||
	    image_store_each_file(s, ignore_file, &sum) < 0)
		log_debug("damaged");
}

/*
 * Makes the header's two checksums right again, else mutations would never get past them.
 * Words of 64 bits: 2 used, 3 table offset, 4 files, 5 table's hash, 7 the header's own.
 */
static void mend_bundle(uint8_t *region, size_t bytes)
{
	const size_t entry = IMAGE_NAME_MAX + 3 * sizeof(uint64_t);
	uint64_t h[8];

	memcpy(h, region, sizeof(h));
	if (h[3] < bytes && h[4] <= (bytes - h[3]) / entry)
		h[5] = XXH3_64bits(region + h[3], h[4] * entry);
	h[7] = XXH3_64bits(h, 7 * sizeof(h[0]));
	memcpy(region, h, sizeof(h));
}

/* The image in a bundle of its own, as the seed for mutations of bundles. */
static size_t make_bundle(uint8_t *region, size_t bytes, const uint8_t *p, size_t n)
{
	_cleanup_image_store_ struct image_store *s = NULL;
	uint64_t used;

	if (image_bundle_create(region, bytes, &s) < 0)
		abort();
	for (uint64_t i = 0; i < 3; i++) {
		struct image_writer *w;

		if (image_create(s, &image_iptables, &w, i) < 0 || image_put_raw(w, p, n) < 0 ||
		    image_close(w) < 0)
			abort();
	}
	if (image_store_seal(s, &used, NULL) < 0)
		abort();
	return used;
}

/* Header and table are small against the files: most mutations go there. */
static void mutate_bundle(uint8_t *region, size_t used)
{
	uint64_t toc;

	memcpy(&toc, region + 24, sizeof(toc));
	if (rnd(4)) {
		if (rnd(2))
			mutate(region + toc, used - toc, used - toc);
		else
			mutate(region + 8, 56, 56);
		mend_bundle(region, used);
	} else {
		mutate(region, used, used);
	}
}

static void make_pages(int dirfd)
{
	static const uint8_t zero[16 * PAGE_BYTES];

	for (int i = 0; i < 3; i++) {
		char name[32];
		int fd;

		snprintf(name, sizeof(name), "pages-%d.img", i);
		fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		if (fd < 0 || write_full(fd, zero, sizeof(zero)) < 0 || close(fd))
			abort();
	}
	if (symlinkat(".", dirfd, "parent"))
		abort();
}

static void remove_pages(int dirfd, const char *path)
{
	static const char *const names[] = { "pages-0.img", "pages-1.img", "pages-2.img", "parent",
					     "pagemap-1.img" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		(void)!unlinkat(dirfd, names[i], 0);
	(void)!rmdir(path);
}

static void fuzz(const char *name, const uint8_t *seed, size_t n, int dirfd, uint64_t rounds)
{
	size_t room = MIN(2 * n + 64, (size_t)FILE_MAX);
	size_t bytes = ROUND_UP(4 * n + 65536, PAGE_BYTES);
	uint8_t *p = malloc(room), *exact;
	uint8_t *bundle = aligned_alloc(PAGE_BYTES, bytes), *region;
	size_t used = make_bundle(bundle, bytes, seed, n), k;
	bool map = image_identify(name, seed, n) == &image_pagemap;

	region = aligned_alloc(PAGE_BYTES, bytes);
	if (!p || !region)
		abort();
	for (uint64_t i = 0; i < rounds; i++) {
		memcpy(p, seed, n);
		k = mutate(p, n, room);
		/* Of exactly its size, so that a sanitizer sees the first byte beyond. */
		exact = malloc(k ? k : 1);
		memcpy(exact, p, k);
		if (show_span(name, exact, k) < 0)
			log_debug("damaged");
		if (map)
			try_pages(dirfd, exact, k);
		free(exact);
		memcpy(region, bundle, used);
		mutate_bundle(region, used);
		try_bundle(region, used);
	}
	free(p);
	free(bundle);
	free(region);
}

/* Two entries of t, each with payload bytes behind it, as a file in memory. */
static size_t make_entries(const struct image_type *t, size_t payload, uint8_t *p, size_t room)
{
	uint32_t words[3] = { t->framing == IMAGE_SERVICE ? IMAGE_MAGIC_SERVICE :
			      IMAGE_MAGIC_COMMON, t->magic, 0 };
	size_t n = t->framing == IMAGE_SINGLE_MAGIC ? 4 : 8;
	struct arena a;

	memset(p, 0x11, room);
	arena_init(&a);
	memcpy(p, n == 4 ? words + 1 : words, n);
	for (int i = 0; i < 2; i++) {
		ProtobufCMessage *m = sample_message(&a, show_descriptor(t, !i), 3);

		words[2] = (uint32_t)protobuf_c_message_get_packed_size(m);
		if (words[2] > room - n - 100)
			break;
		memcpy(p + n, &words[2], 4);
		protobuf_c_message_pack(m, p + n + 4);
		n += 4 + words[2] + payload;
	}
	arena_done(&a);
	return n;
}

/* As much payload as the messages ask for: what makes the image a whole one. */
static size_t make_seed(const struct image_type *t, uint8_t *p, size_t room)
{
	size_t n = 100;

	if (t->framing == IMAGE_RAW) {
		memset(p, 0x11, n);
		return n;
	}
	for (size_t payload = 0; payload < 64; payload++) {
		n = make_entries(t, payload, p, room);
		if (show_span(t->name, p, n) >= 0)
			break;
	}
	return n;
}

static void fuzz_all(int dirfd, uint64_t rounds)
{
	static const struct image_type *const types[] = {
#define TYPE(n) &image_##n,
		IMAGE_TYPES(TYPE)
	};
	static uint8_t seed[FILE_MAX / 16];

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		char name[IMAGE_NAME_MAX];

		snprintf(name, sizeof(name), types[i]->file_fmt, 1ul);
		fuzz(name, seed, make_seed(types[i], seed, sizeof(seed)), dirfd, rounds);
	}
}

static int fuzz_file(const char *path, int dirfd, uint64_t rounds)
{
	const char *slash = strrchr(path, '/');
	_cleanup_free_ char *p = NULL;
	size_t n;

	if (read_file_at(AT_FDCWD, path, FILE_MAX / 2, &p, &n) < 0 || !n) {
		fprintf(stderr, "fuzz_image: cannot read %s, or it is empty or too large\n", path);
		return 2;
	}
	fuzz(slash ? slash + 1 : path, (const uint8_t *)p, n, dirfd, rounds);
	return 0;
}

int main(int argc, char **argv)
{
	char dir[] = "/tmp/crk-fuzz.XXXXXX";
	uint64_t rounds = ROUNDS, seed = 1;
	_cleanup_close_ int dirfd = -EBADF;
	int r = 0;

	if (argc < 2 || argc > 4 || (argc > 2 && parse_u64(argv[2], 10, &rounds) < 0) ||
	    (argc > 3 && parse_u64(argv[3], 10, &seed) < 0)) {
		fprintf(stderr, "Usage: fuzz_image FILE|all [ROUNDS [SEED]]\n");
		return 2;
	}
	log_init(LOGLEVEL_NONE, -1);
	rng = seed * 0x9e3779b97f4a7c15ull | 1;
	if (!mkdtemp(dir) || (dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return 2;
	make_pages(dirfd);
	if (!strcmp(argv[1], "all"))
		fuzz_all(dirfd, rounds);
	else
		r = fuzz_file(argv[1], dirfd, rounds);
	remove_pages(dirfd, dir);
	if (!r)
		printf("%s: %" PRIu64 " mutations, seed %" PRIu64 ", no crash\n", argv[1], rounds,
		       seed);
	return r;
}
