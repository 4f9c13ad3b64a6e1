/* cr/ns: images of namespaces that an attacker wrote are refused before anything is built. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/utsname.h>

#include "ns_fixture.h"

static void hostile_begin(struct ns_fixture *h)
{
	ns_fixture_begin(h);
	h->root_ids.has_mnt_ns_id = h->ids.has_mnt_ns_id = true;
	h->root_ids.has_user_ns_id = h->ids.has_user_ns_id = true;
	h->root_ids.mnt_ns_id = 6;
	h->root_ids.user_ns_id = h->ids.user_ns_id = 7;
	h->ids.mnt_ns_id = NS_ID;
}

/* Writes the mounts, reads them as a restore does, and gives its result. */
static int try_mounts(MntEntry *mounts, size_t n)
{
	struct image_writer *w;
	struct ns_fixture h;

	hostile_begin(&h);
	ASSERT_OK(image_create(h.images.store, &image_mountpoints, &w, NS_ID));
	for (size_t i = 0; i < n; i++)
		ASSERT_OK(image_put(w, &mounts[i].base));
	ASSERT_OK(image_close(w));
	return ns_fixture_prepare(&h);
}

static MntEntry entry(uint32_t id, uint32_t parent, const char *point)
{
	MntEntry e = MNT_ENTRY__INIT;

	e.fstype = FSTYPE__TMPFS;
	e.mnt_id = id;
	e.parent_mnt_id = parent;
	e.root_dev = 77;
	e.root = (char *)"/";
	e.mountpoint = (char *)point;
	e.source = (char *)point;
	e.options = (char *)"";
	e.ext_key = (char *)EXT_KEY_AUTO;
	return e;
}

TEST("mount paths with '..', doubled slashes or no beginning are refused")
{
	static const char *const bad[] = { "../etc", "/a/../etc", "/..", "/a//b", "/a/", "",
					   "/./a" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		MntEntry m[2] = { entry(1, 0, "/"), entry(2, 1, bad[i]) };

		ASSERT_EQ(try_mounts(m, 2), -EBADMSG);
		m[1] = entry(2, 1, "/a");
		m[1].source = (char *)bad[i];
		ASSERT_EQ(try_mounts(m, 2), -EBADMSG);
		if (!*bad[i] || *bad[i] != '/')
			continue;
		m[1] = entry(2, 1, "/a");
		m[1].root = (char *)bad[i];
		ASSERT_EQ(try_mounts(m, 2), -EBADMSG);
	}
}

TEST("mount trees with two roots, none, cycles, strangers or double ids are refused")
{
	MntEntry two[2] = { entry(1, 0, "/"), entry(2, 0, "/") };
	MntEntry none[2] = { entry(1, 2, "/a"), entry(2, 1, "/a") };
	MntEntry self[1] = { entry(1, 1, "/a") };
	MntEntry cycle[3] = { entry(1, 0, "/"), entry(2, 3, "/a"), entry(3, 2, "/a") };
	MntEntry apart[3] = { entry(1, 0, "/"), entry(2, 1, "/a"), entry(3, 2, "/b") };
	MntEntry twice[2] = { entry(1, 0, "/"), entry(1, 1, "/a") };
	MntEntry orphan[2] = { entry(1, 0, "/"), entry(2, 9, "/a") };

	ASSERT_EQ(try_mounts(two, 2), -EBADMSG);
	ASSERT_EQ(try_mounts(none, 2), -EBADMSG);
	ASSERT_EQ(try_mounts(self, 1), -EBADMSG);
	ASSERT_EQ(try_mounts(cycle, 3), -EBADMSG);
	ASSERT_EQ(try_mounts(apart, 3), -EBADMSG);
	ASSERT_EQ(try_mounts(twice, 2), -EBADMSG);
	ASSERT_EQ(try_mounts(orphan, 2), -EBADMSG);
	/* No entry: no file, as always. */
	ASSERT_EQ(try_mounts(NULL, 0), -ENOENT);
}

TEST("filesystems that cannot be made anew and external mounts nobody names are refused")
{
	MntEntry m[2] = { entry(1, 0, "/"), entry(2, 1, "/a") };

	m[1].ext_key = NULL;
	m[1].fstype = FSTYPE__AUTO;
	m[1].fsname = (char *)"ext4";
	ASSERT_EQ(try_mounts(m, 2), -EOPNOTSUPP);
	m[1].fsname = NULL;
	ASSERT_EQ(try_mounts(m, 2), -EBADMSG);
	m[1].fstype = 4711;
	ASSERT_EQ(try_mounts(m, 2), -EBADMSG);
	m[1].fstype = FSTYPE__TMPFS;
	m[1].ext_key = (char *)"someone";
	ASSERT_EQ(try_mounts(m, 2), -EINVAL);
}

