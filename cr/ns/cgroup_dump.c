/*
 * Control groups, dump: cgroup.img.
 *
 *   sets         what /proc/PID/task/TID/cgroup says, each combination once; of tasks that the kernel has in one
 *                css_set, one is asked
 *   controllers  the groups those sets name, with limits, owners and modes, so that a group
 *                which is not there at restore can be made
 *
 * All hierarchies are there: the unified one (v2, ""), those of v1's controllers and the named ones.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "kernel/peek.h"
#include "ns/cgroup_state.h"
#include "ns/state.h"
#include "util/map.h"

/* A cgroup namespace that processes of the tree are in. */
struct cg_ns {
	struct cg_ns *next;
	uint32_t id;			/* 0: ours */
	struct cg_set roots;		/* empty: ours */
	struct map by_addr;		/* of the kernel's css_set: id and 1 */
};

struct cg_dump {
	struct arena *a;
	struct cg_set *sets;	/* ids from 1; [0] is ours */
	size_t n;
	struct cg_ns *ns;
	struct mount_table mounts;
	const char *frozen;	/* --freeze-cgroup, if it was so before us; or NULL */
};

static int set_id(struct cg_dump *cg, const struct cg_set *set, uint32_t *ret)
{
	struct cg_set *s;

	/* Ours is not stored, but what another namespace hides of it must be. */
	for (size_t i = 0; i < cg->n; i++) {
		if (cg->sets[i].ns == set->ns && cgroup_sets_equal(&cg->sets[i], set)) {
			*ret = cg->sets[i].id;
			return 0;
		}
	}
	s = ARENA_PUSH(cg->a, cg->sets, cg->n);
	if (!s)
		return -ENOMEM;
	*s = *set;
	s->id = *ret = (uint32_t)cg->n;
	return 0;
}

static int read_set(struct cg_dump *cg, struct cg_ns *ns, int dirfd, const char *path, uint32_t *ret)
{
	_cleanup_free_ char *text = NULL;
	struct cg_set set;
	int r = read_file_at(dirfd, path, READ_FILE_MAX, &text, NULL);

	if (r >= 0)
		r = cgroup_parse(cg->a, text, &set);
	if (r < 0)
		return r;
	set.ns = ns;
	return set_id(cg, &set, ret);
}

/* Nobody has moved it since the tree was stopped: what it says is said of all that shared its set then. */
static bool is_still(struct peek *pk, const struct dump_thread *th)
{
	uint64_t task, set;

	return peek_task(pk, th->task.tid, &task) >= 0 && peek_member(pk, task, "task_struct", "cgroups", 8, &set) >= 0 &&
	       set == th->shares[SHARE_CGROUPS];
}

/* To read it takes 13 µs for each task, and most are in the same groups. */
static int thread_set(struct cg_dump *cg, struct cg_ns *ns, struct dump_process *p, const struct dump_thread *th,
		      uint32_t *ret)
{
	uint64_t addr = th->shares[SHARE_CGROUPS];
	uintptr_t known = addr ? (uintptr_t)map_get(&ns->by_addr, addr) : 0;
	char path[48];
	int r;

	if (known) {
		*ret = (uint32_t)(known - 1);
		return 0;
	}
	snprintf(path, sizeof(path), "task/%d/cgroup", th->task.tid);
	r = read_set(cg, ns, p->proc_fd, path, ret);
	if (r < 0 || !addr || !is_still(p->ctx->peek, th))
		return r;
	return map_put(&ns->by_addr, addr, (void *)((uintptr_t)*ret + 1));
}

