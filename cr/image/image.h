/*
 * Image files: CRIU's framing (two magics, then u32 size + protobuf [+ payload]) over one of
 * two carriers: a directory, or a bundle (one region of memory that holds named files, as it
 * is kept across kexec). Readers see a file as a span of memory in both cases.
 *
 * Images are root-only: files 0600. Every length read is checked against the file's end.
 */
#ifndef CR_IMAGE_IMAGE_H
#define CR_IMAGE_IMAGE_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>

#include "util/arena.h"

struct image_type {
	const char *name;		/* "core", "pagemap": for messages */
	const char *file_fmt;		/* "core-%lu.img": at most one number, always a uint64_t */
	uint32_t magic;			/* 0: raw */
	enum { IMAGE_COMMON, IMAGE_SERVICE, IMAGE_SINGLE_MAGIC, IMAGE_RAW } framing;
};

/* One constant per image of spec/images.md, e.g. image_core, image_pstree, image_files. */
#define IMAGE_TYPES(X)									\
	X(inventory) X(pstree) X(core) X(ids) X(mm) X(pagemap) X(pages) X(fs) X(fdinfo)	\
	X(files) X(seccomp) X(timens) X(stats_dump) X(stats_restore) X(remap_fpath)	\
	X(ghost_file) X(pipes_data) X(fifo_data) X(sk_queues) X(tcp_stream) X(tty_info)	\
	X(tty_data) X(memfd) X(pagemap_shmem) X(bpfmap_data) X(filelocks) X(apparmor)	\
	X(cgroup) X(cpuinfo) X(utsns) X(ipcns_var) X(ipcns_shm) X(ipcns_msg)		\
	X(ipcns_sem) X(userns) X(mountpoints) X(tmpfs_dev) X(netns) X(netdev) X(ifaddr)	\
	X(route) X(route6) X(rule) X(iptables) X(ip6tables) X(nftables) X(netns_ct)	\
	X(netns_exp) X(pidns) X(autofs) X(binfmt_misc) X(irmap_cache)
#define IMAGE_DECLARE(n) extern const struct image_type image_##n;
IMAGE_TYPES(IMAGE_DECLARE)
#undef IMAGE_DECLARE

/* Longest file name of an image, with its NUL. */
#define IMAGE_NAME_MAX 64u

/* Where images live. Opened by one of the functions below. */
struct image_store;

/*
 * dirfd is borrowed (duplicated inside). For writing, stale files of the same names are
 * replaced, whoever owned them.
 */
int image_store_open_dir(int dirfd, struct image_store **ret) _must_check_;
/*
 * Bundle: base..base+bytes is mapped read-write (writing) or readable (reading) and belongs to
 * the caller; base is page-aligned. A full region is -ENOSPC from the writing functions.
 *
 * image_bundle_open() checks the header and the table of contents (-EBADMSG, logged), not yet
 * the files: image_store_verify() does.
 */
int image_bundle_create(void *base, size_t bytes, struct image_store **ret) _must_check_;
int image_bundle_open(const void *base, size_t bytes, struct image_store **ret) _must_check_;
/*
 * Ends the writing of a bundle (every writer must be closed: -EBUSY) and returns, for the
 * caller's manifest, the used size from base and a 64-bit hash that depends on every byte of
 * it. On an opened bundle: the same two values as found. On a directory: the sum of the
 * images' sizes and a hash over their names and contents. Outputs may be NULL.
 */
int image_store_seal(struct image_store *s, uint64_t *ret_bytes, uint64_t *ret_hash) _must_check_;
/*
 * Opened bundle: every byte against the hashes in its table of contents; -EBADMSG, logged with
 * the name of the damaged file. Directory: 0, its hashes are in the manifest.
 */
int image_store_verify(struct image_store *s) _must_check_;
/*
 * Where PE_PARENT pages are looked up. A directory finds its `parent` symlink by itself; a
 * bundle has to be told. parent is borrowed and must live as long as s.
 */
