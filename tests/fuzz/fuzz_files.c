/*
 * Mutated images of open files against the whole restore of files in the engine: nothing may
 * crash, hang, leak a descriptor or touch the machine.
 *
 *	fuzz_files [ROUNDS [SEED]]
 *
 * Runs as PID 1 of a PID namespace of its own (an image may name any owner of SIGIO), in a
 * mount namespace whose root is an empty tmpfs, without network. The same ROUNDS and SEED do
 * the same.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "core/files.h"
#include "image/pages.h"
#include "kind/kinds.h"
#include "kind/tty.h"
#include "mutate.h"

#define ROUNDS	4000u
#define REGION	(4u << 20)

struct images {
	struct image_store *store;
	struct image_writer *files, *fds;
	uint32_t next;
};

static void put(struct image_writer *w, ProtobufCMessage *m)
{
	/* Few messages, else hardly any images would get past the first checks. */
	if (!rnd(40))
		for (uint32_t i = rnd(4); i <= 4; i++)
			mutate_message(m);
	/* A message whose required parts were taken cannot be packed. */
	if (protobuf_c_message_check(m))
		MUST(!image_put(w, m));
}

static void put_fd(struct images *im, FdTypes type, uint32_t id)
{
	FdinfoEntry e = FDINFO_ENTRY__INIT;

	e.fd = id;
	e.id = id;
	e.type = type;
	if (!rnd(200))
		mutate_message(&e.base);
	MUST(!image_put(im->fds, &e.base));
}