static int ns_get(struct dump_ctx *ctx, struct cg_dump *cg, const struct dump_process *p, struct cg_ns **ret)
{
	uint32_t id = p ? ns_dump_id(ctx, p, NS_CGROUP) : 0;
	struct cg_ns *ns;

	for (ns = cg->ns; ns; ns = ns->next)
		if (ns->id == id) {
			*ret = ns;
			return 0;
		}
	ns = ARENA_NEW(cg->a, struct cg_ns);
	if (!ns)
		return log_err(-ENOMEM, "cannot save control groups");
	*ns = (struct cg_ns){ .next = cg->ns, .id = id };
	*ret = cg->ns = ns;
	return id ? cgroupns_roots(cg->a, p, &ns->roots) : 0;
}

static int collect_process(struct dump_ctx *ctx, struct cg_dump *cg, struct dump_process *p)
{
	struct cg_ns *ns;
	int r = ns_get(ctx, cg, p, &ns);

	if (r < 0)
		return r;
	for (size_t i = 0; i < p->n_threads; i++) {
		struct dump_thread *th = &p->threads[i];
		uint32_t id;

		if (!th->core || !th->core->thread_core)
			continue;
		r = thread_set(cg, ns, p, th, &id);
		if (r < 0)
			return log_err(r, "cannot read the control groups of %d", th->task.tid);
		th->core->thread_core->has_cg_set = true;
		th->core->thread_core->cg_set = id;
	}
	return 0;
}

/* The group that stood still before we came, and does again afterwards, is thawed at the moment. */
static int note_frozen(struct cg_dump *cg, int fd, CgroupDirEntry *dir)
{
	CgroupPropEntry *e = (CgroupPropEntry *)cgroup_prop_find(dir, "freezer.state");
	struct stat st, other;

	if (!e || !cg->frozen || fstat(fd, &st) < 0 || stat(cg->frozen, &other) < 0 ||
	    st.st_ino != other.st_ino || st.st_dev != other.st_dev)
		return 0;
	e->value = arena_strdup(cg->a, "FROZEN");
	return e->value ? 0 : -ENOMEM;
}

static int fill_dir(struct cg_dump *cg, const struct cg_hierarchy *h, const char *path,
		    CgroupDirEntry *dir)
{
	_cleanup_close_ int fd = cgroup_open_dir(h, path);
	int r;

	dir->dir_name = (char *)path;
	if (fd == -ENOENT || fd == -EXDEV)	/* removed while in use; elsewhere */
		return 0;
	if (fd < 0)
		return fd;
	r = cgroup_props_read(cg->a, fd, dir);
	return r < 0 ? r : note_frozen(cg, fd, dir);
}

static bool has_dir(const CgControllerEntry *c, const char *path)
{
	for (size_t i = 0; i < c->n_dirs; i++)
		if (!strcmp(c->dirs[i]->dir_name, path))
			return true;
	return false;
}

/* "cpu,cpuacct": a hierarchy of two. */
static int fill_names(struct cg_dump *cg, const char *name, CgControllerEntry *c)
{
	char *list = arena_strdup(cg->a, name);

	for (char *comma; list; list = comma) {
		char **slot = ARENA_PUSH(cg->a, c->cnames, c->n_cnames);

		if (!slot)
			return -ENOMEM;
		*slot = list;
		comma = strchr(list, ',');
		if (comma)
			*comma++ = '\0';
	}
	return c->n_cnames ? 0 : -ENOMEM;
}

static int fill_controller(struct cg_dump *cg, const char *name, CgControllerEntry *c)
{
	struct cg_hierarchy h = { .name = name, .root = "/" };
	int r = fill_names(cg, name, c);

	cgroup_find_mount(&cg->mounts, &h);
	for (size_t i = 1; r >= 0 && h.fd >= 0 && i < cg->n; i++) {
		const char *path = cgroup_path_in(&cg->sets[i], name);
		CgroupDirEntry **slot;

		if (!path || !path[1] || has_dir(c, path))
			continue;
		slot = ARENA_PUSH(cg->a, c->dirs, c->n_dirs);
		if (!slot)
			return -ENOMEM;
		*slot = ARENA_MSG(cg->a, CgroupDirEntry, cgroup_dir_entry);
		r = *slot ? fill_dir(cg, &h, path, *slot) : -ENOMEM;
	}
	close_fdp(&h.fd);
	return r;
}

