/*
 * A dump, as a table of steps. Every step may fail; then the tree is let go as it was.
 */
#include <string.h>
#include <sys/resource.h>

#include "core/dump_process.h"
#include "core/dump_steps.h"
#include "core/early.h"
#include "core/files.h"
#include "core/freezer.h"
#include "core/pids.h"
#include "core/shares.h"
#include "core/tree.h"
#include "kernel/stat.h"
#include "kind/kinds.h"
#include "kind/sk_common.h"
#include "ns/cgroup.h"
#include "ns/ns.h"
#include "task/mem_chain.h"
#include "task/mem_cow.h"
#include "task/mem_track.h"
#include "task/parts.h"
#include "util/timer.h"
#include "util/uuid.h"

static int notify(struct dump_ctx *ctx, const char *event)
{
	if (!ctx->opts->notify)
		return 0;
	return ctx->opts->notify(ctx->opts->notify_arg, event, ctx->opts->pid);
}

int dump_check_cancelled(struct dump_ctx *ctx)
{
	if (ctx->cancelled)
		return -ECANCELED;
	if (!ctx->opts->cancelled || !ctx->opts->cancelled(ctx->opts->cancelled_arg))
		return 0;
	ctx->cancelled = true;
	return log_fail(-ECANCELED, "stopped on request; the tree goes on");
}

/*
 * Runs fn over the tree. Obstacles do not end it at once, so that one run names them all.
 */
static int each_process(struct dump_ctx *ctx, int (*fn)(struct dump_ctx *, struct dump_process *))
{
	int refused = 0, r;

	for (size_t i = 0; i < ctx->n_procs; i++) {
		r = dump_check_cancelled(ctx);
		if (r >= 0)
			r = fn(ctx, ctx->procs[i]);
		if (r < 0 && r != -EOPNOTSUPP)
			return r;
		if (r < 0)
			refused = r;
	}
	return refused;
}

int dump_peek(struct dump_ctx *ctx, struct peek **ret)
{
	int r = ctx->peek ? 0 : peek_open(&ctx->peek);

	*ret = ctx->peek;
	return r;
}

int dump_peek_private(struct dump_ctx *ctx, int fd, struct peek **ret, uint64_t *ret_addr)
{
	uint64_t file;
	int r = dump_peek(ctx, ret);

	if (r >= 0)
		r = peek_file(*ret, getpid(), fd, &file);
	return r < 0 ? r : peek_member(*ret, file, "file", "private_data", 8, ret_addr);
}

/* What tasks share and threads' time-outs ask for it. To find one's way in the kernel takes milliseconds. */
static void peek_early(struct dump_ctx *ctx)
{
	struct peek *pk;

	if (dump_peek(ctx, &pk) < 0)
		log_debug("this kernel's structures cannot be read");
	else
		landlock_look(ctx);
}

int dump_seize(struct dump_ctx *ctx)
{
	uint64_t begin;
	int r;

	peek_early(ctx);
	/* While the tree runs; who hands us a peek has stopped it before. */
	ctx->ahead = ctx->opts->peek ? ctx->opts->ahead : cr_look_ahead(ctx->opts, ctx->peek);
	begin = clock_usec(CLOCK_MONOTONIC);
	r = tree_seize(ctx);
	ctx->frozen_since_usec = clock_usec(CLOCK_MONOTONIC);
	ctx->stats.freezing_usec = ctx->frozen_since_usec - begin;
	ctx->uptime_usec = clock_usec(CLOCK_BOOTTIME);
	/* First of all: what we open might wait for the stopped tree. */
	if (r >= 0)
		r = each_process(ctx, dump_fd_list);
	if (r >= 0)
		r = each_process(ctx, fanotify_check);
	if (r >= 0)
		r = shares_find(ctx);
	return r < 0 ? r : each_process(ctx, finish_writes);
}

int dump_release(struct dump_ctx *ctx, enum cr_final_state state)
{
	int r = tree_release(ctx, state);

	if (ctx->frozen_since_usec)
		ctx->stats.frozen_usec = clock_usec(CLOCK_MONOTONIC) - ctx->frozen_since_usec;
	return r;
}

static int step_network_lock(struct dump_ctx *ctx)
{
	int r = notify(ctx, "network-lock");

	ctx->network_locked = r >= 0;
	return r;
}

