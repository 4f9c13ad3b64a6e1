/*
 * Unix domain sockets, the restoring half.
 *
 *   prepare  files.img's unix entries by inode; the queues
 *   begin    what tells who made it: see unix_begin.c
 *   restore  datagram sockets bound and connected; options
 *   finish   queues first (their descriptors exist now), then shutdowns, then the ends that
 *            stand for closed peers are dropped, then options that change what arrives
 *
 * The other end of a pair is made with the first one and waits until the core asks for it.
 */
#include <string.h>

#include "kind/sk_unix.h"

static struct unix_restore *state_of(struct restore_ctx *ctx)
{
	return ctx->kind_state[FD_TYPES__UNIXSK];
}

/* Bound again by this name, it would be in whatever directory we are started in. */
static bool is_nowhere(const UnixSkEntry *e)
{
	return e->name.len && e->name.data[0] && e->name.data[0] != '/' && !e->name_dir && !e->path_now &&
	       !e->deleted && !(e->uflags & USK_EXTERN) &&
	       (e->type == SOCK_DGRAM || e->state != UNIX_ESTABLISHED);
}

static int check_entry(const UnixSkEntry *e)
{
	if (e->type != SOCK_STREAM && e->type != SOCK_DGRAM && e->type != SOCK_SEQPACKET)
		return log_fail(-EBADMSG, "unix socket %u of type %u", e->ino, e->type);
	if (e->state != UNIX_ESTABLISHED && e->state != UNIX_CLOSE && e->state != UNIX_LISTEN)
		return log_fail(-EBADMSG, "unix socket %u in state %u", e->ino, e->state);
	if (e->name.len > sizeof(((struct sockaddr_un *)0)->sun_path))
		return log_fail(-EBADMSG, "unix socket %u with a name of %zu bytes", e->ino,
				e->name.len);
	if (e->name.len && e->name.data[0] && strnlen((const char *)e->name.data, e->name.len) + 1 < e->name.len)
		return log_fail(-EBADMSG, "unix socket %u: NUL in its path", e->ino);
	if (e->name_dir && e->name_dir[0] != '/')
		return log_fail(-EBADMSG, "unix socket %u: relative directory", e->ino);
	if (e->path_now && e->path_now[0] != '/')
		return log_fail(-EBADMSG, "unix socket %u: its file has a relative path", e->ino);
	if (is_nowhere(e))
		return log_fail(-EBADMSG, "unix socket %u: its name is relative, and its directory is missing", e->ino);
	/* One outside of the tree is written down as listening, whatever it is. */
	if (e->state == UNIX_LISTEN && !(e->uflags & USK_EXTERN) && (e->type == SOCK_DGRAM || e->peer))
		return log_fail(-EBADMSG, "unix socket %u of type %u listens, with peer %u", e->ino, e->type, e->peer);
	if (e->has_shutdown && (uint32_t)e->shutdown > SK_SHUTDOWN__BOTH)
		return log_fail(-EBADMSG, "unix socket %u shut down in a way of number %d", e->ino,
				(int)e->shutdown);
	return sk_opts_check(e->opts);
}

/* Both ends of a connection are made by one call. */
static int find_peers(struct unix_restore *s)
{
	for (size_t i = 0; i < s->n_socks; i++) {
		struct usk *u = &s->socks[i];

		if (!u->e->peer)
			continue;
		u->peer = map_get(&s->by_ino, u->e->peer);
		if (u->peer && u->peer->e->type != u->e->type)
			return log_fail(-EBADMSG, "unix socket %u of type %u has a peer of type %u", u->e->ino,
					u->e->type, u->peer->e->type);
	}
	return 0;
}

static int index_sockets(struct restore_ctx *ctx, struct unix_restore *s)
{
	for (size_t i = 0; i < ctx->n_files; i++) {
		struct restore_file *f = ctx->files[i];
		struct usk *u;
		int r;

		if (f->fe->type != FD_TYPES__UNIXSK)
			continue;
		u = ARENA_PUSH(&ctx->arena, s->socks, s->n_socks);
		if (!u)
			return log_err(-ENOMEM, "unix sockets");
		*u = (struct usk){ .f = f, .e = f->fe->usk, .fd = -EBADF, .handed = -EBADF,
				   .fake = -EBADF };
		r = check_entry(u->e);
		if (r < 0)
			return r;
	}
	/* Addresses in the array are final only now. */
	for (size_t i = 0; i < s->n_socks; i++) {
		struct usk *u = &s->socks[i];

		u->queue_end = &u->queue;
		if (map_get(&s->by_ino, u->e->ino))
			return log_fail(-EBADMSG, "two unix sockets with inode %u", u->e->ino);
		if (map_put(&s->by_ino, u->e->ino, u) < 0 || map_put(&s->by_file, u->f->id, u) < 0)
			return log_err(-ENOMEM, "unix sockets");
	}
	return find_peers(s);
}

