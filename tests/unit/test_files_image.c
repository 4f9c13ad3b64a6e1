/* What a restore makes of damaged images of files: refused before anything is made of them. */
#include "core/files_restore.h"
#include "files_world.h"
#include "kind/kinds.h"

TEST("a table of descriptors is read in order, the first holder owns, the pidfd goes on top")
{
	struct world w;
	int fd;

	world_begin(&w);
	put_eventfd(&w, 7, 7);
	put_eventfd(&w, 9, 9);
	put_fd(&w, 12, 9, FD_TYPES__EVENTFD);
	put_fd(&w, 3, 7, FD_TYPES__EVENTFD);
	put_fd(&w, 5, 7, FD_TYPES__EVENTFD);
	ASSERT_OK(world_load(&w));
	ASSERT_EQ(w.proc.n_fds, 3);
	ASSERT_EQ(w.proc.fds[0]->fd, 3);
	ASSERT_EQ(w.proc.fds[2]->fd, 12);
	ASSERT_EQ(w.ctx.pidfd_t_fd, 13);
	ASSERT(restore_file_find(&w.ctx, 7)->owner == &w.proc);
	ASSERT_EQ(restore_file_find(&w.ctx, 7)->t_fd, 3);
	ASSERT_OK(restore_file_get(&w.ctx, 7, &fd));
	ASSERT(fd >= 0);
	world_end(&w);
	/* Ours are all closed again. */
	ASSERT_EQ(fcntl(fd, F_GETFD), -1);
}

TEST("two files with one id are refused")
{
	struct world w;

	world_begin(&w);
	put_eventfd(&w, 7, 7);
	put_eventfd(&w, 7, 7);
	ASSERT_EQ(world_load(&w), -EBADMSG);
	world_end(&w);
}

TEST("a file with two ids, and one with id 0, is refused")
{
	struct world w;

	world_begin(&w);
	put_eventfd(&w, 7, 8);
	ASSERT_EQ(world_load(&w), -EBADMSG);
	world_end(&w);
	world_begin(&w);
	put_eventfd(&w, 0, 0);
	ASSERT_EQ(world_load(&w), -EBADMSG);
	world_end(&w);
}

TEST("a file without the description of its type is refused, whatever the type")
{
	for (int type = -1; type < 30; type++) {
		FileEntry fe = FILE_ENTRY__INIT;
		struct world w;

		world_begin(&w);
		fe.type = (FdTypes)type;
		fe.id = 3;
		ASSERT_OK(image_put(w.files, &fe.base));
		ASSERT(world_load(&w) < 0);
		world_end(&w);
	}
}

TEST("a descriptor of a file that is not there, or of another type, is refused")
{
	struct world w;

	world_begin(&w);
	put_eventfd(&w, 7, 7);
	put_fd(&w, 3, 8, FD_TYPES__EVENTFD);
	ASSERT_EQ(world_load(&w), -EBADMSG);
	world_end(&w);
	world_begin(&w);
	put_eventfd(&w, 7, 7);
	put_fd(&w, 3, 7, FD_TYPES__PIPE);
	ASSERT_EQ(world_load(&w), -EBADMSG);
	world_end(&w);
}

TEST("a descriptor number that is there twice or beyond all limits is refused")
{
	struct world w;

	world_begin(&w);
	put_eventfd(&w, 7, 7);
	put_fd(&w, 3, 7, FD_TYPES__EVENTFD);
	put_fd(&w, 3, 7, FD_TYPES__EVENTFD);
	ASSERT_EQ(world_load(&w), -EBADMSG);
	world_end(&w);
	world_begin(&w);
	put_eventfd(&w, 7, 7);
	put_fd(&w, FD_NUMBER_MAX, 7, FD_TYPES__EVENTFD);
	ASSERT_EQ(world_load(&w), -EBADMSG);
	world_end(&w);
}