/* Whoever drives us may know of more that is not the tree's. */
static int step_query_externals(struct dump_ctx *ctx)
{
	return notify(ctx, "query-ext-files");
}

static int step_collect(struct dump_ctx *ctx)
{
	static int (*const checks[])(struct dump_ctx *) = {
		ns_dump_check_shared, ns_dump_check_pidns, netns_check,
	};
	int r = each_process(ctx, dump_process_collect);

	if (r >= 0)
		r = ns_dump_collect(ctx);
	for (size_t i = 0; i < ARRAY_SIZE(checks); i++) {
		int refused = r >= 0 || r == -EOPNOTSUPP ? checks[i](ctx) : 0;

		r = refused < 0 ? refused : r;
	}
	return r;
}

static int step_state(struct dump_ctx *ctx)
{
	return each_process(ctx, dump_process_state);
}

static int step_memory(struct dump_ctx *ctx)
{
	uint64_t begin = clock_usec(CLOCK_MONOTONIC);
	int r = mem_cow_plan(ctx);

	ctx->stats.memdump_usec += clock_usec(CLOCK_MONOTONIC) - begin;
	return r < 0 ? r : each_process(ctx, dump_process_memory);
}

static int step_cgroups(struct dump_ctx *ctx)
{
	return ctx->opts->no_cgroups ? 0 : cgroup_dump(ctx);
}

static int step_cores(struct dump_ctx *ctx)
{
	return each_process(ctx, dump_process_write);
}

static int step_pstree(struct dump_ctx *ctx)
{
	_cleanup_image_writer_ struct image_writer *w = NULL;
	int r;

	r = image_create(ctx->store, &image_pstree, &w);
	for (size_t i = 0; r >= 0 && i < ctx->n_procs; i++) {
		struct dump_process *p = ctx->procs[i];
		PstreeEntry e = PSTREE_ENTRY__INIT;

		e.pid = p->pid_virtual;
		e.ppid = p->parent ? p->parent->pid_virtual : 0;
		e.pgid = p->pgid;
		e.sid = p->sid;
		e.threads = arena_alloc(&ctx->arena, (p->n_threads + 1) * sizeof(*e.threads));
		if (!e.threads)
			return -ENOMEM;
		if (p->main_ended || p->life == TASK_DEAD)
			e.threads[e.n_threads++] = p->main_ended ? p->pid_virtual : 0;
		for (size_t k = 0; k < p->n_threads; k++)
			e.threads[e.n_threads++] = p->threads[k].tid_virtual;
		r = pids_dump_numbers(p, &e);
		if (r >= 0)
			r = image_put(w, &e.base);
	}
	return r < 0 ? r : image_close(take_ptr(w));
}

int dump_mark_generation(struct dump_ctx *ctx)
{
	InventoryEntry *inv = ctx->inventory;
	char uuid[UUID_TEXT_BYTES];
	int r;

	inv->dump_criu_run_id = (char *)ctx->opts->run_id;
	if (!inv->dump_criu_run_id) {
		r = uuid_random(uuid);
		if (r < 0)
			return log_err(r, "no random number for the inventory");
		inv->dump_criu_run_id = arena_strdup(&ctx->arena, uuid);
	}
	if (!inv->dump_criu_run_id)
		return -ENOMEM;
	if (!ctx->opts->track_mem)
		return 0;
	inv->has_dump_uptime = true;
	inv->dump_uptime = ctx->uptime_usec;
	mem_track_name(ctx, inv->dump_criu_run_id);
	return 0;
}

/* Restore takes a file that is missing for one that had no entries, unless it is named here. */
static int name_images(struct dump_ctx *ctx, InventoryEntry *inv)
{
	const char (*names)[IMAGE_NAME_MAX];
	size_t n = image_store_written(ctx->store, &names);

	inv->images = arena_alloc(&ctx->arena, n * sizeof(*inv->images));
	if (!inv->images)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		inv->images[i] = (char *)names[i];
	inv->n_images = n;
	return 0;
}

