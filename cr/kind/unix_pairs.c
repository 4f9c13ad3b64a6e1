/*
 * Stream pairs with a named end: connections that were accepted from a named listener (the
 * accepted end shows the listener's name), clients that were bound before they connected.
 *
 * No call gives a socketpair a name without taking that name away from its listener. So each
 * such pair is made by really connecting, with a listener of the same name that lives for that
 * moment: paths in an empty file system that only this thread sees, so that files of that name
 * (the tree's own, another service's) are not touched. Before any listener of the tree is
 * made: abstract names have only one space.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "kind/sk_unix.h"

static bool same_name(const UnixSkEntry *a, const UnixSkEntry *b)
{
	return a->name.len == b->name.len && !memcmp(a->name.data, b->name.data, a->name.len);
}

static bool has_listener(const struct unix_restore *s, const UnixSkEntry *e)
{
	for (size_t i = 0; i < s->n_socks; i++)
		if (s->socks[i].e->state == UNIX_LISTEN && same_name(s->socks[i].e, e))
			return true;
	return false;
}

/* Which end accepted: the one that shares its name with a listener, else the one named. */
static bool is_server(const struct unix_restore *s, const struct usk *u)
{
	const struct usk *p = u->peer;

	if (!u->e->name.len)
		return false;
	if (!p->e->name.len)
		return true;
	if (has_listener(s, u->e) != has_listener(s, p->e))
		return has_listener(s, u->e);
	return u->e->ino < p->e->ino;
}

static int make_dirs(const char *dir)
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
		r = make_dirs(e->name_dir);
		if (!r && chdir(e->name_dir) < 0)
			r = neg_errno();
	}
	slash = strrchr(path, '/');
	if (r < 0 || !slash || slash == path)
		return r;
	*slash = '\0';
	r = make_dirs(path);
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

/* An abstract name can be met by anyone: take our own connection, drop others. */
static int accept_own(int listener)
{
	for (;;) {
		struct ucred who;
		socklen_t len = sizeof(who);
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0)
			return neg_errno();
		if (!getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) && who.pid == getpid())
			return fd;
		close(fd);
	}
}

static int connect_pair(struct restore_ctx *ctx, struct usk *server, struct usk *client)
{
	_cleanup_close_ int listener = -EBADF;
	struct sockaddr_un sa;
	socklen_t len;
	int r = usk_sockaddr(server->e, &sa, &len);

	if (!r)
		r = usk_socket(ctx, server, &listener);
	if (!r)
		r = usk_socket(ctx, client, &client->fd);
	if (!r && client->e->name.len && !same_name(client->e, server->e))
		r = bind_name(client->e, client->fd);
	if (!r)
		r = bind_name(server->e, listener);
	if (r < 0)
		return r;
	if (listen(listener, 8) < 0 || connect(client->fd, (struct sockaddr *)&sa, len) < 0)
		return neg_errno();
	server->fd = accept_own(listener);
	if (server->fd < 0)
		return server->fd;
	return sk_restore_owner(ctx, server->f, server->fd);
}

struct work {
	struct restore_ctx *ctx;
	struct unix_restore *s;
	int r;
};

/* An own, empty root: whatever is bound here exists nowhere else. */
static int enter_empty_root(void)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("crkexec-sockets", "/proc", "tmpfs", 0, "mode=700") < 0 ||
	    chroot("/proc") < 0 || chdir("/") < 0)
		return log_err(neg_errno(), "cannot make a place for socket names");
	return 0;
}

static int name_taken(struct usk *server, struct usk *client)
{
	char name[UNIX_NAME_TEXT];

	log_warn("accepted unix socket %u loses its name %s: another process uses that",
		 server->e->ino, unix_name_text(server->e->name.data, server->e->name.len, name));
	close_fdp(&client->fd);
	client->fd = -EBADF;
	return 0;	/* becomes an unnamed pair */
}

static int make_pairs(struct work *w)
{
	int r = enter_empty_root();

	for (size_t i = 0; !r && i < w->s->n_socks; i++) {
		struct usk *u = &w->s->socks[i];

		if (!usk_is_stream(u) || !usk_is_pair(u) || u->fd >= 0 || !is_server(w->s, u))
			continue;
		r = connect_pair(w->ctx, u, u->peer);
		if (r == -EADDRINUSE && !u->e->name.data[0])
			r = name_taken(u, u->peer);
		else if (r < 0)
			log_err(r, "cannot connect unix sockets %u and %u", u->e->ino,
				u->peer->e->ino);
	}
	return r;
}

static void *pairs_main(void *arg)
{
	struct work *w = arg;

	w->r = make_pairs(w);
	return NULL;
}

int usk_named_pairs(struct restore_ctx *ctx, struct unix_restore *s)
{
	struct work w = { .ctx = ctx, .s = s };
	bool any = false;
	pthread_t thread;
	int r;

	for (size_t i = 0; i < s->n_socks; i++)
		any |= usk_is_stream(&s->socks[i]) && usk_is_pair(&s->socks[i]) &&
		       s->socks[i].e->name.len;
	if (!any)
		return 0;
	/* A thread: its root and namespace end with it, the engine's are not touched. */
	r = pthread_create(&thread, NULL, pairs_main, &w);
	if (r)
		return log_err(-r, "cannot start a thread");
	pthread_join(thread, NULL);
	return w.r;
}