static int load_queues(struct restore_ctx *ctx, struct unix_restore *s)
{
	SkPacketEntry *e;
	int r = image_open_optional(ctx->store, &image_sk_queues, &s->queues);

	if (r < 0)
		return log_err(r, "sk-queues.img");
	s->queues_open = true;
	while ((r = image_get(&s->queues, &ctx->arena, sk_packet_entry, &e)) > 0) {
		struct unix_packet *p = ARENA_NEW(&ctx->arena, struct unix_packet);
		struct usk *u = map_get(&s->by_file, e->id_for);

		if (!p)
			return log_err(-ENOMEM, "sk-queues.img");
		r = e->length ? image_get_raw(&s->queues, e->length, &p->data) : 0;
		if (r < 0)
			return r;
		if (!u)
			return log_fail(-EBADMSG, "sk-queues.img: a message for file %u, which "
					"is no unix socket", e->id_for);
		p->e = e;
		*u->queue_end = p;
		u->queue_end = &p->next;
		u->queue_bytes += e->length;
	}
	return r;
}

int unix_prepare(struct restore_ctx *ctx)
{
	struct unix_restore *s = ARENA_NEW(&ctx->arena, struct unix_restore);
	int r;

	if (!s)
		return log_err(-ENOMEM, "unix sockets");
	ctx->kind_state[FD_TYPES__UNIXSK] = s;
	r = index_sockets(ctx, s);
	if (r < 0 || !s->n_socks)
		return r;
	return load_queues(ctx, s);
}

/* Queued from unknown senders: before a connect(2) that would refuse them. */
static int fill_bound(struct restore_ctx *ctx, struct usk *u)
{
	_cleanup_close_ int sender = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int r;

	if (!u->e->name.len)
		return log_fail(-EBADMSG, "messages for a nameless unix socket without peer");
	if (sender < 0)
		return log_err(neg_errno(), "cannot make a unix socket");
	r = usk_connect(ctx, u, sender, u);
	if (r < 0)
		return log_err(r, "cannot connect to unix socket %u", u->e->ino);
	r = usk_fill_queue(ctx, u, sender);
	u->queue = NULL;
	return r;
}

/* Once, whether for its own sake or because another one connects to it. */
static int bind_receiver(struct restore_ctx *ctx, struct usk *u)
{
	int r = 0;

	if (u->bound || u->how != USK_SOCKET || u->e->state == UNIX_LISTEN)
		return 0;
	u->bound = true;
	if (u->e->name.len)
		r = usk_bind(ctx, u, u->fd);
	if (!r && u->queue && !usk_is_stream(u))
		r = fill_bound(ctx, u);
	return r;
}

/* A datagram socket that sends to one that does not send back. */
static int connect_one_way(struct restore_ctx *ctx, struct usk *u)
{
	char name[UNIX_NAME_TEXT];
	int r;

	if (u->peer->e->uflags & USK_EXTERN) {
		r = usk_connect(ctx, u, u->fd, u->peer);
		if (r < 0)
			log_warn("the socket stays unconnected: nobody answers at %s",
				 unix_name_text(u->peer->e->name.data, u->peer->e->name.len, name));
		return 0;
	}
	r = bind_receiver(ctx, u->peer);
	if (r < 0)
		return r;
	r = usk_connect(ctx, u, u->fd, u->peer);
	return r < 0 ? log_err(r, "cannot connect to unix socket %u", u->e->peer) : 0;
}

/* What unix_begin() has left to do. */
static int complete(struct restore_ctx *ctx, struct usk *u)
{
	int r;

	if (u->fd < 0)
		return log_fail(-EBADMSG, "unix socket %u is not of the tree", u->e->ino);
	if (u->e->peer && !u->peer)
		return log_fail(-EBADMSG, "unix socket %u: its peer %u is not in files.img",
				u->e->ino, u->e->peer);
	if (u->peer && usk_is_stream(u) && u->peer->e->uflags & USK_EXTERN)
		log_warn("unix socket %u: its peer is outside the tree; it comes back as closed "
			 "by it", u->e->ino);
	r = bind_receiver(ctx, u);
	if (!r && u->how == USK_SOCKET && u->peer && !usk_is_stream(u))
		r = connect_one_way(ctx, u);
	return r;
}

