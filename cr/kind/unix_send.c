/*
 * Fills a unix socket's queue: messages as they were, with the descriptors they carried and in
 * their sender's name, if they had one (SO_PASSCRED). The kernel takes any name from us, but the
 * pid must exist: for a sender that has ended a process stands in.
 */
#include <string.h>

#include "kind/sk_unix.h"
#include "ns/ns.h"

#define RIGHTS_MAX	253	/* the kernel's SCM_MAX_FD */

union control {
	struct cmsghdr head;
	char room[CMSG_SPACE(RIGHTS_MAX * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
};

/* Keeps a pid that somebody who has ended had, for the messages that follow. */
struct stand_in {
	uint32_t pid;			/* as the tree sees it */
	pid_t is;			/* as we do; 0 or less: there is none */
};

static int stand_in_get(struct restore_ctx *ctx, uint32_t pid, struct stand_in *s)
{
	sk_release_pid(s->is);
	s->pid = pid;
	return sk_hold_pid(ctx, pid, &s->is);
}

/* Whom we name for the tree to be told this pid. */
static int sender_find(struct restore_ctx *ctx, uint32_t pid, struct stand_in *s, pid_t *ret)
{
	const struct restore_process *p = restore_process_find(ctx, pid);
	int r = 0;

	if (!ns_restore_has_pidns(ctx)) {
		*ret = (pid_t)pid;
	} else if (!pid) {	/* somebody outside of its PID namespace, as we are */
		*ret = getpid();
	} else if (p && p->task_made) {
		*ret = p->pid;
	} else {
		if (s->is <= 0 || s->pid != pid)
			r = stand_in_get(ctx, pid, s);
		*ret = s->is;
	}
	return r < 0 ? log_err(r, "cannot stand in for process %u, who sent it", pid) : 0;
}

static size_t put_sender(const SkPacketEntry *e, pid_t pid, union control *c, size_t at)
{
	struct cmsghdr *h = (struct cmsghdr *)(c->room + at);
	struct ucred sender;

	if (!e->creds)
		return at;
	sender = (struct ucred){ pid, e->creds->uid, e->creds->gid };
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_CREDENTIALS;
	h->cmsg_len = CMSG_LEN(sizeof(sender));
	memcpy(CMSG_DATA(h), &sender, sizeof(sender));
	return at + CMSG_SPACE(sizeof(sender));
}

static int put_rights(struct restore_ctx *ctx, const SkPacketEntry *e, union control *c,
		      size_t *ret_len)
{
	const ScmEntry *scm;
	int *fds = (int *)CMSG_DATA(&c->head);

	*ret_len = 0;
	if (!e->n_scm)
		return 0;
	scm = e->scm[0];
	if (e->n_scm > 1 || scm->type != SCM_RIGHTS || !scm->n_rights || scm->n_rights > RIGHTS_MAX)
		return log_fail(-EBADMSG, "sk-queues.img: control message %u with %zu descriptors",
				scm->type, scm->n_rights);
	for (size_t i = 0; i < scm->n_rights; i++) {
		int r = restore_file_get(ctx, scm->rights[i], &fds[i]);

		if (r < 0)
			return r;
	}
	c->head.cmsg_level = SOL_SOCKET;
	c->head.cmsg_type = SCM_RIGHTS;
	c->head.cmsg_len = CMSG_LEN(scm->n_rights * sizeof(int));
	*ret_len = CMSG_SPACE(scm->n_rights * sizeof(int));
	return 0;
}

static ssize_t send_as(struct restore_ctx *ctx, int fd, const struct msghdr *h, const SkPacketEntry *e,
		       struct stand_in *s)
{
	ssize_t n = sendmsg(fd, h, MSG_NOSIGNAL | MSG_DONTWAIT);
	int r;

	if (n >= 0 || errno != ESRCH || !e->creds)
		return n < 0 ? neg_errno() : n;
	r = stand_in_get(ctx, e->creds->pid, s);
	if (r < 0)
		return r;
	n = sendmsg(fd, h, MSG_NOSIGNAL | MSG_DONTWAIT);
	return n < 0 ? neg_errno() : n;
}

static int send_packet(struct restore_ctx *ctx, const struct usk *u, int fd,
		       const struct unix_packet *p, struct stand_in *s)
{
	union control control = { 0 };
	size_t control_len, done = 0;
	pid_t sender = 0;
	int r = put_rights(ctx, p->e, &control, &control_len);

	if (r >= 0 && p->e->creds)
		r = sender_find(ctx, p->e->creds->pid, s, &sender);
	if (r < 0)
		return r;
	control_len = put_sender(p->e, sender, &control, control_len);
	do {
		struct iovec io = { (uint8_t *)p->data + done, p->e->length - done };
		struct msghdr h = { .msg_iov = &io, .msg_iovlen = 1,
				    .msg_control = control_len ? &control : NULL,
				    .msg_controllen = control_len };
		ssize_t n = send_as(ctx, fd, &h, p->e, s);

		if (n == -EINTR)
			continue;
		if (n == -EAGAIN && !usk_is_stream(u))
			return log_err(-EAGAIN, "unix socket %u: too many queued datagrams for "
				       "net.unix.max_dgram_qlen", u->e->ino);
		if (n < 0)
			return log_err((int)n, "cannot fill the queue of unix socket %u", u->e->ino);
		done += (size_t)n;
		/* Descriptors go with the first bytes, the sender with all. */
		control_len = put_sender(p->e, sender, &control, 0);
	} while (done < p->e->length);
	return 0;
}

int usk_fill_queue(struct restore_ctx *ctx, struct usk *u, int fd)
{
	int r = sk_buffers_for(fd, 0, u->queue_bytes + 1);
	struct stand_in s = { 0, -1 };

	for (const struct unix_packet *p = u->queue; !r && p; p = p->next)
		r = send_packet(ctx, u, fd, p, &s);
	sk_release_pid(s.is);
	return r;
}
