/*
 * Fresh sockets, made by the tasks that will hold them.
 *
 * A socket belongs for good to the control group of whoever calls socket(2): its packets are
 * under that group's rules (IPAddressDeny=, nft "socket cgroupv2") and its buffers are charged
 * there. Handing a descriptor over changes neither, so the engine must not make it itself.
 *
 * All sockets of a process by one batch, before its table has anything else in it. Those of
 * another group (a .socket unit of systemd made them) by a process that goes there.
 */
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kind/sk_common.h"
#include "ns/cgroup.h"
#include "ns/ns.h"

#define AT_ONCE		256u

/* What waits to be taken, by file id. In the slot of the netlink sockets, which have no state. */
struct sk_made {
	int fd, error;
	struct sk_sort sort;
};

struct sk_restore {
	struct map made;
};

static struct sk_restore *state_get(struct restore_ctx *ctx)
{
	if (!ctx->kind_state[FD_TYPES__NETLINKSK])
		ctx->kind_state[FD_TYPES__NETLINKSK] = ARENA_NEW(&ctx->arena, struct sk_restore);
	return ctx->kind_state[FD_TYPES__NETLINKSK];
}

struct wanted {
	const struct restore_file *f;
	struct sk_sort sort;
	int call;
};

static int remember(struct restore_ctx *ctx, const struct wanted *w, int fd, int error)
{
	struct sk_restore *s = state_get(ctx);
	struct sk_made *m = s ? ARENA_NEW(&ctx->arena, struct sk_made) : NULL;

	if (m)
		*m = (struct sk_made){ fd, error, w->sort };
	if (m && !map_put(&s->made, w->f->id, m))
		return 0;
	close_fdp(&fd);
	return -ENOMEM;
}

static int fetch(struct restore_ctx *ctx, const struct restore_process *p, const struct wanted *w,
		 size_t n)
{
	_cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
	int r = pidfd < 0 ? neg_errno() : 0;

	for (size_t i = 0; !r && i < n; i++) {
		int64_t t_fd = batch_ret(&ctx->batch, w[i].call);
		int fd = t_fd < 0 ? -EBADF : (int)syscall(SYS_pidfd_getfd, pidfd, (int)t_fd, 0);

		if (t_fd >= 0 && fd < 0)
			return neg_errno();
		r = remember(ctx, &w[i], fd, t_fd < 0 ? (int)t_fd : 0);
	}
	return r;
}

static int make(struct restore_ctx *ctx, struct restore_process *p, struct wanted *w, size_t n)
{
	struct batch *b = &ctx->batch;
	int64_t t_fds[AT_ONCE];
	int r;

	LOG_SCOPE("process %u", p->pst->pid);
	batch_begin(b, &p->threads[0].task);
	for (size_t i = 0; i < n; i++)
		w[i].call = batch_try(b, SYS_socket, w[i].sort.family,
				      w[i].sort.type | SOCK_CLOEXEC | SOCK_NONBLOCK,
				      w[i].sort.proto);
	r = batch_run(b);
	if (!r)
		r = fetch(ctx, p, w, n);
	if (r < 0)
		return log_err(r, "cannot make its sockets");
	for (size_t i = 0; i < n; i++)
		t_fds[i] = batch_ret(b, w[i].call);
	batch_begin(b, &p->threads[0].task);
	for (size_t i = 0; i < n; i++)
		if (t_fds[i] >= 0)
			batch_call(b, SYS_close, t_fds[i]);
	return batch_run(b);
}

/* One that is only in another socket's queue has no holder: the root's group is as good as any. */
static struct restore_process *maker_of(struct restore_ctx *ctx, const struct restore_file *f)
{
	return f->owner ? f->owner : &ctx->procs[0];
}

/* Sockets of one group that is nobody's: a process made for it makes them. */
struct group {
	const char *path;
	struct wanted w[AT_ONCE];
	size_t n;
};

/* Shares our table. results: a number or -errno each. */
static int by_stand_in(int procs, const struct wanted *w, size_t n, int *results)
{
	struct clone_args args = { .flags = CLONE_FILES, .exit_signal = SIGCHLD };
	long pid = syscall(SYS_clone3, &args, sizeof(args));
	int status;

	if (pid < 0)
		return neg_errno();
	if (!pid) {
		if (write(procs, "0", 1) != 1)
			_exit(1);
		for (size_t i = 0; i < n; i++) {
			results[i] = socket(w[i].sort.family,
					    w[i].sort.type | SOCK_CLOEXEC | SOCK_NONBLOCK,
					    w[i].sort.proto);
			if (results[i] < 0)
				results[i] = neg_errno();
		}
		_exit(0);
	}
	while (waitpid((pid_t)pid, &status, 0) < 0)
		if (errno != EINTR)
			return neg_errno();
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -EACCES;
}

