/*
 * POSIX message queues made again: mq_open(3), mq_send(3); each file by opening /proc/self/fd/N of
 * the queue anew.
 *
 * A queue lives until it is unlinked. On the machine of the dump one with a name is still there:
 * taken as it is if nobody has it open and its messages are the image's, else refused.
 */
#include <fcntl.h>
#include <mqueue.h>
#include <string.h>
#include <sys/resource.h>

#include "kind/mqueue.h"
#include "ns/ns.h"

/* The kernel's own limits, whatever the sysctls say (mq_overview(7)). */
#define MAXMSG_MAX	65536u
#define MSGSIZE_MAX	(16u << 20)
#define PRIORITY_MAX	32767u

struct queue {
	struct queue *next;
	const MqueueEntry *e;
	int fd;			/* read-write, the engine's; -EBADF: not yet made */
	bool made;
};

struct mqueues {
	struct queue *queues;
	struct mqueue_users users;
};

static struct mqueues *state(struct restore_ctx *ctx)
{
	void **slot = &ctx->kind_state[FD_TYPES__EXT];

	if (!*slot)
		*slot = ARENA_NEW(&ctx->arena, struct mqueues);
	return *slot;
}

static struct queue *queue_find(const struct mqueues *m, uint64_t id)
{
	for (struct queue *q = m->queues; q; q = q->next)
		if (q->e->queue == id)
			return q;
	return NULL;
}

static bool messages_are_sane(const MqueueState *s)
{
	uint32_t last = PRIORITY_MAX;

	for (size_t i = 0; i < s->n_messages; i++) {
		const MqueueMessage *m = s->messages[i];

		if (m->data.len > s->msgsize || m->priority > last)
			return false;
		last = m->priority;
	}
	return true;
}

static int state_check(const MqueueState *s)
{
	const ProtobufCBinaryData *n = &s->name;

	if (!n->len || n->len > NAME_MAX || memchr(n->data, '/', n->len) || memchr(n->data, 0, n->len) ||
	    (n->len <= 2 && !memcmp(n->data, "..", n->len)))
		return log_fail(-EBADMSG, "files.img: a message queue without a usable name");
	if (s->mode > 07777 || !s->maxmsg || s->maxmsg > MAXMSG_MAX || !s->msgsize ||
	    s->msgsize > MSGSIZE_MAX || s->n_messages > s->maxmsg || !messages_are_sane(s))
		return log_fail(-EBADMSG, "files.img: message queue /%.*s is malformed", (int)n->len,
				(const char *)n->data);
	return 0;
}

static int queue_load(struct restore_ctx *ctx, struct mqueues *m, const MqueueEntry *e)
{
	struct queue *q;
	int r = state_check(e->state);

	if (r < 0)
		return r;
	if (queue_find(m, e->queue))
		return log_fail(-EBADMSG, "files.img: message queue %lu is there twice", e->queue);
	q = ARENA_NEW(&ctx->arena, struct queue);
	if (!q)
		return -ENOMEM;
	*q = (struct queue){ .next = m->queues, .e = e, .fd = -EBADF };
	m->queues = q;
	return 0;
}

int mqueue_prepare(struct restore_ctx *ctx)
{
	struct mqueues *m = state(ctx);
	int r = m ? 0 : log_err(-ENOMEM, "message queues");

	for (size_t i = 0; i < ctx->n_files && r >= 0; i++) {
		const FileEntry *fe = ctx->files[i]->fe;

		if (fe->type == FD_TYPES__EXT && !fe->ext->mqueue)
			return log_fail(-EOPNOTSUPP, "files.img: file %u was saved by a plugin, which is not here",
					fe->id);
		if (fe->type == FD_TYPES__EXT && fe->ext->mqueue->state)
			r = queue_load(ctx, m, fe->ext->mqueue);
	}
	for (size_t i = 0; i < ctx->n_files && r >= 0; i++) {
		const FileEntry *fe = ctx->files[i]->fe;

		if (fe->type == FD_TYPES__EXT && !queue_find(m, fe->ext->mqueue->queue))
			return log_fail(-EBADMSG, "files.img: file %u: no message queue %lu", fe->id,
					fe->ext->mqueue->queue);
	}
	return r;
}

/* The engine's user is charged for all queues of all trees: its limit is not theirs. */
static int open_unlimited(const char *name, struct mq_attr *attr)
{
	const struct rlimit none = { RLIM_INFINITY, RLIM_INFINITY };
	struct rlimit before;
	bool raised = !prlimit(0, RLIMIT_MSGQUEUE, &none, &before);
	int fd = mq_open(name, O_RDWR | O_CREAT | O_EXCL | O_NONBLOCK, 0600, attr), r;

	r = fd < 0 ? neg_errno() : fd;
	if (raised && prlimit(0, RLIMIT_MSGQUEUE, &before, NULL) < 0)
		log_warn("cannot set RLIMIT_MSGQUEUE again");
	return r;
}

static int queue_fill(struct restore_ctx *ctx, struct queue *q)
{
	const MqueueState *s = q->e->state;

	if (fchown(q->fd, ns_restore_uid(ctx, s->uid), ns_restore_gid(ctx, s->gid)) < 0 ||
	    fchmod(q->fd, s->mode) < 0)
		return log_err(neg_errno(), "cannot set its owner and mode");
	for (size_t i = 0; i < s->n_messages; i++) {
		const MqueueMessage *m = s->messages[i];
		const char *data = m->data.len ? (const char *)m->data.data : "";

		if (mq_send(q->fd, data, m->data.len, m->priority) < 0)
			return log_err(neg_errno(), "cannot send message %zu of %zu", i, s->n_messages);
	}
	return 0;
}

