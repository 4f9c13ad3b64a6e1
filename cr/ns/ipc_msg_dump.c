/*
 * System V message queues of a tree → ipcns-msg-N.img.
 *
 *   dump     msgctl(MSG_STAT); messages by msgrcv(MSG_COPY), which leaves them in the queue
 *            (CONFIG_CHECKPOINT_RESTORE)
 *
 * The kernel does not tell who waits in msgrcv(2): outsiders that never sent nor received
 * anything are not seen.
 */
#include <sys/syscall.h>

#include "core/pids.h"
#include "image/image.h"
#include "ns/ipc_state.h"

static const uint64_t calls[] = { SYS_msgsnd, SYS_msgrcv };

static pid_t queue_user(struct dump_ctx *ctx, const struct msg_queue *q, enum ipc_user user)
{
	const pid_t pids[] = { q->ds.msg_lspid, q->ds.msg_lrpid };

	for (size_t i = 0; i < ARRAY_SIZE(pids); i++)
		if (ipc_user_of(ctx, pids[i]) == user)
			return pids[i];
	return 0;
}

static bool queue_is_ours(struct dump_ctx *ctx, struct msg_queue *q)
{
	enum ipc_owner owner;

	if (ipc_all_ours(ctx) || queue_user(ctx, q, IPC_TREE) || ipc_tree_waits(ctx, q->id, calls, ARRAY_SIZE(calls)))
		return true;
	owner = ipc_owner_of(ctx, &q->ds.msg_perm);
	q->by_owner = owner != IPC_OWNER_OTHER && !queue_user(ctx, q, IPC_OTHER) &&
		      ipc_goes_with_owner(owner, &q->ds.msg_perm, "message queue", q->id);
	return q->by_owner;
}

static bool has_large_message(const struct msg_queue *q)
{
	_cleanup_free_ struct msgbuf *buf = malloc(sizeof(*buf) + MESSAGE_BYTES_MAX);

	for (unsigned long i = 0; buf && i < q->ds.msg_qnum; i++)
		if (msgrcv(q->id, buf, MESSAGE_BYTES_MAX, (long)i, MSG_COPY | IPC_NOWAIT) < 0)
			return true;
	return !buf;
}

static int queue_check(struct dump_ctx *ctx, const struct msg_queue *q)
{
	pid_t pid = queue_user(ctx, q, IPC_OTHER);

	LOG_SCOPE("System V message queue %d (key 0x%08x)", q->id, (unsigned int)q->ds.msg_perm.__key);
	if (pid)
		return log_obstacle(IPC_REMEDY_OTHERS, "used by process %d (%s), outside the tree, too",
				    pid, ipc_comm(pid));
	if (q->ds.__msg_cbytes > MESSAGE_BYTES_MAX && has_large_message(q))
		return log_obstacle(IPC_REMEDY, "a message is larger than %u bytes, or cannot be copied",
				    MESSAGE_BYTES_MAX);
	return 0;
}

int ipc_msg_check(struct dump_ctx *ctx)
{
	struct msginfo info;
	int last = msgctl(0, MSG_INFO, (struct msqid_ds *)(void *)&info), refused = 0;

	for (int i = 0; i <= last && i < IPC_OBJECTS_MAX; i++) {
		struct msg_queue *q, found = { 0 };
		int r;

		found.id = msgctl(i, MSG_STAT, &found.ds);
		if (found.id < 0 || !queue_is_ours(ctx, &found))
			continue;
		q = arena_memdup(&ctx->arena, &found, sizeof(found));
		if (!q)
			return -ENOMEM;
		q->next = ctx->ipc_queues;
		ctx->ipc_queues = q;
		r = queue_check(ctx, q);
		refused = r < 0 ? r : refused;
	}
	return refused;
}

static int message_dump(const struct msg_queue *q, uint32_t i, struct msgbuf *buf, size_t room,
			struct image_writer *w)
{
	static const char pad[8];
	IpcMsg m = IPC_MSG__INIT;
	ssize_t n = msgrcv(q->id, buf, room, (long)i, MSG_COPY | IPC_NOWAIT);
	int r;

	if (n < 0)
		return log_err(neg_errno(), "cannot copy message %u of %lu", i, q->ds.msg_qnum);
	m.mtype = (uint64_t)buf->mtype;
	m.msize = (uint32_t)n;
	r = image_put(w, &m.base);
	if (r >= 0 && n)
		r = image_put_raw(w, buf->mtext, (size_t)n);
	if (r >= 0 && n % 8)
		r = image_put_raw(w, pad, 8 - (size_t)n % 8);
	return r;
}

/* Who used it last, as the asker's PID namespace knows it. */
static int users_read(void *arg)
{
	struct msg_queue *q = arg;

	return msgctl(q->id, IPC_STAT, &q->ds) < 0 ? neg_errno() : 0;
}

static int queue_dump(struct dump_ctx *ctx, struct msg_queue *q, struct image_writer *w)
{
	size_t room = MIN((size_t)q->ds.__msg_cbytes, (size_t)MESSAGE_BYTES_MAX);
	_cleanup_free_ struct msgbuf *buf = malloc(sizeof(*buf) + room);
	IpcMsgEntry e = IPC_MSG_ENTRY__INIT;
	IpcDescEntry d = IPC_DESC_ENTRY__INIT;
	int r;

	LOG_SCOPE("System V message queue %d", q->id);
	if (!buf)
		return -ENOMEM;
	r = dump_ask_inside(ctx, users_read, q);
	if (r < 0)
		return log_err(r, "cannot read who used it last");
	ipc_describe(ctx, &q->ds.msg_perm, q->id, &d);
	e.desc = &d;
	e.qbytes = (uint32_t)q->ds.msg_qbytes;
	e.qnum = (uint32_t)q->ds.msg_qnum;
	e.has_lspid = e.has_lrpid = true;
	e.lspid = (uint32_t)q->ds.msg_lspid;
	e.lrpid = (uint32_t)q->ds.msg_lrpid;
	e.has_by_owner = e.by_owner = q->by_owner;
	r = image_put(w, &e.base);
	for (uint32_t i = 0; i < e.qnum && r >= 0; i++)
		r = message_dump(q, i, buf, room, w);
	return r;
}

int ipc_msg_dump(struct dump_ctx *ctx)
{
	_cleanup_image_writer_ struct image_writer *w = NULL;
	int r;

	if (!ctx->ipc_queues)
		return 0;
	r = image_create(ctx->store, &image_ipcns_msg, &w, ctx->procs[0]->ids->ipc_ns_id);
	for (struct msg_queue *q = ctx->ipc_queues; q && r >= 0; q = q->next)
		r = queue_dump(ctx, q, w);
	return r < 0 ? r : image_close(take_ptr(w));
}
