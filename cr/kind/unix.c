/*
 * Unix domain sockets.
 *
 *   dump     sock_diag: state, peer, name, shutdown, who waits to be accepted; the queue by
 *            MSG_PEEK with SO_PEEK_OFF, descriptors in it included; whom SO_PEERCRED names
 *   restore  see unix_restore.c
 *
 * A peer outside the tree cannot be kept: a named datagram peer is connected to again by its
 * name, a stream comes back as closed by the peer unless a replacement is handed in
 * (--inherit-fd "socket:[INO]"). Both only when the operator named it (--external "unix[INO]",
 * "unix[*]") or, for datagrams, with --ext-unix-sk.
 */
#include <poll.h>
#include <string.h>
#include <sys/syscall.h>

#include "core/files_dump.h"
#include "kind/sk_unix.h"

static bool unix_match(const struct dump_file *f)
{
	return sk_family(f) == AF_UNIX;
}

const char *unix_name_text(const uint8_t *name, size_t len, char *buf)
{
	if (!len)
		return "unnamed";
	snprintf(buf, UNIX_NAME_TEXT, "%s%.*s", name[0] ? "" : "@",
		 (int)MIN(len - !name[0], (size_t)UNIX_NAME_TEXT - 2),
		 (const char *)name + !name[0]);
	return buf;
}

/* Peers that no descriptor shows: outside, or only in another socket's queue. */
struct missing_peer {
	const UnixSkEntry *e;
	pid_t pid;
	int t_fd;
};

/* Read when all tasks' descriptors are known: what is in it may be one of theirs. */
struct queue_to_read {
	struct dump_file *f;
	const UnixSkEntry *e;
};

struct unix_dump {
	struct queue_to_read *queues;
	size_t n_queues;
	struct map external;		/* entries made for outside peers */
	struct missing_peer *missing;
	size_t n_missing;
};

static struct unix_dump *state_of(struct dump_ctx *ctx)
{
	if (!ctx->kind_state[FD_TYPES__UNIXSK])
		ctx->kind_state[FD_TYPES__UNIXSK] = ARENA_NEW(&ctx->arena, struct unix_dump);
	return ctx->kind_state[FD_TYPES__UNIXSK];
}

/* The outside peer gets an entry of its own: state "listening", marked external. */
static int put_extern_peer(struct dump_ctx *ctx, const UnixSkEntry *of, const struct sockdiag *d)
{
	struct unix_dump *s = state_of(ctx);
	FileEntry *fe = ARENA_MSG(&ctx->arena, FileEntry, file_entry);
	UnixSkEntry *e = ARENA_MSG(&ctx->arena, UnixSkEntry, unix_sk_entry);
	int r;

	if (!fe || !e)
		return log_err(-ENOMEM, "external peer");
	if (map_get(&s->external, of->peer))
		return 0;
	e->fown = ARENA_MSG(&ctx->arena, FownEntry, fown_entry);
	e->opts = ARENA_MSG(&ctx->arena, SkOptsEntry, sk_opts_entry);
	if (!e->fown || !e->opts)
		return log_err(-ENOMEM, "external peer");
	e->id = fe->id = dump_file_new_id(ctx);
	e->ino = of->peer;
	e->type = of->type;
	e->state = UNIX_LISTEN;
	e->uflags = USK_EXTERN;
	r = d ? unix_name_put(ctx, d, e) : 0;
	if (r < 0)
		return r;
	e->has_ns_id = of->has_ns_id;
	e->ns_id = of->ns_id;
	fe->type = FD_TYPES__UNIXSK;
	fe->usk = e;
	r = map_put(&s->external, of->peer, e);
	return r < 0 ? log_err(r, "external peer") : dump_file_put(ctx, fe);
}

static bool named_by_operator(const struct cr_opts *o, const UnixSkEntry *e)
{
	return sk_external(o, "unix", e->peer) || sk_external(o, "unix", e->ino) ||
	       external_find(o, "unix[*]");
}

static int check_outside(struct dump_ctx *ctx, const UnixSkEntry *e)
{
	const struct sockdiag *d = sk_diag_by_ino(ctx, e->peer);
	const char *type = e->type == SOCK_DGRAM ? "datagram" : "stream";
	char name[UNIX_NAME_TEXT];
	bool named = d && d->name_len;

	if (e->type == SOCK_DGRAM && !named)
		return log_obstacle("stop the process at its other end, or include it",
				    "unix datagram socket connected to a nameless socket "
				    "outside the tree");
	if (!named_by_operator(ctx->opts, e) &&
	    !(ctx->opts->ext_unix_sk && e->type == SOCK_DGRAM)) {
		_cleanup_free_ char *remedy =
			str_fmt("give --external 'unix[%u]'%s: it comes back as %s", e->peer,
				e->type == SOCK_DGRAM ? " or --ext-unix-sk" : "",
				e->type == SOCK_DGRAM ? "connected to the same name"
						      : "closed by its peer");

		return log_obstacle(remedy ? remedy : "", "unix %s socket connected to %s outside "
				    "the tree", type,
				    named ? unix_name_text(d->name, d->name_len, name)
					  : "a nameless socket");
	}
	return put_extern_peer(ctx, e, d);
}

