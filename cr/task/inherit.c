/* What a new task has from the engine: read once, compared with what the images want. */
#include <fcntl.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "task/parts.h"

#ifndef PR_TIMER_CREATE_RESTORE_IDS
#define PR_TIMER_CREATE_RESTORE_IDS	77
#endif
#define PR_TIMER_CREATE_RESTORE_IDS_GET_ 2

static int inherit_caps(struct task_inherit *in)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { 0 };

	for (int cap = 0; cap < 64; cap++) {
		int r = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);

		if (r < 0)
			break;	/* the first that this kernel does not know */
		in->cap_known |= 1ull << cap;
		in->cap_bnd |= (uint64_t)r << cap;
	}
	if (syscall(SYS_capget, &head, data) < 0)
		return log_err(neg_errno(), "cannot read our own capabilities");
	in->cap_prm = data[0].permitted | (uint64_t)data[1].permitted << 32;
	return 0;
}

static int inherit_scores(struct task_inherit *in)
{
	_cleanup_free_ char *oom = NULL, *loginuid = NULL, *filter = NULL;
	int r;

	r = read_file_at(AT_FDCWD, "/proc/self/oom_score_adj", 64, &oom, NULL);
	if (r < 0)
		return log_err(r, "cannot read /proc/self/oom_score_adj");
	oom[strcspn(oom, "\n")] = '\0';
	r = parse_int(oom, &in->oom_score_adj);
	if (r < 0)
		return log_err(r, "/proc/self/oom_score_adj");
	r = read_file_at(AT_FDCWD, "/proc/self/coredump_filter", 64, &filter, NULL);
	if (r >= 0) {
		filter[strcspn(filter, "\n")] = '\0';
		r = parse_u32(filter, 16, &in->coredump_filter);
	}
	if (r < 0 && r != -ENOENT)
		return log_err(r, "/proc/self/coredump_filter");
	r = read_file_at(AT_FDCWD, "/proc/self/loginuid", 64, &loginuid, NULL);
	if (r == -ENOENT)
		return 0;
	if (r >= 0)
		r = parse_u32(loginuid, 10, &in->loginuid);
	if (r < 0)
		return log_err(r, "/proc/self/loginuid");
	in->has_loginuid = true;
	return 0;
}

static void inherit_lsm(struct task_inherit *in)
{
	_cleanup_free_ char *list = NULL;

	/* Without securityfs nothing can be told; then an image with a label is refused. */
	if (read_file_at(AT_FDCWD, "/sys/kernel/security/lsm", 4096, &list, NULL) < 0)
		return;
	if (strstr(list, "apparmor"))
		in->lsm = LSM_APPARMOR;
	else if (strstr(list, "selinux"))
		in->lsm = LSM_SELINUX;
}

const struct task_inherit *task_inherit(struct restore_ctx *ctx)
{
	struct task_inherit *in;

	if (ctx->inherit)
		return ctx->inherit;
	in = ARENA_NEW(&ctx->arena, struct task_inherit);
	if (!in || inherit_caps(in) < 0 || inherit_scores(in) < 0)
		return NULL;
	in->timers_by_id = prctl(PR_TIMER_CREATE_RESTORE_IDS, PR_TIMER_CREATE_RESTORE_IDS_GET_, 0,
				 0, 0) >= 0;
	traits_inherit(in);
	inherit_lsm(in);
	ctx->inherit = in;
	return in;
}