TEST("names that are no canonical paths are not opened")
{
	static const char *const bad[] = {
		"", "etc/passwd", "/tmp/../etc/passwd", "/tmp/./x", "//etc", "/tmp/", "..", "/..",
	};
	struct world w;
	int fd;

	world_begin(&w);
	for (uint32_t i = 0; i < ARRAY_SIZE(bad); i++)
		put_reg(&w, 10 + i, bad[i], O_RDONLY);
	ASSERT_OK(world_load(&w));
	for (uint32_t i = 0; i < ARRAY_SIZE(bad); i++)
		ASSERT_EQ(restore_file_get(&w.ctx, 10 + i, &fd), -EBADMSG);
	world_end(&w);
}

TEST("a symbolic link that has taken the place of a saved file is not followed")
{
	char dir[256], path[300], target[300];
	struct world w;
	int fd;

	world_begin(&w);
	snprintf(dir, sizeof(dir), "%s", unit_tmpdir());
	snprintf(target, sizeof(target), "%s/secret", dir);
	snprintf(path, sizeof(path), "%s/file", dir);
	fd = open(target, O_CREAT | O_RDWR, 0600);
	ASSERT_OK(fd);
	close(fd);
	ASSERT_OK(symlink(target, path));
	put_reg(&w, 5, path, O_RDWR);
	put_reg(&w, 6, target, O_RDWR | O_CREAT | O_TRUNC | O_EXCL);
	ASSERT_OK(world_load(&w));
	ASSERT_EQ(restore_file_get(&w.ctx, 5, &fd), -ELOOP);
	/* And no flag of an image creates or truncates. */
	ASSERT_OK(restore_file_get(&w.ctx, 6, &fd));
	world_end(&w);
}

TEST("a file that has changed is refused: type, mode, size")
{
	char path[300];
	struct world w;
	int fd;

	for (int what = 0; what < 4; what++) {
		RegFileEntry e = REG_FILE_ENTRY__INIT;
		FownEntry fown = FOWN_ENTRY__INIT;
		FileEntry fe = FILE_ENTRY__INIT;

		world_begin(&w);
		snprintf(path, sizeof(path), "%s/file%d", unit_tmpdir(), what);
		fd = open(path, O_CREAT | O_RDWR, 0640);
		ASSERT_OK(fd);
		ASSERT_OK(fchmod(fd, 0640));
		ASSERT_OK(ftruncate(fd, 100));
		close(fd);
		fe.type = FD_TYPES__REG;
		fe.id = e.id = 5;
		fe.reg = &e;
		e.fown = &fown;
		e.name = path;
		e.has_mode = e.has_size = true;
		e.mode = what == 1 ? S_IFREG | 0644 : what == 2 ? S_IFDIR | 0640 : S_IFREG | 0640;
		e.size = what == 3 ? 99 : 100;
		ASSERT_OK(image_put(w.files, &fe.base));
		ASSERT_OK(world_load(&w));
		ASSERT_EQ(restore_file_get(&w.ctx, 5, &fd), what ? -ESTALE : 0);
		world_end(&w);
	}
}

static void put_remap(struct world *w, uint32_t orig, uint32_t to, int type)
{
	RemapFilePathEntry e = REMAP_FILE_PATH_ENTRY__INIT;

	if (!w->other)
		ASSERT_OK(image_create(w->f.store, &image_remap_fpath, &w->other));
	e.orig_id = orig;
	e.remap_id = to;
	e.has_remap_type = type >= 0;
	e.remap_type = type >= 0 ? (RemapType)type : REMAP_TYPE__LINKED;
	ASSERT_OK(image_put(w->other, &e.base));
}