static MntEntry devpts(uint32_t id, uint32_t parent, const char *point, const char *root)
{
	MntEntry e = entry(id, parent, point);

	e.fstype = FSTYPE__DEVPTS;
	e.root_dev = 88;
	e.root = (char *)root;
	e.ext_key = NULL;
	return e;
}

TEST("mounts that show terminals need their devpts, and nothing else lies on them")
{
	MntEntry m[4] = { entry(1, 0, "/"), devpts(2, 1, "/pts", "/"), devpts(3, 1, "/console", "/0"),
			  devpts(4, 3, "/console", "/1") };

	m[1].root_dev = 89;
	ASSERT_EQ(try_mounts(m, 3), -EBADMSG);
	m[1] = devpts(2, 1, "/pts", "/7");
	ASSERT_EQ(try_mounts(m, 3), -EBADMSG);
	m[1] = devpts(2, 1, "/pts", "/");
	m[3] = entry(4, 3, "/console");
	ASSERT_EQ(try_mounts(m, 4), -EOPNOTSUPP);
	m[0] = devpts(1, 0, "/", "/0");
	ASSERT_EQ(try_mounts(m, 2), -EBADMSG);
}

static int try_userns(UidGidExtent *extents, size_t n)
{
	UidGidExtent *map[400];
	UsernsEntry e = USERNS_ENTRY__INIT;
	struct ns_fixture h;
	int r;

	for (size_t i = 0; i < n; i++)
		map[i] = &extents[i];
	hostile_begin(&h);
	h.ids.mnt_ns_id = h.root_ids.mnt_ns_id;
	h.ids.user_ns_id = NS_ID;
	e.uid_map = map;
	e.n_uid_map = n;
	ASSERT_OK(image_write_one(h.images.store, &image_userns, &e.base, NS_ID));
	r = prepare_all(&h.ctx);
	ns_restore_done(&h.ctx);
	ns_fixture_end(&h);
	return r;
}

TEST("id maps that wrap, are empty or endless are refused")
{
	UidGidExtent e[400];

	for (size_t i = 0; i < 400; i++) {
		uid_gid_extent__init(&e[i]);
		e[i].first = e[i].lower_first = (uint32_t)i;
		e[i].count = 1;
	}
	ASSERT_EQ(try_userns(e, 400), -EBADMSG);
	e[0].count = 0;
	ASSERT_EQ(try_userns(e, 1), -EBADMSG);
	e[0].first = UINT32_MAX - 1;
	e[0].count = 5;
	ASSERT_EQ(try_userns(e, 1), -EBADMSG);
}

TEST("a uid_map is read as the kernel prints it, and nothing else is")
{
	UidGidExtent **map;
	struct arena a;
	size_t n;
	char *text;

	arena_init(&a);
	ASSERT_OK(userns_map_parse(&a, "         0          0          1\n"
				   "       101        101          1\n", &map, &n));
	ASSERT_EQ(n, 2);
	ASSERT_EQ(map[1]->lower_first, 101);
	text = userns_map_text(map, n);
	ASSERT_STREQ(text, "0 0 1\n101 101 1\n");
	free(text);
	ASSERT_EQ(userns_map_parse(&a, "0 0\n", &map, &n), -EBADMSG);
	ASSERT_EQ(userns_map_parse(&a, "a b c\n", &map, &n), -EBADMSG);
	ASSERT_OK(userns_map_parse(&a, "", &map, &n));
	ASSERT_EQ(n, 0);
	arena_done(&a);
}

struct family {
	struct fixture images;
	struct restore_ctx ctx;
	struct restore_process p[3];
	PstreeEntry pst[3];
	TaskKobjIdsEntry ids[3], root_ids;
	InventoryEntry inventory;
};

/* The first of a PID namespace and two children. */
static void family_begin(struct family *f)
{
	memset(f, 0, sizeof(*f));
	f->images = fixture_begin(DIRECTORY, 0);
	f->ctx.store = f->images.store;
	inventory_entry__init(&f->inventory);
	task_kobj_ids_entry__init(&f->root_ids);
	f->root_ids.has_pid_ns_id = true;
	f->root_ids.pid_ns_id = 2;
	f->inventory.root_ids = &f->root_ids;
	f->ctx.inventory = &f->inventory;
	f->ctx.procs = f->p;
	f->ctx.n_procs = 3;
	for (uint32_t i = 0; i < 3; i++) {
		task_kobj_ids_entry__init(&f->ids[i]);
		pstree_entry__init(&f->pst[i]);
		f->ids[i].has_pid_ns_id = true;
		f->ids[i].pid_ns_id = 30;
		f->pst[i].pid = i + 1;
		f->p[i].pst = &f->pst[i];
		f->p[i].ids = &f->ids[i];
		f->p[i].parent = i ? &f->p[0] : NULL;
	}
}

