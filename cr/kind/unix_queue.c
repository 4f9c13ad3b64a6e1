/*
 * What waits to be read in a unix socket, message by message, descriptors included.
 *
 * SO_PEEK_OFF lets MSG_PEEK go forward; it is put back. A stream shows plain bytes and the
 * message with descriptors after them in one read; see plain_before().
 */
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "core/pids.h"
#include "kind/sk_unix.h"

#define RIGHTS_MAX	253	/* the kernel's SCM_MAX_FD */
#ifndef SCM_PIDFD
#define SCM_PIDFD	4
#endif
#define FIRST_ROOM	(64u << 10)
#define QUEUE_MAX	(1u << 30)

struct message {
	uint8_t *data;		/* borrowed */
	size_t bytes;
	int fds[RIGHTS_MAX];
	size_t n_fds;
	struct ucred sender;	/* as we are told; pid 0: it carries none */
	uint32_t sender_pid;	/* as the tree will be told; 0: it is outside its PID namespace */
	bool truncated, nameless_sender;
};

static void message_done(struct message *m)
{
	for (size_t i = 0; i < m->n_fds; i++)
		close(m->fds[i]);
	m->n_fds = 0;
}

static void take_control(struct msghdr *h, struct message *m)
{
	bool pidfd_only = false;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
		size_t n;

		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type == SCM_CREDENTIALS)
			memcpy(&m->sender, CMSG_DATA(c), sizeof(m->sender));
		if (c->cmsg_type == SCM_PIDFD) {
			int pidfd;

			memcpy(&pidfd, CMSG_DATA(c), sizeof(pidfd));
			close_fdp(&pidfd);
			pidfd_only = true;
		}
		if (c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		n = MIN(n, RIGHTS_MAX - m->n_fds);
		memcpy(m->fds + m->n_fds, CMSG_DATA(c), n * sizeof(int));
		m->n_fds += n;
	}
	m->nameless_sender = pidfd_only && !m->sender.pid;
}

/* 1: got one; 0: nothing more. off: where in the queue, -1: where the last one ended. */
static int peek(int fd, int off, uint8_t *buf, size_t room, struct message *m)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(RIGHTS_MAX * sizeof(int)) + 512];
	} control;
	struct iovec io = { buf, room };
	struct msghdr h = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = &control,
			    .msg_controllen = sizeof(control) };
	ssize_t n;
	int r;

	m->n_fds = 0;
	m->sender = (struct ucred){ 0 };
	if (off >= 0) {
		r = sk_set_int(fd, SOL_SOCKET, SO_PEEK_OFF, off);
		if (r < 0)
			return r;
	}
	n = recvmsg(fd, &h, MSG_PEEK | MSG_DONTWAIT | MSG_TRUNC | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return errno == EAGAIN ? 0 : neg_errno();
	take_control(&h, m);
	m->data = buf;
	m->bytes = (size_t)n;
	m->truncated = m->bytes > room;
	if (h.msg_flags & MSG_CTRUNC) {
		message_done(m);
		return -EOVERFLOW;
	}
	return 1;
}

/*
 * How many plain bytes lie before the message that carries the descriptors. A peek of any
 * length goes on to it; but one into memory that ends a byte too early cannot copy it and gives
 * what came before: nothing shows the boundary otherwise.
 */
