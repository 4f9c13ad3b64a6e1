/*
 * What a thread may have for itself: namespaces (unshare, setns), descriptors (CLONE_FILES), working
 * directory, root and umask (CLONE_FS). And what a process may have in common with others.
 *
 *   dump     what core/shares.c has found; for namespaces, where that knows nothing or they differ, the inode
 *            numbers of /proc/PID/task/TID/ns
 *
 * A thread is born with all that its maker has, and the restore's are all made by the leader. Of these only an
 * fs of its own is made again (core/restore_fs.c), the rest is told here; the PID namespace of its children by
 * ns/pidns_dump.c. The user, PID and time namespace are always the leader's: the kernel lets no thread change them.
 *
 * A process is made by its parent, as a rule, and can get that one's descriptors, nobody else's. Not its fs: the
 * kernel lets nobody enter a mount or user namespace who shares that.
 *
 * The trap is the price: each look into /proc/PID/task/TID/ns costs 10 µs.
 */
#include <string.h>
#include <sys/stat.h>

#include "core/dump_process.h"
#include "core/shares.h"
#include "kernel/stat.h"

/* As in /proc/PID/task/TID/ns. */
static const char *const thread_ns[] = {
	"net", "uts", "ipc", "cgroup", "mnt", "time_for_children",
};

struct leader {
	uint64_t ns[ARRAY_SIZE(thread_ns)];	/* inode numbers, 0: this kernel has none */
	bool ns_read;
};

static bool same(const struct dump_thread *a, const struct dump_thread *b, enum task_share s)
{
	return a->shares[s] == b->shares[s];
}

static const char *comm_of(pid_t pid, struct proc_stat *st)
{
	return proc_stat_of(pid, st) < 0 ? "?" : st->comm;
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
	pid_t tid = th->task.tid;
	char names[96];
	int r;

	th->shares_ns = th->shares[SHARE_NS] && same(th, p->threads, SHARE_NS);
	if (th->shares_ns)
		return 0;
	r = ns_that_differ(p, l, tid, names, sizeof(names));
	if (r < 0 || !names[0])
		return r;
	return log_obstacle("let that thread go back (setns) or end before, or give its work a process of its own",
			    "thread %d (%s) has namespaces that are not its process's: %s",
			    tid, thread_comm(ctx, p, tid), names);
}

static int check_files(struct dump_ctx *ctx, struct dump_process *p, struct dump_thread *th)
{
	if (same(th, p->threads, SHARE_FILES))
		return 0;
	return log_obstacle("end that thread before, or stop the service",
			    "thread %d (%s) has a descriptor table of its own (unshare(CLONE_FILES))",
			    th->task.tid, thread_comm(ctx, p, th->task.tid));
}

static int check_fs(struct dump_ctx *ctx, struct dump_process *p, struct dump_thread *th)
{
	const struct sharer *first = shares_first(ctx, th, SHARE_FS);
	pid_t tid = th->task.tid, other = first->p == p ? first->outside : first->p->pid;
	struct proc_stat st;

	if (same(th, p->threads, SHARE_FS))
		return 0;
	th->own_fs = true;
	/* They would have one each. */
	if (first->p == p && first->tid != tid)
		return log_obstacle("end one of them before, or stop the service",
				    "threads %d and %d share a working directory that is not their process's (CLONE_FS)",
				    first->tid, tid);
	if (!other)
		return 0;
	return log_obstacle("end one of them before, or stop the service",
			    "thread %d (%s) shares a working directory that is not its process's with process %d (%s) (CLONE_FS)",
			    tid, thread_comm(ctx, p, tid), other, comm_of(other, &st));
}

/* Made by a pthread_create() of its own: no library's does that. */
static void tell_io(struct dump_ctx *ctx, const struct dump_thread *th)
{
	struct sharer *first = shares_first(ctx, th, SHARE_IO);
	pid_t other = !first ? 0 : first->tid == th->task.tid ? first->outside : first->tid;

	if (!other || first->told)
		return;
	first->told = true;
	log_warn("tasks %d and %d share an I/O context (clone(CLONE_IO)): afterwards each has its own, and an I/O priority that one sets is not the other's",
		 th->task.tid, other);
}

int threads_check_shares(struct dump_ctx *ctx, struct dump_process *p)
{
	struct leader l = { 0 };
	int ret = 0;

	tell_io(ctx, p->threads);
	for (size_t i = 1; i < p->n_threads; i++) {
		struct dump_thread *th = &p->threads[i];
		const int found[] = {
			check_ns(ctx, p, &l, th),
			check_files(ctx, p, th),
			check_fs(ctx, p, th),
		};

		tell_io(ctx, th);
		for (size_t k = 0; k < ARRAY_SIZE(found); k++) {
			if (found[k] < 0 && found[k] != -EOPNOTSUPP)
				return found[k];
			ret = found[k] < 0 ? found[k] : ret;
		}
	}
	return ret;
}

static const struct {
	enum task_share share;
	const char *what, *flag, *remedy;
} refused[] = {
	{ SHARE_VM, "memory", "CLONE_VM", "wait until its vfork() or clone(CLONE_VM) child has ended" },
	{ SHARE_FILES, "descriptors", "CLONE_FILES", "stop the service" },
	{ SHARE_FS, "working directory, root and umask", "CLONE_FS", "stop the service" },
};

/* Told of the first in the tree who has it: who else is outside. */
static int check_share(struct dump_ctx *ctx, struct dump_process *p, size_t i)
{
	const struct sharer *first = shares_first(ctx, p->threads, refused[i].share);
	struct proc_stat st;

	if (first->p != p)
		return log_obstacle(refused[i].remedy, "it shares its %s with process %d (%s)%s (clone(%s))",
				    refused[i].what, first->p->pid, first->p->comm,
				    refused[i].share == SHARE_FILES ? ", which is not its parent" : "", refused[i].flag);
	if (!first->outside)
		return 0;
	return log_obstacle("end that one before, or stop the service",
			    "it shares its %s with process %d (%s) outside of the tree (clone(%s))",
			    refused[i].what, first->outside, comm_of(first->outside, &st), refused[i].flag);
}

/* What it has to give back is ns/ipc_sem_undo.c's business. */
static void tell_undo(struct dump_ctx *ctx, struct dump_process *p)
{
	const struct sharer *first = shares_first(ctx, p->threads, SHARE_UNDO);
	pid_t other = !first ? 0 : first->p == p ? first->outside : first->p->pid;

	if (first)
		p->undo_with = first->outside;
	if (other)
		log_warn("it shares with process %d what semaphores get back (SEM_UNDO) at the end of both (clone(CLONE_SYSVSEM)): afterwards each has its own",
			 other);
}

int process_check_shares(struct dump_ctx *ctx, struct dump_process *p)
{
	const struct dump_process *parent = p->parent && p->parent->n_threads ? p->parent : NULL;
	int ret = 0;

	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		if (refused[i].share == SHARE_FILES && parent && same(p->threads, parent->threads, SHARE_FILES))
			p->ids->files_id = parent->ids->files_id;
		else if (check_share(ctx, p, i) < 0)
			ret = -EOPNOTSUPP;
	}
	tell_undo(ctx, p);
	return ret;
}
