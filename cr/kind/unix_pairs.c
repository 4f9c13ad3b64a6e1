/*
 * Stream sockets with a named end: connections that were accepted from a named listener (the
 * accepted end shows the listener's name), also those whose other end is closed by now; clients
 * that were bound before they connected.
 *
 * No call gives a socketpair a name without taking that name away from its listener. So each
 * such connection is really made, through a "door": a listener of the same name that lives for
 * that moment. Paths are bound in an empty file system that only one thread sees, so that files
 * of that name (the tree's own, another service's) are not touched. Before any listener of the
 * tree is made: abstract names have only one space.
 *
 * Who listens and who connects is what SO_PEERCRED tells the other end.
 */
#include <fcntl.h>
#include <linux/sockios.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "kind/sk_unix.h"

/* One name, listened on in one's name. */
struct door {
	const UnixSkEntry *e;		/* any of the accepted ends */
	const SkCredsEntry *who;
	const struct restore_file *f;
	int fd, file;			/* file: of a path, O_PATH */
};

struct work {
	struct restore_ctx *ctx;
	struct unix_restore *s;
	struct door *doors;
	size_t n_doors;
	int r;
};

static bool is_path(const UnixSkEntry *e)
{
	return e->name.len && e->name.data[0];
}

int usk_make_dirs(const char *dir)
{
	_cleanup_free_ char *path = strdup(dir);

	if (!path)
		return -ENOMEM;
	for (char *p = path + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(path, 0700) < 0 && errno != EEXIST)
			return neg_errno();
		*p = '/';
	}
	return mkdir(path, 0700) < 0 && errno != EEXIST ? neg_errno() : 0;
}

/* Makes the directory the name needs and goes where it is valid. */
static int prepare_name(const UnixSkEntry *e)
{
	char path[sizeof(((struct sockaddr_un *)0)->sun_path) + 1] = "", *slash;
	int r = 0;

	if (!e->name.len || !e->name.data[0])
		return 0;
	memcpy(path, e->name.data, MIN(e->name.len, sizeof(path) - 1));
	if (path[0] != '/' && e->name_dir) {
		r = usk_make_dirs(e->name_dir);
		if (!r && chdir(e->name_dir) < 0)
			r = neg_errno();
	}
	slash = strrchr(path, '/');
	if (r < 0 || !slash || slash == path)
		return r;
	*slash = '\0';
	r = usk_make_dirs(path);
	*slash = '/';
	return r;
}

static int bind_name(const UnixSkEntry *e, int fd)
{
	struct sockaddr_un sa;
	socklen_t len;
	int r = usk_sockaddr(e, &sa, &len);

	if (!r)
		r = prepare_name(e);
	if (r < 0)
		return r;
	if (sa.sun_path[0])
		(void)unlink(sa.sun_path);	/* of the pair before, in our own file system */
	return bind(fd, (struct sockaddr *)&sa, len) < 0 ? neg_errno() : 0;
}

/* An own, empty root: whatever is bound here exists nowhere else. */
static int enter_empty_root(void)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("crkexec-sockets", "/proc", "tmpfs", 0, "mode=700") < 0 ||
	    chroot("/proc") < 0 || chdir("/") < 0)
		return log_err(neg_errno(), "cannot make a place for socket names");
	/* Whoever shall connect may. The thread's own, since the namespace is. */
	umask(0);
	return 0;
}

static int bind_paths(struct work *w)
{
	int r = enter_empty_root();

	for (size_t i = 0; !r && i < w->n_doors; i++) {
		struct door *d = &w->doors[i];

		if (!is_path(d->e))
			continue;
		r = bind_name(d->e, d->fd);
		if (!r) {
			d->file = ioctl(d->fd, SIOCUNIXFILE);
			r = d->file < 0 ? neg_errno() : 0;
		}
		if (r < 0)
			log_err(r, "cannot bind a socket like the listener of %u", d->e->ino);
	}
	for (size_t i = 0; !r && i < w->s->n_socks; i++) {
		struct usk *u = &w->s->socks[i];

		if (u->how != USK_CONNECTS || !is_path(u->e) || usk_same_name(u->e, u->peer->e))
			continue;
		r = bind_name(u->e, u->fd);
		if (r < 0)
			log_err(r, "cannot bind unix socket %u", u->e->ino);
	}
	return r;
}

static void *bind_main(void *arg)
{
	struct work *w = arg;

	w->r = bind_paths(w);
	return NULL;
}

/* In a thread: its root and namespace end with it, the engine's are not touched. */
static int bind_paths_apart(struct work *w)
{
	pthread_t thread;
	int r = pthread_create(&thread, NULL, bind_main, w);

	if (r)
		return log_err(-r, "cannot start a thread");
	pthread_join(thread, NULL);
	return w->r;
}

static bool same_door(const struct door *d, const struct usk *u, const SkCredsEntry *who)
{
	const char *a = d->e->name_dir ? d->e->name_dir : "";
	const char *b = u->e->name_dir ? u->e->name_dir : "";

	return usk_same_name(d->e, u->e) && d->e->type == u->e->type && !strcmp(a, b) &&
	       !sk_creds_cmp(d->who, who);
}

static int find_door(struct work *w, struct usk *u)
{
	const SkCredsEntry *who = usk_creds(w->ctx, u->peer ? u->peer : u, u);
	struct door *d;

	if (!who)
		return -ENOMEM;
	for (size_t i = 0; i < w->n_doors; i++)
		if (same_door(&w->doors[i], u, who)) {
			u->door = i;
			return 0;
		}
	d = ARENA_PUSH(&w->ctx->arena, w->doors, w->n_doors);
	if (!d)
		return -ENOMEM;
	*d = (struct door){ .e = u->e, .who = who, .f = u->f, .file = -EBADF };
	u->door = w->n_doors - 1;
	d->fd = socket(AF_UNIX, (int)u->e->type | SOCK_CLOEXEC, 0);
	return d->fd < 0 ? neg_errno() : 0;
}