/* Last: an image directory without it is no dump. */
static int step_inventory(struct dump_ctx *ctx)
{
	InventoryEntry *inv = ctx->inventory;
	int r;

	inv->img_version = 2;
	inv->has_fdinfo_per_id = inv->fdinfo_per_id = true;
	inv->has_ns_per_id = inv->ns_per_id = true;
	inv->root_ids = ctx->root_ids;
	inv->has_network_lock_method = true;
	/* Whatever was asked for, it is a table of nftables (netlock/hostlock.h). */
	inv->network_lock_method = CR_LOCK_NFTABLES;
	if (ctx->opts->network_lock == CR_LOCK_SKIP)
		inv->network_lock_method = CR_LOCK_SKIP;
	if (ctx->opts->tcp_close)
		inv->has_tcp_close = inv->tcp_close = true;
	inv->plugins_entry = ARENA_MSG(&ctx->arena, PluginsEntry, plugins_entry);
	r = ctx->opts->cpu_caps & CR_CPU_IMAGE ? cr_cpuinfo_dump(ctx->store) : 0;
	if (r < 0)
		return r;
	if (!inv->plugins_entry || dump_huge_pools(ctx, inv) < 0 || name_images(ctx, inv) < 0)
		return -ENOMEM;
	r = dump_mark_generation(ctx);
	return r < 0 ? r : image_write_one(ctx->store, &image_inventory, &inv->base);
}

static int step_post_dump(struct dump_ctx *ctx)
{
	return notify(ctx, "post-dump");
}

static const struct {
	const char *name;
	int (*run)(struct dump_ctx *ctx);
	bool check;	/* also part of looking for obstacles */
} steps[] = {
	{ "stop the tree",	dump_seize,	true },
	/* Before the first queue is read; removed by the restore, or here if the tree goes on. */
	{ "network lock",	step_network_lock, false },
	{ "resources of others", step_query_externals, false },
	/* Ids and the user namespace's maps: every later uid needs them. */
	{ "namespaces",		step_collect,	true },
	{ "sessions",		sessions_check,	true },
	{ "System V semaphores", ns_dump_find_semaphores, true },
	{ "processes",		step_state,	true },
	/* Filters point into each other over the whole tree. */
	{ "seccomp",		seccomp_dump,	true },
	{ "files",		dump_files_finish,	true },
	{ "System V IPC",	ns_dump_check_ipc, true },
	/* The long step: nothing that could still be refused comes after it. */
	{ "memory",		step_memory,	false },
	{ "System V images",	ns_dump_ipc,	false },
	{ "namespace images",	ns_dump_all,	false },
	{ "control groups",	step_cgroups,	false },
	{ "cores",		step_cores,	false },
	{ "tree",		step_pstree,	false },
	{ "inventory",		step_inventory,	false },
	{ "post-dump",		step_post_dump,	false },
};

int dump_begin_images(struct dump_ctx *ctx)
{
	int r = tree_look(ctx);

	if (r >= 0 && ctx->opts->parent_dir)
		r = image_store_may_follow(ctx->store, ctx->opts->parent_dir);
	if (r >= 0)
		r = image_store_forget(ctx->store);
	return r < 0 ? r : mem_chain_open(ctx);
}

/* One stays open for each process, and the usual limit of 1,024 is for programs that use select(). */
static void raise_nofile(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) < 0)
		return;
	rl.rlim_cur = rl.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &rl) < 0)
		log_debug("the limit of open files stays as it is");
}

int dump_init(struct dump_ctx *ctx, const struct cr_opts *opts)
{
	raise_nofile();
	arena_init(&ctx->arena);
	ctx->opts = opts;
	ctx->store = opts->store;
	ctx->peek = opts->peek;
	ctx->inventory = ARENA_MSG(&ctx->arena, InventoryEntry, inventory_entry);
	return ctx->inventory ? 0 : -ENOMEM;
}

void dump_done(struct dump_ctx *ctx)
{
	for (size_t i = 0; i < ctx->n_procs; i++)
		mem_runs_done(&ctx->procs[i]->runs);
	if (ctx->opts && ctx->peek != ctx->opts->peek)
		peek_close(ctx->peek);
	if (ctx->opts && ctx->ahead != ctx->opts->ahead)
		cr_ahead_free(ctx->ahead);
	ns_dump_done(ctx);
	map_done(&ctx->procs_by_pid);
	map_done(&ctx->files_by_key);
	map_done(&ctx->ns_by_key);
	map_done(&ctx->mapped);
	map_done(&ctx->sharers);
	map_done(&ctx->sockets_by_ino);
	arena_done(&ctx->arena);
}

