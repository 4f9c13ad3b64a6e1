/*
 * See sk_caller.h.
 *
 * A task makes the calls by batch, with its own table: the engine's descriptors are fetched
 * into it and go again, what it makes is fetched from it. Ids are changed for the calls only;
 * the effective ones are what the kernel notes. A caller that has ended gets a stand-in: a
 * process with its pid that shares the engine's descriptors.
 */
#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kind/sk_caller.h"
#include "ns/ns.h"

#define GROUPS_MAX	65536u	/* NGROUPS_MAX */

/* The caller's ids, and the way back. */
struct ids {
	uint32_t uid, gid, *groups;
	size_t n_groups;
	uint32_t own_uid, own_gid, *own_groups;
	size_t n_own_groups;
	bool change;
};

static int ids_own(struct restore_ctx *ctx, struct ids *ids)
{
	int n = getgroups(0, NULL);

	ids->own_uid = geteuid();
	ids->own_gid = getegid();
	if (n < 0)
		return neg_errno();
	ids->own_groups = arena_alloc(&ctx->arena, ((size_t)n + 1) * sizeof(*ids->own_groups));
	if (!ids->own_groups)
		return -ENOMEM;
	n = getgroups(n, ids->own_groups);
	if (n < 0)
		return neg_errno();
	ids->n_own_groups = (size_t)n;
	return 0;
}

static int ids_of(struct restore_ctx *ctx, const SkCredsEntry *who, struct ids *ids)
{
	int r;

	if (who->n_groups > GROUPS_MAX)
		return -EBADMSG;
	*ids = (struct ids){
		.uid = who->uid,
		.gid = who->gid,
		.groups = who->groups,
		.n_groups = who->n_groups,
	};
	/* Would mean "leave it as it is". */
	if (ids->uid == UINT32_MAX || ids->gid == UINT32_MAX)
		return -EBADMSG;
	r = ids_own(ctx, ids);
	if (r < 0)
		return r;
	ids->change = ids->uid != ids->own_uid || ids->gid != ids->own_gid ||
		      ids->n_groups != ids->n_own_groups ||
		      (ids->n_groups && memcmp(ids->groups, ids->own_groups,
					       ids->n_groups * sizeof(*ids->groups)));
	return 0;
}

static void become_calls(struct batch *b, const struct ids *ids)
{
	if (!ids->change)
		return;
	batch_call(b, SYS_setgroups, ids->n_groups,
		   batch_put(b, ids->groups, ids->n_groups * sizeof(*ids->groups)));
	batch_call(b, SYS_setresgid, -1, ids->gid, -1);
	batch_call(b, SYS_setresuid, -1, ids->uid, -1);
}

/* Changing ids takes the dumpable flag; what it shall be comes with the task's state. */
static void come_back_calls(struct batch *b, const struct ids *ids)
{
	if (!ids->change)
		return;
	batch_call(b, SYS_setresuid, -1, ids->own_uid, -1);
	batch_call(b, SYS_setresgid, -1, ids->own_gid, -1);
	batch_call(b, SYS_setgroups, ids->n_own_groups,
		   batch_put(b, ids->own_groups, ids->n_own_groups * sizeof(*ids->own_groups)));
	batch_call(b, SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0);
}

/* One call as the task makes it. */
struct task_call {
	int get_fd, get_file;		/* calls of the fetching batch; -1 none */
	int t_fd, t_file;
	uint64_t t_made;		/* where the pair's numbers are */
};

static int fetch(struct restore_ctx *ctx, struct task *t, const struct sk_call *calls, size_t n,
		 struct task_call *tc)
{
	struct batch *b = &ctx->batch;
	int r;

