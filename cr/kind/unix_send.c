/* Fills a unix socket's queue: messages as they were, with the descriptors they carried. */
#include <string.h>

#include "kind/sk_unix.h"

#define RIGHTS_MAX	253	/* the kernel's SCM_MAX_FD */

static int control_of(struct restore_ctx *ctx, const SkPacketEntry *e, struct cmsghdr *c,
		      size_t *ret_len)
{
	const ScmEntry *scm;
	int *fds = (int *)CMSG_DATA(c);

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
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(scm->n_rights * sizeof(int));
	*ret_len = CMSG_SPACE(scm->n_rights * sizeof(int));
	return 0;
}

static int send_packet(struct restore_ctx *ctx, const struct usk *u, int fd,
		       const struct unix_packet *p)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(RIGHTS_MAX * sizeof(int))];
	} control = { 0 };
	size_t control_len, done = 0;
	int r = control_of(ctx, p->e, &control.head, &control_len);

	if (r < 0)
		return r;
	do {
		struct iovec io = { (uint8_t *)p->data + done, p->e->length - done };
		struct msghdr h = { .msg_iov = &io, .msg_iovlen = 1,
				    .msg_control = control_len ? &control : NULL,
				    .msg_controllen = control_len };
		ssize_t n = sendmsg(fd, &h, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN && !usk_is_stream(u))
			return log_err(-EAGAIN, "unix socket %u: too many queued datagrams for "
				       "net.unix.max_dgram_qlen", u->e->ino);
		if (n < 0)
			return log_err(neg_errno(), "cannot fill the queue of unix socket %u",
				       u->e->ino);
		done += (size_t)n;
		control_len = 0;	/* descriptors go with the first bytes */
	} while (done < p->e->length);
	return 0;
}

int usk_fill_queue(struct restore_ctx *ctx, struct usk *u, int fd)
{
	int r = sk_buffers_for(fd, 0, u->queue_bytes + 1);

	for (const struct unix_packet *p = u->queue; !r && p; p = p->next)
		r = send_packet(ctx, u, fd, p);
	return r;
}
