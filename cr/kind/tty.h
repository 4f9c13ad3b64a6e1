/* What the files of the terminal kind share. */
#ifndef CR_KIND_TTY_H
#define CR_KIND_TTY_H

/* The kernel's termios, with speeds; <termios.h> has the C library's and cannot stand beside it. */
#include <asm/termbits.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#include "kind/kinds.h"

#define PTY_INDEX_MAX	(1u << 20)	/* NR_UNIX98_PTY_MAX of the kernel */
#define TTY_MAJOR_PTS	136
#define TTY_DEV_CTTY	makedev(5, 0)
#define TTY_DEV_CONSOLE	makedev(5, 1)
#define TTY_DEV_PTMX	makedev(5, 2)

/* tty_params.c: settings of a terminal and their form in images. */
int tty_params_get(struct arena *a, int fd, TtyInfoEntry *e) _must_check_;
/* -EBADMSG (silent) for what no terminal can have. */
int tty_params_check(const TtyInfoEntry *e) _must_check_;
struct termios2 tty_termios_of(const TermiosEntry *e);
int tty_size_set(int fd, const TtyInfoEntry *e) _must_check_;
/* Bits that nobody can change from then on: after all settings. */
int tty_locked_set(int fd, const TtyInfoEntry *e) _must_check_;

/*
 * tty_queue.c: what is queued in a pair, both ways. The most that a pair of today's kernels
 * holds in one direction is some 20 KiB.
 */
#define TTY_QUEUE_MAX	(64u << 10)
#define TTY_PUSHED_MAX	4096u
enum tty_stopped { TTY_FLOWS, TTY_STOPPED_BY_CHAR, TTY_STOPPED_BY_FLOW };

struct tty_queues {
	uint32_t n_out, n_in, n_pushed;
	uint32_t stopped;			/* enum tty_stopped */
	uint32_t pushed[TTY_PUSHED_MAX];	/* tty_data_entry.pushed */
	uint8_t out[TTY_QUEUE_MAX];		/* written to the slave, to be read from the master */
	uint8_t in[TTY_QUEUE_MAX];		/* and the other way */
};

/* A pair to look into: its master, borrowed; *queues in memory that a child shares. */
struct tty_peek {
	int master;
	struct tty_queues *queues;
};

/*
 * Takes the queues of all pairs out and puts them back at once, in a process that goes on when
 * the caller is killed. The pairs' users must stand still. Silent but for what went wrong.
 */
int tty_queues_peek(struct tty_peek *peeks, size_t n) _must_check_;
/*
 * Fills an empty pair and gives the slave its settings. slave: O_NONBLOCK, not the caller's own
 * terminal.
 */
int tty_queues_put(int master, int slave, const struct termios2 *real,
		   const struct tty_queues *q) _must_check_;
/* A slave of its own, whatever the master's lock says. */
int tty_open_peer(int master, int flags, int *ret_fd) _must_check_;

/* tty_dump.c. What one end of a terminal shares, however many files lead to it. */
struct tty_side {
	TtyInfoEntry *e;
	dev_t tty;			/* the terminal itself: 136:N of both ends of a pair */
	struct dump_file *f;		/* the first file, NULL: none in the tree */
	int mnt_id;			/* where e->dev was seen */
	int unread;			/* bytes of input, as a slave tells it */
	int master_fd;			/* a master's, ours until the end, else -1 */
	bool master, hung;
};
int tty_dump(struct dump_ctx *ctx, struct dump_file *f) _must_check_;
/* tty_judge.c: all files are known. Sessions, who is outside, queues; writes the images. */
int tty_dump_end(struct dump_ctx *ctx) _must_check_;
/* tty_orphan.c: a slave in a devpts of the tree's own may go without its master. */
bool tty_side_is_orphan(struct dump_ctx *ctx, const struct tty_side *side);
int tty_judge_orphan(const struct tty_side *side) _must_check_;
/* Terminals that mounts of the tree show are saved, too. */
int tty_judge_mounts(struct dump_ctx *ctx) _must_check_;
struct tty_sides {
	struct tty_side **sides;
	size_t n;
	uint32_t n_odd_ids;
};
struct tty_sides *tty_sides(struct dump_ctx *ctx);
struct tty_side *tty_side_find(const struct tty_sides *s, TtyType type, dev_t tty, bool master);
/* "tty[RDEV:DEV]", as --external and --inherit-fd name one. */
#define TTY_KEY_MAX 48
void tty_external_key(char key[TTY_KEY_MAX], uint64_t rdev, uint64_t dev);