	batch_begin(b, t);
	for (size_t i = 0; i < n; i++) {
		const struct sk_call *c = &calls[i];

		tc[i] = (struct task_call){ -1, -1, -1, -1, 0 };
		if (c->sort != SK_PAIR)
			tc[i].get_fd = batch_call(b, SYS_pidfd_getfd, ctx->pidfd_t_fd, c->fd, 0);
		if (c->sort == SK_CONNECT && !c->to)
			tc[i].get_file = batch_call(b, SYS_pidfd_getfd, ctx->pidfd_t_fd,
						    c->to_file, 0);
	}
	r = batch_run(b);
	for (size_t i = 0; i < n && r >= 0; i++) {
		tc[i].t_fd = tc[i].get_fd < 0 ? -1 : (int)batch_ret(b, tc[i].get_fd);
		tc[i].t_file = tc[i].get_file < 0 ? -1 : (int)batch_ret(b, tc[i].get_file);
	}
	return r;
}

static socklen_t file_address(int fd, struct sockaddr_un *ret)
{
	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	snprintf(ret->sun_path, sizeof(ret->sun_path), "/proc/self/fd/%d", fd);
	return sizeof(*ret);
}

static void one_call(struct batch *b, const struct sk_call *c, struct task_call *tc)
{
	struct sockaddr_un at;
	socklen_t len;

	switch (c->sort) {
	case SK_PAIR:
		tc->t_made = batch_put(b, NULL, 2 * sizeof(int));
		batch_call(b, SYS_socketpair, AF_UNIX, c->type, 0, tc->t_made);
		break;
	case SK_LISTEN:
		batch_call(b, SYS_listen, tc->t_fd, c->backlog);
		break;
	case SK_CONNECT:
		len = c->to ? c->to_len : file_address(tc->t_file, &at);
		batch_call(b, SYS_connect, tc->t_fd, batch_put(b, c->to ? c->to : &at, len), len);
		break;
	}
}

static int take_made(int pidfd, const struct batch *b, const struct task_call *tc,
		     struct sk_call *c)
{
	int t_fds[2];

	if (c->sort != SK_PAIR)
		return 0;
	memcpy(t_fds, batch_data((struct batch *)b, tc->t_made), sizeof(t_fds));
	for (int k = 0; k < 2; k++) {
		c->made[k] = (int)syscall(SYS_pidfd_getfd, pidfd, t_fds[k], 0);
		if (c->made[k] < 0)
			return neg_errno();
	}
	return 0;
}

/* The table is as empty as it was. */
static int close_all(struct batch *b, struct task *t, const struct task_call *tc, size_t n,
		     const int (*pairs)[2])
{
	batch_begin(b, t);
	for (size_t i = 0; i < n; i++) {
		const int fds[] = { tc[i].t_fd, tc[i].t_file, pairs[i][0], pairs[i][1] };

		for (size_t k = 0; k < ARRAY_SIZE(fds); k++)
			if (fds[k] >= 0)
				batch_call(b, SYS_close, fds[k]);
	}
	return batch_run(b);
}

static int by_task(struct restore_ctx *ctx, struct task *t, const struct ids *ids,
		   struct sk_call *calls, size_t n)
{
	_cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, t->tid, 0);
	struct task_call tc[SK_CALLS_MAX];
	int pairs[SK_CALLS_MAX][2];
	struct batch *b = &ctx->batch;
	int r, closed;

	if (pidfd < 0)
		return neg_errno();
	r = fetch(ctx, t, calls, n, tc);
	if (r < 0)
		return r;
	batch_begin(b, t);
	r = batch_make_room(b, SK_CALLS_MAX * 2 + 8,
			    (ids->n_groups + ids->n_own_groups) * 4 + SK_CALLS_MAX * 128 + 256);
	if (r < 0)
		return r;
	become_calls(b, ids);
	for (size_t i = 0; i < n; i++)
		one_call(b, &calls[i], &tc[i]);
	come_back_calls(b, ids);
	r = batch_run(b);
	for (size_t i = 0; i < n; i++) {
		pairs[i][0] = pairs[i][1] = -1;
		if (!r && calls[i].sort == SK_PAIR)
			memcpy(pairs[i], batch_data(b, tc[i].t_made), sizeof(pairs[i]));
	}
	for (size_t i = 0; !r && i < n; i++)
		r = take_made(pidfd, b, &tc[i], &calls[i]);
	closed = close_all(b, t, tc, n, (const int (*)[2])pairs);
	return r < 0 ? r : closed;
}