static int plain_before(int fd, int off, const struct message *m, size_t *ret)
{
	size_t room = ROUND_UP(m->bytes, (size_t)PAGE_BYTES);
	uint8_t *map = mmap(NULL, room + PAGE_BYTES, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	_cleanup_(message_done) struct message probe = { 0 };
	int r;

	if (map == MAP_FAILED)
		return -ENOMEM;
	r = mprotect(map + room, PAGE_BYTES, PROT_NONE) < 0 ? neg_errno() : 0;
	if (!r)
		r = peek(fd, off, map + room - (m->bytes - 1), m->bytes, &probe);
	munmap(map, room + PAGE_BYTES);
	*ret = r > 0 ? probe.bytes : 0;
	if (r == -EFAULT)	/* not a byte before it */
		return 0;
	return r < 0 ? r : !r || probe.n_fds ? -EAGAIN : 0;
}

struct queue {
	struct dump_ctx *ctx;
	struct dump_file *f;
	int fd;
	struct image_writer *w;		/* NULL: for a check, nothing is written */
	uint32_t id;
	bool stream;
};

static int put(const struct queue *q, const struct message *m, const uint8_t *data, size_t bytes,
	       ScmEntry *scm)
{
	SkPacketEntry e = SK_PACKET_ENTRY__INIT;
	SkCredsEntry creds = SK_CREDS_ENTRY__INIT;
	int r;

	if (!q->w)
		return 0;
	if (m->sender.pid) {
		creds.pid = m->sender_pid;
		creds.uid = m->sender.uid;
		creds.gid = m->sender.gid;
		e.creds = &creds;
	}

	e.id_for = q->id;
	e.length = (uint32_t)bytes;
	e.n_scm = scm ? 1 : 0;
	e.scm = &scm;
	r = image_put(q->w, &e.base);
	return r < 0 || !bytes ? r : image_put_raw(q->w, data, bytes);
}

static int rights_of(const struct queue *q, const struct message *m, ScmEntry **ret)
{
	struct dump_ctx *ctx = q->ctx;
	ScmEntry *scm = ARENA_MSG(&ctx->arena, ScmEntry, scm_entry);

	if (!scm)
		return log_err(-ENOMEM, "queued descriptors");
	scm->type = SCM_RIGHTS;
	scm->rights = arena_alloc(&ctx->arena, m->n_fds * sizeof(*scm->rights));
	if (!scm->rights)
		return log_err(-ENOMEM, "queued descriptors");
	for (size_t i = 0; i < m->n_fds; i++) {
		struct dump_file *qf;
		int r = dump_file_get_queued(ctx, q->f->owner, m->fds[i], &qf);

		if (r < 0)
			return r;
		scm->rights[scm->n_rights++] = qf->id;
	}
	*ret = scm;
	return 0;
}

struct sender_question {
	int fd, off;
	struct ucred sender;
};

static int sender_ask(void *arg)
{
	_cleanup_(message_done) struct message m = { 0 };
	struct sender_question *a = arg;
	uint8_t byte;
	int r = peek(a->fd, a->off, &byte, 1, &m);

	a->sender = m.sender;
	return r > 0 ? 0 : r < 0 ? r : -EAGAIN;
}

static int sender_find(const struct queue *q, struct message *m, int off)
{
	struct sender_question a = { q->fd, off, m->sender };
	uint32_t pid = q->ctx->pid_level ? dump_pid_virtual(q->ctx, m->sender.pid) : 0;
	int r = 0;

	if (!pid && m->sender.pid && q->ctx->pid_level)
		r = dump_ask_inside(q->ctx, sender_ask, &a);
	m->sender_pid = pid ? pid : (uint32_t)a.sender.pid;
	return r < 0 ? log_err(r, "cannot read who sent what is queued") : 0;
}

static int put_message(const struct queue *q, const struct message *m, int off)
{
	ScmEntry *scm = NULL;
	size_t plain = 0;
	int r;

	if (m->nameless_sender)
		return log_obstacle("try again when the service has read them",
				    "messages are queued whose sender only a pidfd tells "
				    "(SO_PASSPIDFD without SO_PASSCRED)");
	if (m->n_fds) {
		/* First: a queued socket's own queue goes to the same image. */
		r = rights_of(q, m, &scm);
		if (r < 0)
			return r;
		if (q->stream) {
			r = plain_before(q->fd, off, m, &plain);
			if (r < 0)
				return log_err(r, "cannot find the queued descriptors' place");
		}
	}
	r = plain ? put(q, m, m->data, plain, NULL) : 0;
	if (!r)
		r = put(q, m, m->data + plain, m->bytes - plain, scm);
	return r < 0 ? log_err(r, "cannot write sk-queues.img") : 0;
}

/* A datagram longer than the buffer is looked at again with more room. */
static int peek_whole(int fd, int off, uint8_t **buf, size_t *room, struct message *m)
{
	int r = peek(fd, off, *buf, *room, m);

	while (r > 0 && m->truncated) {
		size_t need = m->bytes;

		message_done(m);
		if (need > QUEUE_MAX)
			return -EOVERFLOW;
		free(*buf);
		*buf = malloc(need);
		*room = need;
		if (!*buf)
			return -ENOMEM;
		r = peek(fd, off, *buf, *room, m);
	}
	return r;
}

static int dump_messages(const struct queue *q, bool ends)
{
	size_t room = FIRST_ROOM, off = 0;
	_cleanup_free_ uint8_t *buf = malloc(room);

	if (!buf)
		return log_err(-ENOMEM, "queue");
	for (;;) {
		_cleanup_(message_done) struct message m = { 0 };
		int r = peek_whole(q->fd, (int)off, &buf, &room, &m);

		if (r < 0)
			return log_err(r, "cannot read what is queued");
		/* End of file looks like an empty message. */
		if (!r || (!m.bytes && !m.n_fds && (q->stream || ends)))
			return 0;
		r = sender_find(q, &m, (int)off);
		if (r >= 0)
			r = put_message(q, &m, (int)off);
		if (r < 0)
			return r;
		off += m.bytes;
		if (off > QUEUE_MAX)
			return log_fail(-EOVERFLOW, "more than %u bytes are queued", QUEUE_MAX);
	}
}

int unix_queue_dump(struct dump_ctx *ctx, struct dump_file *f, int fd, const UnixSkEntry *e)
{
	struct queue q = { .ctx = ctx, .f = f, .fd = fd, .id = f->id, .stream = e->type == SOCK_STREAM };
	bool ends = e->type == SOCK_SEQPACKET && e->has_shutdown && e->shutdown & SK_SHUTDOWN__READ;
	int before, back, r;

	r = dump_writer(ctx, &ctx->w_sk_queues, &image_sk_queues, &q.w);
	if (r < 0)
		return r;
	r = sk_get_int(fd, SOL_SOCKET, SO_PEEK_OFF, &before);
	if (r < 0)
		return log_err(r, "cannot read SO_PEEK_OFF");
	r = dump_messages(&q, ends);
	back = sk_set_int(fd, SOL_SOCKET, SO_PEEK_OFF, before);
	if (back < 0 && !r)
		r = log_err(back, "cannot put SO_PEEK_OFF back");
	return r;
}
