/* Image files in both carriers: what is written is read back, and hostile input is refused. */
#define _GNU_SOURCE
#include "image_fixture.h"

#include "cmd/show.h"
#include "tests/fuzz/sample_message.h"
#include "image/store.h"

static void put_bytes(const char *name, const void *p, size_t n)
{
	char *path = str_fmt("%s/%s", unit_tmpdir(), name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	ASSERT_OK(fd);
	ASSERT_OK(write_full(fd, p, n));
	close(fd);
	free(path);
}

static size_t get_bytes(const char *name, char **ret)
{
	char *path = str_fmt("%s/%s", unit_tmpdir(), name);
	size_t n;

	ASSERT_OK(read_file_at(AT_FDCWD, path, READ_FILE_MAX, ret, &n));
	free(path);
	return n;
}

TEST("messages and payload are read back as written, from both carriers")
{
	FOR_EACH_CARRIER(c) {
		struct fixture f = fixture_begin(c, 1 << 20);
		PipeDataEntry e = PIPE_DATA_ENTRY__INIT, *got;
		struct image_writer *w;
		struct image_reader rd;
		const void *p;
		struct arena a;

		arena_init(&a);
		ASSERT_OK(image_create(f.store, &image_pipes_data, &w));
		for (uint32_t i = 0; i < 100; i++) {
			char payload[300];

			memset(payload, (int)i, sizeof(payload));
			e.pipe_id = i;
			e.bytes = i * 3;
			e.has_size = i & 1;
			e.size = i << 12;
			ASSERT_OK(image_put(w, &e.base));
			ASSERT_OK(image_put_raw(w, payload, e.bytes));
		}
		ASSERT_OK(image_close(w));
		fixture_reopen(&f);
		ASSERT_OK(image_open(f.store, &image_pipes_data, &rd));
		ASSERT_STREQ(rd.name, "pipes-data.img");
		for (uint32_t i = 0; i < 100; i++) {
			ASSERT_EQ(image_get(&rd, &a, pipe_data_entry, &got), 1);
			ASSERT_EQ(got->pipe_id, i);
			ASSERT_EQ(got->has_size, i & 1);
			ASSERT_OK(image_get_raw(&rd, got->bytes, &p));
			for (uint32_t k = 0; k < got->bytes; k++)
				ASSERT_EQ(((const uint8_t *)p)[k], i);
		}
		ASSERT_EQ(image_get(&rd, &a, pipe_data_entry, &got), 0);
		image_reader_done(&rd);
		arena_done(&a);
		fixture_end(&f);
	}
}

TEST("an image begins with the recorded bytes of its framing")
{
	static const struct {
		const struct image_type *type;
		const char *name, *bytes;
		size_t n;
	} rows[] = {
		{ &image_pstree, "pstree.img", "\x19\x43\x56\x54\x30\x30\x27\x50", 8 },
		{ &image_core, "core-712.img", "\x19\x43\x56\x54\x47\x38\x05\x55", 8 },
		{ &image_ghost_file, "ghost-file-2c8.img", "\x19\x43\x56\x54\x05\x36\x58\x52", 8 },
		{ &image_stats_dump, "stats-dump", "\x40\x59\x10\x55\x06\x33\x09\x57", 8 },
		{ &image_inventory, "inventory.img", "\x16\x31\x31\x58", 4 },
		{ &image_nftables, "nftables-712.img", "", 0 },
	};
	struct fixture f = fixture_begin(DIRECTORY, 0);

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct image_writer *w;
		struct stat st;
		char *got, *path;

		ASSERT_OK(image_create(f.store, rows[i].type, &w, 712));
		ASSERT_OK(image_put_raw(w, "tail", 4));
		ASSERT_OK(image_close(w));
		ASSERT_EQ(get_bytes(rows[i].name, &got), rows[i].n + 4);
		ASSERT_MEM_EQ(got, rows[i].bytes, rows[i].n);
		ASSERT_MEM_EQ(got + rows[i].n, "tail", 4);
		free(got);
		path = str_fmt("%s/%s", unit_tmpdir(), rows[i].name);
		ASSERT_OK(stat(path, &st));
		ASSERT_EQ(st.st_mode & 07777, 0600);
		free(path);
	}
	fixture_end(&f);
}