static int fill_controllers(struct cg_dump *cg, CgroupEntry *e)
{
	const struct cg_set *first = &cg->sets[1];
	_cleanup_close_ int self = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r = self < 0 ? neg_errno() : mountinfo_read(cg->a, self, &cg->mounts);

	for (size_t i = 0; r >= 0 && i < first->n; i++) {
		CgControllerEntry **slot = ARENA_PUSH(cg->a, e->controllers, e->n_controllers);

		if (!slot)
			return -ENOMEM;
		*slot = ARENA_MSG(cg->a, CgControllerEntry, cg_controller_entry);
		r = *slot ? fill_controller(cg, first->members[i].name, *slot) : -ENOMEM;
	}
	return r;
}

static void fill_prefix(const struct cg_set *set, CgMemberEntry *e)
{
	const char *root = cgroup_path_in(&set->ns->roots, e->name);

	if (!root || !root[1] || !path_below(e->path, root))
		return;
	e->has_cgns_prefix = true;
	e->cgns_prefix = (uint32_t)strlen(root);
}

static int fill_set(struct cg_dump *cg, const struct cg_set *set, CgSetEntry *e)
{
	e->id = set->id;
	for (size_t i = 0; i < set->n; i++) {
		CgMemberEntry **slot = ARENA_PUSH(cg->a, e->ctls, e->n_ctls);

		if (!slot)
			return -ENOMEM;
		*slot = ARENA_MSG(cg->a, CgMemberEntry, cg_member_entry);
		if (!*slot)
			return -ENOMEM;
		(*slot)->name = (char *)set->members[i].name;
		(*slot)->path = (char *)set->members[i].path;
		fill_prefix(set, *slot);
	}
	return 0;
}

static int write_sets(struct dump_ctx *ctx, struct cg_dump *cg)
{
	CgroupEntry e = CGROUP_ENTRY__INIT;
	int r = 0;

	for (size_t i = 1; r >= 0 && i < cg->n; i++) {
		CgSetEntry **slot = ARENA_PUSH(cg->a, e.sets, e.n_sets);

		if (!slot)
			return log_err(-ENOMEM, "cannot save control groups");
		*slot = ARENA_MSG(cg->a, CgSetEntry, cg_set_entry);
		r = *slot ? fill_set(cg, &cg->sets[i], *slot) : -ENOMEM;
	}
	if (r >= 0)
		r = fill_controllers(cg, &e);
	if (r < 0)
		return log_err(r, "cannot save control groups");
	return image_write_one(ctx->store, &image_cgroup, &e.base);
}

static int cgroup_dump_all(struct dump_ctx *ctx, struct cg_dump *cg)
{
	struct cg_ns *ours;
	uint32_t own;
	int r = ns_get(ctx, cg, NULL, &ours);

	if (r >= 0)
		r = read_set(cg, ours, AT_FDCWD, "/proc/self/cgroup", &own);
	if (r < 0)
		return log_err(r, "cannot read our own control groups");
	for (size_t i = 0; i < ctx->n_procs; i++) {
		if (ctx->procs[i]->life == TASK_DEAD)
			continue;
		r = collect_process(ctx, cg, ctx->procs[i]);
		if (r < 0)
			return r;
	}
	ctx->inventory->has_root_cg_set = true;
	ctx->inventory->root_cg_set = own;
	return cg->n > 1 ? write_sets(ctx, cg) : 0;
}

int cgroup_dump(struct dump_ctx *ctx)
{
	struct cg_dump cg = { .a = &ctx->arena,
			      .frozen = ctx->was_frozen ? ctx->opts->freeze_cgroup : NULL };
	int r = cgroup_dump_all(ctx, &cg);

	for (struct cg_ns *ns = cg.ns; ns; ns = ns->next)
		map_done(&ns->by_addr);
	return r;
}
