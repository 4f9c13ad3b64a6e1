/*
 * What a carrier of images has to do, for image.c and reader.c: files by name, written by
 * appending, read as one span of memory. Framing and logging are not its business.
 */
#ifndef CR_IMAGE_STORE_H
#define CR_IMAGE_STORE_H

#include "image/image.h"

/* First word of ordinary and of service images; inventory.img has its own magic only. */
#define IMAGE_MAGIC_COMMON	0x54564319u
#define IMAGE_MAGIC_SERVICE	0x55105940u

/* Below this the threads cost more than they do. */
#define FILL_BYTES_MIN		(8u << 20)
/* Stays in a processor's cache on its way. */
#define FILL_PIECE_BYTES	(1u << 20)
/* Of what is filled without threads: the buffer is touched for the first time, too. */
#define RESERVE_PIECE_BYTES	(256u << 10)

/* A pages file of a store that others have as their parent: mapped once for all who read it. */
struct pages_file {
	struct pages_file *next;
	uint64_t id;
	unsigned int n_users;
	struct image_reader reader;
};

struct image_store {
	const struct image_store_ops *ops;
	struct image_store *of;		/* a part of this one: its files, named IMAGE_SHARED/... */
	struct image_store *parent;	/* NULL: none, or not yet looked for */
	bool parent_is_own;		/* closed with this one; else borrowed */
	struct image_store *shared;	/* of a store that is being written; a part */
	struct pages_file *pages_files;
	char (*written)[IMAGE_NAME_MAX];	/* names of the files that were completed */
	size_t n_written;
};

/* The file's name as the whole store has it. */
void image_name(const struct image_store *s, const struct image_type *t, uint64_t number,
		char name[IMAGE_NAME_MAX]);

/* The directory of pages that several processes have; see image_store_make_shared(). */
#define IMAGE_SHARED	"shared"
/* What of = s means: files are s's. On the heap, closed like any other. */
int image_store_open_part(struct image_store *s, struct image_store **ret) _must_check_;

/* The store before this one; -ENOENT. Lives as long as s. Silent. */
int image_store_parent(struct image_store *s, struct image_store **ret) _must_check_;

/* A carrier's writer begins with this one. */
struct image_writer {
	struct image_store *store;
	const struct image_type *type;
	char name[IMAGE_NAME_MAX];
	bool begun;			/* something was written */
	int error;			/* of an earlier call; already logged */
};

struct image_store_ops {
	/* Allocates; the caller fills in the common part. */
	int (*writer_new)(struct image_store *s, struct image_writer **ret);
	int (*append)(struct image_writer *w, const void *p, size_t bytes);
	/* Appends bytes whose contents the caller sets before its next call. */
	int (*reserve)(struct image_writer *w, size_t bytes, void **ret);
	/* image_fill() of FILL_BYTES_MIN and more. */
	int (*fill)(struct image_writer *w, uint64_t bytes, image_fill_fn fn, void *arg);
	/* Makes the file be as written, or not be at all, and frees w in any case. */
	int (*commit)(struct image_writer *w);
	/* Removes what there is of the file and frees w. */
	void (*abandon)(struct image_writer *w);

	/* data, bytes and what is to be released of r; -ENOENT. */
	int (*open)(struct image_store *s, const char *name, struct image_reader *r);
	/* Is there a file of that name? 0 or -ENOENT. */
	int (*find)(struct image_store *s, const char *name);
	/* Opens the store before this one (heap); -ENOENT. */
	int (*open_parent)(struct image_store *s, struct image_store **ret);
	/* A hole instead of these bytes of a file; NULL: not possible. */
	int (*punch)(struct image_store *s, const char *name, uint64_t off, uint64_t bytes);
	/* Whether `to` can become the store before this one; -ELOOP: that is itself. */
	int (*may_follow)(struct image_store *s, const char *to);
	/* Makes it that. */
	int (*link_parent)(struct image_store *s, const char *to);
	/* Before files named IMAGE_SHARED/... are written: open_parent() shall find them. */
	int (*make_shared)(struct image_store *s);
	/* An earlier dump's images go, with what makes open_parent() find its shared ones. */
	int (*forget)(struct image_store *s);
	int (*each_file)(struct image_store *s, image_file_fn fn, void *arg);
	int (*seal)(struct image_store *s, uint64_t *ret_bytes, uint64_t *ret_hash);
	int (*verify)(struct image_store *s);	/* NULL: nothing to compare with */
	void (*close)(struct image_store *s);
};

/* A regular file as a span of memory, for the directory store and `cr show`. Silent. */
int image_map_file(int dirfd, const char *path, struct image_reader *r) _must_check_;

/*
 * protobuf-c unpacks nested messages by recursion without a limit: a small hostile file could
 * exhaust the stack. -ELOOP when data nests messages deeper than any image does.
 */
int image_check_nesting(const ProtobufCMessageDescriptor *d, const uint8_t *data,
			size_t bytes) _must_check_;

#endif