static int find_doors(struct work *w)
{
	for (size_t i = 0; i < w->s->n_socks; i++) {
		struct usk *u = &w->s->socks[i];
		int r = u->how == USK_ACCEPTED ? find_door(w, u) : 0;

		if (r < 0)
			return log_err(r, "cannot make a listener for unix socket %u", u->e->ino);
	}
	return 0;
}

/* An abstract name can be met by anyone: take our own connections, drop others. */
static int accept_own(const struct door *d, pid_t from, int *ret_fd)
{
	for (;;) {
		struct ucred who;
		socklen_t len = sizeof(who);
		_cleanup_close_ int fd = accept4(d->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0)
			return neg_errno();
		if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0 || who.pid != from)
			continue;
		*ret_fd = take_fd(&fd);
		return 0;
	}
}

static int connect_some(struct work *w, const struct door *d, struct sk_call *calls, size_t n)
{
	int r = sk_call_as(w->ctx, calls, n);

	/* Accepted in the order they came in. */
	for (size_t i = 0; !r && i < n; i++) {
		struct usk *u = calls[i].of;

		r = accept_own(d, calls[i].by, &u->fd);
		if (!r)
			r = sk_restore_owner(w->ctx, u->f, u->fd);
		if (r < 0)
			log_err(r, "cannot accept unix socket %u", u->e->ino);
	}
	return r;
}

/* The other end: the tree's, or one to be closed at the end. */
static int client_of(struct usk *u, int *ret_fd)
{
	if (u->peer && u->peer->how == USK_CONNECTS) {
		*ret_fd = u->peer->fd;
		return 0;
	}
	u->fake = socket(AF_UNIX, (int)u->e->type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	*ret_fd = u->fake;
	return u->fake < 0 ? log_err(neg_errno(), "cannot make a unix socket") : 0;
}

static int pass_door(struct work *w, size_t door)
{
	const struct door *d = &w->doors[door];
	struct sk_call calls[SK_CALLS_MAX];
	struct sockaddr_un to;
	socklen_t len;
	size_t n = 0;
	int r = usk_sockaddr(d->e, &to, &len);

	for (size_t i = 0; !r && i < w->s->n_socks; i++) {
		struct usk *u = &w->s->socks[i];

		if (u->how != USK_ACCEPTED || u->door != door)
			continue;
		calls[n] = (struct sk_call){ .who = usk_creds(w->ctx, u, u->peer ? u->peer : u),
					     .quiet = !u->peer, .sort = SK_CONNECT, .of = u,
					     .to = is_path(d->e) ? NULL : &to, .to_len = len,
					     .to_file = d->file };
		if (!calls[n].who)
			return -ENOMEM;
		r = client_of(u, &calls[n].fd);
		if (!r && ++n == SK_CALLS_MAX) {
			r = connect_some(w, d, calls, n);
			n = 0;
		}
	}
	return r < 0 ? r : connect_some(w, d, calls, n);
}

/* Its connections become plain pairs. */
static void name_taken(struct work *w, size_t door)
{
	for (size_t i = 0; i < w->s->n_socks; i++) {
		struct usk *u = &w->s->socks[i];
		char name[UNIX_NAME_TEXT];

		if (u->how != USK_ACCEPTED || u->door != door)
			continue;
		log_warn("accepted unix socket %u loses its name %s: another process uses that",
			 u->e->ino, unix_name_text(u->e->name.data, u->e->name.len, name));
		u->how = USK_HALF;
		if (u->peer && u->peer->how == USK_CONNECTS) {
			u->how = u->peer->how = USK_PAIR;
			close_fdp(&u->peer->fd);
			u->peer->fd = -EBADF;
		}
	}
}

static int open_door(struct work *w, size_t door)
{
	struct door *d = &w->doors[door];
	struct sk_call call = { .who = d->who, .sort = SK_LISTEN, .fd = d->fd,
				.backlog = SK_CALLS_MAX * 2, .quiet = true };
	int r = is_path(d->e) ? 0 : bind_name(d->e, d->fd);

	if (r == -EADDRINUSE) {
		name_taken(w, door);
		return 0;
	}
	if (r < 0)
		return log_err(r, "cannot bind a socket like the listener of %u", d->e->ino);
	r = sk_call_as(w->ctx, &call, 1);
	return r < 0 ? r : pass_door(w, door);
}

static int bind_abstract_clients(struct work *w)
{
	for (size_t i = 0; i < w->s->n_socks; i++) {
		const struct usk *u = &w->s->socks[i];
		int r = u->how == USK_CONNECTS && u->e->name.len && !is_path(u->e) &&
			!usk_same_name(u->e, u->peer->e) ? bind_name(u->e, u->fd) : 0;

		if (r < 0)
			return log_err(r, "cannot bind unix socket %u", u->e->ino);
	}
	return 0;
}

int usk_connections(struct restore_ctx *ctx, struct unix_restore *s)
{
	struct work w = { .ctx = ctx, .s = s };
	int r = find_doors(&w);

	if (!r && w.n_doors)
		r = bind_paths_apart(&w);
	if (!r)
		r = bind_abstract_clients(&w);
	for (size_t i = 0; i < w.n_doors; i++) {
		if (!r)
			r = open_door(&w, i);
		close_fdp(&w.doors[i].fd);
		close_fdp(&w.doors[i].file);
	}
	return r;
}
