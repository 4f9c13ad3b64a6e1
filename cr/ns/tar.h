/*
 * A gzip'd tar of a memory filesystem, as CRIU keeps tmpfs contents (tmpfs-dev-D.tar.gz.img):
 * pax headers, numeric owners, "./" first. GNU tar reads it and its archives are read.
 *
 * Owner, mode, times, extended attributes, devices, fifos, hard links, holes are kept. A socket
 * has no form in tar: it is an empty file with the pax record CRKEXEC.node=socket.
 */
#ifndef CR_NS_TAR_H
#define CR_NS_TAR_H

#include "util/macro.h"

typedef int (*tar_write_fn)(void *arg, const void *p, size_t bytes);

/* Ids between filesystem and archive; NULL functions: as they are. */
struct tar_ids {
	uint32_t (*uid)(void *arg, uint32_t id);
	uint32_t (*gid)(void *arg, uint32_t id);
	void *arg;
};

struct tar_writer;
/* zlib's levels. Both are for writers whose tree stands still meanwhile. */
enum tar_level { TAR_STORED = 0, TAR_FAST = 1 };
int tar_writer_new(tar_write_fn fn, void *arg, const struct tar_ids *ids, enum tar_level level,
		   struct tar_writer **ret) _must_check_;
/* The tree below dirfd (or the one file), without what is mounted on it. at: "/" or "/a/b". */
int tar_add_tree(struct tar_writer *t, int dirfd, const char *at) _must_check_;
/* Only this: a name in dirfd, a directory without what is in it; or ".", dirfd itself. */
int tar_add_one(struct tar_writer *t, int dirfd, const char *name) _must_check_;
/* What was worked on last, for messages. */
const char *tar_writer_path(const struct tar_writer *t);
int tar_writer_finish(struct tar_writer *t) _must_check_;
void tar_writer_free(struct tar_writer *t);

/*
 * Unpacks into the empty directory dirfd; nothing is followed or reached outside of it. On error
 * the member is logged.
 */
int tar_extract(const void *data, size_t bytes, int dirfd, const struct tar_ids *ids) _must_check_;
/* Idem, where something may be already: a directory stays, anything else is replaced. */
int tar_extract_over(const void *data, size_t bytes, int dirfd, const struct tar_ids *ids)
	_must_check_;

/* Layout of a header block, both ways. */
#define TAR_BLOCK	512u
#define TAR_SOCKET_KEY	"CRKEXEC.node"
#define TAR_XATTR_KEY	"SCHILY.xattr."

struct tar_header {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], chksum[8], typeflag;
	char linkname[100], magic[6], version[2], uname[32], gname[32], devmajor[8], devminor[8];
	char prefix[155], pad[12];
};
_Static_assert(sizeof(struct tar_header) == TAR_BLOCK, "tar header");

static inline unsigned int tar_checksum(const struct tar_header *h)
{
	const unsigned char *p = (const unsigned char *)h;
	unsigned int sum = 0;

	for (size_t i = 0; i < TAR_BLOCK; i++) {
		size_t field = offsetof(struct tar_header, chksum);

		sum += i >= field && i < field + 8 ? ' ' : p[i];
	}
	return sum;
}

#endif
