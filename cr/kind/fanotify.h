/*
 * The parts of the fanotify kind: the group (fanotify.c), its marks (fanotify_marks.c), what fdinfo says
 * (fanotify_info.c) and what it hides (fanotify_peek.c).
 */
#ifndef CR_KIND_FANOTIFY_H
#define CR_KIND_FANOTIFY_H

#include "kind/kinds.h"

/* The kernel's own bit: made without CAP_SYS_ADMIN; it does not tell pids then. */
#define FANOTIFY_UNPRIV		0x80000000u
/* Of newer kernels than the C library's header. */
#ifndef FAN_MARK_EVICTABLE
#define FAN_MARK_EVICTABLE	0x200
#endif
#ifndef FAN_MARK_IGNORE
#define FAN_MARK_IGNORE		0x400
#endif
/* FAN_OPEN_PERM, FAN_ACCESS_PERM, FAN_OPEN_EXEC_PERM, FAN_PRE_ACCESS: the access waits. */
#define FANOTIFY_VERDICT_MASK	0x170000u

/* Parsers of fdinfo. 0 or -EBADMSG. */
struct fanotify_info {
	uint32_t flags, event_flags;
};
int fanotify_info_parse(const char *fdinfo, struct fanotify_info *ret) _must_check_;
/* The line of the next mark in a fdinfo text; also from inside one. NULL: no more. */
const char *fanotify_next_mark(const char *text);
enum fanotify_object { FANOTIFY_INODE, FANOTIFY_MOUNT, FANOTIFY_FILESYSTEM, FANOTIFY_MNTNS };
struct fanotify_line {
	enum fanotify_object object;
	uint32_t mflags, mask, ignored_mask, mnt_id;
	struct watched inode;		/* of a file system: sdev only */
};
int fanotify_line_parse(const char *line, struct fanotify_line *ret) _must_check_;

struct fanotify_group {
	uint32_t flags;			/* of fanotify_init(2), and FANOTIFY_UNPRIV */
	bool other_userns;		/* made in another than ours */
	bool unanswered;		/* an event was read whose verdict is still missing */
};
/* fd: ours. -EOPNOTSUPP, -ENODATA: the kernel does not let itself be read. Silent. */
int fanotify_peek(struct dump_ctx *ctx, int fd, struct fanotify_group *ret) _must_check_;

int fanotify_marks_dump(struct dump_ctx *ctx, struct dump_file *f, FanotifyFileEntry *e) _must_check_;
/* All are plausible and what they are on is there. */
int fanotify_marks_check(struct restore_ctx *ctx, const FanotifyFileEntry *e) _must_check_;
int fanotify_marks_add(struct restore_ctx *ctx, const FanotifyFileEntry *e, int fd) _must_check_;

#endif