/* The verdict comes when all queues have been seen. */
static int note_peer(struct dump_ctx *ctx, const struct dump_file *f, const UnixSkEntry *e)
{
	struct unix_dump *s = state_of(ctx);
	struct missing_peer *m;
	int r = e->peer ? sk_in_tree(ctx, e->peer) : 1;

	if (r)
		return MIN(r, 0);
	m = s ? ARENA_PUSH(&ctx->arena, s->missing, s->n_missing) : NULL;
	if (!m)
		return log_err(-ENOMEM, "unix socket");
	*m = (struct missing_peer){ .e = e, .pid = f->owner->pid, .t_fd = f->t_fd };
	return 0;
}

static int note_queue(struct dump_ctx *ctx, struct dump_file *f, const UnixSkEntry *e)
{
	struct unix_dump *s = state_of(ctx);
	struct queue_to_read *q = s ? ARENA_PUSH(&ctx->arena, s->queues, s->n_queues) : NULL;

	if (!q)
		return log_err(-ENOMEM, "unix socket");
	*q = (struct queue_to_read){ f, e };
	return 0;
}

static int queue_dump(struct dump_ctx *ctx, const struct queue_to_read *q)
{
	struct dump_process *p = q->f->owner;
	_cleanup_close_ int fd = -EBADF;
	int r;

	LOG_SCOPE("process %d (%s)", p->pid, p->comm);
	LOG_SCOPE("fd %d", q->f->t_fd);
	if (q->f->t_fd < 0)
		return unix_queue_dump(ctx, q->f, q->f->queued_fd, q->e);
	r = dump_pidfd(p);
	fd = r < 0 ? r : (int)syscall(SYS_pidfd_getfd, r, q->f->t_fd, 0);
	if (fd < 0)
		return log_err(r < 0 ? r : neg_errno(), "cannot duplicate it");
	return unix_queue_dump(ctx, q->f, fd, q->e);
}

/* A queue may have sockets in it, with queues: they come behind. */
static int unix_dump_queued(struct dump_ctx *ctx)
{
	struct unix_dump *s = ctx->kind_state[FD_TYPES__UNIXSK];
	int r = 0;

	for (size_t i = 0; r >= 0 && s && i < s->n_queues; i++) {
		const struct queue_to_read q = s->queues[i];

		r = dump_files_obstacle(ctx, queue_dump(ctx, &q));
	}
	return r;
}

static int unix_dump_end(struct dump_ctx *ctx)
{
	struct unix_dump *s = ctx->kind_state[FD_TYPES__UNIXSK];
	int refused = 0;

	for (size_t i = 0; s && i < s->n_missing; i++) {
		const struct missing_peer *m = &s->missing[i];
		int r = sk_in_tree(ctx, m->e->peer);

		LOG_SCOPE("process %d: fd %d", m->pid, m->t_fd);
		if (!r)
			r = check_outside(ctx, m->e);
		if (r == -EOPNOTSUPP)
			refused = r;
		else if (r < 0)
			return r;
	}
	return refused;
}

/* A connection that was made but not accepted: only between sockets of the tree, and empty. */
static int check_waiting(struct dump_ctx *ctx, const UnixSkEntry *e, const struct sockdiag *d)
{
	size_t lost = 0;

	if (d->listener && d->wqueue)
		return dump_obstacle_for_now(ctx, "try again when the connection is accepted, or close it",
					     "unix socket that has sent data but is not yet accepted");
	if (e->state != UNIX_LISTEN)
		return 0;
	for (size_t i = 0; i < d->n_waiting; i++) {
		int r = d->waiting[i] ? sk_in_tree(ctx, d->waiting[i]) : 0;

		if (r < 0)
			return r;
		lost += !r;
	}
	if (!lost)
		return 0;
	if (!ctx->opts->skip_in_flight)
		return dump_obstacle_for_now(ctx, "try again, or give --skip-in-flight to lose them",
					     "%zu connection(s) of a listening unix socket wait to be accepted",
					     lost);
	log_warn("%zu connection(s) that wait to be accepted are lost", lost);
	return 0;
}