int unix_restore(struct restore_ctx *ctx, struct restore_file *f, int *ret_fd)
{
	struct unix_restore *s = state_of(ctx);
	struct usk *u = s ? map_get(&s->by_file, f->id) : NULL;
	int r;

	if (!u)
		return log_fail(-EBADMSG, "unix socket without entry");
	r = sk_inherit(ctx, u->e->ino, &u->handed);
	if (r) {
		u->inherited = true;
		*ret_fd = u->handed;
		return MIN(r, 0);
	}
	r = complete(ctx, u);
	if (r < 0)
		return r;
	r = sk_opts_restore(u->fd, u->e->opts);
	if (!r) {
		r = restore_flags_fown(u->fd, u->e->flags, u->e->fown);
		if (r < 0)
			log_err(r, "cannot set the socket's flags or owner");
	}
	if (r < 0)
		return r;
	*ret_fd = u->handed = take_fd(&u->fd);
	return 0;
}

static int make_queued(struct restore_ctx *ctx, const struct usk *u)
{
	for (const struct unix_packet *p = u->queue; p; p = p->next) {
		for (size_t i = 0; p->e->n_scm && i < p->e->scm[0]->n_rights; i++) {
			int fd, r = restore_file_get(ctx, p->e->scm[0]->rights[i], &fd);

			if (r < 0)
				return r;
		}
	}
	return 0;
}

/*
 * Files that only a queue holds. It is filled last (unix_finish()), but they get what all others get. One may be a
 * socket with a queue.
 */
int unix_restore_queued(struct restore_ctx *ctx)
{
	struct unix_restore *s = state_of(ctx);
	bool again;

	do {
		again = false;
		for (size_t i = 0; s && i < s->n_socks; i++) {
			struct usk *u = &s->socks[i];
			int r;

			if (u->queued_made || u->inherited || u->handed < 0)
				continue;
			u->queued_made = again = true;
			r = make_queued(ctx, u);
			if (r < 0)
				return r;
		}
	} while (again);
	return 0;
}

static int fill(struct restore_ctx *ctx, struct usk *u)
{
	int sender = u->fake >= 0 ? u->fake : u->peer ? usk_fd(u->peer) : -1, r;

	if (!u->queue || u->inherited || u->handed < 0)
		return 0;
	if (sender < 0)
		return log_fail(-EBADMSG, "unix socket %u: nobody can have sent its queue",
				u->e->ino);
	r = usk_fill_queue(ctx, u, sender);
	u->queue = NULL;
	return r;
}

static int fill_all(struct restore_ctx *ctx, struct unix_restore *s)
{
	for (size_t i = 0; i < s->n_socks; i++) {
		int r = fill(ctx, &s->socks[i]);

		if (r < 0)
			return r;
	}
	return 0;
}

static int shut(const struct usk *u)
{
	uint32_t how = u->e->has_shutdown ? u->e->shutdown : SK_SHUTDOWN__NONE;

	if (how == SK_SHUTDOWN__NONE || u->e->state != UNIX_ESTABLISHED)
		return 0;
	if (shutdown(u->handed, (int)how - 1) < 0)
		return log_err(neg_errno(), "cannot shut unix socket %u down", u->e->ino);
	return 0;
}

static int finish_all(struct restore_ctx *ctx, struct unix_restore *s)
{
	int r = fill_all(ctx, s);

	for (size_t i = 0; !r && i < s->n_socks; i++) {
		struct usk *u = &s->socks[i];

		if (u->handed < 0 || u->inherited)
			continue;
		r = shut(u);
		close_fdp(&u->fake);
		u->fake = -EBADF;
	}
	for (size_t i = 0; !r && i < s->n_socks; i++)
		if (s->socks[i].handed >= 0 && !s->socks[i].inherited)
			r = sk_opts_restore_late(s->socks[i].handed, s->socks[i].e->opts);
	return r;
}

/* With the first socket for all of them: a queue needs both ends as they were made. */
int unix_finish(struct restore_ctx *ctx, struct restore_file *f _unused_)
{
	struct unix_restore *s = state_of(ctx);

	if (s->finished)
		return 0;
	s->finished = true;
	return finish_all(ctx, s);
}

void unix_restore_done(struct restore_ctx *ctx)
{
	struct unix_restore *s = state_of(ctx);

	if (!s)
		return;
	for (size_t i = 0; i < s->n_socks; i++) {
		if (ctx->failed)
			usk_unbind(ctx, &s->socks[i]);
		close_fdp(&s->socks[i].fd);
		close_fdp(&s->socks[i].fake);
	}
	if (s->queues_open)
		image_reader_done(&s->queues);
	map_done(&s->by_ino);
	map_done(&s->by_file);
}