TEST("remaps to themselves, to nothing, to no path or of no file are refused")
{
	static const struct {
		uint32_t orig, to;
		int type;
	} bad[] = {
		{ 5, 5, REMAP_TYPE__LINKED }, { 5, 99, REMAP_TYPE__LINKED },
		{ 99, 5, REMAP_TYPE__LINKED },
		{ 5, 7, REMAP_TYPE__LINKED }, { 99, 1, REMAP_TYPE__GHOST },
		{ 5, 1, REMAP_TYPE__PROCFS },
		{ 99, 1u << 31 | 1, -1 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct world w;

		world_begin(&w);
		put_reg(&w, 5, "/tmp/x", O_RDONLY);
		put_reg(&w, 6, "/tmp/y", O_RDONLY);
		put_eventfd(&w, 7, 7);
		put_remap(&w, bad[i].orig, bad[i].to, bad[i].type);
		ASSERT(world_load(&w) < 0);
		world_end(&w);
	}
}

TEST("a ghost file that is missing or whose chunks lie outside of it is refused")
{
	for (int what = 0; what < 3; what++) {
		GhostFileEntry g = GHOST_FILE_ENTRY__INIT;
		GhostChunkEntry c = GHOST_CHUNK_ENTRY__INIT;
		struct image_writer *iw = NULL;
		char path[300];
		struct world w;
		int fd, r;

		world_begin(&w);
		snprintf(path, sizeof(path), "%s/gone", unit_tmpdir());
		put_reg(&w, 5, path, O_RDWR);
		put_remap(&w, 5, 1, REMAP_TYPE__GHOST);
		if (what) {
			ASSERT_OK(image_create(w.f.store, &image_ghost_file, &iw, 1));
			g.mode = S_IFREG | 0600;
			g.uid = getuid();
			g.gid = getgid();
			g.has_chunks = g.chunks = g.has_size = true;
			g.size = 20000;
			ASSERT_OK(image_put(iw, &g.base));
			c.off = what == 1 ? 20000 - 3 : UINT64_MAX - 3;
			c.len = 4;
			ASSERT_OK(image_put(iw, &c.base));
			ASSERT_OK(image_put_raw(iw, "abcd", 4));
			ASSERT_OK(image_close(iw));
		}
		ASSERT_OK(world_load(&w));
		r = restore_file_get(&w.ctx, 5, &fd);
		ASSERT_EQ(r, what ? -EBADMSG : -ENOENT);
		ASSERT_EQ(access(path, F_OK), -1);
		world_end(&w);
	}
}

TEST("locks of unknown processes, kinds and ranges are refused")
{
	static const struct {
		uint32_t flag, type;
		int32_t pid;
		int64_t start, len;
	} bad[] = {
		{ 1, 0, 101, 0, 0 }, { 1, 0, -1, 0, 0 }, { 3, 0, 100, 0, 0 }, { 0, 0, 100, 0, 0 },
		{ 1, 3, 100, 0, 0 }, { 1, 0, 100, -1, 0 }, { 1, 0, 100, 0, -1 },
		{ 1, 0, 100, INT64_MAX, 2 }, { 16, 0, 100, 0, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		FileLockEntry e = FILE_LOCK_ENTRY__INIT;
		struct world w;

		world_begin(&w);
		put_eventfd(&w, 7, 7);
		put_fd(&w, 3, 7, FD_TYPES__EVENTFD);
		ASSERT_OK(image_create(w.f.store, &image_filelocks, &w.other));
		e.flag = bad[i].flag;
		e.type = bad[i].type;
		e.pid = bad[i].pid;
		e.fd = 3;
		e.start = bad[i].start;
		e.len = bad[i].len;
		ASSERT_OK(image_put(w.other, &e.base));
		ASSERT_EQ(world_load(&w), -EBADMSG);
		world_end(&w);
	}
}

static void put_fanotify(struct world *w, FanotifyMarkEntry *m, bool fs)
{
	FanotifyFileEntry e = FANOTIFY_FILE_ENTRY__INIT;
	FownEntry fown = FOWN_ENTRY__INIT;
	FileEntry fe = FILE_ENTRY__INIT;

	fe.type = FD_TYPES__FANOTIFY;
	fe.id = e.id = 5;
	fe.ffy = &e;
	e.fown = &fown;
	if (fs)
		e.fs_mark = &m;
	else
		e.mark = &m;
	e.n_fs_mark = fs;
	e.n_mark = !fs;
	ASSERT_OK(image_put(w->files, &fe.base));
}

TEST("a fanotify mark of an unknown sort, without object, or that asks for permission is refused")
{
	static const struct {
		int type, result;
		uint32_t mflags, mask, ignored_mask;
		bool fs, has_inode, has_mount;
		const char *path;
	} bad[] = {
		{ MARK_TYPE__INODE, -EBADMSG, 0, 1, 0, false, false, true, "/" },
		{ MARK_TYPE__MOUNT, -EBADMSG, 0, 1, 0, false, true, false, "/" },
		{ MARK_TYPE__MOUNT, -EBADMSG, 0, 1, 0, false, false, true, NULL },
		{ 7, -EBADMSG, 0, 1, 0, false, true, true, "/" },
		{ MARK_TYPE__INODE, -EBADMSG, 0, 1, 0, true, true, false, "/" },
		{ MARK_TYPE__INODE, -EBADMSG, 0, 0, 0, false, true, false, "/" },
		{ MARK_TYPE__INODE, -EBADMSG, 0x100, 1, 0, false, true, false, "/" },
		{ MARK_TYPE__INODE, -EBADMSG, 0, 1, 0, false, true, false, "../x" },
		{ MARK_TYPE__MOUNT, -EBADMSG, 0, 1, 0, true, false, true, "x" },
		{ MARK_TYPE__INODE, -ENOENT, 0, 1, 0, false, true, false, "/nothing-of-this-name" },
		{ MARK_TYPE__INODE, -EOPNOTSUPP, 0, 0x10000, 0, false, true, false, "/" },
		{ MARK_TYPE__MOUNT, -EOPNOTSUPP, 0, 0x100000, 0, true, false, true, "/" },
		{ MARK_TYPE__MOUNT, -EOPNOTSUPP, 0, 1, 0x40000, false, false, true, "/" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		FanotifyMarkEntry m = FANOTIFY_MARK_ENTRY__INIT;
		FanotifyInodeMarkEntry ie = FANOTIFY_INODE_MARK_ENTRY__INIT;
		FanotifyMountMarkEntry me = FANOTIFY_MOUNT_MARK_ENTRY__INIT;
		FhEntry fh = FH_ENTRY__INIT;
		struct world w;
		int fd;

		world_begin(&w);
		m.type = (MarkType)bad[i].type;
		m.mflags = bad[i].mflags;
		m.mask = bad[i].mask;
		m.ignored_mask = bad[i].ignored_mask;
		ie.f_handle = &fh;
		m.ie = bad[i].has_inode ? &ie : NULL;
		m.me = bad[i].has_mount ? &me : NULL;
		fh.path = me.path = (char *)bad[i].path;
		put_fanotify(&w, &m, bad[i].fs);
		ASSERT_OK(world_load(&w));
		ASSERT_EQ(restore_file_get(&w.ctx, 5, &fd), bad[i].result);
		world_end(&w);
	}
}

TEST("a watched inode's handle that is longer than its room is refused")
{
	static const struct {
		uint32_t bytes;
		size_t words;
	} bad[] = { { 129, 17 }, { 8, 0 }, { 9, 1 }, { UINT32_MAX, 16 } };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		FanotifyMarkEntry m = FANOTIFY_MARK_ENTRY__INIT;
		FanotifyInodeMarkEntry ie = FANOTIFY_INODE_MARK_ENTRY__INIT;
		FhEntry fh = FH_ENTRY__INIT;
		uint64_t handle[17] = { 0 };
		struct world w;
		int fd;

		world_begin(&w);
		m.type = MARK_TYPE__INODE;
		m.mask = 1;
		m.ie = &ie;
		ie.f_handle = &fh;
		fh.bytes = bad[i].bytes;
		fh.handle = handle;
		fh.n_handle = bad[i].words;
		put_fanotify(&w, &m, false);
		ASSERT_OK(world_load(&w));
		ASSERT_EQ(restore_file_get(&w.ctx, 5, &fd), -EBADMSG);
		world_end(&w);
	}
}

TEST("packets that are empty, longer than a page, or not all of the pipe's contents are refused")
{
	static const struct {
		uint32_t first, second;
		bool packet;
		int result;
	} cases[] = {
		{ 2, 3, true, 0 }, { 5, 0, true, -EBADMSG }, { 0, 5, true, -EBADMSG },
		{ 2, 2, true, -EBADMSG }, { 2, 4, true, -EBADMSG }, { 2, UINT32_MAX, true, -EBADMSG },
		{ 4097, UINT32_MAX - 4091, true, -EBADMSG }, { 4097, 1, true, -EBADMSG },
		{ 4097, 1, false, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		PipeRunEntry first = PIPE_RUN_ENTRY__INIT, second = PIPE_RUN_ENTRY__INIT;
		PipeRunEntry *runs[] = { &first, &second };
		PipeDataEntry e = PIPE_DATA_ENTRY__INIT;
		char data[4098] = "";
		struct world w;

		world_begin(&w);
		ASSERT_OK(image_create(w.f.store, &image_pipes_data, &w.other));
		first.packet = cases[i].packet;
		first.bytes = cases[i].first;
		second.packet = true;
		second.bytes = cases[i].second;
		e.bytes = first.bytes > 5 ? 4098 : 5;
		e.run = runs;
		e.n_run = 2;
		ASSERT_OK(image_put(w.other, &e.base));
		ASSERT_OK(image_put_raw(w.other, data, e.bytes));
		ASSERT_EQ(world_load(&w), cases[i].result);
		world_end(&w);
	}
}

TEST("a pipe's contents beyond the end of their image, or twice, are refused")
{
	for (int what = 0; what < 2; what++) {
		PipeDataEntry e = PIPE_DATA_ENTRY__INIT;
		struct world w;

		world_begin(&w);
		ASSERT_OK(image_create(w.f.store, &image_pipes_data, &w.other));
		e.pipe_id = 77;
		e.bytes = what ? 0 : 4000000000u;
		for (int i = 0; i <= what; i++)
			ASSERT_OK(image_put(w.other, &e.base));
		ASSERT(world_load(&w) < 0);
		world_end(&w);
	}
}

TEST("memory objects with impossible sizes, seals, modes or numbers are refused")
{
	for (int what = 0; what < 7; what++) {
		MemfdInodeEntry e = MEMFD_INODE_ENTRY__INIT;
		struct world w;
		int fd;

		world_begin(&w);
		ASSERT_OK(image_create(w.f.store, &image_memfd, &w.other));
		e.name = (char *)"test";
		e.uid = getuid();
		e.gid = getgid();
		e.size = what == 1 ? UINT64_MAX : 8192;
		e.seals = what == 2 ? 0x100 : 1;
		e.has_mode = true;
		e.mode = what == 3 ? S_IFDIR | 0700 : S_IFREG | 0700;
		e.has_hugetlb_flag = what == 4 || what == 5;
		e.hugetlb_flag = what == 4 ? 1 : 4 /* MFD_HUGETLB */;
		e.inode_id = what == 6 ? 0 : 1;
		e.shmid = 5;
		ASSERT_OK(image_put(w.other, &e.base));
		if (what) {
			ASSERT_EQ(world_load(&w), -EBADMSG);
		} else {
			ASSERT_OK(world_load(&w));
			ASSERT_OK(shmem_restore_inode(&w.ctx, 1, &fd));
			ASSERT_EQ(shmem_restore_inode(&w.ctx, 2, &fd), -EBADMSG);
		}
		world_end(&w);
	}
}