static int one_here(struct sk_call *c)
{
	struct sockaddr_un at;
	socklen_t len;

	switch (c->sort) {
	case SK_PAIR:
		return socketpair(AF_UNIX, c->type, 0, c->made) < 0 ? neg_errno() : 0;
	case SK_LISTEN:
		return listen(c->fd, c->backlog) < 0 ? neg_errno() : 0;
	case SK_CONNECT:
		break;
	}
	len = c->to ? c->to_len : file_address(c->to_file, &at);
	return connect(c->fd, (const struct sockaddr *)(c->to ? c->to : &at), len) < 0
	       ? neg_errno() : 0;
}

static int all_here(struct sk_call *calls, size_t n)
{
	int r = 0;

	for (size_t i = 0; !r && i < n; i++)
		r = one_here(&calls[i]);
	return r;
}

/* What the stand-in tells. */
struct answer {
	int r;
	struct sk_call calls[SK_CALLS_MAX];
};

/* Raw calls: libc's own would look for its threads. */
static void stand_in(const struct ids *ids, struct answer *a, size_t n)
{
	a->r = -EPERM;
	if (ids->change &&
	    (syscall(SYS_setgroups, ids->n_groups, ids->groups) < 0 ||
	     syscall(SYS_setresgid, -1, ids->gid, -1) < 0 ||
	     syscall(SYS_setresuid, -1, ids->uid, -1) < 0))
		a->r = neg_errno();
	else
		a->r = all_here(a->calls, n);
}

/*
 * A pid as the tree sees it; the one that we see is returned. In its PID namespace, but pid 0 is any
 * outside of it.
 */
static int clone_with_pid(struct restore_ctx *ctx, uint32_t pid, uint64_t flags)
{
	const pid_t want = (pid_t)pid;
	struct clone_args args = { .flags = flags, .exit_signal = SIGCHLD };
	struct ns_visit v = NS_VISIT_INIT;
	int left;
	long r;

	if (pid) {
		args.set_tid = (uint64_t)(uintptr_t)&want;
		args.set_tid_size = 1;
		r = ns_restore_visit_pids(ctx, 0, &v);
		if (r < 0)
			return (int)r;
	}
	r = syscall(SYS_clone3, &args, sizeof(args));
	if (r < 0)
		r = neg_errno();
	left = r ? ns_visit_end(&v) : 0;
	return left < 0 ? left : (int)r;
}

static int wait_end(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return neg_errno();
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -EIO;
}

/* It has all that the engine has open: it must not outlive it, not even a SIGKILL. */
static void __attribute__((noreturn)) hold(pid_t engine)
{
	syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
	while (syscall(SYS_getppid) == engine)
		syscall(SYS_pause);
	_exit(0);
}

int sk_hold_pid(struct restore_ctx *ctx, uint32_t pid, pid_t *ret)
{
	/* As it sees its parent. */
	pid_t engine = ns_restore_has_pidns(ctx) ? 0 : getpid();
	int r = pid && pid <= INT32_MAX ? clone_with_pid(ctx, pid, 0) : -EINVAL;

	if (!r)
		hold(engine);
	*ret = r;
	return MIN(r, 0);
}

void sk_release_pid(pid_t pid)
{
	if (pid <= 0)
		return;
	kill(pid, SIGKILL);
	(void)wait_end(pid);
}

/* 0 with *ret_pid, or in the stand-in, where that is 0. */
static int stand_in_start(struct restore_ctx *ctx, const struct sk_call *c, pid_t *ret_pid)
{
	const SkCredsEntry *who = c->who;
	bool outside = !who->pid && ns_restore_has_pidns(ctx);
	int pid = who->pid && who->pid <= INT32_MAX ? clone_with_pid(ctx, who->pid, CLONE_FILES)
						    : -EINVAL;

	if (pid == -EEXIST || pid == -EINVAL) {
		if (!c->quiet && !outside)
			log_warn("a unix socket's peer had the pid %u, which is not its own now: "
				 "user and group are as they were, the pid is not", who->pid);
		pid = clone_with_pid(ctx, 0, CLONE_FILES);
	}
	*ret_pid = pid;
	return MIN(pid, 0);
}

