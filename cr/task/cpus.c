/*
 * Processors that a thread may run on, if it has been told (taskset, CPUAffinity=).
 *
 *   dump     sched_getaffinity(2); saved when it is less than the control group allows
 *   restore  sched_setaffinity(2) from outside, last, because the restore itself pins all tasks of a
 *            larger tree to its own processor: stop and go then cost a twentieth of what they cost
 *            across two
 *
 * The kernel mixes what the thread asked for with what its cpuset permits; only the first is the
 * thread's, the second comes with its control group.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "task/parts.h"

#define PIN_TASKS_MIN	16u
#define CGROUP_ROOT	"/sys/fs/cgroup"

struct cpus {
	size_t bytes;
	uint8_t bits[1024];	/* as the kernel counts them */
	uint8_t one[1024];	/* restore: the one that all are pinned to */
};

static int cpus_get(pid_t tid, struct cpus *ret)
{
	long r = syscall(SYS_sched_getaffinity, tid, sizeof(ret->bits), ret->bits);

	if (r < 0)
		return neg_errno();
	ret->bytes = (size_t)r;
	return 0;
}

static int cpus_set(pid_t tid, const void *bits, size_t bytes)
{
	return syscall(SYS_sched_setaffinity, tid, bytes, bits) < 0 ? neg_errno() : 0;
}

static unsigned int cpus_count(const struct cpus *c)
{
	unsigned int n = 0;

	for (size_t i = 0; i < c->bytes; i++)
		n += (unsigned int)__builtin_popcount(c->bits[i]);
	return n;
}

unsigned int cpu_list_count(const char *list)
{
	unsigned int n = 0, first, last;
	int used;

	while (sscanf(list, "%u%n", &first, &used) == 1) {
		list += used;
		last = first;
		if (sscanf(list, "-%u%n", &last, &used) == 1)
			list += used;
		if (last < first || last - first > 65535)
			return 0;
		n += last - first + 1;
		if (*list != ',')
			break;
		list++;
	}
	return n;
}

/* What the nearest group with a cpuset allows; 0: none says anything. */
static unsigned int cgroup_allows(const struct dump_process *p)
{
	_cleanup_free_ char *text = NULL, *list = NULL;
	char path[4096], *group, *end;

	if (read_file_at(p->proc_fd, "cgroup", READ_FILE_MAX, &text, NULL) < 0 ||
	    !(group = strstr(text, "0::/")))
		return 0;
	group += 3;
	group[strcspn(group, "\n")] = '\0';
	while (*group) {
		snprintf(path, sizeof(path), CGROUP_ROOT "%s/cpuset.cpus.effective", group);
		if (read_file_at(AT_FDCWD, path, 65536, &list, NULL) >= 0)
			return cpu_list_count(list);
		end = strrchr(group, '/');
		*end = '\0';
	}
	return 0;
}

/* The C library reads it from a file each time. */
static long online(struct dump_ctx *ctx)
{
	if (!ctx->cpus_online)
		ctx->cpus_online = sysconf(_SC_NPROCESSORS_ONLN);
	return ctx->cpus_online;
}

static int cpus_dump(struct dump_ctx *ctx, struct dump_process *p, struct dump_thread *th)
{
	ThreadCoreEntry *tc = part_thread_core(ctx, th);
	unsigned int n, allowed;
	struct cpus c;
	int r;

	if (!tc)
		return -ENOMEM;
	r = cpus_get(th->task.tid, &c);
	if (r < 0)
		return log_err(r, "cannot read the processors of thread %d", th->task.tid);
	n = cpus_count(&c);
	if (n >= online(ctx))
		return 0;
	allowed = cgroup_allows(p);
	if (allowed && n >= allowed)
		return 0;
	tc->has_cpus = true;
	tc->cpus.data = arena_memdup(&ctx->arena, c.bits, c.bytes);
	tc->cpus.len = c.bytes;
	return tc->cpus.data ? 0 : -ENOMEM;
}

static int cpus_finish(struct restore_ctx *ctx, struct restore_process *p _unused_, struct restore_thread *th)
{
	const ThreadCoreEntry *tc = th->core->thread_core;
	int r = 0;

	if (tc && tc->has_cpus) {
		if (!tc->cpus.len || tc->cpus.len > sizeof(ctx->cpus->bits))
			return part_bad("core image: processors in %zu bytes", tc->cpus.len);
		r = cpus_set(th->task.tid, tc->cpus.data, tc->cpus.len);
		if (r >= 0)
			return 0;
		/* None of them is there, in this machine or in its control group. */
		if (r != -EINVAL)
			return log_err(r, "cannot choose the processors of thread %d", th->task.tid);
		log_warn("thread %d may run on all processors: those it had chosen are not there",
			 th->task.tid);
	}
	if (!ctx->cpus)
		return 0;
	r = cpus_set(th->task.tid, ctx->cpus->bits, ctx->cpus->bytes);
	return r < 0 ? log_err(r, "cannot give thread %d its processors", th->task.tid) : 0;
}

static size_t n_tasks(const struct restore_ctx *ctx)
{
	size_t n = 0;

	for (size_t i = 0; i < ctx->n_procs; i++)
		n += MAX(ctx->procs[i].n_threads, (size_t)1);
	return n;
}

/*
 * Restores that begin at the same moment have consecutive pids: each takes another one. A small
 * tree gains little, and should not have to wait for whoever else is on that processor.
 */
int cpus_pin(struct restore_ctx *ctx)
{
	struct cpus *own = ARENA_NEW(&ctx->arena, struct cpus);
	unsigned int skip;
	int r;

	if (!own)
		return -ENOMEM;
	if (n_tasks(ctx) < PIN_TASKS_MIN)
		return 0;
	r = cpus_get(0, own);
	if (r < 0)
		return log_err(r, "cannot read our own processors");
	skip = (unsigned int)getpid() % cpus_count(own);
	for (size_t i = 0; i < own->bytes * 8; i++)
		if (own->bits[i / 8] >> (i % 8) & 1 && !skip--) {
			own->one[i / 8] = (uint8_t)(1u << (i % 8));
			break;
		}
	ctx->cpus = own;
	return cpus_repin(ctx);
}

int cpus_repin(struct restore_ctx *ctx)
{
	int r = ctx->cpus ? cpus_set(0, ctx->cpus->one, ctx->cpus->bytes) : 0;

	return r < 0 ? log_err(r, "cannot stay on one processor") : 0;
}

void cpus_unpin(struct restore_ctx *ctx)
{
	if (ctx->cpus && cpus_set(0, ctx->cpus->bits, ctx->cpus->bytes) < 0)
		log_warn("the engine stays on one processor");
}

const struct task_part part_cpus = {
	.name		= "processors",
	.stage		= STAGE_LATE,
	.dump		= cpus_dump,
	.finish		= cpus_finish,
};
