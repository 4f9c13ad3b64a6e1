/*
 * Open files, as the kinds and the phases see them: what dump.h and restore.h leave out.
 */
#ifndef CR_CORE_FILES_H
#define CR_CORE_FILES_H

#include "core/dump.h"
#include "core/restore.h"

/* The common head of a fdinfo text. -EBADMSG when "flags:" is missing. */
int fdinfo_parse(const char *text, struct dump_fd *ret) _must_check_;
/* fd_list.c: p->fds with numbers and links, ascending. Nothing for the dead. */
int dump_fd_list(struct dump_ctx *ctx, struct dump_process *p) _must_check_;
/* fd_list.c: and with all that fdinfo tells; the program's calls have been run. */
int dump_fd_infos(struct dump_ctx *ctx, struct dump_process *p) _must_check_;
/* fdinfo of t_fd of a process, read now, in the arena. For kinds that look twice. */
int fdinfo_read(struct dump_ctx *ctx, struct dump_process *p, int t_fd, const char **ret)
	_must_check_;
/* 1: the link of f's descriptor reads otherwise now, and is f->link; 0: it does not. */
int dump_link_again(struct dump_ctx *ctx, struct dump_file *f) _must_check_;
/* p's descriptor of that number, or NULL. */
const struct dump_fd *dump_fd_find(const struct dump_process *p, int t_fd);
/*
 * A file that the engine received itself (SCM_RIGHTS found by MSG_PEEK in a socket that p
 * holds). fd is borrowed and may be closed by the caller.
 */
int dump_file_get_queued(struct dump_ctx *ctx, struct dump_process *p, int fd,
			 struct dump_file **ret) _must_check_;
/* The id of a helper entry (a fifo's path, a hard link) that no descriptor shows. */
uint32_t dump_file_new_id(struct dump_ctx *ctx);
/* Writes one entry to files.img; nothing in check mode. */
int dump_file_put(struct dump_ctx *ctx, const FileEntry *fe) _must_check_;
/*
 * The writer of a shared image, made with the first use; *ret is NULL in check mode, when
 * nothing is to be written.
 */
int dump_writer(struct dump_ctx *ctx, struct image_writer **slot, const struct image_type *type,
		struct image_writer **ret) _must_check_;
/* 1: path, as p sees it, names the file that st describes; 0: another one or none. */
int dump_path_names(struct dump_process *p, const char *path, int mnt_id, const struct stat *st)
	_must_check_;
/* O_PATH descriptor of a directory as p sees it. Path as a /proc link shows it. */
int dump_open_dir(struct dump_process *p, const char *path, int mnt_id, int *ret_fd) _must_check_;
/* A struct file of its own for reading the contents behind fd: position and flags are ours. */
int reopen_for_read(int fd, int *ret_fd) _must_check_;
/* The same file once more with other flags, through /proc/self/fd. */
int reopen_fd(int fd, int flags, int *ret_fd) _must_check_;

/*
 * Ends the file part of a dump: warns of what the outside holds the other end of, closes the
 * shared images. -EOPNOTSUPP when a check has counted obstacles.
 */
int dump_files_finish(struct dump_ctx *ctx) _must_check_;
/*
 * Frees. keep_links: the images are good and the tree will not go on here; else hard links made
 * by --link-remap are removed.
 */
void dump_files_done(struct dump_ctx *ctx, bool keep_links);

/* locks.c: the "lock:" lines of all descriptors of p → filelocks.img. */
int dump_locks(struct dump_ctx *ctx, struct dump_process *p) _must_check_;
/* Obstacle: locks of files that are only queued. */
int dump_locks_queued(struct dump_ctx *ctx) _must_check_;
int dump_locks_finish(struct dump_ctx *ctx) _must_check_;
int restore_locks_load(struct restore_ctx *ctx) _must_check_;
/* flock and OFD locks on the engine's descriptors: once, after the owners' fds are made. */
int restore_locks_files(struct restore_ctx *ctx, struct restore_process *p) _must_check_;
/* POSIX locks and leases, by the task itself. */
int restore_locks_calls(struct restore_ctx *ctx, struct restore_process *p, struct batch *b)
	_must_check_;

/* One "lock:" line, parsed; pure. 0, or -EBADMSG. flag 0: a kind of lock that is not known. */
struct lock_line {
	uint32_t flag, type;		/* file_lock_entry's */
	int64_t pid, start, len;
};
enum { LOCK_FLAG_POSIX = 1, LOCK_FLAG_FLOCK = 2, LOCK_FLAG_OFD = 4, LOCK_FLAG_LEASE = 8 };
int lock_line_parse(const char *line, struct lock_line *ret) _must_check_;

/*
 * Restore, in this order:
 *
 *   restore_files_load()	processes and their ids are known, no task exists; raises the
 *				engine's RLIMIT_NOFILE and sets ctx->pidfd_t_fd
 *   restore_files_begin()	all tasks exist: what they must make themselves
 *   restore_fds_install()	per process, when all tasks exist (pidfds, owners of SIGIO) and
 *				before it enters a user namespace (pidfd_getfd would be refused)
 *   restore_files_watch()	nothing is opened or made any more: spare ends closed, inotify's
 *				watches, fanotify's marks
 *   restore_files_finish()	the whole tree stands: timers armed, repair mode left, seals
 *   restore_files_done()	always; closes the engine's descriptors
 */
int restore_files_load(struct restore_ctx *ctx) _must_check_;
int restore_files_begin(struct restore_ctx *ctx) _must_check_;
int restore_fds_install(struct restore_ctx *ctx, struct restore_process *p) _must_check_;
int restore_files_watch(struct restore_ctx *ctx) _must_check_;
int restore_files_finish(struct restore_ctx *ctx) _must_check_;
void restore_files_done(struct restore_ctx *ctx);
/*
 * A descriptor that a mapping made with fdflags (O_RDONLY, O_RDWR) can use: the file's own or
 * one of another mode, kept until the end. Borrowed.
 */
int restore_file_get_mapped(struct restore_ctx *ctx, uint32_t id, uint32_t fdflags, int *ret_fd)
	_must_check_;

/* open.c: the one place where paths of images are opened. Silent. */
int restore_open(struct restore_ctx *ctx, const char *path, int mnt_id, int flags, int *ret_fd)
	_must_check_;

/* --inherit-fd / --external of this key, or NULL. */
const struct cr_external *external_find(const struct cr_opts *opts, const char *key);
/* A duplicate of the inherited descriptor of that key. -ENOENT when there is none. */
int external_dup(const struct cr_opts *opts, const char *key, int *ret_fd) _must_check_;

#endif
