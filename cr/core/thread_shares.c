/*
 * What a thread may have for itself: namespaces (unshare, setns), descriptors (CLONE_FILES), working
 * directory, root and umask (CLONE_FS). And what a process may have in common with its parent.
 *
 *   dump     kcmp(2) with the leader for files and fs; the task_struct's nsproxy (kernel/peek.h), or, where
 *            that cannot be read or differs, the inode numbers of /proc/PID/task/TID/ns
 *
 * A thread is born with all that its maker has, and the restore's are all made by the leader. Of these only an
 * fs of its own is made again (core/restore_fs.c), the rest is told here; the PID namespace of its children by
 * ns/pidns_dump.c. The user, PID and time namespace are always the leader's: the kernel lets no thread change them.
 *
 * The trap is the price: each look into /proc/PID/task/TID/ns costs 10 µs, the two calls of kcmp 3, nsproxy 2.
 */
#include <linux/kcmp.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "core/dump_process.h"
#include "kernel/peek.h"

/* As in /proc/PID/task/TID/ns. */
static const char *const thread_ns[] = {
	"net", "uts", "ipc", "cgroup", "mnt", "time_for_children",
};

struct leader {
	uint64_t nsproxy;		/* 0: not known */
	uint64_t ns[ARRAY_SIZE(thread_ns)];	/* inode numbers, 0: this kernel has none */
	bool ns_read;
	struct dump_thread **own_fs;	/* threads with an fs that is not the leader's, in kcmp's order */
	size_t n_own_fs;
};

/* 0: the same; 1, 2: an order that does not change. */
static int same(pid_t a, pid_t b, int type)
{
	long c = syscall(SYS_kcmp, a, b, type, 0, 0);

	return c < 0 ? log_err(neg_errno(), "kcmp of tasks %d and %d", a, b) : (int)c;
}

static uint64_t nsproxy_of(struct dump_ctx *ctx, pid_t tid)
{
	uint64_t task, ret;
	int r = ctx->peek ? peek_task(ctx->peek, tid, &task) : -EOPNOTSUPP;

	if (r >= 0)
		r = peek_member(ctx->peek, task, "task_struct", "nsproxy", 8, &ret);
	return r < 0 ? 0 : ret;
}

static const char *thread_comm(struct dump_ctx *ctx, const struct dump_process *p, pid_t tid)
{
	_cleanup_free_ char *text = NULL;
	char path[40];
	const char *ret;

	snprintf(path, sizeof(path), "task/%d/comm", tid);
	if (read_file_at(p->proc_fd, path, 64, &text, NULL) < 0)
		return "?";
	text[strcspn(text, "\n")] = '\0';
	ret = arena_strdup(&ctx->arena, text);
	return ret ? ret : "?";
}

static int inodes_read(struct dump_process *p, pid_t tid, uint64_t ret[ARRAY_SIZE(thread_ns)])
{
	for (size_t i = 0; i < ARRAY_SIZE(thread_ns); i++) {
		struct stat st = { 0 };
		char path[64];

		snprintf(path, sizeof(path), "task/%d/ns/%s", tid, thread_ns[i]);
		if (fstatat(p->proc_fd, path, &st, 0) < 0 && errno != ENOENT)
			return log_err(neg_errno(), "cannot read /proc/%d/%s", p->pid, path);
		ret[i] = st.st_ino;
	}
	return 0;
}

/* Names, with blanks between them. Empty: as equal as they can be told to be. */
static int ns_that_differ(struct dump_process *p, struct leader *l, pid_t tid, char *names, size_t room)
{
	uint64_t ns[ARRAY_SIZE(thread_ns)];
	size_t len = 0;
	int r = l->ns_read ? 0 : inodes_read(p, p->threads[0].task.tid, l->ns);

	names[0] = '\0';
	l->ns_read = r >= 0;
	if (r >= 0)
		r = inodes_read(p, tid, ns);
	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(thread_ns); i++)
		if (ns[i] != l->ns[i] && len < room)
			len += (size_t)snprintf(names + len, room - len, "%s%s", len ? " " : "", thread_ns[i]);
	return r;
}

