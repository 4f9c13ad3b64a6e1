/* All kinds, and what they share. */
#ifndef CR_KIND_KINDS_H
#define CR_KIND_KINDS_H

#include "core/files.h"
#include "kind/kind.h"
#include "kind/watched.h"

extern const struct kind kind_external, kind_reg, kind_pipe, kind_fifo, kind_eventfd,
	kind_eventpoll, kind_timerfd, kind_signalfd, kind_memfd, kind_inotify, kind_pidfd,
	kind_nsfile, kind_mqueue, kind_tty, kind_io_uring, kind_fanotify, kind_refuse;
extern const struct kind kind_unix, kind_inet, kind_netlink, kind_packet;

/* "anon_inode:[eventfd]" or, as some are spelled, "anon_inode:inotify". */
bool link_is_anon(const char *link, const char *what);
/* Filesystem type of fd (statfs's f_type), 0 when it cannot be had. */
uint64_t fs_magic(int fd);
#define MQUEUE_MAGIC	0x19800202u	/* <linux/magic.h> lacks it */
/* Contents and numbers mean nothing to another kernel: /proc, /sys, cgroups ... */
bool fs_is_pseudo(uint64_t magic);

/* reg.c. A file by the entry of its path, as the fifo kind needs it, with these flags. */
int reg_open(struct restore_ctx *ctx, const RegFileEntry *e, uint32_t flags, int *ret_fd)
	_must_check_;
/* The path entry of f (which has fd, st, link) with this id; writes remaps and ghosts. */
int reg_entry(struct dump_ctx *ctx, struct dump_file *f, uint32_t id, RegFileEntry **ret)
	_must_check_;

/* reg_state.c. What f, which has a name, holds or is that its path does not bring back is an obstacle. */
int reg_judge(const struct dump_file *f) _must_check_;

/* reg_kmsg.c. Where in the kernel's log f is, if that can be told. */
int reg_kmsg_dump(struct dump_ctx *ctx, const struct dump_file *f, RegFileEntry *e) _must_check_;
/* Goes to e->kmsg; leaves O_NONBLOCK set. */
int reg_kmsg_seek(int fd, const RegFileEntry *e) _must_check_;

/* build_id.c. The GNU build id of an ELF file: its length, 0 without one, or -errno. */
#define BUILD_ID_MAX 64
int build_id_read(int fd, uint8_t ret[BUILD_ID_MAX]) _must_check_;

/* ghost.c: files without a name. */
/* The contents of f, which is file id in files.img, go to a ghost-file image (once an inode). */
int ghost_dump(struct dump_ctx *ctx, struct dump_file *f, uint32_t id) _must_check_;
/* ghost_xattr.c. The extended attributes of f, which is no symbolic link, go to e. */
int ghost_xattrs_dump(struct dump_ctx *ctx, const struct dump_file *f, GhostFileEntry *e)
	_must_check_;
/* --link-remap: gives the nameless file a temporary name beside path. */
int link_remap_dump(struct dump_ctx *ctx, struct dump_file *f, uint32_t id, const char *path)
	_must_check_;
void ghost_dump_done(struct dump_ctx *ctx);
int remap_load(struct restore_ctx *ctx) _must_check_;
struct remap;
/* How file id is to be found if not by its own name; NULL: by its name. */
struct remap *remap_find(struct restore_ctx *ctx, uint32_t id);
/* Opens the remapped file; flags: O_PATH and what goes with it. */
int remap_open(struct restore_ctx *ctx, struct remap *m, const RegFileEntry *e, int flags,
	       int *ret_fd) _must_check_;
/*
 * 1: e's file was made by O_TMPFILE, and is so again: *ret_fd is the file from that open(2), with e's flags;
 * 0: it is to be opened.
 */
int remap_take_tmpfile(struct restore_ctx *ctx, struct remap *m, const RegFileEntry *e,
		       int *ret_fd) _must_check_;
bool remap_is_ghost(const struct remap *m);
void remap_done(struct restore_ctx *ctx);

/* netlink.c. 1 and *ret: the queue or log group that port id has in that /proc file; for tests, too. */
int netlink_find_bound(const char *text, uint32_t portid, unsigned int *ret) _must_check_;
/* What a hostile or damaged entry could do harm with; logged. packet.c's, too. */
int netlink_check_entry(const NetlinkSkEntry *e) _must_check_;
int packet_check_entry(const PacketSockEntry *e) _must_check_;

/* finish_write.c. Right after the stop, over the whole tree: before anything queued is read. */
int finish_writes(struct dump_ctx *ctx, struct dump_process *p) _must_check_;

/* pipe_data.c: what is queued in a pipe or fifo. */
struct pipe_buf {
	uint32_t pipe_id, bytes, size;
	const void *data;
	PipeRunEntry **run;		/* none: a stream */
	size_t n_run;
};
/* Without taking it out. fd: a readable end. Once per pipe. */
int pipe_data_dump(struct dump_ctx *ctx, const struct dump_file *f, struct image_writer *w)
	_must_check_;
int pipe_data_load(struct restore_ctx *ctx, const struct image_type *type, struct map *ret)
	_must_check_;
/* Size and contents into the pipe whose writable end is wfd. d may be NULL. */
int pipe_data_fill(int wfd, const struct pipe_buf *d) _must_check_;

/*
 * memfd.c. The shared memory object behind fd (memfd, anonymous shared memory): saved once,
 * with the data that is present. *ret_inode_id: memfd_inode_entry.inode_id.
 */
int shmem_dump_inode(struct dump_ctx *ctx, int fd, const struct stat *st, const char *name,
		     uint32_t *ret_inode_id) _must_check_;
/* Adds the huge pages that all objects of memfd.img need: need[n] is of pages of 2^n bytes. */
void shmem_huge_pages(struct restore_ctx *ctx, uint64_t need[64]);
/* Made and filled now if need be; borrowed. Seals come with kind_memfd's finish(). */
int shmem_restore_inode(struct restore_ctx *ctx, uint32_t inode_id, int *ret_fd) _must_check_;

/*
 * fanotify_info.c: a process that decides on accesses to files is an obstacle. Before anything else is
 * opened.
 */
int fanotify_check(struct dump_ctx *ctx, struct dump_process *p) _must_check_;

/* io_uring_wait.c: gives requests in flight some time to end. Needs the call zone. */
int uring_settle(struct dump_ctx *ctx, struct dump_process *p) _must_check_;

/* Parsers of fdinfo lines, for tests too. 0 or -EBADMSG. */
struct epoll_line {
	uint32_t tfd, events, sdev;
	uint64_t data, ino;
	int64_t pos;
};
int epoll_line_parse(const char *line, struct epoll_line *ret) _must_check_;
struct timerfd_info {
	uint32_t clockid, settime_flags;
	uint64_t ticks, value_sec, value_nsec, interval_sec, interval_nsec;
};
int timerfd_info_parse(const char *fdinfo, struct timerfd_info *ret) _must_check_;
struct inotify_line {
	uint32_t wd, mask, ignored_mask;
	struct watched inode;
};
int inotify_line_parse(const char *line, struct inotify_line *ret) _must_check_;

#endif
