/* cr/ns/cgroup: sets and properties, on recorded text and with groups of this machine. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/prctl.h>
#include <signal.h>
#include <sys/stat.h>

#include "image_fixture.h"
#include "ns/cgroup_state.h"

TEST("/proc/PID/cgroup is read: hybrid, named and unified hierarchies, sorted by name")
{
	struct cg_set set, other;
	struct arena a;

	arena_init(&a);
	ASSERT_OK(cgroup_parse(&a, "9:name=systemd:/system.slice/a.service\n4:memory:/a:b\n"
			       "2:cpu,cpuacct:/\n0::/system.slice/a.service (deleted)\n", &set));
	ASSERT_EQ(set.n, 4);
	ASSERT_STREQ(set.members[0].name, "");
	ASSERT_STREQ(set.members[0].path, "/system.slice/a.service");
	ASSERT_STREQ(set.members[1].name, "cpu,cpuacct");
	ASSERT_STREQ(cgroup_path_in(&set, "memory"), "/a:b");
	ASSERT_STREQ(set.members[3].name, "name=systemd");
	ASSERT(!cgroup_path_in(&set, "pids"));
	ASSERT_OK(cgroup_parse(&a, "0::/system.slice/b.service\n", &other));
	ASSERT(!cgroup_sets_equal(&set, &other));
	ASSERT(cgroup_sets_equal(&set, &set));
	ASSERT_EQ(cgroup_parse(&a, "0::relative\n", &set), -EBADMSG);
	ASSERT_EQ(cgroup_parse(&a, "no colons\n", &set), -EBADMSG);
	ASSERT_EQ(cgroup_parse(&a, "0:\n", &set), -EBADMSG);
	arena_done(&a);
}

TEST("hierarchies go by their controllers, in whatever order, and by their names")
{
	ASSERT(cgroup_names_equal("cpu,cpuacct", "cpuacct,cpu"));
	ASSERT(cgroup_names_equal("", ""));
	ASSERT(!cgroup_names_equal("cpu", "cpu,cpuacct"));
	ASSERT(!cgroup_names_equal("cpuacct", "cpu,cpu"));
	ASSERT(cgroup_is_called("cpu,cpuacct", "cpuacct:/x", 7));
	ASSERT(cgroup_is_called("name=systemd", "systemd", 7));
	ASSERT(cgroup_is_called("name=systemd", "name=systemd", 12));
	ASSERT(cgroup_is_called("", "", 0));
	ASSERT(!cgroup_is_called("cpu", "", 0));
	ASSERT(!cgroup_is_called("", "cpu", 3));
	ASSERT(!cgroup_is_called("cpuset", "cpu", 3));
}

/* Groups of the test, one in the unified hierarchy and one where pids is, if there is one. */
struct groups {
	char v2[256], pids[256], name[32];
	bool v1;
};

static bool find_root(const char *name, char *ret, size_t size)
{
	struct cg_hierarchy h = { .name = name, .root = "/" };
	struct mount_table t;
	struct arena a;
	int self = open("/proc/self", O_PATH | O_DIRECTORY);
	char link[64];
	ssize_t n = -1;

	arena_init(&a);
	ASSERT_OK(mountinfo_read(&a, self, &t));
	close(self);
	cgroup_find_mount(&t, &h);
	if (h.fd >= 0) {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", h.fd);
		n = readlink(link, ret, size - 1);
		close(h.fd);
	}
	arena_done(&a);
	if (n < 0)
		return false;
	ret[n] = '\0';
	return true;
}

static void make_groups(struct groups *g)
{
	char root[160];

	memset(g, 0, sizeof(*g));
	ASSERT_EQ(geteuid(), 0);
	if (!find_root("", root, sizeof(root)))
		unit_skip("no cgroup2 mounted");
	snprintf(g->name, sizeof(g->name), "crk-unit-%d", getpid());
	snprintf(g->v2, sizeof(g->v2), "%s/%s", root, g->name);
	ASSERT_EQ(mkdir(g->v2, 0755), 0);
	strcat(g->v2, "/inner");
	ASSERT_EQ(mkdir(g->v2, 0750), 0);
	g->v1 = find_root("pids", root, sizeof(root));
	if (g->v1) {
		snprintf(g->pids, sizeof(g->pids), "%s/%s", root, g->name);
		ASSERT_EQ(mkdir(g->pids, 0755), 0);
		ASSERT_OK(write_filef("123", "%s/pids.max", g->pids));
	}
}

