/*
 * oom_score_adj, coredump_filter, autogroup and loginuid: numbers of a process that live in /proc only.
 *
 *   dump     the files of these names in /proc/PID
 *   restore  all from outside but the last, which may only be written by the task itself
 *
 * Only when they differ from what the task inherited. A session's nice value (autogroup) is saved with its
 * leader; one whose leader is gone loses it. Lowering oom_score_adj below its
 * parent's minimum takes CAP_SYS_RESOURCE, changing a loginuid that is set CAP_AUDIT_CONTROL:
 * without them a warning, neither is worth a service.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ns/ns.h"
#include "task/parts.h"

#define LOGINUID_UNSET UINT32_MAX

static int coredump_filter_dump(struct dump_ctx *ctx, struct dump_process *p)
{
	_cleanup_free_ char *text = NULL;
	MmEntry *mm = part_mm(ctx, p);
	int r;

	if (!mm)
		return -ENOMEM;
	r = read_file_at(p->proc_fd, "coredump_filter", 64, &text, NULL);
	if (r == -ENOENT)	/* no CONFIG_ELF_CORE */
		return 0;
	if (r >= 0) {
		text[strcspn(text, "\n")] = '\0';
		r = parse_u32(text, 16, &mm->coredump_filter);
	}
	if (r < 0)
		return log_err(r, "cannot read coredump_filter of process %d", p->pid);
	mm->has_coredump_filter = true;
	return 0;
}

/* "/autogroup-12 nice 0"; without CONFIG_SCHED_AUTOGROUP there is none. */
static int autogroup_dump(struct dump_process *p, TaskCoreEntry *tc)
{
	_cleanup_free_ char *text = NULL;
	const char *nice;

	if (p->sid != p->pid_virtual || read_file_at(p->proc_fd, "autogroup", 128, &text, NULL) < 0)
		return 0;
	nice = strstr(text, " nice ");
	if (!nice)
		return 0;
	text[strcspn(text, "\n")] = '\0';
	if (parse_int(nice + strlen(" nice "), &tc->autogroup_nice) < 0)
		return log_fail(-EBADMSG, "autogroup of process %d: '%s'", p->pid, text);
	tc->has_autogroup_nice = tc->autogroup_nice != 0;
	return 0;
}

static int proc_scores_dump(struct dump_ctx *ctx, struct dump_process *p, struct dump_thread *th)
{
	_cleanup_free_ char *oom = NULL, *loginuid = NULL;
	TaskCoreEntry *tc = part_tc(ctx, th);
	uint32_t uid;
	int adj, r;

	if (!tc)
		return -ENOMEM;
	r = read_file_at(p->proc_fd, "oom_score_adj", 64, &oom, NULL);
	if (r >= 0) {
		oom[strcspn(oom, "\n")] = '\0';
		r = parse_int(oom, &adj);
	}
	if (r < 0)
		return log_err(r, "cannot read oom_score_adj of process %d", p->pid);
	tc->has_oom_score_adj = true;
	tc->oom_score_adj = adj;
	r = coredump_filter_dump(ctx, p);
	if (r >= 0)
		r = autogroup_dump(p, tc);
	if (r < 0)
		return r;
	r = read_file_at(p->proc_fd, "loginuid", 64, &loginuid, NULL);
	if (r == -ENOENT)	/* no CONFIG_AUDIT */
		return 0;
	if (r >= 0)
		r = parse_u32(loginuid, 10, &uid);
	if (r < 0)
		return log_err(r, "cannot read loginuid of process %d", p->pid);
	tc->has_loginuid = true;
	tc->loginuid = uid == LOGINUID_UNSET ? uid : dump_uid(ctx, uid);
	return 0;
}

static int oom_restore(const struct task_inherit *in, pid_t pid, const TaskCoreEntry *tc)
{
	char text[16];
	int r;

	if (!tc->has_oom_score_adj || tc->oom_score_adj == in->oom_score_adj)
		return 0;
	if (tc->oom_score_adj < -1000 || tc->oom_score_adj > 1000)
		return part_bad("core image: oom_score_adj %d", tc->oom_score_adj);
	snprintf(text, sizeof(text), "%d", tc->oom_score_adj);
	r = write_filef(text, "/proc/%d/oom_score_adj", pid);
	if (r == -EACCES || r == -EPERM)
		log_warn("process %d keeps oom_score_adj %d: lowering it to %d takes "
			 "CAP_SYS_RESOURCE", pid, in->oom_score_adj, tc->oom_score_adj);
	else if (r < 0)
		return log_err(r, "cannot set oom_score_adj of process %d", pid);
	return 0;
}