TEST("an entry is its size in four bytes and the protobuf encoding")
{
	/* pid 1, ppid 0, pgid 1, sid 1, threads 1 and 2 unpacked */
	static const char want[] = "\x19\x43\x56\x54\x30\x30\x27\x50" "\x0c\0\0\0"
				   "\x08\x01\x10\x00\x18\x01\x20\x01\x28\x01\x28\x02";
	struct fixture f = fixture_begin(DIRECTORY, 0);
	char *got;

	put_task(f.store, 1);
	ASSERT_EQ(get_bytes("pstree.img", &got), sizeof(want) - 1);
	ASSERT_MEM_EQ(got, want, sizeof(want) - 1);
	free(got);
	fixture_end(&f);
}

TEST("images of version 1.0 without the first magic are read")
{
	static const char old[] =
		"\x30\x30\x27\x50\x0a\0\0\0\x08\x07\x10\x00\x18\x01\x20\x01\x28\x07";
	struct fixture f = fixture_begin(DIRECTORY, 0);
	PstreeEntry *e;
	struct arena a;

	arena_init(&a);
	put_bytes("pstree.img", old, sizeof(old) - 1);
	ASSERT_OK(image_read_one(f.store, &a, &image_pstree, pstree_entry, &e));
	ASSERT_EQ(e->pid, 7);
	arena_done(&a);
	fixture_end(&f);
}

TEST("packed repeated numbers are read like unpacked ones")
{
	static const char packed[] = "\x19\x43\x56\x54\x30\x30\x27\x50\x0c\0\0\0"
				     "\x08\x01\x10\x00\x18\x01\x20\x01\x2a\x02\x01\x02";
	struct fixture f = fixture_begin(DIRECTORY, 0);
	PstreeEntry *e;
	struct arena a;

	arena_init(&a);
	put_bytes("pstree.img", packed, sizeof(packed) - 1);
	ASSERT_OK(image_read_one(f.store, &a, &image_pstree, pstree_entry, &e));
	ASSERT_EQ(e->n_threads, 2);
	ASSERT_EQ(e->threads[1], 2);
	arena_done(&a);
	fixture_end(&f);
}

TEST("a missing file is -ENOENT, an optional one is empty, a required entry is named")
{
	FOR_EACH_CARRIER(c) {
		struct fixture f = fixture_begin(c, 1 << 16);
		struct image_reader rd;
		FdinfoEntry *fd;
		PstreeEntry *e;
		struct arena a;

		arena_init(&a);
		fixture_reopen(&f);
		ASSERT_EQ(image_open(f.store, &image_fdinfo, &rd, 3), -ENOENT);
		image_reader_done(&rd);
		ASSERT_STREQ(log_first_error(), "");
		ASSERT_OK(image_open_optional(f.store, &image_fdinfo, &rd, 3));
		ASSERT_EQ(image_get(&rd, &a, fdinfo_entry, &fd), 0);
		image_reader_done(&rd);
		ASSERT_EQ(image_read_one(f.store, &a, &image_pstree, pstree_entry, &e), -ENOENT);
		ASSERT_CONTAINS(log_first_error(), "pstree.img");
		arena_done(&a);
		fixture_end(&f);
	}
}

TEST("a file that is closed without a write does not exist, not even from before")
{
	struct fixture f = fixture_begin(DIRECTORY, 0);
	struct image_writer *w;

	put_bytes("tty-info.img", "stale", 5);
	ASSERT_OK(image_create(f.store, &image_tty_info, &w));
	ASSERT_OK(image_close(w));
	ASSERT_EQ(faccessat(f.dirfd, "tty-info.img", F_OK, 0), -1);
	ASSERT_EQ(errno, ENOENT);
	ASSERT_OK(image_create(f.store, &image_tty_info, &w));
	ASSERT_OK(image_put_raw(w, "half", 4));
	image_abandonp(&w);
	ASSERT_EQ(faccessat(f.dirfd, "tty-info.img", F_OK, 0), -1);
	fixture_end(&f);
}

