/* An inode that a notification group (inotify, fanotify) watches: found on dump, found again. */
#ifndef CR_KIND_WATCHED_H
#define CR_KIND_WATCHED_H

#include "core/dump.h"
#include "core/restore.h"

struct mount;
struct mount_table;

struct watched {
	uint32_t sdev, handle_bytes, handle_type;	/* sdev: in the kernel's encoding */
	uint64_t ino;
	uint8_t handle[128];
	bool has_handle;
};

/* The file handle at the end of a line of fdinfo, if it has one. 0 or -EBADMSG. */
int watched_parse_handle(const char *line, struct watched *w) _must_check_;

/* All mounts that the process has, NULL if they cannot be read. */
const struct mount_table *watched_mounts(struct dump_ctx *ctx, struct dump_process *p);
/* The entry with the inode's path; what ("inotify watch 7") names it. Obstacle: there is none. */
int watched_dump(struct dump_ctx *ctx, struct dump_file *f, const char *what, const struct watched *w,
		 FhEntry **ret) _must_check_;
/*
 * O_PATH descriptor of the inode: by its path, or where there is none (CRIU's usual), by its handle on
 * any mount of this device. Logs.
 */
int watched_open(struct restore_ctx *ctx, const FhEntry *fh, uint32_t sdev, uint64_t ino, int *ret_fd)
	_must_check_;

/*
 * watched_search.c. 1: the inode's name below root, which is the root of a mount; 0: it has none there;
 * -ETIME: none was found until then (CLOCK_MONOTONIC). by_number: readdir(3) tells inodes' numbers.
 */
int watched_search(struct dump_ctx *ctx, int root, const struct watched *w, bool by_number,
		   uint64_t deadline_usec, const char **ret_rel) _must_check_;

#endif