static int dump_run(struct dump_ctx *ctx, bool check)
{
	int refused = 0, r;

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		if (check && !steps[i].check)
			continue;
		log_debug("step: %s", steps[i].name);
		r = dump_check_cancelled(ctx);
		if (r >= 0)
			r = steps[i].run(ctx);
		/* Without the tree there is nothing more to look at. */
		if (r == -EOPNOTSUPP && check && !i)
			return r;
		if (r == -EOPNOTSUPP && check)
			refused = r;
		else if (r < 0)
			return log_err(r, "dump of process %d failed (%s)", ctx->opts->pid,
				       steps[i].name);
	}
	return refused;
}

/*
 * A process that is gone has no memory, no files, and the namespaces of nobody: what was said of it is not what is wrong,
 * and not what the operator is to read first.
 */
static void say_who_ended(const struct dump_ctx *ctx)
{
	bool said = false;

	for (size_t i = 0; i < ctx->n_procs; i++) {
		const struct dump_process *p = ctx->procs[i];
		struct proc_stat st;

		if (p->life == TASK_DEAD || p->main_ended)
			continue;
		if (proc_stat_read(p->proc_fd, &st) >= 0 && !proc_stat_is_ending(&st))
			continue;
		if (!said)
			log_first_error_forget();
		said = true;
		log_err(-ESRCH, "process %d (%s) was killed while it was looked at: try again, whatever else was said of it",
			p->pid, p->comm);
	}
}

static int dump_or_check(const struct cr_opts *opts, bool check, struct cr_stats *ret_stats)
{
	struct dump_ctx ctx = { 0 };
	enum cr_final_state state = opts->final_state;
	bool begun = false, drop;
	int r, released;

	r = dump_init(&ctx, opts);
	if (r >= 0)
		r = notify(&ctx, "pre-dump");
	if (r >= 0 && !check && opts->track_mem)
		r = mem_track_check(&ctx);
	if (r >= 0 && !check) {
		r = dump_begin_images(&ctx);
		begun = r >= 0;
	}
	if (r >= 0)
		r = dump_run(&ctx, check);
	if (r >= 0)
		r = dump_check_cancelled(&ctx);
	/* The last thing that may fail: from here on a killed tree is gone. */
	if (r >= 0 && !check && state == CR_KILL)
		r = sk_dump_silence(&ctx);
	if (r < 0)
		say_who_ended(&ctx);
	if (r < 0 || check)
		state = CR_LEAVE_RUNNING;
	if (ctx.network_locked && state == CR_LEAVE_RUNNING && notify(&ctx, "network-unlock") < 0)
		log_warn("the network stays locked");
	drop = begun && r < 0;
	released = dump_release(&ctx, state);
	/* The tree goes on: these would make a second one, or fill the disk for nothing. */
	if (drop && image_store_forget(ctx.store) < 0)
		log_warn("remove the images by hand: this dump has failed");
	/* Closes our duplicates of its connections: after the tree, or they would outlive it. */
	dump_files_done(&ctx, r >= 0 && state != CR_LEAVE_RUNNING);
	if (r >= 0)
		r = released;
	if (r < 0 && ctx.tracking_begun)
		mem_track_spoil(&ctx);
	if (r >= 0 && !check && opts->auto_dedup)
		mem_chain_dedup(&ctx);
	if (ret_stats)
		*ret_stats = ctx.stats;
	dump_done(&ctx);
	return r;
}

struct peek *cr_peek_new(void)
{
	struct peek *pk;

	return peek_open(&pk) < 0 ? NULL : pk;
}

void cr_peek_free(struct peek *pk)
{
	peek_close(pk);
}

int cr_dump(const struct cr_opts *opts, struct cr_stats *ret_stats)
{
	return dump_or_check(opts, false, ret_stats);
}

int cr_check_tree(const struct cr_opts *opts)
{
	struct cr_opts o = *opts;

	o.log_obstacles_only = true;
	return dump_or_check(&o, true, NULL);
}