TEST("a PID namespace is its first process and what is below it")
{
	PidnsEntry external = PIDNS_ENTRY__INIT;
	struct family f;

	family_begin(&f);
	ASSERT(ns_restore_has_pidns(&f.ctx));
	ASSERT_OK(ns_restore_check_pidns(&f.ctx));
	f.p[1].ids = NULL;			/* a zombie */
	ASSERT_OK(ns_restore_check_pidns(&f.ctx));
	f.p[1].ids = &f.ids[1];
	f.ids[1].pid_ns_id = 31;		/* nested */
	ASSERT_EQ(ns_restore_check_pidns(&f.ctx), -EOPNOTSUPP);
	f.ids[1].pid_ns_id = 2;			/* the engine's */
	ASSERT_EQ(ns_restore_check_pidns(&f.ctx), -EOPNOTSUPP);

	fixture_end(&f.images);

	family_begin(&f);
	f.ids[0].pid_ns_id = 2;			/* a child's only */
	ASSERT(!ns_restore_has_pidns(&f.ctx));
	ASSERT_EQ(ns_restore_check_pidns(&f.ctx), -EOPNOTSUPP);
	fixture_end(&f.images);

	family_begin(&f);
	f.pst[0].pid = 5;
	ASSERT_EQ(ns_restore_check_pidns(&f.ctx), -EOPNOTSUPP);
	fixture_end(&f.images);

	family_begin(&f);
	f.p[2].parent = NULL;			/* who entered it */
	ASSERT_OK(ns_restore_check_pidns(&f.ctx));
	f.ids[1].pid_ns_id = 31;		/* nested, as pstree.img tells */
	f.pst[1].has_pid_ns_id = true;
	f.pst[1].pid_ns_id = 31;
	ASSERT_OK(ns_restore_check_pidns(&f.ctx));
	f.pst[1].pid_ns_id = 32;
	ASSERT_EQ(ns_restore_check_pidns(&f.ctx), -EOPNOTSUPP);
	fixture_end(&f.images);

	family_begin(&f);
	external.ext_key = "extRootPidNS";
	ASSERT_OK(image_write_one(f.images.store, &image_pidns, &external.base, 30));
	ASSERT_EQ(ns_restore_check_pidns(&f.ctx), -EOPNOTSUPP);
	fixture_end(&f.images);

	family_begin(&f);
	for (size_t i = 0; i < 3; i++)
		f.ids[i].pid_ns_id = 2;
	f.pst[0].pid = 100;
	f.p[2].parent = NULL;
	ASSERT(!ns_restore_has_pidns(&f.ctx));
	ASSERT_OK(ns_restore_check_pidns(&f.ctx));
	fixture_end(&f.images);
}

/* A restore's preparation with a child in namespace id of one type, where the root is in the host's. */
static int try_child(enum ns_type type, uint32_t id)
{
	struct ns_fixture h;
	struct restore_process p[3] = { 0 };
	TaskKobjIdsEntry child = TASK_KOBJ_IDS_ENTRY__INIT;
	PstreeEntry pst = PSTREE_ENTRY__INIT;
	protobuf_c_boolean *has;

	ns_fixture_begin(&h);
	pst.pid = 7;
	p[0] = h.p;
	p[1] = (struct restore_process){ .pst = &pst };		/* a zombie */
	p[2] = (struct restore_process){ .pst = &pst, .ids = &child };
	h.ctx.procs = p;
	h.ctx.n_procs = 3;
	*ns_id_field(&h.root_ids, type, &has) = 5;
	*has = true;
	*ns_id_field(&h.ids, type, &has) = 5;
	*has = true;
	*ns_id_field(&child, type, &has) = id;
	*has = true;
	return ns_fixture_prepare(&h);
}

TEST("a child in another namespace than the root is refused, but of the types that may differ")
{
	for (enum ns_type t = 0; t < NS_TYPES; t++) {
		ASSERT_OK(try_child(t, 5));
		/* Of the others there is no image, of groups no set; of a PID namespace nobody needs one. */
		ASSERT_EQ(try_child(t, 6), t == NS_PID ? 0 : !ns_may_differ(t) ? -EOPNOTSUPP :
			  t == NS_CGROUP ? -EINVAL : -ENOENT);
	}
}

