/*
 * System V message queues made again: msgget(2), msgsnd(2).
 *
 * Who sent and received last decides whose the queue is at the next dump. So messages come when
 * the tree's processes exist: the last receiver sends an empty one to the still empty queue and takes
 * it out again, the last sender sends the last one. For those that are not of the tree its root does it.
 *
 * On the machine of the dump the queue is still there: it is taken as it is if its messages are
 * the image's, and refused if they are not.
 */
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/syscall.h>

#include "image/image.h"
#include "ns/ipc_state.h"
#include "ns/ns.h"

#define MSGMAX_PATH "/proc/sys/kernel/msgmax"

static int queue_check(struct restore_ctx *ctx, const IpcMsgEntry *e)
{
	int r = ipc_desc_check("msg", e->desc, 0777);

	if (r < 0)
		return r;
	if (e->qbytes > INT32_MAX || e->qnum > INT32_MAX)
		return log_fail(-EBADMSG, "ipcns-msg: queue %u of %u bytes is malformed", e->desc->id,
				e->qbytes);
	for (const struct rest_queue *o = ctx->ipc_queues; o; o = o->next)
		if (o->e->desc->id == e->desc->id)
			return log_fail(-EBADMSG, "ipcns-msg: queue %u is there twice", e->desc->id);
	return 0;
}

/* Grows with what is there, not with what qnum claims. */
static int messages_read(struct restore_ctx *ctx, struct image_reader *rd, struct rest_queue *q)
{
	size_t n = 0, n_texts = 0;

	while (n < q->e->qnum) {
		const IpcMsg **m = ARENA_PUSH(&ctx->arena, q->messages, n);
		const void **text = ARENA_PUSH(&ctx->arena, q->texts, n_texts);
		int r;

		if (!m || !text)
			return -ENOMEM;
		r = image_get(rd, &ctx->arena, ipc_msg, (IpcMsg **)m);
		if (r <= 0)
			return r < 0 ? r : log_fail(-EBADMSG, "%zu of %u messages are there", n - 1,
						    q->e->qnum);
		if (!(*m)->mtype || (*m)->mtype > LONG_MAX || (*m)->msize > MESSAGE_BYTES_MAX)
			return log_fail(-EBADMSG, "message of type %lu and %u bytes", (*m)->mtype,
					(*m)->msize);
		r = image_get_raw(rd, ROUND_UP((size_t)(*m)->msize, 8), text);
		if (r < 0)
			return r;
		/* Wanted when the image is closed again. */
		*text = arena_memdup(&ctx->arena, *text, (*m)->msize);
		if (!*text)
			return -ENOMEM;
	}
	return 0;
}

static int queue_get(const void *arg)
{
	const struct rest_queue *q = arg;
	int id = msgget((key_t)q->e->desc->key, IPC_CREAT | IPC_EXCL | 0600);

	return id < 0 ? neg_errno() : id;
}

static int queue_get_any(void)
{
	return msgget(IPC_PRIVATE, 0600);
}

static void queue_remove(int id)
{
	msgctl(id, IPC_RMID, NULL);
}

static const struct ipc_maker queue_maker = { "msg", queue_get, queue_get_any, queue_remove };

static size_t bytes_largest(const struct rest_queue *q)
{
	size_t max = 0;

	for (uint32_t i = 0; i < q->e->qnum; i++)
		max = MAX(max, (size_t)q->messages[i]->msize);
	return max;
}

/* A queue may hold more than qbytes: that was lowered later. */
static size_t bytes_needed(const struct rest_queue *q)
{
	size_t sum = 0;

	for (uint32_t i = 0; i < q->e->qnum; i++)
		sum += q->messages[i]->msize;
	return MAX(MAX(sum, (size_t)q->e->qnum), 1ul);
}

static int queue_dress(struct restore_ctx *ctx, const struct rest_queue *q, size_t qbytes)
{
	const IpcDescEntry *d = q->e->desc;
	struct msqid_ds ds = {
		.msg_perm = { .uid = ns_restore_uid(ctx, d->uid), .gid = ns_restore_gid(ctx, d->gid),
			      .mode = (unsigned short)d->mode },
		.msg_qbytes = qbytes,
	};

	if (msgctl((int)d->id, IPC_SET, &ds) < 0)
		return log_err(neg_errno(), "cannot set its owner and size of %zu bytes", qbytes);
	return 0;
}