void image_store_set_parent(struct image_store *s, struct image_store *parent);
/* Whether a directory can have this one as its `parent`; nothing changes. Logged. */
int image_store_may_follow(struct image_store *s, const char *to) _must_check_;
/* A directory's `parent` link, relative to it, instead of one that is there. Logged. */
int image_store_link_parent(struct image_store *s, const char *to) _must_check_;
/*
 * A store inside s whose page images s's PE_PARENT pages are looked up in: for pages that several
 * processes have. To readers of CRIU's format it is an earlier dump: in a directory it is the
 * directory "shared", and `parent` leads to it. It is open until s is closed. -EEXIST, silent:
 * there is a `parent` already.
 */
int image_store_make_shared(struct image_store *s, struct image_store **ret) _must_check_;
/*
 * Before a dump: what an earlier one to the same directory has left goes, or what this one has
 * nothing to write to would be restored with it. After one that has failed: its own. The inventory
 * first; files whose names no image has, and a `parent` that an operator has made, stay.
 */
int image_store_forget(struct image_store *s) _must_check_;
/*
 * Names of the images written so far, those of the store inside it too: what a reader must find,
 * since a missing file otherwise means that there was nothing to write. Valid until the next write.
 */
size_t image_store_written(const struct image_store *s, const char (**ret)[IMAGE_NAME_MAX]);
/* -ENOENT, silent: there is no image of that name. */
int image_store_find(struct image_store *s, const char *name) _must_check_;
void image_store_close(struct image_store *s);
static inline void image_store_closep(struct image_store **s)
{
	if (*s)
		image_store_close(*s);
}
#define _cleanup_image_store_ _cleanup_(image_store_closep)

/*
 * Name and XXH3-64 of every file, in name order: the manifest's checksums. A directory's other
 * files (logs, statistics, links) are left out: what ends in ".img" counts, in it and in its
 * "shared" (names "shared/..."). A negative return of fn ends the walk and is returned.
 */
typedef int (*image_file_fn)(void *arg, const char *name, uint64_t bytes, uint64_t hash);
int image_store_each_file(struct image_store *s, image_file_fn fn, void *arg) _must_check_;

/*
 * Writing. The file comes into being with the first write (as CRIU does it); a file that is
 * closed without one does not exist, not even from before. Errors are logged once per file;
 * every call after a failed one fails too.
 *
 * Optional last argument here and below: the number in the file's name, any integer type.
 */
struct image_writer;
#define IMAGE_NUMBER(...) ((const uint64_t[1]){ __VA_ARGS__ }[0])
#define image_create(s, t, ret, ...) image_create_(s, t, ret, IMAGE_NUMBER(__VA_ARGS__))
int image_create_(struct image_store *s, const struct image_type *t, struct image_writer **ret,
		  uint64_t number) _must_check_;
int image_put(struct image_writer *w, const ProtobufCMessage *m) _must_check_;
int image_put_raw(struct image_writer *w, const void *p, size_t bytes) _must_check_;
/*
 * Room for bytes of payload to be filled by the caller before the next call on w: in place
 * for a bundle, a buffer for a directory (at most IMAGE_SPAN_MAX at once).
 */
#define IMAGE_SPAN_MAX (4u << 20)
/* Largest message, read or written. */
#define IMAGE_ENTRY_MAX (64u << 20)
int image_reserve(struct image_writer *w, size_t bytes, void **ret) _must_check_;
/*
 * Appends bytes of payload that fn supplies in pieces, in any order and from several threads:
 * n bytes to `to` for off bytes behind where the payload begins. worker: see util/parallel.h.
 */