static void remove_groups(const struct groups *g)
{
	char outer[300];

	snprintf(outer, sizeof(outer), "%.*s", (int)(strrchr(g->v2, '/') - g->v2), g->v2);
	for (int try = 0; try < 100 && rmdir(g->v2) < 0 && errno == EBUSY; try++)
		usleep(10000);
	rmdir(outer);
	if (g->v1)
		rmdir(g->pids);
}

static pid_t child_in(const struct groups *g)
{
	char text[16];
	pid_t pid = fork();

	ASSERT_OK(pid);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	if (!g)
		return pid;
	snprintf(text, sizeof(text), "%d", pid);
	ASSERT_OK(write_filef(text, "%s/cgroup.procs", g->v2));
	if (g->v1)
		ASSERT_OK(write_filef(text, "%s/cgroup.procs", g->pids));
	return pid;
}

static void end_child(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

struct saved {
	struct fixture images;
	struct dump_ctx dump;
	struct dump_process p, *procs[1];
	struct dump_thread th;
	struct cr_opts opts;
	struct restore_ctx restore;
	struct restore_process rp;
	CoreEntry core;
	ThreadCoreEntry tc;
};

static void save(struct saved *s, pid_t pid)
{
	char path[32];

	memset(s, 0, sizeof(*s));
	s->images = fixture_begin(DIRECTORY, 0);
	snprintf(path, sizeof(path), "/proc/%d", pid);
	s->p = (struct dump_process){ .pid = pid, .life = TASK_ALIVE, .threads = &s->th,
				      .n_threads = 1 };
	s->p.proc_fd = open(path, O_PATH | O_DIRECTORY);
	s->procs[0] = &s->p;
	core_entry__init(&s->core);
	thread_core_entry__init(&s->tc);
	s->core.thread_core = &s->tc;
	s->th.core = &s->core;
	s->th.task.tid = pid;
	s->opts.cgroup_mode = -1;
	arena_init(&s->dump.arena);
	s->dump.opts = &s->opts;
	s->dump.store = s->images.store;
	s->dump.procs = s->procs;
	s->dump.n_procs = 1;
	s->dump.inventory = ARENA_MSG(&s->dump.arena, InventoryEntry, inventory_entry);
	ASSERT_OK(cgroup_dump(&s->dump));
	close(s->p.proc_fd);
	fixture_reopen(&s->images);
	arena_init(&s->restore.arena);
	s->restore.opts = &s->opts;
	s->restore.store = s->images.store;
	s->restore.inventory = s->dump.inventory;
	s->rp.core = &s->core;
	s->restore.procs = &s->rp;
	s->restore.n_procs = 1;
}

static void end_saved(struct saved *s)
{
	arena_done(&s->dump.arena);
	arena_done(&s->restore.arena);
	fixture_end(&s->images);
}

static bool is_in(pid_t pid, const char *hierarchy, const char *path)
{
	_cleanup_free_ char *text = NULL;
	char line[200], proc[32];

	snprintf(proc, sizeof(proc), "/proc/%d/cgroup", pid);
	ASSERT_OK(read_file_at(AT_FDCWD, proc, 65536, &text, NULL));
	snprintf(line, sizeof(line), ":%s:%s\n", hierarchy, path);
	return strstr(text, line) != NULL;
}

TEST("a group that is gone is made again with its limits, and the task is moved into it")
{
	_cleanup_free_ char *max = NULL;
	char path[100], file[300];
	struct groups g;
	struct saved s;
	struct stat st;
	void *state;
	pid_t pid;

	make_groups(&g);
	ASSERT_EQ(chown(g.v2, 55, 66), 0);
	pid = child_in(&g);
	save(&s, pid);
	ASSERT_EQ(s.tc.cg_set, 2);
	ASSERT_EQ(s.dump.inventory->root_cg_set, 1);
	end_child(pid);
	remove_groups(&g);
	ASSERT_NE(access(g.v2, F_OK), 0);

	ASSERT_OK(cgroup_restore_prepare(&s.restore, &state));
	ASSERT(state);
	pid = child_in(NULL);
	ASSERT_OK(cgroup_restore_process(&s.restore, state, pid, 2, 0));
	snprintf(path, sizeof(path), "/%s/inner", g.name);
	ASSERT(is_in(pid, "", path));
	ASSERT_EQ(stat(g.v2, &st), 0);
	ASSERT_EQ(st.st_mode & 07777, 0750);
	ASSERT_EQ(st.st_uid, 55);
	ASSERT_EQ(st.st_gid, 66);
	if (g.v1) {
		snprintf(path, sizeof(path), "/%s", g.name);
		ASSERT(is_in(pid, "pids", path));
		snprintf(file, sizeof(file), "%s/pids.max", g.pids);
		ASSERT_OK(read_file_at(AT_FDCWD, file, 100, &max, NULL));
		ASSERT_STREQ(max, "123\n");
	}
	/* The same set again, and back to ours. */
	ASSERT_OK(cgroup_restore_process(&s.restore, state, pid, 2, 2));
	ASSERT_OK(cgroup_restore_process(&s.restore, state, pid, 1, 2));
	snprintf(path, sizeof(path), "/%s/inner", g.name);
	ASSERT(!is_in(pid, "", path));
	ASSERT_EQ(cgroup_restore_process(&s.restore, state, pid, 77, 2), -EBADMSG);
	end_child(pid);
	cgroup_restore_done(state, false);
	remove_groups(&g);
	end_saved(&s);
}

TEST("modes: none wants the group there, strict wants it not there, ignore does nothing")
{
	struct groups g;
	struct saved s;
	void *state;
	pid_t pid;

	make_groups(&g);
	pid = child_in(&g);
	save(&s, pid);
	end_child(pid);
	s.opts.cgroup_mode = CGROUP_STRICT;
	ASSERT_EQ(cgroup_restore_prepare(&s.restore, &state), -EEXIST);
	ASSERT(!state);
	s.opts.cgroup_mode = CGROUP_NONE;
	ASSERT_OK(cgroup_restore_prepare(&s.restore, &state));
	cgroup_restore_done(state, false);
	remove_groups(&g);
	ASSERT_EQ(cgroup_restore_prepare(&s.restore, &state), -ENOENT);
	s.opts.cgroup_mode = CGROUP_IGNORE;
	ASSERT_OK(cgroup_restore_prepare(&s.restore, &state));
	ASSERT(!state);
	ASSERT_NE(access(g.v2, F_OK), 0);
	end_saved(&s);
}

/* What a new root for all hierarchies has made in each that there is. */
static void remove_everywhere(void)
{
	_cleanup_free_ char *text = NULL;
	struct mount_table t;
	struct cg_set all;
	struct arena a;
	int self = open("/proc/self", O_PATH | O_DIRECTORY);

	arena_init(&a);
	ASSERT_OK(mountinfo_read(&a, self, &t));
	ASSERT_OK(read_file_at(self, "cgroup", 65536, &text, NULL));
	ASSERT_OK(cgroup_parse(&a, text, &all));
	close(self);
	for (size_t i = 0; i < all.n; i++) {
		struct cg_hierarchy h = { .name = all.members[i].name, .root = "/" };

		cgroup_find_mount(&t, &h);
		if (h.fd >= 0)
			unlinkat(h.fd, "crk-unit-everywhere", AT_REMOVEDIR);
		close_fdp(&h.fd);
	}
	arena_done(&a);
}

TEST("--cgroup-root puts the tree's groups below another one")
{
	char root[100], path[300];
	const char *const roots[] = { "/crk-unit-everywhere", root, "cpuset:/elsewhere" };
	struct groups g;
	struct saved s;
	void *state;
	pid_t pid;

	make_groups(&g);
	pid = child_in(&g);
	save(&s, pid);
	end_child(pid);
	snprintf(root, sizeof(root), ":/%s/moved", g.name);
	s.opts.cgroup_roots = roots;
	s.opts.n_cgroup_roots = ARRAY_SIZE(roots);
	ASSERT_OK(cgroup_restore_prepare(&s.restore, &state));
	pid = child_in(NULL);
	ASSERT_OK(cgroup_restore_process(&s.restore, state, pid, 2, 0));
	ASSERT(is_in(pid, "", root + 1));
	end_child(pid);
	cgroup_restore_done(state, false);
	snprintf(path, sizeof(path), "%.*s/moved", (int)(strrchr(g.v2, '/') - g.v2), g.v2);
	for (int try = 0; try < 100 && rmdir(path) < 0 && errno == EBUSY; try++)
		usleep(10000);
	remove_groups(&g);
	remove_everywhere();
	end_saved(&s);
}

TEST("a tree in the dumper's own groups writes no cgroup image and is not moved")
{
	struct saved s;
	void *state;
	pid_t pid = child_in(NULL);

	save(&s, pid);
	ASSERT_EQ(s.tc.cg_set, 1);
	ASSERT_OK(cgroup_restore_prepare(&s.restore, &state));
	ASSERT(!state);
	end_child(pid);
	end_saved(&s);
}

/* As CRIU writes it: one directory for each component below the top one. */
struct criu_image {
	struct fixture images;
	CgroupEntry e;
	CgSetEntry set, *sets[1];
	CgMemberEntry m, *ctls[1];
	CgControllerEntry c, *controllers[1];
	char *cnames[1], top_name[64], path[80];
	CgroupDirEntry top, below, deep, *tops[1], *belows[1], *deeps[1];
	CgroupPropEntry prop, *props[1];
	InventoryEntry inv;
	struct cr_opts opts;
	struct restore_ctx ctx;
};

static void criu_image(struct criu_image *i, const char *below, const char *deep)
{
	memset(i, 0, sizeof(*i));
	i->images = fixture_begin(DIRECTORY, 0);
	snprintf(i->top_name, sizeof(i->top_name), "/crk-unit-%d", getpid());
	snprintf(i->path, sizeof(i->path), "%s/below", i->top_name);
	cgroup_entry__init(&i->e);
	cg_set_entry__init(&i->set);
	cg_member_entry__init(&i->m);
	cg_controller_entry__init(&i->c);
	cgroup_dir_entry__init(&i->top);
	cgroup_dir_entry__init(&i->below);
	cgroup_dir_entry__init(&i->deep);
	cgroup_prop_entry__init(&i->prop);
	inventory_entry__init(&i->inv);
	i->m.name = i->cnames[0] = (char *)"";
	i->m.path = i->path;
	i->top.dir_name = i->top_name;
	i->below.dir_name = (char *)below;
	i->deep.dir_name = (char *)deep;
	i->prop.name = (char *)"cgroup.max.depth";
	i->prop.value = (char *)"5";
	*(i->ctls) = &i->m;
	*(i->sets) = &i->set;
	*(i->tops) = &i->top;
	*(i->belows) = &i->below;
	*(i->deeps) = &i->deep;
	*(i->props) = &i->prop;
	*(i->controllers) = &i->c;
	i->e.n_sets = i->e.n_controllers = i->set.n_ctls = i->c.n_dirs = i->c.n_cnames = 1;
	i->e.sets = i->sets;
	i->e.controllers = i->controllers;
	i->set.id = 2;
	i->set.ctls = i->ctls;
	i->c.cnames = i->cnames;
	i->c.dirs = i->tops;
	i->top.children = i->belows;
	i->below.children = i->deeps;
	i->below.properties = i->props;
	i->top.n_children = i->below.n_children = i->below.n_properties = 1;
	i->opts.cgroup_mode = -1;
	arena_init(&i->ctx.arena);
}

static int criu_prepare(struct criu_image *i, void **state)
{
	ASSERT_OK(image_write_one(i->images.store, &image_cgroup, &i->e.base));
	i->ctx.opts = &i->opts;
	i->ctx.inventory = &i->inv;
	i->ctx.store = i->images.store;
	return cgroup_restore_prepare(&i->ctx, state);
}

static void criu_end(struct criu_image *i)
{
	arena_done(&i->ctx.arena);
	fixture_end(&i->images);
}

/* slash: the topmost name begins with it; CRIU's does not where runc tells the root. */
static void check_groups_of_criu(const char *root, bool slash)
{
	_cleanup_free_ char *depth = NULL;
	char path[300];
	struct criu_image i;
	void *state;

	criu_image(&i, "below", "deep");
	i.top.dir_name += !slash;
	ASSERT_OK(criu_prepare(&i, &state));
	snprintf(path, sizeof(path), "%s%s/cgroup.max.depth", root, i.path);
	ASSERT_OK(read_file_at(AT_FDCWD, path, 100, &depth, NULL));
	ASSERT_STREQ(depth, "5\n");
	snprintf(path, sizeof(path), "%s%s/deep", root, i.path);
	ASSERT_EQ(access(path, F_OK), 0);
	cgroup_restore_done(state, true);
	snprintf(path, sizeof(path), "%s%s", root, i.top_name);
	ASSERT_NE(access(path, F_OK), 0);
	criu_end(&i);
}

TEST("groups that an image of CRIU's has below others are made with their settings, also empty ones")
{
	char root[160];

	if (!find_root("", root, sizeof(root)))
		unit_skip("no cgroup2 mounted");
	check_groups_of_criu(root, true);
	check_groups_of_criu(root, false);
}

TEST("groups below others whose names lead elsewhere, or that lie too deep, are refused")
{
	static const struct {
		const char *below, *deep;
	} bad[] = { { "..", "x" }, { "x", ".." }, { "", "x" }, { "a/b", "x" }, { "x", "." }, { "x", "/" } };
	struct criu_image i;
	CgroupDirEntry more[100], *ptrs[100];
	void *state;

	for (size_t k = 0; k < ARRAY_SIZE(bad); k++) {
		criu_image(&i, bad[k].below, bad[k].deep);
		ASSERT_EQ(criu_prepare(&i, &state), -EBADMSG);
		criu_end(&i);
	}
	criu_image(&i, "below", "deep");
	for (size_t k = 0; k < ARRAY_SIZE(more); k++) {
		cgroup_dir_entry__init(&more[k]);
		ptrs[k] = &more[k];
		more[k].dir_name = (char *)"d";
		more[k].children = &ptrs[k + 1];
		more[k].n_children = k + 1 < ARRAY_SIZE(more);
	}
	i.deep.children = ptrs;
	i.deep.n_children = 1;
	ASSERT_EQ(criu_prepare(&i, &state), -EBADMSG);
	criu_end(&i);
}

TEST("cgroup images with paths that lead elsewhere, or namespaces that begin inside of a name, are refused")
{
	static const struct {
		const char *path;
		uint32_t prefix;
	} bad[] = { { "../x", 0 }, { "/a/../..", 0 }, { "", 0 }, { "a", 0 }, { "/a/", 0 },
		    { "/ab/c", 2 }, { "/ab/c", 4 }, { "/ab/c", 6 }, { "/ab/c", 1 },
		    { "/ab/c", UINT32_MAX } };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct fixture f = fixture_begin(DIRECTORY, 0);
		CgroupEntry e = CGROUP_ENTRY__INIT;
		CgSetEntry set = CG_SET_ENTRY__INIT, *sets[1] = { &set };
		CgMemberEntry m = CG_MEMBER_ENTRY__INIT, *ctls[1] = { &m };
		InventoryEntry inv = INVENTORY_ENTRY__INIT;
		struct cr_opts opts = { .cgroup_mode = -1 };
		struct restore_ctx ctx = { .opts = &opts, .store = f.store, .inventory = &inv };
		void *state;

		e.sets = sets;
		e.n_sets = 1;
		set.id = 2;
		set.ctls = ctls;
		set.n_ctls = 1;
		m.name = (char *)"";
		m.path = (char *)bad[i].path;
		m.has_cgns_prefix = true;
		m.cgns_prefix = bad[i].prefix;
		ASSERT_OK(image_write_one(f.store, &image_cgroup, &e.base));
		arena_init(&ctx.arena);
		ASSERT_EQ(cgroup_restore_prepare(&ctx, &state), -EBADMSG);
		arena_done(&ctx.arena);
		fixture_end(&f);
	}
}