/* Restore. One end of a terminal, as tty-info.img has it. */
struct tty_end {
	const TtyInfoEntry *e;
	struct tty_end *peer;		/* the other end of a pair, NULL: none in the images */
	const RegFileEntry *reg;	/* path of one of its files, NULL: none has one */
	const TtyDataEntry *data;
	uint32_t sid, pgrp;		/* session and foreground group, as either end has them */
	int fd;				/* the engine's own, for settings and sessions; -EBADF: none */
	bool master, hung, outside;	/* outside: --shell-job's terminal */
	bool orphan;			/* a master that is not in the images: the client's */
};
struct tty_ends {
	struct tty_end **ends;
	size_t n;
	struct map by_id;
	struct map ready;		/* file id -> struct tty_ready: made before its turn */
	int *held;			/* masters of numbers that nobody wants, until all are made */
	size_t n_held;
};
struct tty_ready {
	int fd;
};
struct tty_ends *tty_ends(struct restore_ctx *ctx);
/* What fd gives shall be file id; owns fd. */
int tty_ready_put(struct restore_ctx *ctx, uint32_t id, int fd) _must_check_;

/* tty_load.c: the images, checked. */
int tty_prepare(struct restore_ctx *ctx) _must_check_;
/* Replaced by --shell-job's terminal, if there is one. */
int tty_outside_take(struct restore_ctx *ctx, struct tty_end *end) _must_check_;
struct tty_end *tty_end_of(struct restore_ctx *ctx, const struct restore_file *f);
const RegFileEntry *tty_path_of(struct restore_ctx *ctx, const TtyFileEntry *e);
/* The terminal of a CTTY, NULL: none in the images. */
struct tty_end *tty_behind(struct restore_ctx *ctx, const struct tty_end *ctty);

/* tty_pairs.c. Opens a node only when it is of device rdev. flags without O_NONBLOCK may wait. */
int tty_open_node(struct restore_ctx *ctx, const RegFileEntry *reg, dev_t rdev, int flags,
		  int *ret_fd) _must_check_;
void tty_pairs_done(struct restore_ctx *ctx);
/*
 * tty_orphan.c. Whether it is one the mounts tell; tty_orphans_find() gives it a master then, else it is
 * one from outside.
 */
bool tty_may_be_orphan(struct restore_ctx *ctx, const struct tty_end *end);
int tty_orphans_find(struct restore_ctx *ctx) _must_check_;
/* tty_hung.c. A master has to be made for this end and all of its number. */
bool tty_hung_needs_master(struct restore_ctx *ctx, const struct tty_end *end);
/* What makes it; NULL: out of memory. */
const RegFileEntry *tty_hung_ptmx(struct restore_ctx *ctx, const struct tty_end *end);
/* The hung up files of the master in end->fd. One that only they need is closed. */
int tty_hung_make(struct restore_ctx *ctx, struct tty_end *end) _must_check_;

/*
 * For the core, in this order: pairs and devices, when namespaces are there and no task is;
 * the terminal of a session, by its leader, before the session has members; foreground groups
 * and files of /dev/tty, when groups are made; masters for the client, when nobody is in the
 * tree's namespaces; locks and the operator's terminal, at the end.
 */
int tty_restore_pairs(struct restore_ctx *ctx) _must_check_;
int tty_restore_session(struct restore_ctx *ctx, struct restore_process *leader) _must_check_;
int tty_restore_jobs(struct restore_ctx *ctx) _must_check_;
int tty_restore_orphans(struct restore_ctx *ctx) _must_check_;
int tty_restore_last(struct restore_ctx *ctx) _must_check_;

#endif