TEST("an existing file is replaced, a link's target is left alone")
{
	struct fixture f = fixture_begin(DIRECTORY, 0);
	struct stat st;
	char *got;

	put_bytes("precious", "precious", 8);
	ASSERT_OK(symlinkat("precious", f.dirfd, "pstree.img"));
	put_task(f.store, 1);
	ASSERT_EQ(get_bytes("precious", &got), 8);
	free(got);
	ASSERT_OK(fstatat(f.dirfd, "pstree.img", &st, AT_SYMLINK_NOFOLLOW));
	ASSERT(S_ISREG(st.st_mode));
	ASSERT_OK(fchmodat(f.dirfd, "pstree.img", 0644, 0));
	put_task(f.store, 2);
	ASSERT_OK(fstatat(f.dirfd, "pstree.img", &st, AT_SYMLINK_NOFOLLOW));
	ASSERT_EQ(st.st_mode & 07777, 0600);
	fixture_end(&f);
}

TEST("a directory or a fifo in place of an image is an error, not a hang")
{
	struct fixture f = fixture_begin(DIRECTORY, 0);
	struct image_reader rd;

	ASSERT_OK(mkdirat(f.dirfd, "files.img", 0700));
	ASSERT_EQ(image_open(f.store, &image_files, &rd), -EISDIR);
	image_reader_done(&rd);
	ASSERT_OK(mkfifoat(f.dirfd, "memfd.img", 0600));
	ASSERT_EQ(image_open(f.store, &image_memfd, &rd), -EBADMSG);
	image_reader_done(&rd);
	ASSERT_CONTAINS(log_first_error(), "files.img");
	fixture_end(&f);
}

TEST("a failing disk fails every call on the file and is logged once with its name")
{
	struct fixture f = fixture_begin(DIRECTORY, 0);
	struct image_writer *w;
	void *room;

	ASSERT_OK(mkdirat(f.dirfd, "pages-1.img", 0700));
	ASSERT_OK(image_create(f.store, &image_pages, &w, 1));
	ASSERT_OK(image_reserve(w, IMAGE_SPAN_MAX, &room));
	memset(room, 1, IMAGE_SPAN_MAX);
	ASSERT_LT(image_reserve(w, PAGE_BYTES, &room), 0);
	ASSERT_CONTAINS(log_first_error(), "pages-1.img");
	ASSERT_LT(image_put_raw(w, "x", 1), 0);
	ASSERT_LT(image_close(w), 0);
	fixture_end(&f);
}

TEST("large spans and small writes keep their order")
{
	FOR_EACH_CARRIER(c) {
		struct fixture f = fixture_begin(c, 64 << 20);
		struct image_writer *w;
		struct image_reader rd;
		size_t total = 0, at = 0;
		const uint8_t *p;

		ASSERT_OK(image_create(f.store, &image_pages, &w, 9));
		for (uint32_t i = 0; i < 200; i++) {
			size_t n = i % 3 ? 1 + i * 7 : (i % 9 ? 70000 + i : IMAGE_SPAN_MAX - i);
			uint8_t *room;

			if (i > 60)
				n %= 9001;
			if (i % 2) {
				ASSERT_OK(image_reserve(w, n, (void **)&room));
				memset(room, (int)i, n);
			} else {
				room = malloc(n + 1);
				memset(room, (int)i, n);
				ASSERT_OK(image_put_raw(w, room, n));
				free(room);
			}
			total += n;
		}
		ASSERT_OK(image_close(w));
		fixture_reopen(&f);
		ASSERT_OK(image_open(f.store, &image_pages, &rd, 9));
		ASSERT_EQ(rd.bytes, total);
		p = rd.data;
		for (uint32_t i = 0; i < 200; i++) {
			size_t n = i % 3 ? 1 + i * 7 : (i % 9 ? 70000 + i : IMAGE_SPAN_MAX - i);

			if (i > 60)
				n %= 9001;
			for (size_t k = 0; k < n; k++)
				ASSERT_EQ(p[at + k], i);
			at += n;
		}
		image_reader_done(&rd);
		fixture_end(&f);
	}
}