typedef int (*image_fill_fn)(void *arg, unsigned int worker, uint64_t off, void *to, size_t n);
int image_fill(struct image_writer *w, uint64_t bytes, image_fill_fn fn, void *arg) _must_check_;
/* Flushes and frees; must be called, its error is the file's error. NULL is fine. */
int image_close(struct image_writer *w) _must_check_;
/* Frees without caring, for error paths. */
void image_abandonp(struct image_writer **w);
#define _cleanup_image_writer_ _cleanup_(image_abandonp)
/* One message, one file. */
#define image_write_one(s, t, m, ...) image_write_one_(s, t, m, IMAGE_NUMBER(__VA_ARGS__))
int image_write_one_(struct image_store *s, const struct image_type *t,
		     const ProtobufCMessage *m, uint64_t number) _must_check_;

/*
 * Reading. A missing file is -ENOENT from image_open(); callers for which it means "no
 * entries" use image_open_optional(), which gives an empty reader.
 */
struct image_reader {
	const struct image_type *type;
	char name[IMAGE_NAME_MAX];
	const uint8_t *data;	/* the whole file */
	size_t bytes, pos;
	void *map;		/* munmapped by image_reader_done() */
	void *heap;		/* or freed */
	int fd;			/* of a large file's map, see image_bytes(); 0: none */
};
/* r needs no preparation and is safe for image_reader_done() after a failure, too. */
#define image_open(s, t, r, ...) image_open_(s, t, r, IMAGE_NUMBER(__VA_ARGS__))
int image_open_(struct image_store *s, const struct image_type *t, struct image_reader *r,
		uint64_t number) _must_check_;
#define image_open_optional(s, t, r, ...)						\
	image_open_optional_(s, t, r, IMAGE_NUMBER(__VA_ARGS__))
int image_open_optional_(struct image_store *s, const struct image_type *t,
			 struct image_reader *r, uint64_t number) _must_check_;
/* Over bytes the caller holds: checks the magic as image_open() does. */
int image_open_memory(const struct image_type *t, const char *name, const void *data,
		      size_t bytes, struct image_reader *r) _must_check_;
void image_reader_done(struct image_reader *r);
/*
 * n bytes (FILL_PIECE_BYTES at most) at p, which lies in r's data, for one use: p itself or, of a large
 * file, a copy in *room. Reading is cheaper there than a map, which costs a fault for each few pages
 * and nearly as much again when it is taken down. *room is NULL at first, and the caller's to free.
 * Silent; may be called by several threads.
 */
int image_bytes(const struct image_reader *r, const uint8_t *p, size_t n, void **room,
		const uint8_t **ret) _must_check_;
#define _cleanup_image_reader_ _cleanup_(image_reader_done)
/*
 * Next message, unpacked into the arena. 1: got one, 0: clean end, negative: logged with
 * file name and offset.
 */
int image_get_(struct image_reader *r, struct arena *a, const ProtobufCMessageDescriptor *d,
	       ProtobufCMessage **ret) _must_check_;
#define image_get(r, a, snake, ret)							\
	image_get_(r, a, &snake##__descriptor, (ProtobufCMessage **)(ret))
/* The single entry of a file; -ENOENT when the file is missing or empty, logged. */
int image_read_one_(struct image_store *s, struct arena *a, const struct image_type *t,
		    const ProtobufCMessageDescriptor *d, ProtobufCMessage **ret,
		    uint64_t number) _must_check_;
#define image_read_one(s, a, t, snake, ret, ...)					\
	image_read_one_(s, a, t, &snake##__descriptor, (ProtobufCMessage **)(ret),	\
			IMAGE_NUMBER(__VA_ARGS__))
/* bytes of payload at the current position: a pointer into the file, or -EBADMSG (logged). */
int image_get_raw(struct image_reader *r, size_t bytes, const void **ret) _must_check_;

/*
 * The type of a file by its name (a path's last component) or, when the name says nothing, by
 * its magic; NULL when neither is known.
 */
const struct image_type *image_identify(const char *name, const uint8_t *data, size_t bytes);

#endif