static int coredump_filter_restore(const struct task_inherit *in, pid_t pid, const MmEntry *mm)
{
	char text[16];
	int r;

	if (!mm || !mm->has_coredump_filter || mm->coredump_filter == in->coredump_filter)
		return 0;
	snprintf(text, sizeof(text), "0x%x", mm->coredump_filter);
	r = write_filef(text, "/proc/%d/coredump_filter", pid);
	if (r == -ENOENT) {	/* no CONFIG_ELF_CORE */
		log_warn("process %d loses its coredump_filter %s: this kernel has none", pid, text);
		return 0;
	}
	return r < 0 ? log_err(r, "cannot set coredump_filter of process %d", pid) : 0;
}

static int autogroup_restore(pid_t pid, const TaskCoreEntry *tc)
{
	char text[16];
	int r;

	/* With --shell-job its session may be another one. */
	if (!tc->has_autogroup_nice || getsid(pid) != pid)
		return 0;
	if (tc->autogroup_nice < -20 || tc->autogroup_nice > 19)
		return part_bad("core image: autogroup nice %d", tc->autogroup_nice);
	snprintf(text, sizeof(text), "%d", tc->autogroup_nice);
	r = write_filef(text, "/proc/%d/autogroup", pid);
	if (r < 0)
		log_warn("session of process %d does not get nice value %d in /proc/%d/autogroup: %s", pid,
			 tc->autogroup_nice, pid, strerror(-r));
	return 0;
}

/* As the engine sees it. */
static uint32_t loginuid_outside(struct restore_ctx *ctx, const TaskCoreEntry *tc)
{
	return tc->loginuid == LOGINUID_UNSET ? LOGINUID_UNSET : ns_restore_uid(ctx, tc->loginuid);
}

static bool loginuid_differs(struct restore_ctx *ctx, const TaskCoreEntry *tc)
{
	return tc->has_loginuid && ctx->inherit->has_loginuid &&
	       loginuid_outside(ctx, tc) != ctx->inherit->loginuid;
}

static int loginuid_restore(struct restore_ctx *ctx, const TaskCoreEntry *tc, struct batch *b)
{
	char text[16];
	int call, fd, r;

	if (!loginuid_differs(ctx, tc))
		return 0;
	snprintf(text, sizeof(text), "%u", tc->loginuid);
	call = batch_try(b, SYS_openat, AT_FDCWD, batch_str(b, "/proc/self/loginuid"),
			 O_WRONLY | O_CLOEXEC);
	r = batch_run(b);
	if (r < 0)
		return r;
	fd = (int)batch_ret(b, call);
	batch_begin(b, b->task);
	if (fd < 0)
		return 0;	/* finish() sees it and warns */
	batch_try(b, SYS_write, fd, batch_str(b, text), strlen(text));
	batch_call(b, SYS_close, fd);
	return 0;
}

static int proc_scores_restore_calls(struct restore_ctx *ctx, struct restore_process *p,
				     struct restore_thread *th, struct batch *b)
{
	const struct task_inherit *in = task_inherit(ctx);
	const TaskCoreEntry *tc = th->core->tc;
	int r;

	if (!in)
		return -EIO;
	if (!tc)
		return 0;
	r = oom_restore(in, th->task.tid, tc);
	if (r >= 0)
		r = coredump_filter_restore(in, th->task.tid, p->mm);
	if (r >= 0)
		r = autogroup_restore(th->task.tid, tc);
	if (r < 0)
		return r;
	return loginuid_restore(ctx, tc, b);
}

static int proc_scores_finish(struct restore_ctx *ctx, struct restore_process *p,
			      struct restore_thread *th)
{
	const TaskCoreEntry *tc = th->core->tc;
	_cleanup_free_ char *text = NULL;
	char path[48];
	uint32_t uid;
	int r;

	(void)p;
	if (!tc || !loginuid_differs(ctx, tc))
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/loginuid", th->task.tid);
	r = read_file_at(AT_FDCWD, path, 64, &text, NULL);
	if (r >= 0)
		r = parse_u32(text, 10, &uid);
	if (r < 0)
		return log_err(r, "cannot read loginuid of process %d", th->task.tid);
	if (uid != loginuid_outside(ctx, tc))
		log_warn("process %d keeps login uid %u instead of %u", th->task.tid, uid,
			 loginuid_outside(ctx, tc));
	return 0;
}

const struct task_part part_proc_scores = {
	.name		= "oom_score_adj, coredump_filter, autogroup, loginuid",
	.leader_only	= true,
	.stage		= STAGE_LATE,
	.dump		= proc_scores_dump,
	.restore_calls	= proc_scores_restore_calls,
	.finish		= proc_scores_finish,
};