TEST("a buffer taken over from an earlier file brings nothing of it along")
{
	struct fixture f = fixture_begin(DIRECTORY, 0);
	struct image_writer *w;
	char *got;
	void *room;

	ASSERT_OK(image_create(f.store, &image_pages, &w, 1));
	ASSERT_OK(image_reserve(w, 1 << 20, &room));
	memset(room, 'o', 1 << 20);
	ASSERT_OK(image_close(w));
	ASSERT_OK(image_create(f.store, &image_pages, &w, 2));
	ASSERT_OK(image_put_raw(w, "begin", 5));
	ASSERT_OK(image_reserve(w, 100000, &room));
	memset(room, 'n', 100000);
	ASSERT_OK(image_put_raw(w, "end", 3));
	ASSERT_OK(image_close(w));
	ASSERT_EQ(get_bytes("pages-2.img", &got), 100008);
	ASSERT_MEM_EQ(got, "beginnnn", 8);
	ASSERT_MEM_EQ(got + 100000, "nnnnnend", 8);
	ASSERT(!memchr(got, 'o', 100008));
	free(got);
	fixture_end(&f);
}

TEST("a file cut off at any byte gives its whole entries and an error, never more")
{
	struct fixture f = fixture_begin(DIRECTORY, 0);
	FdinfoEntry e = FDINFO_ENTRY__INIT;
	struct image_writer *w;
	size_t n, ends[12] = { 8 };
	char *all;

	ASSERT_OK(image_create(f.store, &image_fdinfo, &w, 2));
	e.type = FD_TYPES__REG;
	for (uint32_t i = 0; i < 10; i++) {
		e.id = 1u << (3 * i);
		e.fd = i;
		ASSERT_OK(image_put(w, &e.base));
		ends[i + 1] = ends[i] + 4 + protobuf_c_message_get_packed_size(&e.base);
	}
	ASSERT_OK(image_close(w));
	n = get_bytes("fdinfo-2.img", &all);
	ASSERT_EQ(n, ends[10]);
	for (size_t cut = 0; cut <= n; cut++) {
		/* Exactly as large as it says, so that a sanitizer sees a read beyond. */
		uint8_t *part = malloc(cut ? cut : 1);
		struct image_reader rd;
		FdinfoEntry *got;
		size_t whole = 0;
		struct arena a;
		int r;

		memcpy(part, all, cut);
		arena_init(&a);
		r = image_open_memory(&image_fdinfo, "fdinfo-2.img", part, cut, &rd);
		if (cut < 8) {
			ASSERT_EQ(r, -EBADMSG);
		} else {
			ASSERT_OK(r);
			while ((r = image_get(&rd, &a, fdinfo_entry, &got)) > 0) {
				ASSERT_EQ(got->fd, whole);
				whole++;
			}
			ASSERT(ends[whole] <= cut && (whole == 10 || cut < ends[whole + 1]));
			ASSERT_EQ(r, cut == ends[whole] ? 0 : -EBADMSG);
		}
		arena_done(&a);
		free(part);
	}
	free(all);
	fixture_end(&f);
}

TEST("absurd lengths are refused with file and offset, before memory is taken for them")
{
	static const uint32_t sizes[] = { 5, 0x7fffffff, 0x80000000, 0xfffffffb, 0xfffffffc,
					  0xffffffff };

	log_init(LOGLEVEL_NONE, -1);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint32_t words[4] = { IMAGE_MAGIC_COMMON, image_fs.magic, sizes[i], 0 };
		struct image_reader rd;
		const void *p;
		struct arena a;
		FsEntry *e;

		arena_init(&a);
		ASSERT_OK(image_open_memory(&image_fs, "fs-7.img", words, sizeof(words), &rd));
		ASSERT_EQ(image_get(&rd, &a, fs_entry, &e), -EBADMSG);
		ASSERT_CONTAINS(log_first_error(), "fs-7.img");
		ASSERT_CONTAINS(log_first_error(), "offset 8");
		ASSERT_EQ(image_get_raw(&rd, 9, &p), -EBADMSG);
		ASSERT_EQ(image_get_raw(&rd, SIZE_MAX, &p), -EBADMSG);
		ASSERT_OK(image_get_raw(&rd, 8, &p));
		ASSERT_OK(image_get_raw(&rd, 0, &p));
		arena_done(&a);
	}
}