static int check_ns(struct dump_ctx *ctx, struct dump_process *p, struct leader *l, struct dump_thread *th)
{
	uint64_t own = l->nsproxy ? nsproxy_of(ctx, th->task.tid) : 0;
	pid_t tid = th->task.tid;
	char names[96];
	int r;

	th->shares_ns = own && own == l->nsproxy;
	if (th->shares_ns)
		return 0;
	r = ns_that_differ(p, l, tid, names, sizeof(names));
	if (r < 0 || !names[0])
		return r;
	return log_obstacle("let that thread go back (setns) or end before, or give its work a process of its own",
			    "thread %d (%s) has namespaces that are not its process's: %s",
			    tid, thread_comm(ctx, p, tid), names);
}

static int check_files(struct dump_ctx *ctx, struct dump_process *p, pid_t tid)
{
	int r = same(p->threads[0].task.tid, tid, KCMP_FILES);

	if (r <= 0)
		return r;
	return log_obstacle("end that thread before, or stop the service",
			    "thread %d (%s) has a descriptor table of its own (unshare(CLONE_FILES))",
			    tid, thread_comm(ctx, p, tid));
}

/* Threads of one own fs (the second made by the first) would have one each. */
static int own_fs_add(struct dump_ctx *ctx, struct leader *l, struct dump_thread *th)
{
	size_t lo = 0, hi = l->n_own_fs;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = same(th->task.tid, l->own_fs[mid]->task.tid, KCMP_FS);

		if (c < 0)
			return c;
		if (!c)
			return log_obstacle("end one of them before, or stop the service",
					    "threads %d and %d share a working directory that is not their process's (CLONE_FS)",
					    l->own_fs[mid]->task.tid, th->task.tid);
		if (c == 1)
			hi = mid;
		else
			lo = mid + 1;
	}
	if (!ARENA_PUSH(&ctx->arena, l->own_fs, l->n_own_fs))
		return -ENOMEM;
	memmove(l->own_fs + lo + 1, l->own_fs + lo, (l->n_own_fs - 1 - lo) * sizeof(*l->own_fs));
	l->own_fs[lo] = th;
	return 0;
}

static int check_fs(struct dump_ctx *ctx, struct dump_process *p, struct leader *l, struct dump_thread *th)
{
	int r = same(p->threads[0].task.tid, th->task.tid, KCMP_FS);

	if (r <= 0)
		return r;
	th->own_fs = true;
	return own_fs_add(ctx, l, th);
}

int threads_check_shares(struct dump_ctx *ctx, struct dump_process *p)
{
	struct leader l = { 0 };
	int ret = 0;

	if (p->n_threads < 2)
		return 0;
	l.nsproxy = nsproxy_of(ctx, p->threads[0].task.tid);
	for (size_t i = 1; i < p->n_threads; i++) {
		struct dump_thread *th = &p->threads[i];
		const int found[] = {
			check_ns(ctx, p, &l, th),
			check_files(ctx, p, th->task.tid),
			check_fs(ctx, p, &l, th),
		};

		for (size_t k = 0; k < ARRAY_SIZE(found); k++) {
			if (found[k] < 0 && found[k] != -EOPNOTSUPP)
				return found[k];
			ret = found[k] < 0 ? found[k] : ret;
		}
	}
	return ret;
}

int process_check_shares(struct dump_process *p)
{
	pid_t tid = p->threads[0].task.tid, parent;
	int r;

	if (!p->parent || p->parent->life == TASK_DEAD)
		return 0;
	parent = p->parent->threads[0].task.tid;
	r = same(tid, parent, KCMP_VM);
	if (r < 0)
		return r;
	if (!r)
		return log_obstacle("wait until its vfork() or clone(CLONE_VM) child has ended",
				    "it shares its memory with process %d", p->parent->pid);
	r = same(tid, parent, KCMP_FILES);
	if (r < 0)
		return r;
	if (!r)
		p->ids->files_id = p->parent->ids->files_id;
	r = same(tid, parent, KCMP_FS);
	if (r < 0)
		return r;
	return r ? 0 : log_obstacle("stop the service",
				    "it shares its working directory, root and umask with process %d (clone(CLONE_FS))",
				    p->parent->pid);
}