static bool same_message(const MqueueMessage *a, const MqueueMessage *b)
{
	return a->priority == b->priority && a->data.len == b->data.len &&
	       (!a->data.len || !memcmp(a->data.data, b->data.data, a->data.len));
}

static bool same_messages(const MqueueState *s, MqueueMessage **messages, size_t n)
{
	if (n != s->n_messages)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!same_message(messages[i], s->messages[i]))
			return false;
	return true;
}

static int queue_take_over(struct restore_ctx *ctx, struct queue *q, const char *name)
{
	const MqueueState *s = q->e->state;
	_cleanup_close_ int fd = mq_open(name, O_RDWR | O_NONBLOCK);
	MqueueMessage **messages;
	struct mqueue_info info;
	struct mq_attr attr;
	struct stat st;
	size_t n;
	pid_t pid;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0 || mq_getattr(fd, &attr) < 0)
		return log_err(neg_errno(), "cannot look at the one that is there");
	r = mqueue_info_read(fd, &info);
	if (r < 0)
		return log_err(r, "cannot look at the one that is there");
	r = mqueue_user(&ctx->arena, &state(ctx)->users, fd, NULL, NULL, &pid);
	if (r < 0)
		return log_err(r, "cannot find out who has it open");
	if (pid || info.notify_pid)
		return log_fail(-EBUSY, "process %d has it open", pid ? pid : info.notify_pid);
	if (attr.mq_maxmsg != s->maxmsg || attr.mq_msgsize != s->msgsize ||
	    st.st_uid != ns_restore_uid(ctx, s->uid))
		return log_fail(-EEXIST, "another queue has its name; remove it before (mq_unlink)");
	r = mqueue_read(&ctx->arena, fd, &messages, &n);
	if (r < 0)
		return log_err(r, "cannot read the one that is there");
	if (!same_messages(s, messages, n))
		return log_fail(-EEXIST, "it was used since the dump; remove it before (mq_unlink)");
	q->fd = take_fd(&fd);
	return 0;
}

static int queue_make(struct restore_ctx *ctx, struct queue *q)
{
	const MqueueState *s = q->e->state;
	struct mq_attr attr = { .mq_maxmsg = s->maxmsg, .mq_msgsize = s->msgsize };
	char name[NAME_MAX + 2];

	if (s->unlinked)
		snprintf(name, sizeof(name), "/crk-%d-%lu", getpid(), q->e->queue);
	else
		snprintf(name, sizeof(name), "/%.*s", (int)s->name.len, (const char *)s->name.data);
	q->fd = open_unlimited(name, &attr);
	if (q->fd == -EEXIST && !s->unlinked)
		return queue_take_over(ctx, q, name);
	if (q->fd < 0)
		return log_err(q->fd, "cannot make it: %u messages of %u bytes (fs.mqueue.msg_max, msgsize_max, queues_max; RLIMIT_MSGQUEUE)",
			       s->maxmsg, s->msgsize);
	q->made = true;
	if (s->unlinked && mq_unlink(name) < 0)
		return log_err(neg_errno(), "cannot unlink %s", name);
	return queue_fill(ctx, q);
}

/* Also those that nobody has open. */
int mqueue_begin(struct restore_ctx *ctx)
{
	int r = 0;

	for (struct queue *q = state(ctx)->queues; q && r >= 0; q = q->next) {
		LOG_SCOPE("message queue /%.*s", (int)q->e->state->name.len,
			  (const char *)q->e->state->name.data);
		r = queue_make(ctx, q);
	}
	return r;
}

int mqueue_restore(struct restore_ctx *ctx, struct restore_file *f, int *ret_fd)
{
	const MqueueEntry *e = f->fe->ext->mqueue;
	struct queue *q = queue_find(state(ctx), e->queue);
	_cleanup_close_ int fd = -EBADF;
	int r;

	LOG_SCOPE("message queue /%.*s", (int)q->e->state->name.len, (const char *)q->e->state->name.data);
	fd = mqueue_open_again(q->fd, (int)e->flags & (O_ACCMODE | O_NONBLOCK));
	if (fd < 0)
		return log_err(fd, "cannot open it again");
	r = restore_flags_fown(fd, e->flags, f->fe->ext->fown);
	if (r < 0)
		return log_err(r, "cannot set flags %o or owner", e->flags);
	*ret_fd = take_fd(&fd);
	return 0;
}

void mqueue_restore_done(struct restore_ctx *ctx)
{
	struct mqueues *m = ctx->kind_state[FD_TYPES__EXT];

	for (struct queue *q = m ? m->queues : NULL; q; q = q->next) {
		const MqueueState *s = q->e->state;
		char name[NAME_MAX + 2];

		snprintf(name, sizeof(name), "/%.*s", (int)s->name.len, (const char *)s->name.data);
		/* By name, in the host's namespace; one of the tree's own takes them along. */
		if (q->made && !s->unlinked && ctx->failed && !ns_restore_has_ipcns(ctx))
			mq_unlink(name);
		close_fdp(&q->fd);
	}
	if (m)
		mqueue_users_done(&m->users);
}