TEST("an entry beyond the limit is refused on writing, too")
{
	FOR_EACH_CARRIER(c) {
		struct fixture f = fixture_begin(c, 256 << 20);
		TtyDataEntry e = TTY_DATA_ENTRY__INIT, *got;
		struct image_writer *w;
		struct image_reader rd;
		struct arena a;

		arena_init(&a);
		e.data.len = IMAGE_ENTRY_MAX;
		e.data.data = calloc(1, IMAGE_ENTRY_MAX);
		ASSERT_OK(image_create(f.store, &image_tty_data, &w));
		ASSERT_EQ(image_put(w, &e.base), -EMSGSIZE);
		ASSERT_EQ(image_close(w), -EMSGSIZE);
		e.data.len = IMAGE_SPAN_MAX + 5;	/* larger than a span is fine */
		e.data.data[e.data.len - 1] = 77;
		ASSERT_OK(image_write_one(f.store, &image_tty_data, &e.base));
		fixture_reopen(&f);
		ASSERT_OK(image_open(f.store, &image_tty_data, &rd));
		ASSERT_EQ(image_get(&rd, &a, tty_data_entry, &got), 1);
		ASSERT_EQ(got->data.len, IMAGE_SPAN_MAX + 5);
		ASSERT_EQ(got->data.data[got->data.len - 1], 77);
		image_reader_done(&rd);
		free(e.data.data);
		arena_done(&a);
		fixture_end(&f);
	}
}

TEST("another image under a wrong name is refused by its magic")
{
	struct fixture f = fixture_begin(DIRECTORY, 0);
	struct image_reader rd;

	put_task(f.store, 1);
	ASSERT_OK(renameat(f.dirfd, "pstree.img", f.dirfd, "files.img"));
	ASSERT_EQ(image_open(f.store, &image_files, &rd), -EBADMSG);
	image_reader_done(&rd);
	ASSERT_CONTAINS(log_first_error(), "files.img");
	ASSERT_CONTAINS(log_first_error(), "0x50273030");
	fixture_end(&f);
}

TEST("messages that nest a hundred thousand deep do not exhaust the stack")
{
	/* cgroup_entry.controllers(2).dirs(2).children(2)…: each level is a tag and a length */
	size_t n = 600000, at = n;
	uint8_t *p = malloc(n);
	struct image_reader rd;
	CgroupEntry *e;
	struct arena a;
	uint32_t words[3];

	log_init(LOGLEVEL_NONE, -1);
	arena_init(&a);
	while (at > 16) {
		size_t len = n - at, k = 0;
		uint8_t varint[5];

		do {
			varint[k] = (len & 0x7f) | (len > 0x7f ? 0x80 : 0);
			k++;
		} while (len >>= 7);
		at -= k;
		memcpy(p + at, varint, k);
		p[--at] = 0x12;
	}
	words[0] = IMAGE_MAGIC_COMMON;
	words[1] = image_cgroup.magic;
	words[2] = (uint32_t)(n - at);
	memcpy(p + at - 12, words, 12);
	ASSERT_OK(image_open_memory(&image_cgroup, "cgroup.img", p + at - 12, n - at + 12, &rd));
	ASSERT_EQ(image_get(&rd, &a, cgroup_entry, &e), -EBADMSG);
	ASSERT_CONTAINS(log_first_error(), "nests too deeply");
	arena_done(&a);
	free(p);
}

TEST("files are identified by name, by magic when the name says nothing, or not at all")
{
	uint32_t words[2] = { IMAGE_MAGIC_COMMON, image_mm.magic };
	const uint8_t *p = (const uint8_t *)words;

	ASSERT(image_identify("pagemap-shmem-77.img", NULL, 0) == &image_pagemap_shmem);
	ASSERT(image_identify("/a/b/pagemap-77.img", NULL, 0) == &image_pagemap);
	ASSERT(image_identify("tcp-stream-2fa.img", NULL, 0) == &image_tcp_stream);
	ASSERT(image_identify("stats-restore", NULL, 0) == &image_stats_restore);
	ASSERT(image_identify("tmpfs-dev-73.tar.gz.img", NULL, 0) == &image_tmpfs_dev);
	ASSERT(image_identify("core-.img", NULL, 0) == NULL);
	ASSERT(image_identify("core-1x.img", NULL, 0) == NULL);
	ASSERT(image_identify("saved.bin", p, 8) == &image_mm);
	ASSERT(image_identify("saved.bin", p + 4, 4) == &image_mm);
	ASSERT(image_identify("saved.bin", p, 7) == NULL);
	ASSERT(image_identify("criu.log", NULL, 0) == NULL);
}