static int by_stand_in(struct restore_ctx *ctx, const struct ids *ids, struct sk_call *calls, size_t n,
		       pid_t *ret_pid)
{
	struct answer *a = mmap(NULL, sizeof(*a), PROT_READ | PROT_WRITE,
				MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int r;

	if (a == MAP_FAILED)
		return -ENOMEM;
	memcpy(a->calls, calls, n * sizeof(*calls));
	r = stand_in_start(ctx, calls, ret_pid);
	if (!r && !*ret_pid) {
		stand_in(ids, a, n);
		_exit(0);
	}
	if (!r)
		r = wait_end(*ret_pid);
	if (!r) {
		r = a->r;
		memcpy(calls, a->calls, n * sizeof(*calls));
	}
	munmap(a, sizeof(*a));
	return r;
}

static void drop_made(struct sk_call *calls, size_t n)
{
	for (size_t i = 0; i < n; i++)
		for (int k = 0; k < 2; k++) {
			close_fdp(&calls[i].made[k]);
			calls[i].made[k] = -EBADF;
		}
}

int sk_creds_cmp(const SkCredsEntry *a, const SkCredsEntry *b)
{
	if (a->pid != b->pid)
		return a->pid < b->pid ? -1 : 1;
	if (a->uid != b->uid)
		return a->uid < b->uid ? -1 : 1;
	if (a->gid != b->gid)
		return a->gid < b->gid ? -1 : 1;
	if (a->n_groups != b->n_groups)
		return a->n_groups < b->n_groups ? -1 : 1;
	return a->n_groups ? memcmp(a->groups, b->groups, a->n_groups * sizeof(*a->groups)) : 0;
}

static int call_cmp(const void *a, const void *b)
{
	const struct sk_call *x = a, *y = b;
	int by_who = sk_creds_cmp(x->who, y->who);

	/* All calls of one stand-in are as loud. */
	return by_who ? by_who : x->quiet - y->quiet;
}

/* By one caller. */
static int call_some(struct restore_ctx *ctx, struct sk_call *calls, size_t n)
{
	const SkCredsEntry *who = calls->who;
	struct restore_process *p = restore_process_find(ctx, who->pid);
	struct ids ids;
	pid_t by = p ? p->pid : (pid_t)who->pid;
	bool outside = ns_restore_has_pidns(ctx) ? !who->pid : by == getpid();
	int r = ids_of(ctx, who, &ids);

	if (!r && p && p->task_made) {
		r = by_task(ctx, &p->threads[0].task, &ids, calls, n);
	} else if (!r && outside && !ids.change) {
		by = getpid();
		r = all_here(calls, n);
	} else if (!r) {
		r = by_stand_in(ctx, &ids, calls, n, &by);
	}
	for (size_t i = 0; i < n; i++)
		calls[i].by = by;
	return r < 0 ? log_err(r, "cannot make unix sockets in the name of process %u, user %u",
			       who->pid, who->uid) : 0;
}

int sk_call_as(struct restore_ctx *ctx, struct sk_call *calls, size_t n)
{
	int r = 0;

	for (size_t i = 0; i < n; i++)
		calls[i].made[0] = calls[i].made[1] = -EBADF;
	if (n)
		qsort(calls, n, sizeof(*calls), call_cmp);
	for (size_t i = 0, k; !r && i < n; i += k) {
		for (k = 1; i + k < n && k < SK_CALLS_MAX && !call_cmp(&calls[i], &calls[i + k]);)
			k++;
		r = call_some(ctx, calls + i, k);
	}
	if (r < 0)
		drop_made(calls, n);
	return r;
}
