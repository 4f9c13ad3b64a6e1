/*
 * The label of a Linux security module: an AppArmor profile or an SELinux context.
 *
 *   dump     /proc/PID/task/TID/attr/current; without the mode, and none when unconfined
 *   restore  written to the thread's own attr/current by itself, nobody else may
 *
 * The trap: after the credentials have changed /proc/self belongs to root, and before they have
 * the profile might forbid to change them. So the file is opened before and written after.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>

#include "task/parts.h"

#define LABEL_MAX 4000u		/* the write must be shorter than a page */

void lsm_label_strip(char *label)
{
	size_t n = strcspn(label, "\n");
	char *mode;

	label[n] = '\0';
	/* "name (enforce)": a profile's name may itself contain blanks and parentheses. */
	mode = strrchr(label, '(');
	if (n && label[n - 1] == ')' && mode && mode > label && mode[-1] == ' ')
		mode[-1] = '\0';
	if (!strcmp(label, "unconfined"))
		label[0] = '\0';
}

int lsm_dump(struct dump_ctx *ctx, struct dump_process *p, struct dump_thread *th, char **ret)
{
	_cleanup_free_ char *label = NULL;
	char path[64];
	int r;

	*ret = NULL;
	if (ctx->no_labels)
		return 0;
	snprintf(path, sizeof(path), "task/%d/attr/current", th->task.tid);
	r = read_file_at(p->proc_fd, path, LABEL_MAX, &label, NULL);
	/* No module that has labels is loaded, for nobody. */
	ctx->no_labels = r == -EINVAL || r == -ENOENT;
	if (ctx->no_labels)
		return 0;
	if (r < 0)
		return log_err(r, "cannot read the security label of thread %d", th->task.tid);
	lsm_label_strip(label);
	if (!label[0])
		return 0;
	*ret = arena_strdup(&ctx->arena, label);
	return *ret ? 0 : -ENOMEM;
}

/* The label instead of the one that was saved: --lsm-profile. */
static int new_label(struct restore_ctx *ctx, const char **label)
{
	const char *spec = ctx->opts->lsm_profile, *colon = spec ? strchr(spec, ':') : NULL;
	const bool apparmor = ctx->inherit->lsm == LSM_APPARMOR;

	if (!spec || !*label || !**label)
		return 0;
	if (!colon) {
		*label = NULL;
		return 0;
	}
	if (ctx->inherit->lsm == LSM_NONE || str_starts(spec, "apparmor:") != apparmor)
		return log_fail(-EOPNOTSUPP, "--lsm-profile %s: that is not the security module that is "
				"active here", spec);
	*label = colon + 1;
	return 0;
}

int lsm_restore_open(struct restore_ctx *ctx, const char *label, struct batch *b, int *ret_t_fd)
{
	const struct task_inherit *in = task_inherit(ctx);
	int call, r;

	*ret_t_fd = -1;
	if (!in)
		return -EIO;
	r = new_label(ctx, &label);
	if (r < 0)
		return r;
	if (!label || !label[0])
		return 0;
	if (strlen(label) > LABEL_MAX)
		return part_bad("core image: security label of %zu bytes", strlen(label));
	if (in->lsm == LSM_NONE)
		return log_fail(-EOPNOTSUPP, "the task had the security label \"%s\", but neither "
				"AppArmor nor SELinux is active here", label);
	call = batch_call(b, SYS_openat, AT_FDCWD, batch_str(b, "/proc/thread-self/attr/current"),
			  O_WRONLY | O_CLOEXEC);
	r = batch_run(b);
	if (r < 0)
		return r;
	*ret_t_fd = (int)batch_ret(b, call);
	batch_begin(b, b->task);
	return 0;
}

int lsm_restore_write_calls(struct restore_ctx *ctx, const char *label, struct batch *b,
			    int t_fd)
{
	const char *text, *name;
	int r;

	if (t_fd < 0)
		return 0;
	r = new_label(ctx, &label);
	if (r < 0)
		return r;
	text = arena_printf(&ctx->arena, "%s%s",
			    ctx->inherit->lsm == LSM_APPARMOR ? "changeprofile " : "", label);
	name = arena_printf(&ctx->arena, "take the security label \"%s\" (is its policy loaded?)",
			    label);
	if (!text || !name)
		return -ENOMEM;
	batch_call_(b, name, false, SYS_write,
		    BATCH_ARGS_(t_fd, batch_str(b, text), strlen(text), 0, 0, 0, 0));
	batch_call(b, SYS_close, t_fd);
	return 0;
}