static int count_file(void *arg, const char *name, uint64_t bytes, uint64_t hash)
{
	char **text = arg, *more = str_fmt("%s%s:%" PRIu64 " ", *text, name, bytes);

	ASSERT_NE(hash, 0);
	free(*text);
	*text = more;
	return 0;
}

TEST("every image is listed once, in name order, with the same hash in both carriers")
{
	uint64_t hash[2];

	FOR_EACH_CARRIER(c) {
		struct fixture f = fixture_begin(c, 1 << 20);
		char *text = strdup("");
		FsEntry e = FS_ENTRY__INIT;

		ASSERT_OK(image_write_one(f.store, &image_fs, &e.base, 12));
		ASSERT_OK(image_write_one(f.store, &image_fs, &e.base, 11));
		put_task(f.store, 1);
		if (c == DIRECTORY) {
			put_bytes("dump.log", "x", 1);
			ASSERT_OK(symlinkat("..", f.dirfd, "parent"));
		}
		fixture_reopen(&f);
		ASSERT_OK(image_store_each_file(f.store, count_file, &text));
		ASSERT_STREQ(text, "fs-11.img:16 fs-12.img:16 pstree.img:24 ");
		free(text);
		ASSERT_OK(image_store_seal(f.store, NULL, &hash[c]));
		ASSERT_NE(hash[c], 0);
		fixture_end(&f);
	}
}

TEST("changing a byte of any image changes a directory's hash")
{
	struct fixture f = fixture_begin(DIRECTORY, 0);
	uint64_t before, after, bytes;
	char *p;
	size_t n;

	put_task(f.store, 1);
	ASSERT_OK(image_store_seal(f.store, &bytes, &before));
	ASSERT_EQ(bytes, 24);
	n = get_bytes("pstree.img", &p);
	for (size_t i = 0; i < n; i++) {
		p[i] ^= 1;
		put_bytes("pstree.img", p, n);
		ASSERT_OK(image_store_seal(f.store, NULL, &after));
		ASSERT(before != after);
		p[i] ^= 1;
	}
	free(p);
	fixture_end(&f);
}

static void round_trip(struct fixture *f, const ProtobufCMessageDescriptor *d)
{
	struct arena a;
	ProtobufCMessage *m, *got;
	struct image_writer *w;
	struct image_reader rd;
	uint8_t *want, *have;
	size_t n;

	arena_init(&a);
	m = sample_message(&a, d, 2);
	ASSERT_OK(image_create(f->store, &image_files, &w));
	ASSERT_OK(image_put(w, m));
	ASSERT_OK(image_close(w));
	ASSERT_OK(image_open(f->store, &image_files, &rd));
	ASSERT_EQ(image_get_(&rd, &a, d, &got), 1);
	ASSERT(!got->n_unknown_fields);
	n = protobuf_c_message_get_packed_size(m);
	ASSERT_EQ(protobuf_c_message_get_packed_size(got), n);
	want = arena_alloc(&a, n);
	have = arena_alloc(&a, n);
	protobuf_c_message_pack(m, want);
	protobuf_c_message_pack(got, have);
	ASSERT_MEM_EQ(want, have, n);
	image_reader_done(&rd);
	arena_done(&a);
}

TEST("every message of every image survives a round trip with all its fields")
{
	static const struct image_type *const types[] = {
#define TYPE(n) &image_##n,
		IMAGE_TYPES(TYPE)
	};
	struct fixture f = fixture_begin(DIRECTORY, 0);

	for (size_t i = 0; i < 2 * ARRAY_SIZE(types); i++) {
		const ProtobufCMessageDescriptor *d = show_descriptor(types[i / 2], i % 2);

		if (d)
			round_trip(&f, d);
	}
	fixture_end(&f);
}