TEST("a socket of a network namespace that no process is in is refused")
{
	UnixSkEntry usk = UNIX_SK_ENTRY__INIT;
	FileEntry fe = FILE_ENTRY__INIT;
	struct ns_visit v;
	struct ns_fixture h;

	ns_fixture_begin(&h);
	h.root_ids.has_net_ns_id = h.ids.has_net_ns_id = true;
	h.root_ids.net_ns_id = h.ids.net_ns_id = 5;
	fe.usk = &usk;
	ASSERT_OK(ns_restore_prepare(&h.ctx));
	usk.ns_id = 5;
	ASSERT_OK(ns_restore_visit_socket(&h.ctx, &fe, &v));
	ASSERT_EQ(v.home_fd, -EBADF);
	usk.ns_id = 6;
	ASSERT_EQ(ns_restore_visit_socket(&h.ctx, &fe, &v), -EBADMSG);
	ns_restore_done(&h.ctx);
	ns_fixture_end(&h);
}

TEST("clock readings that are none are refused")
{
	Timespec mono = TIMESPEC__INIT, boot = TIMESPEC__INIT;
	TimensEntry e = TIMENS_ENTRY__INIT;
	struct ns_fixture h;

	hostile_begin(&h);
	h.ids.mnt_ns_id = 6;
	h.opts.time_namespace = true;
	e.monotonic = &mono;
	e.boottime = &boot;
	mono.tv_sec = UINT64_MAX;
	ASSERT_OK(image_write_one(h.images.store, &image_timens, &e.base, 0));
	ASSERT_EQ(prepare_all(&h.ctx), -EBADMSG);
	mono.tv_sec = 5;
	mono.tv_nsec = 1000000000;
	ASSERT_OK(image_write_one(h.images.store, &image_timens, &e.base, 0));
	ASSERT_EQ(prepare_all(&h.ctx), -EBADMSG);
	ns_fixture_end(&h);
}

/* A restore's preparation over an ipc namespace with these limits. */
static int try_limits(const IpcVarEntry *e)
{
	struct ns_fixture h;

	hostile_begin(&h);
	h.root_ids.has_ipc_ns_id = h.ids.has_ipc_ns_id = true;
	h.root_ids.ipc_ns_id = 8;
	h.ids.ipc_ns_id = NS_ID;
	h.ids.mnt_ns_id = h.root_ids.mnt_ns_id;
	if (e)
		ASSERT_OK(image_write_one(h.images.store, &image_ipcns_var, &e->base, NS_ID));
	return ns_fixture_prepare(&h);
}

static ino_t own_ipc(void)
{
	struct stat st;

	ASSERT(stat("/proc/thread-self/ns/ipc", &st) == 0);
	return st.st_ino;
}

TEST("limits of an ipc namespace that are missing, too few or out of range are refused")
{
	uint32_t sem[4] = { 32000, 1024000000, 500, 32000 };
	IpcVarEntry e = IPC_VAR_ENTRY__INIT;
	ino_t before = own_ipc();

	ASSERT_EQ(geteuid(), 0);
	ASSERT(try_limits(NULL) == -ENOENT);
	e.sem_ctls = sem;
	e.n_sem_ctls = 3;
	ASSERT(try_limits(&e) == -EBADMSG);
	e.n_sem_ctls = 4;
	e.msg_ctlmax = UINT32_MAX;	/* the kernel takes an int */
	ASSERT(try_limits(&e) < 0);
	ASSERT(own_ipc() == before);
}

/* A restore's preparation over a uts namespace with these names; NULL: without its image. */
static int try_names(const char *node, const char *domain)
{
	UtsnsEntry e = UTSNS_ENTRY__INIT;
	struct ns_fixture h;

	hostile_begin(&h);
	h.root_ids.has_uts_ns_id = h.ids.has_uts_ns_id = true;
	h.root_ids.uts_ns_id = 8;
	h.ids.uts_ns_id = NS_ID;
	h.ids.mnt_ns_id = h.root_ids.mnt_ns_id;
	e.nodename = (char *)node;
	e.domainname = (char *)domain;
	if (node)
		ASSERT_OK(image_write_one(h.images.store, &image_utsns, &e.base, NS_ID));
	return ns_fixture_prepare(&h);
}

TEST("names of a uts namespace that are missing or too long are refused, and the engine's stay")
{
	struct utsname before, after;
	char longest[65] = "", too_long[66] = "";

	ASSERT_EQ(geteuid(), 0);
	/* A restore that forgets to leave it renames this one, not the machine. */
	ASSERT_OK(unshare(CLONE_NEWUTS));
	memset(longest, 'n', sizeof(longest) - 1);
	memset(too_long, 'n', sizeof(too_long) - 1);
	ASSERT_OK(uname(&before));
	ASSERT_EQ(try_names(NULL, NULL), -ENOENT);
	ASSERT_OK(try_names(longest, longest));
	ASSERT_OK(try_names("", "(none)"));
	ASSERT_EQ(try_names(too_long, ""), -EBADMSG);
	ASSERT_EQ(try_names("", too_long), -EBADMSG);
	ASSERT_OK(uname(&after));
	ASSERT_MEM_EQ(&before, &after, sizeof(before));
}