static int make_in_group(struct restore_ctx *ctx, struct group *g)
{
	_cleanup_close_ int procs = cgroup_restore_open_procs(ctx->cgroup_state, g->path);
	int *results = mmap(NULL, sizeof(int) * AT_ONCE, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int r = procs < 0 ? procs : results == MAP_FAILED ? -ENOMEM : 0;

	if (!r)
		r = by_stand_in(procs, g->w, g->n, results);
	for (size_t i = 0; !r && i < g->n; i++)
		r = remember(ctx, &g->w[i], results[i] < 0 ? -EBADF : results[i],
			     MIN(results[i], 0));
	if (results != MAP_FAILED)
		munmap(results, sizeof(int) * AT_ONCE);
	return r;
}

struct making {
	struct restore_process *p;	/* whose sockets these are */
	struct wanted w[AT_ONCE];
	size_t n;
	struct group group;
};

/* pid: of the process that makes them instead. */
static bool made_in_group(struct restore_ctx *ctx, struct group *g, uint32_t pid)
{
	int r = make_in_group(ctx, g);

	if (r < 0)
		log_warn("cannot make sockets in control group %s: %s; %zu of them come back in that of "
			 "process %u", g->path, strerror(-r), g->n, pid);
	return r >= 0;
}

static int flush(struct restore_ctx *ctx, struct making *m)
{
	struct group *g = &m->group;
	int r = m->n ? make(ctx, m->p, m->w, m->n) : 0;

	if (!r && g->n && !made_in_group(ctx, g, m->p->pst->pid))
		r = make(ctx, m->p, g->w, g->n);
	m->n = g->n = 0;
	return r;
}

static int want(struct restore_ctx *ctx, struct making *m, const struct wanted *w,
		const char *cgroup)
{
	int r = 0;

	/* Without control groups there is none but ours; another root has none of that name. */
	if (!ctx->cgroup_state || ctx->opts->n_cgroup_roots)
		cgroup = NULL;
	if (m->n == AT_ONCE || m->group.n == AT_ONCE ||
	    (cgroup && m->group.n && strcmp(m->group.path, cgroup)))
		r = flush(ctx, m);
	if (!cgroup) {
		m->w[m->n++] = *w;
		return r;
	}
	m->group.path = cgroup;
	m->group.w[m->group.n++] = *w;
	return r;
}

/*
 * One of the host's network namespace, where we are now and the tasks are not. Without a control
 * group it gets ours.
 */
static int make_here(struct restore_ctx *ctx, const struct wanted *w, const char *cgroup)
{
	_cleanup_free_ struct group *g = calloc(1, sizeof(*g));
	int fd;

	if (!g)
		return log_err(-ENOMEM, "sockets");
	g->path = cgroup;
	g->w[g->n++] = *w;
	if (cgroup && ctx->cgroup_state && !ctx->opts->n_cgroup_roots &&
	    made_in_group(ctx, g, (uint32_t)getpid()))
		return 0;
	fd = socket(w->sort.family, w->sort.type | SOCK_CLOEXEC | SOCK_NONBLOCK, w->sort.proto);
	return remember(ctx, w, fd, fd < 0 ? neg_errno() : 0);
}

static int make_or_want(struct restore_ctx *ctx, struct making *m, const struct wanted *w,
			const char *cgroup)
{
	struct ns_visit v;
	int r = ns_restore_visit_socket(ctx, w->f->fe, &v), left;

	if (r < 0)
		return r;
	if (v.home_fd < 0)
		return want(ctx, m, w, cgroup);
	r = make_here(ctx, w, cgroup);
	left = ns_visit_end(&v);
	return left < 0 ? left : r;
}

/* A file and who makes its socket. */
struct job {
	const struct restore_file *f;
	struct restore_process *maker;
};

static int make_for(struct restore_ctx *ctx, const struct job *jobs, size_t n, sk_sort_fn *sort)
{
	_cleanup_free_ struct making *m = calloc(1, sizeof(*m));
	int r = 0;

	if (!m)
		return log_err(-ENOMEM, "sockets");
	m->p = jobs->maker;
	for (size_t i = 0; r >= 0 && i < n; i++) {
		struct wanted w = { .f = jobs[i].f };
		const char *cgroup = NULL;

		r = sort(ctx, w.f, &w.sort, &cgroup);
		if (r > 0)
			r = make_or_want(ctx, m, &w, cgroup);
	}
	return r < 0 ? r : flush(ctx, m);
}

static int by_maker(const void *a, const void *b)
{
	const struct job *x = a, *y = b;

	if (x->maker != y->maker)
		return x->maker < y->maker ? -1 : 1;
	return (x->f->id > y->f->id) - (x->f->id < y->f->id);
}

/* Trees have hundreds of processes and many thousands of files: one pass over those. */
int sk_make(struct restore_ctx *ctx, FdTypes type, sk_sort_fn *sort)
{
	_cleanup_free_ struct job *jobs = calloc(ctx->n_files + 1, sizeof(*jobs));
	size_t n = 0;

	if (!jobs)
		return log_err(-ENOMEM, "sockets");
	for (size_t i = 0; i < ctx->n_files; i++) {
		struct job job = { ctx->files[i], maker_of(ctx, ctx->files[i]) };

		if (job.f->fe->type == type && job.maker->alive)
			jobs[n++] = job;
	}
	qsort(jobs, n, sizeof(*jobs), by_maker);
	for (size_t i = 0, k; i < n; i += k) {
		int r;

		for (k = 1; i + k < n && jobs[i + k].maker == jobs[i].maker;)
			k++;
		r = make_for(ctx, jobs + i, k, sort);
		if (r < 0)
			return r;
	}
	return 0;
}

int sk_take(struct restore_ctx *ctx, const struct restore_file *f, int *ret_fd)
{
	struct sk_restore *s = state_get(ctx);
	struct sk_made *m = s ? map_get(&s->made, f->id) : NULL;
	int r;

	if (!m)
		return log_fail(-EBADMSG, "file %u is no socket of its kind", f->id);
	if (m->error)
		return log_err(m->error, "cannot make a socket of family %d, type %d, protocol %d",
			       m->sort.family, m->sort.type, m->sort.proto);
	r = sk_restore_owner(ctx, f, m->fd);
	if (r < 0)
		return r;
	*ret_fd = take_fd(&m->fd);
	return 0;
}

void sk_make_done(struct restore_ctx *ctx)
{
	struct sk_restore *s = ctx->kind_state[FD_TYPES__NETLINKSK];

	for (size_t i = 0; s && i < s->made.room; i++) {
		struct sk_made *m = s->made.slots[i].val;

		if (m)
			close_fdp(&m->fd);
	}
	if (s)
		map_done(&s->made);
}
