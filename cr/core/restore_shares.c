/*
 * Restore: what processes of the images share by clone(2), told by equal numbers. A table of descriptors comes from
 * the parent with CLONE_FILES; a process that shares anything else, or with anybody else, would get a copy
 * of its own. Our dumps refuse those (core/thread_shares.c), those of others may not.
 */
#include "core/restore_steps.h"

static const struct {
	const char *name, *what;
	size_t offset;
} own[] = {
	{ "vm_id", "memory", offsetof(TaskKobjIdsEntry, vm_id) },
	{ "sighand_id", "signal handlers", offsetof(TaskKobjIdsEntry, sighand_id) },
	{ "fs_id", "working directory, root and umask", offsetof(TaskKobjIdsEntry, fs_id) },
};

/* The process of this number, and p if there has been none. NULL: out of memory. */
static struct restore_process *first_with(struct map *first, struct restore_process *p, uint32_t id)
{
	struct restore_process *other = map_get(first, id);

	if (other)
		return other;
	return map_put(first, id, p) < 0 ? NULL : p;
}

static int check_own(struct restore_process *p, struct map *first, size_t i)
{
	uint32_t id = *(const uint32_t *)((const char *)p->ids + own[i].offset);
	struct restore_process *other = first_with(first, p, id);

	if (!other)
		return log_err(-ENOMEM, "what processes share");
	if (other == p)
		return 0;
	return log_fail(-EOPNOTSUPP, "it shares its %s with process %u (both have %s %u): that cannot be restored",
			own[i].what, other->pst->pid, own[i].name, id);
}

static int check_files(struct restore_ctx *ctx, struct restore_process *p, struct map *first)
{
	struct restore_process *other = first_with(first, p, p->ids->files_id);
	const struct kin *k = lineage_find(&ctx->lineage, p->pst->pid);

	if (!other)
		return log_err(-ENOMEM, "what processes share");
	if (other == p)
		return 0;
	if (!p->parent || !p->parent->ids || p->parent->ids->files_id != p->ids->files_id)
		return log_fail(-EOPNOTSUPP, "it shares its descriptors with process %u (both have files_id %u), which is not its parent: that cannot be restored",
				other->pst->pid, p->ids->files_id);
	if (k && !kin_may_share_files(k))
		return log_fail(-EOPNOTSUPP, "it shares its descriptors with its parent and cannot be made by it");
	p->shares_fds = true;
	return 0;
}

int restore_shares(struct restore_ctx *ctx)
{
	struct map first[ARRAY_SIZE(own) + 1] = { 0 };
	int r = 0;

	for (size_t i = 0; r >= 0 && i < ctx->n_procs; i++) {
		struct restore_process *p = &ctx->procs[i];

		/* A zombie has nothing any more. */
		if (!p->ids)
			continue;
		LOG_SCOPE("process %u", p->pst->pid);
		for (size_t k = 0; r >= 0 && k < ARRAY_SIZE(own); k++)
			r = check_own(p, &first[k], k);
		if (r >= 0)
			r = check_files(ctx, p, &first[ARRAY_SIZE(own)]);
	}
	for (size_t k = 0; k < ARRAY_SIZE(first); k++)
		map_done(&first[k]);
	return r;
}