static bool is_message(const struct rest_queue *q, uint32_t i, struct msgbuf *buf, size_t room)
{
	const IpcMsg *m = q->messages[i];
	ssize_t n = msgrcv((int)q->e->desc->id, buf, room, (long)i, MSG_COPY | IPC_NOWAIT);

	return n == (ssize_t)m->msize && buf->mtype == (long)m->mtype &&
	       !memcmp(buf->mtext, q->texts[i], m->msize);
}

static int queue_take_over(struct restore_ctx *ctx, const struct rest_queue *q, const struct msqid_ds *ds)
{
	size_t room = bytes_largest(q);
	_cleanup_free_ struct msgbuf *buf = malloc(sizeof(*buf) + room);
	bool same = ds->msg_qnum == q->e->qnum;
	int id = (int)q->e->desc->id, r;

	if (!buf)
		return -ENOMEM;
	r = ipc_same_object(ctx, &ds->msg_perm, q->e->desc);
	if (r >= 0)
		r = ipc_unused(ds->msg_lspid, 'q', id);
	if (r >= 0)
		r = ipc_unused(ds->msg_lrpid, 'q', id);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < q->e->qnum && same; i++)
		same = is_message(q, i, buf, room);
	return same ? 0 : log_fail(-EEXIST, "it was used since the dump; remove it with: ipcrm -q %d", id);
}

static int message_send(const struct rest_queue *q, struct msgbuf *buf, uint32_t i)
{
	const IpcMsg *m = q->messages[i];

	buf->mtype = (long)m->mtype;
	memcpy(buf->mtext, q->texts[i], m->msize);
	return msgsnd((int)q->e->desc->id, buf, m->msize, IPC_NOWAIT) < 0 ? neg_errno() : 0;
}

static int messages_send(const struct rest_queue *q, uint32_t n)
{
	_cleanup_free_ struct msgbuf *buf = malloc(sizeof(*buf) + bytes_largest(q));
	int r = buf ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < n && r >= 0; i++)
		r = message_send(q, buf, i);
	return r;
}

/* In a child: at the next dump the last sender is dead. */
static int messages_send_all(const void *arg)
{
	const struct rest_queue *q = arg;

	return messages_send(q, q->e->qnum);
}

/* An empty message through the empty queue. */
static int pass(struct restore_ctx *ctx, const struct rest_queue *q, struct restore_process *from,
		struct restore_process *to)
{
	const struct msgbuf buf = { .mtype = 1 };
	struct batch *b = &ctx->batch;
	int r;

	batch_begin(b, &from->threads[0].task);
	batch_call(b, SYS_msgsnd, q->e->desc->id, batch_put(b, &buf, sizeof(buf)), 0, IPC_NOWAIT);
	r = batch_run(b);
	if (r < 0)
		return r;
	batch_begin(b, &to->threads[0].task);
	batch_call(b, SYS_msgrcv, q->e->desc->id, batch_put(b, &buf, sizeof(buf)), 0, 0, IPC_NOWAIT);
	return batch_run(b);
}

static int send_last(struct restore_ctx *ctx, const struct rest_queue *q, struct restore_process *from)
{
	uint32_t i = q->e->qnum - 1;
	size_t bytes = q->messages[i]->msize;
	struct batch *b = &ctx->batch;
	struct msgbuf *buf;
	uint64_t at;

	batch_begin(b, &from->threads[0].task);
	at = batch_put(b, NULL, sizeof(buf->mtype) + bytes);
	buf = batch_data(b, at);
	buf->mtype = (long)q->messages[i]->mtype;
	memcpy(buf->mtext, q->texts[i], bytes);
	batch_call(b, SYS_msgsnd, q->e->desc->id, at, bytes, IPC_NOWAIT);
	return batch_run(b);
}

static struct restore_process *user(struct restore_ctx *ctx, uint32_t pid)
{
	struct restore_process *p = ipc_process(ctx, pid);

	return p ? p : &ctx->procs[0];
}

static int queue_fill(struct restore_ctx *ctx, const struct rest_queue *q)
{
	const IpcMsgEntry *e = q->e;
	int r = 0;

	if (e->by_owner)
		return ipc_in_child(ctx, NULL, messages_send_all, q);
	if (e->lrpid || (e->lspid && !e->qnum))
		r = pass(ctx, q, user(ctx, e->lspid ? e->lspid : e->lrpid),
			 user(ctx, e->lrpid ? e->lrpid : e->lspid));
	if (r >= 0 && e->qnum)
		r = messages_send(q, e->qnum - 1);
	return r < 0 || !e->qnum ? r : send_last(ctx, q, user(ctx, e->lspid));
}

