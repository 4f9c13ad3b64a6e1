/* The dump's side as the core sees it: judge all, then write all. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/syscall.h>

#include "core/pids.h"
#include "ns/state.h"

int ns_dump_collect(struct dump_ctx *ctx)
{
	int r, ret;

	if (ctx->ns_state)
		return 0;
	ctx->ns_state = ARENA_NEW(&ctx->arena, struct ns_dump);
	if (!ctx->ns_state)
		return log_err(-ENOMEM, "cannot save namespaces");
	/* First: all ids in images go through it. */
	ret = userns_collect(ctx);
	r = mntns_collect(ctx);
	return r < 0 ? r : ret;
}

uint32_t ns_dump_id(const struct dump_ctx *ctx, const struct dump_process *p, enum ns_type type)
{
	InventoryEntry inv = INVENTORY_ENTRY__INIT;

	inv.root_ids = ctx->root_ids;
	return ns_own_id(&inv, p->ids, type);
}

uint32_t ns_dump_own_id(const struct dump_ctx *ctx, enum ns_type type)
{
	return ns_dump_id(ctx, ctx->procs[0], type);
}

/* All of one type that processes are in; by a member of each. */
static int dump_each(struct dump_ctx *ctx, enum ns_type type,
		     int (*dump)(struct dump_ctx *ctx, struct dump_process *p, uint32_t id))
{
	for (size_t i = 0; i < ctx->ns_by_key.room; i++) {
		const struct ns_seen *s = ctx->ns_by_key.slots[i].val;
		int r = s && s->type == type && s->p ? dump(ctx, s->p, s->id) : 0;

		if (r < 0)
			return r;
	}
	return 0;
}

int ns_dump_all(struct dump_ctx *ctx)
{
	struct dump_process *root = ctx->procs[0];
	struct ns_dump *ns;
	uint32_t id;
	int r = ns_dump_collect(ctx);

	if (r < 0)
		return r;
	ns = ctx->ns_state;
	id = ns_dump_own_id(ctx, NS_USER);
	if (id && ns->userns) {
		r = image_write_one(ctx->store, &image_userns, &ns->userns->base, id);
		if (r < 0)
			return r;
	}
	r = dump_each(ctx, NS_UTS, utsns_dump);
	if (r < 0)
		return r;
	id = ns_dump_own_id(ctx, NS_NET);
	if (id) {
		r = netns_dump(ctx, id);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < ns->n_mntns; i++) {
		r = mntns_write(ctx, &ns->mntns[i]);
		if (r < 0)
			return r;
	}
	return timens_dump(ctx, root, ns_dump_own_id(ctx, NS_TIME));
}

void ns_dump_done(struct dump_ctx *ctx)
{
	struct ns_dump *ns = ctx->ns_state;

	if (!ns)
		return;
	for (size_t i = 0; i < ns->copies.room; i++)
		if (ns->copies.slots[i].val)
			close((int)((uintptr_t)ns->copies.slots[i].val - 1));
	map_done(&ns->copies);
	ctx->ns_state = NULL;
}

/* A dump that stops after looking at the namespaces of one process. */
static int look(pid_t pid, struct dump_ctx *ctx, struct dump_process *p, ns_host_source_fn fn,
		void *arg)
{
	struct dump_process *procs[1] = { p };
	int r;

	ctx->procs = procs;
	ctx->n_procs = 1;
	r = ns_dump_ids(ctx, p);
	if (r >= 0)
		r = ns_dump_collect(ctx);
	if (r >= 0)
		r = ns_list_host_sources(ctx, fn, arg);
	if (r < 0)
		return log_err(r, "cannot list what %d has mounted", pid);
	return 0;
}

int ns_list_host_sources_of(pid_t pid, ns_host_source_fn fn, void *arg)
{
	_cleanup_close_ int proc_fd = -EBADF;
	struct dump_process p = { .pid = pid, .life = TASK_ALIVE };
	struct cr_opts opts = { .pid = pid };
	struct dump_ctx ctx = { .opts = &opts };
	char path[32];
	int r;

	snprintf(path, sizeof(path), "/proc/%d", pid);
	proc_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (proc_fd < 0)
		return log_err(neg_errno(), "cannot open %s", path);
	p.proc_fd = proc_fd;
	p.ctx = &ctx;
	arena_init(&ctx.arena);
	r = pids_find_level(&ctx, pid, proc_fd);
	if (r >= 0)
		r = pids_of_process(&p);
	if (r >= 0)
		r = look(pid, &ctx, &p, fn, arg);
	ns_dump_done(&ctx);
	map_done(&ctx.ns_by_key);
	arena_done(&ctx.arena);
	return r;
}
