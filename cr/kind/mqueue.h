/* Between the mqueue*.c files. */
#ifndef CR_KIND_MQUEUE_H
#define CR_KIND_MQUEUE_H

#include "kind/kinds.h"

/* Opens a queue's file anew, by /proc/self/fd. */
int mqueue_open_again(int fd, int flags) _must_check_;

/* mqueue_restore.c */
int mqueue_prepare(struct restore_ctx *ctx) _must_check_;
int mqueue_begin(struct restore_ctx *ctx) _must_check_;
int mqueue_restore(struct restore_ctx *ctx, struct restore_file *f, int *ret_fd) _must_check_;
void mqueue_restore_done(struct restore_ctx *ctx);

/* mqueue_data.c */
/* What read(2) of a queue tells. -EBADMSG. */
struct mqueue_info {
	uint64_t bytes;		/* of all messages together */
	pid_t notify_pid;	/* whom a message notifies (mq_notify(3)); 0: nobody */
};
int mqueue_info_parse(const char *text, struct mqueue_info *ret) _must_check_;
int mqueue_info_read(int fd, struct mqueue_info *ret) _must_check_;
/*
 * All messages in the order of mq_receive(3): taken out and put back, by a child that no signal
 * but SIGKILL reaches. fd: read-write, not blocking. Nobody else may use the queue meanwhile.
 */
int mqueue_read(struct arena *a, int fd, MqueueMessage ***ret, size_t *ret_n) _must_check_;
/* mqueue_users.c. Zero at first. */
struct mqueue_users {
	struct map by_name;	/* files that processes have open */
	bool looked;
};
/*
 * A process that has the queue open, for which skip() is false; *ret 0: none. Not the caller. As it was
 * at the first question.
 */
int mqueue_user(struct arena *a, struct mqueue_users *u, int fd, bool (*skip)(void *arg, pid_t pid),
		void *arg, pid_t *ret) _must_check_;
void mqueue_users_done(struct mqueue_users *u);

/* What f's queue is: attributes, owner, messages. Obstacles: others use it. */
int mqueue_dump_state(struct dump_ctx *ctx, const struct dump_file *f, MqueueState **ret) _must_check_;
/*
 * mqueue_loose.c: queues in dir_fd that are open nowhere: saved in a namespace of the tree's own, else warned
 * of if they may be the tree's. dumped: by inode.
 */
int mqueue_dump_loose(struct dump_ctx *ctx, int dir_fd, const struct map *dumped, struct mqueue_users *users)
	_must_check_;

#endif