/* kernel.msgmax may be set later than an early restore: raised while we send. */
static int msgmax_raise(size_t bytes, char **ret_before)
{
	_cleanup_free_ char *before = NULL;
	uint64_t now;
	char text[24];
	int r;

	*ret_before = NULL;
	r = read_file_at(AT_FDCWD, MSGMAX_PATH, 64, &before, NULL);
	if (r >= 0) {
		before[strcspn(before, "\n")] = '\0';
		r = parse_u64(before, 10, &now);
	}
	if (r < 0)
		return log_err(r, "cannot read " MSGMAX_PATH);
	if (now >= bytes)
		return 0;
	snprintf(text, sizeof(text), "%zu", bytes);
	r = write_filef(text, MSGMAX_PATH);
	if (r < 0)
		return log_err(r, "cannot write " MSGMAX_PATH);
	*ret_before = take_ptr(before);
	return 0;
}

static int queue_restore_users(struct restore_ctx *ctx, const struct rest_queue *q)
{
	_cleanup_free_ char *before = NULL;
	int r;

	LOG_SCOPE("System V message queue %u", q->e->desc->id);
	r = msgmax_raise(bytes_largest(q), &before);
	if (r < 0)
		return r;
	r = queue_fill(ctx, q);
	if (before && write_filef(before, MSGMAX_PATH) < 0)
		log_warn("cannot write " MSGMAX_PATH " again");
	return r < 0 ? log_err(r, "cannot send its %u messages", q->e->qnum)
		     : queue_dress(ctx, q, q->e->qbytes);
}

int ipc_msg_restore_users(struct restore_ctx *ctx)
{
	int r = 0;

	for (const struct rest_queue *q = ctx->ipc_queues; q && r >= 0; q = q->next)
		r = q->made ? queue_restore_users(ctx, q) : 0;
	return r;
}

static int queue_restore(struct restore_ctx *ctx, struct rest_queue *q)
{
	struct msqid_ds ds;
	int r = 0, id = (int)q->e->desc->id;
	bool there = msgctl(id, IPC_STAT, &ds) >= 0;

	LOG_SCOPE("System V message queue %d", id);
	if (there)
		r = q->e->by_owner ? ipc_same_object(ctx, &ds.msg_perm, q->e->desc)
				   : queue_take_over(ctx, q, &ds);
	/* Its last users are of a PID namespace that is gone: in the new one they would be nobody. */
	if (there && r >= 0 && !q->e->by_owner && ns_restore_has_pidns(ctx)) {
		queue_remove(id);
		there = false;
	}
	if (!there) {
		r = ipc_make(ctx, &queue_maker, q->e->desc, q);
		q->made = r >= 0;
	}
	if (r == -EEXIST && q->e->by_owner)
		return ipc_leave_out();
	return q->made ? queue_dress(ctx, q, MAX(bytes_needed(q), (size_t)q->e->qbytes)) : r;
}

static int queue_load(struct restore_ctx *ctx, struct image_reader *rd, const IpcMsgEntry *e)
{
	struct rest_queue *q = ARENA_NEW(&ctx->arena, struct rest_queue);
	int r = q ? queue_check(ctx, e) : -ENOMEM;

	if (r < 0)
		return r;
	*q = (struct rest_queue){ .next = ctx->ipc_queues, .e = e };
	r = messages_read(ctx, rd, q);
	if (r < 0)
		return r;
	ctx->ipc_queues = q;
	return 0;
}

int ipc_msg_restore(struct restore_ctx *ctx, uint32_t ns_id)
{
	_cleanup_image_reader_ struct image_reader rd = { 0 };
	IpcMsgEntry *e;
	int r;

	r = image_open_optional(ctx->store, &image_ipcns_msg, &rd, ns_id);
	if (r < 0)
		return r;
	while ((r = image_get(&rd, &ctx->arena, ipc_msg_entry, &e)) > 0) {
		r = queue_load(ctx, &rd, e);
		if (r < 0)
			return r;
	}
	for (struct rest_queue *q = ctx->ipc_queues; q && r >= 0; q = q->next)
		r = queue_restore(ctx, q);
	return r;
}

void ipc_msg_remove(struct restore_ctx *ctx)
{
	for (struct rest_queue *q = ctx->ipc_queues; q; q = q->next)
		if (q->made)
			queue_remove((int)q->e->desc->id);
}