/* The n-th kind of file; most fields right. */
#define FILE_OF(T, snake, TYPE, member, ...)						\
	do {										\
		T e = T##_INIT_(snake);							\
		FileEntry fe = FILE_ENTRY__INIT;					\
		e.id = fe.id = im->next++;						\
		fe.type = FD_TYPES__##TYPE;						\
		fe.member = &e;								\
		__VA_ARGS__;								\
		put(im->files, &fe.base);						\
		put_fd(im, FD_TYPES__##TYPE, e.id);					\
	} while (0)

static void put_files(struct images *im)
{
	FownEntry fown = FOWN_ENTRY__INIT;
	InotifyWdEntry wd = INOTIFY_WD_ENTRY__INIT, *wds[] = { &wd };
	EventpollTfdEntry tfd = EVENTPOLL_TFD_ENTRY__INIT, *tfds[] = { &tfd };
	FhEntry fh = FH_ENTRY__INIT;
	uint64_t handle[16] = { 1 };
	FanotifyInodeMarkEntry inode = FANOTIFY_INODE_MARK_ENTRY__INIT;
	FanotifyMountMarkEntry mount = FANOTIFY_MOUNT_MARK_ENTRY__INIT;
	FanotifyMarkEntry on_inode = FANOTIFY_MARK_ENTRY__INIT, on_mount = FANOTIFY_MARK_ENTRY__INIT;
	FanotifyMarkEntry *marks[] = { &on_inode, &on_mount };

	fh.handle = handle;
	fh.n_handle = 16;
	fh.path = (char *)"/dir";
	wd.f_handle = &fh;
	wd.wd = 5;
	wd.mask = 0x100;
	inode.f_handle = &fh;
	mount.path = (char *)"/";
	on_inode.type = MARK_TYPE__INODE;
	on_inode.ie = &inode;
	on_mount.type = MARK_TYPE__MOUNT;
	on_mount.me = &mount;
	on_inode.mask = on_mount.mask = 0x20;
	on_inode.ignored_mask = 0x8;
	fown.pid = rnd(2);
#define EventfdFileEntry_INIT_(x)	EVENTFD_FILE_ENTRY__INIT
#define SignalfdEntry_INIT_(x)		SIGNALFD_ENTRY__INIT
#define TimerfdEntry_INIT_(x)		TIMERFD_ENTRY__INIT
#define EventpollFileEntry_INIT_(x)	EVENTPOLL_FILE_ENTRY__INIT
#define InotifyFileEntry_INIT_(x)	INOTIFY_FILE_ENTRY__INIT
#define PidfdEntry_INIT_(x)		PIDFD_ENTRY__INIT
#define NsFileEntry_INIT_(x)		NS_FILE_ENTRY__INIT
#define PipeEntry_INIT_(x)		PIPE_ENTRY__INIT
#define FifoEntry_INIT_(x)		FIFO_ENTRY__INIT
#define MemfdFileEntry_INIT_(x)		MEMFD_FILE_ENTRY__INIT
#define RegFileEntry_INIT_(x)		REG_FILE_ENTRY__INIT
#define TtyFileEntry_INIT_(x)		TTY_FILE_ENTRY__INIT
#define FanotifyFileEntry_INIT_(x)	FANOTIFY_FILE_ENTRY__INIT
	FILE_OF(EventfdFileEntry, , EVENTFD, efd, e.fown = &fown, e.counter = odd());
	FILE_OF(SignalfdEntry, , SIGNALFD, sgfd, e.fown = &fown, e.sigmask = odd());
	FILE_OF(TimerfdEntry, , TIMERFD, tfd, e.fown = &fown, e.vsec = 5, e.ticks = rnd(3),
		e.clockid = 1);
	FILE_OF(EventpollFileEntry, , EVENTPOLL, epfd, e.fown = &fown, e.tfd = tfds, e.n_tfd = 1);
	FILE_OF(InotifyFileEntry, , INOTIFY, ify, e.fown = &fown, e.wd = wds, e.n_wd = 1);
	FILE_OF(PidfdEntry, , PIDFD, pidfd, e.fown = &fown, e.nspid = -1, e.ino = 9);
	FILE_OF(NsFileEntry, , NS, nsf, e.ns_id = 2, e.ns_cflag = 0x40000000);
	for (int i = 0; i < 3; i++)
		FILE_OF(PipeEntry, , PIPE, pipe, e.fown = &fown, e.pipe_id = 77,
			e.flags = (uint32_t)i % 2);
	/* Numbers 11 and 12: a fifo and its path; 13: a ghost; 14: linked to 15. */
	FILE_OF(FifoEntry, , FIFO, fifo, e.pipe_id = 78, e.has_regf_id = true,
		e.regf_id = im->next);
	FILE_OF(RegFileEntry, , REG, reg, e.fown = &fown,
		e.name = (char *)"/dir/fifo", e.flags = O_RDWR,
		e.has_mode = true, e.mode = S_IFIFO | 0600);
	FILE_OF(RegFileEntry, , REG, reg, e.fown = &fown,
		e.name = (char *)"/dir/gone/a", e.flags = O_RDWR);
	FILE_OF(RegFileEntry, , REG, reg, e.fown = &fown,
		e.name = (char *)"/dir/lost", e.flags = O_RDWR);
	FILE_OF(RegFileEntry, , REG, reg, e.fown = &fown,
		e.name = (char *)"/dir/file", e.flags = O_RDWR);
	FILE_OF(MemfdFileEntry, , MEMFD, memfd, e.fown = &fown, e.inode_id = 1, e.flags = O_RDWR);
	FILE_OF(MemfdFileEntry, , MEMFD, memfd, e.fown = &fown, e.inode_id = 2, e.flags = O_RDWR);
	/* Ends 4 and 5 of a pair, 6: hung up; their paths follow. */
	for (uint32_t i = 0; i < 4; i++)
		FILE_OF(TtyFileEntry, , TTY, tty, e.fown = &fown, e.tty_info_id = i < 3 ? 5 - i % 2 : 6,
			e.flags = O_RDWR, e.has_regf_id = true, e.regf_id = 22 + i % 2);
	FILE_OF(RegFileEntry, , REG, reg, e.fown = &fown, e.name = (char *)"/dev/pts/ptmx");
	FILE_OF(RegFileEntry, , REG, reg, e.fown = &fown, e.name = (char *)"/dev/pts/2");
	FILE_OF(FanotifyFileEntry, , FANOTIFY, ffy, e.fown = &fown, e.flags = O_RDWR, e.mark = marks,
		e.n_mark = 2, e.fs_mark = marks + 1, e.n_fs_mark = 1, e.has_unprivileged = true);
}

static struct image_writer *new_image(struct images *im, const struct image_type *t, uint64_t n)
{
	struct image_writer *w;

	MUST(!image_create_(im->store, t, &w, n));
	return w;
}

static void put_remaps(struct images *im)
{
	struct image_writer *w = new_image(im, &image_remap_fpath, 0);
	RemapFilePathEntry e = REMAP_FILE_PATH_ENTRY__INIT;

	e.orig_id = 13;
	e.remap_id = 1;
	e.has_remap_type = true;
	e.remap_type = REMAP_TYPE__GHOST;
	put(w, &e.base);
	e.has_remap_type = true;
	e.orig_id = 14;
	e.remap_id = 15;
	e.remap_type = REMAP_TYPE__LINKED;
	put(w, &e.base);
	MUST(!image_close(w));
}

static void put_ghost(struct images *im)
{
	struct image_writer *w = new_image(im, &image_ghost_file, 1);
	GhostFileEntry g = GHOST_FILE_ENTRY__INIT;
	GhostChunkEntry c = GHOST_CHUNK_ENTRY__INIT;
	static const mode_t modes[] = { S_IFREG | 0600, S_IFREG | 04755, S_IFIFO, S_IFLNK, S_IFDIR,
					S_IFCHR, S_IFSOCK, 0 };

	g.mode = modes[rnd(2) ? 0 : rnd(ARRAY_SIZE(modes))];
	g.has_chunks = g.chunks = g.has_size = true;
	g.size = 20000;
	g.symlnk_target = (char *)odd_name();
	put(w, &g.base);
	c.off = 100;
	c.len = 4;
	put(w, &c.base);
	MUST(!image_put_raw(w, "abcd", rnd(5)));
	MUST(!image_close(w));
}

static void put_data(struct images *im, const struct image_type *t, uint32_t pipe_id)
{
	struct image_writer *w = new_image(im, t, 0);
	PipeRunEntry first = PIPE_RUN_ENTRY__INIT, second = PIPE_RUN_ENTRY__INIT;
	PipeRunEntry *runs[] = { &first, &second };
	PipeDataEntry e = PIPE_DATA_ENTRY__INIT;

	first.bytes = 2;
	second.bytes = 3;
	second.packet = true;
	if (rnd(2)) {
		e.run = runs;
		e.n_run = 2;
	}
	e.pipe_id = pipe_id;
	e.bytes = 5;
	e.has_size = true;
	e.size = 65536;
	put(w, &e.base);
	MUST(!image_put_raw(w, "12345", rnd(10) ? 5 : rnd(5)));
	MUST(!image_close(w));
}

static void put_memory(struct images *im)
{
	struct image_writer *w = new_image(im, &image_memfd, 0);

	for (uint64_t i = 1; i <= 2; i++) {
		MemfdInodeEntry e = MEMFD_INODE_ENTRY__INIT;
		struct pagemap_writer pw;
		void *room;

		e.name = (char *)(i == 1 ? "name" : "/dev/zero");
		e.size = 8192;
		e.seals = i == 1 ? 0 : 1;
		e.has_mode = true;
		e.mode = S_IFREG | 0777;
		e.inode_id = i;
		e.shmid = (uint32_t)i;
		put(w, &e.base);
		MUST(!pagemap_create(im->store, &image_pagemap_shmem, i, (uint32_t)i, &pw));
		MUST(!pagemap_put(&pw, rnd(3) * 4096u, 1 + rnd(3), PE_PRESENT, &room));
		MUST(!pagemap_close(&pw));
	}
	MUST(!image_close(w));
}

static void put_terminals(struct images *im)
{
	struct image_writer *w = new_image(im, &image_tty_info, 0);
	TtyDataEntry data = TTY_DATA_ENTRY__INIT;
	uint32_t cc[19] = { 0x7f1c03, 4 }, pushed[] = { 2, 2, 5 };

	for (uint32_t id = 4; id <= 6; id++) {
		TtyInfoEntry e = TTY_INFO_ENTRY__INIT;
		TermiosEntry t = TERMIOS_ENTRY__INIT;
		WinsizeEntry ws = WINSIZE_ENTRY__INIT;
		TtyPtyEntry number = TTY_PTY_ENTRY__INIT;

		number.index = 2;
		t.c_cc = cc;
		t.n_c_cc = 19;
		t.c_lflag = rnd(2) ? 2 /* ICANON */ : (uint32_t)odd();
		e.id = id;
		e.type = TTY_TYPE__PTY;
		e.pty = &number;
		e.termios = id < 6 ? &t : NULL;
		e.winsize = &ws;
		e.has_uid = e.has_gid = e.has_mode = true;
		put(w, &e.base);
	}
	MUST(!image_close(w));
	w = new_image(im, &image_tty_data, 0);
	for (uint32_t id = 4; id <= 5; id++) {
		data.tty_id = id;
		data.data.data = (uint8_t *)"a\n\004c";
		data.data.len = 5;
		data.pushed = pushed;
		data.n_pushed = id == 4 ? 3 : 0;
		put(w, &data.base);
	}
	MUST(!image_close(w));
}

static void put_locks(struct images *im)
{
	struct image_writer *w = new_image(im, &image_filelocks, 0);
	FileLockEntry e = FILE_LOCK_ENTRY__INIT;

	e.flag = 2;
	e.pid = 100;
	e.fd = 15;
	put(w, &e.base);
	MUST(!image_close(w));
}

static void write_images(struct image_store *s)
{
	struct images im = { .store = s, .next = 1 };

	im.files = new_image(&im, &image_files, 0);
	im.fds = new_image(&im, &image_fdinfo, 2);
	put_files(&im);
	MUST(!image_close(im.files) && !image_close(im.fds));
	put_remaps(&im);
	put_ghost(&im);
	put_data(&im, &image_pipes_data, 77);
	put_data(&im, &image_fifo_data, 78);
	put_memory(&im);
	put_terminals(&im);
	put_locks(&im);
}

/* Everything a restore does with files in the engine itself. Returns how many came back. */
static unsigned int restore_all(struct image_store *s)
{
	struct cr_opts opts = { .clock_advance_nsec = rnd(2) ? 0 : 1000000000 };
	TaskKobjIdsEntry ids = TASK_KOBJ_IDS_ENTRY__INIT;
	InventoryEntry inv = INVENTORY_ENTRY__INIT;
	PstreeEntry pst = PSTREE_ENTRY__INIT;
	struct restore_process p = { .pst = &pst, .ids = &ids };
	struct restore_ctx *ctx = calloc(1, sizeof(*ctx));
	unsigned int made = 0;
	int fd, r;

	MUST(ctx);
	ids.files_id = 2;
	pst.pid = 100;
	arena_init(&ctx->arena);
	ctx->opts = &opts;
	ctx->store = s;
	ctx->inventory = &inv;
	ctx->procs = &p;
	ctx->n_procs = 1;
	inv.root_ids = &ids;
	MUST(!map_put(&ctx->procs_by_pid, pst.pid, &p));
	ids.has_net_ns_id = true;
	ids.net_ns_id = 2;
	if (!restore_files_load(ctx) && !tty_restore_pairs(ctx)) {
		for (size_t i = 0; i < ctx->n_files; i++)
			made += restore_file_get(ctx, ctx->files[i]->id, &fd) >= 0;
		r = restore_locks_files(ctx, &p);
		if (!r && !restore_files_finish(ctx) && !tty_restore_last(ctx))
			made++;
	}
	restore_files_done(ctx);
	map_done(&ctx->procs_by_pid);
	arena_done(&ctx->arena);
	free(ctx);
	return made;
}

static int open_descriptors(void)
{
	int n = 0;

	for (int fd = 3; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void make_tree(void)
{
	MUST(!mkdir("/dir", 0755) || errno == EEXIST);
	unlink("/dir/fifo");
	MUST(!mkfifo("/dir/fifo", 0600));
	for (int i = 0; i < 2; i++) {
		int fd = open(i ? "/dir/lost" : "/dir/file", O_CREAT | O_RDWR, 0600);

		MUST(fd >= 0 && !close(fd));
	}
	MUST(!symlink("/dir/file", "/dir/link") || errno == EEXIST);
}

static int run(uint32_t rounds)
{
	uint8_t *region = aligned_alloc(4096, REGION);
	unsigned long made = 0;
	int before;

	MUST(region);
	MUST(!mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
	MUST(!mount("fuzz", "/mnt", "tmpfs", 0, "size=64m") && !mkdir("/mnt/proc", 0755));
	MUST(!mount("proc", "/mnt/proc", "proc", 0, NULL) && !chroot("/mnt") && !chdir("/"));
	MUST(!mkdir("/dev", 0755) && !mkdir("/dev/pts", 0755));
	MUST(!mount("devpts", "/dev/pts", "devpts", 0, "ptmxmode=0666,max=64"));
	MUST(!symlink("pts/ptmx", "/dev/ptmx"));
	make_tree();
	before = open_descriptors();
	for (uint32_t i = 0; i < rounds; i++) {
		struct image_store *s;
		uint64_t bytes;

		MUST(!image_bundle_create(region, REGION, &s));
		write_images(s);
		MUST(!image_store_seal(s, &bytes, NULL));
		image_store_close(s);
		MUST(!image_bundle_open(region, bytes, &s));
		made += restore_all(s);
		image_store_close(s);
		make_tree();
		if (open_descriptors() != before) {
			fprintf(stderr, "round %u leaves %d descriptors\n", i,
				open_descriptors() - before);
			return 1;
		}
	}
	free(region);
	printf("%u rounds, %lu files made\n", rounds, made);
	fflush(stdout);
	/* A fuzzer that makes nothing tests nothing. */
	return made > rounds ? 0 : 1;
}

int main(int argc, char **argv)
{
	uint32_t rounds = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : ROUNDS;
	int status;
	pid_t pid;

	rng = argc > 2 ? strtoull(argv[2], NULL, 10) | 1 : 0x9e3779b97f4a7c15ull;
	log_init(getenv("FUZZ_LOG") ? LOGLEVEL_DEBUG : LOGLEVEL_NONE, -1);
	if (unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC) < 0) {
		perror("unshare (this must be root)");
		return 2;
	}
	pid = fork();
	if (pid < 0)
		return 2;
	if (!pid) {
		alarm(540);
		_exit(run(rounds));
	}
	if (waitpid(pid, &status, 0) != pid)
		return 2;
	if (WIFSIGNALED(status))
		fprintf(stderr, "ended by signal %d\n", WTERMSIG(status));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