static int check_oob(const struct dump_file *f)
{
	struct pollfd p = { .fd = f->fd, .events = POLLPRI };

	if (poll(&p, 1, 0) > 0 && p.revents & POLLPRI)
		return log_obstacle("try again when the service has read it",
				    "unix socket with unread urgent data");
	return 0;
}

static int dump_diag(struct dump_ctx *ctx, struct dump_file *f, UnixSkEntry *e,
		     const struct sockdiag **ret)
{
	const struct sockdiag *d;
	int r = sk_diag(ctx, f, SOCKDIAG_UNIX, false, &d);

	if (r < 0)
		return r;
	if (!d)
		return log_fail(-ENOENT, "sock_diag does not list unix socket %u", e->ino);
	e->state = d->state;
	e->peer = d->peer ? d->peer : d->listener;
	e->backlog = d->wqueue;
	if (d->shutdown & 3) {
		e->has_shutdown = true;
		e->shutdown = (SkShutdown)(d->shutdown & 3);
	}
	*ret = d;
	return 0;
}

#define LABEL_MAX	4096

/* Empty where the kernel gives none. */
static void peer_label(int fd, char *ret)
{
	socklen_t len = LABEL_MAX - 1;

	memset(ret, 0, LABEL_MAX);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERSEC, ret, &len) < 0)
		ret[0] = '\0';
}

/* The security module labels sockets when they are made: by what the restored tree is then. */
static void check_label(const struct dump_file *f)
{
	char is[LABEL_MAX], will_be[LABEL_MAX];
	int fds[2];

	peer_label(f->fd, is);
	if (!is[0] || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return;
	peer_label(fds[0], will_be);
	close(fds[0]);
	close(fds[1]);
	if (strcmp(is, will_be))
		log_warn("the security label of the unix socket's other end (SO_PEERSEC), \"%s\", is lost: "
			 "it will be \"%s\"", is, will_be);
}

static int dump_creds(struct dump_ctx *ctx, struct dump_file *f, UnixSkEntry *e)
{
	int r = sk_creds_dump(ctx, f->fd, &e->peer_creds);

	check_label(f);
	return r < 0 ? log_err(r, "cannot read SO_PEERCRED") : 0;
}

static int unix_dump(struct dump_ctx *ctx, struct dump_file *f)
{
	UnixSkEntry *e = ARENA_MSG(&ctx->arena, UnixSkEntry, unix_sk_entry);
	const struct sockdiag *d = NULL;
	int type, r;

	if (!e)
		return log_err(-ENOMEM, "unix socket");
	r = sk_get_int(f->fd, SOL_SOCKET, SO_TYPE, &type);
	if (r < 0)
		return log_err(r, "cannot read the socket's type");
	e->id = f->id;
	e->ino = (uint32_t)f->st.st_ino;
	e->type = (uint32_t)type;
	e->flags = f->flags;
	e->ns_id = sk_ns_id(f);
	e->has_ns_id = e->ns_id != 0;
	f->fe->usk = e;
	r = dump_diag(ctx, f, e, &d);
	if (!r)
		r = dump_fown(ctx, f, &e->fown);
	if (!r)
		r = sk_opts_dump(ctx, f, &e->opts);
	if (!r)
		r = unix_path_dump(ctx, f, d, e);
	if (!r)
		r = dump_creds(ctx, f, e);
	if (!r)
		r = sk_in_tree_add(ctx, e->ino);
	if (!r)
		r = note_peer(ctx, f, e);
	if (!r)
		r = check_waiting(ctx, e, d);
	if (!r)
		r = check_oob(f);
	/* A stream that is not connected has no queue, and in a connected one are no messages without bytes. */
	if (r < 0 || (e->type != SOCK_DGRAM && e->state != UNIX_ESTABLISHED) ||
	    (e->type == SOCK_STREAM && !d->rqueue))
		return r;
	return note_queue(ctx, f, e);
}

static void unix_dump_done(struct dump_ctx *ctx)
{
	struct unix_dump *s = ctx->kind_state[FD_TYPES__UNIXSK];

	if (s)
		map_done(&s->external);
}

const struct kind kind_unix = {
	.name = "unix socket",
	.type = FD_TYPES__UNIXSK,
	.match = unix_match,
	.dump = unix_dump,
	.dump_queued = unix_dump_queued,
	.dump_end = unix_dump_end,
	.dump_done = unix_dump_done,
	.prepare = unix_prepare,
	.begin = unix_begin,
	.restore = unix_restore,
	.restore_queued = unix_restore_queued,
	.finish = unix_finish,
	.restore_done = unix_restore_done,
};
