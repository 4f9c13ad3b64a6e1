/*
 * Mutated images of sockets against the whole restore of them, with a task that makes those it holds:
 * nothing may crash, hang, or leave a descriptor, a process or a socket's file behind.
 *
 *	fuzz_sockets [ROUNDS [SEED]]
 *
 * Runs as PID 1 of a PID namespace of its own (an image may name any process as a socket's peer), in a
 * mount namespace whose root is a tmpfs, in a network namespace with nothing but lo. The same ROUNDS
 * and SEED do the same.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/sched.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "core/files.h"
#include "kind/kinds.h"
#include "kind/sk_inet.h"
#include "kind/sk_unix.h"
#include "mutate.h"

#define ROUNDS		1000u
#define REGION		(4u << 20)
#define ZONE		0x200000000000ull	/* where no sanitizer has its own */
#define TASK_PID	2
#define HERE		"/here"			/* nothing of an image may get there */
#define TASK_USEC	(5ull * 1000000)

struct images {
	struct image_store *store;
	struct image_writer *files, *fds, *queues;
	uint32_t next;
};

static FownEntry fown;
static SkOptsEntry opts;
static SkCredsEntry creds;
static uint32_t groups[2];
static uint64_t filter[2];

/* The ret of a classic filter, and an option of a fresh table. */
static void fresh_opts(void)
{
	static SkExtraOptEntry extra;
	static SkExtraOptEntry *list[] = { &extra };
	static uint8_t value[4];

	fown_entry__init(&fown);
	sk_opts_entry__init(&opts);
	sk_extra_opt_entry__init(&extra);
	sk_creds_entry__init(&creds);
	groups[0] = 5;
	groups[1] = 6;
	creds.pid = rnd(2) ? TASK_PID : (uint32_t)odd();
	creds.uid = rnd(3);
	creds.groups = groups;
	creds.n_groups = 2;
	memcpy(value, "\1\0\0\0", sizeof(value));
	extra.level = SOL_SOCKET;
	extra.name = SO_RXQ_OVFL;
	extra.value = (ProtobufCBinaryData){ sizeof(value), value };
	filter[0] = 6ull << 48 | 0xffff;
	opts.so_sndbuf = opts.so_rcvbuf = 212992;
	opts.has_so_priority = opts.has_so_rcvlowat = opts.has_so_buf_lock = true;
	opts.so_rcvlowat = 1;
	opts.extra = list;
	opts.n_extra = rnd(2);
	opts.so_filter = filter;
	opts.n_so_filter = !rnd(4);
}

/* Few messages of an image, else hardly any would get past the first checks. */
static void put(struct image_writer *w, ProtobufCMessage *m)
{
	if (!rnd(40))
		for (uint32_t i = rnd(4); i <= 4; i++)
			mutate_message(m);
	/* A message whose required parts were taken cannot be packed. */
	if (protobuf_c_message_check(m))
		MUST(!image_put(w, m));
}

static void put_file(struct images *im, FileEntry *fe, bool held)
{
	FdinfoEntry e = FDINFO_ENTRY__INIT;

	put(im->files, &fe->base);
	e.fd = e.id = fe->id;
	e.type = fe->type;
	if (!rnd(400))
		mutate_message(&e.base);
	if (held && rnd(20))
		MUST(!image_put(im->fds, &e.base));
}

static UnixSkEntry unix_entry(uint32_t type, uint32_t state, uint32_t ino, uint32_t peer, const char *name,
			      size_t len)
{
	UnixSkEntry e = UNIX_SK_ENTRY__INIT;

	fresh_opts();
	e.type = type;
	e.state = state;
	e.ino = ino;
	e.peer = peer;
	e.fown = &fown;
	e.opts = &opts;
	e.backlog = 5;
	e.peer_creds = rnd(3) ? NULL : &creds;
	e.name = (ProtobufCBinaryData){ len, (uint8_t *)name };
	return e;
}

static void put_unix(struct images *im, UnixSkEntry e)
{
	FileEntry fe = FILE_ENTRY__INIT;

	e.id = fe.id = im->next++;
	fe.type = FD_TYPES__UNIXSK;
	fe.usk = &e;
	put_file(im, &fe, !(e.uflags & USK_EXTERN));
}

static void put_message(struct images *im, uint32_t to)
{
	SkPacketEntry m = SK_PACKET_ENTRY__INIT;
	uint32_t rights[] = { 1 + rnd(26), 1 + rnd(26) };
	ScmEntry scm = SCM_ENTRY__INIT, *list[] = { &scm, &scm };

	fresh_opts();
	scm.type = SCM_RIGHTS;
	scm.rights = rights;
	scm.n_rights = 1 + rnd(2);
	m.id_for = to;
	m.length = 5;
	m.scm = list;
	m.n_scm = !rnd(4);
	m.creds = rnd(3) ? NULL : &creds;
	put(im->queues, &m.base);
	MUST(!image_put_raw(im->queues, "12345", rnd(20) ? 5 : rnd(5)));
}

/* Files 1 to 15; inodes are 100 more. */
static void put_unix_sockets(struct images *im)
{
	FilePermsEntry perms = FILE_PERMS_ENTRY__INIT;
	UnixSkEntry e;

	put_unix(im, unix_entry(SOCK_STREAM, UNIX_ESTABLISHED, 101, 102, NULL, 0));
	put_unix(im, unix_entry(SOCK_STREAM, UNIX_ESTABLISHED, 102, 101, NULL, 0));
	put_unix(im, unix_entry(SOCK_DGRAM, UNIX_ESTABLISHED, 103, 104, "\0one", 4));
	put_unix(im, unix_entry(SOCK_DGRAM, UNIX_ESTABLISHED, 104, 103, NULL, 0));
	e = unix_entry(SOCK_STREAM, UNIX_LISTEN, 105, 0, "/dir/listen", 12);
	perms.mode = S_IFSOCK | 0600;
	e.file_perms = &perms;
	put_unix(im, e);
	put_unix(im, unix_entry(SOCK_STREAM, UNIX_ESTABLISHED, 106, 107, "/dir/listen", 12));
	put_unix(im, unix_entry(SOCK_STREAM, UNIX_ESTABLISHED, 107, 106, NULL, 0));
	e = unix_entry(SOCK_DGRAM, UNIX_CLOSE, 108, 0, "/dir/log", 9);
	e.has_deleted = true;
	e.deleted = !rnd(4);
	e.path_now = !rnd(4) ? (char *)"/dir/moved" : NULL;
	put_unix(im, e);
	put_unix(im, unix_entry(SOCK_DGRAM, UNIX_ESTABLISHED, 109, 108, NULL, 0));
	put_unix(im, unix_entry(SOCK_SEQPACKET, UNIX_LISTEN, 110, 0, "\0two", 4));
	put_unix(im, unix_entry(SOCK_SEQPACKET, UNIX_ESTABLISHED, 111, 110, NULL, 0));
	put_unix(im, unix_entry(SOCK_STREAM, UNIX_ESTABLISHED, 112, 0, rnd(2) ? "/dir/x" : "\0th\0x", 6));
	e = unix_entry(SOCK_DGRAM, UNIX_LISTEN, 113, 0, "/dir/outside", 13);
	e.uflags = USK_EXTERN;
	put_unix(im, e);
	put_unix(im, unix_entry(SOCK_DGRAM, UNIX_ESTABLISHED, 114, 113, NULL, 0));
	e = unix_entry(SOCK_DGRAM, UNIX_CLOSE, 115, 0, "near", 5);
	e.name_dir = (char *)"/dir";
	put_unix(im, e);
}

static uint32_t addresses[2][4];

static InetSkEntry inet_entry(uint32_t family, uint32_t type, uint32_t proto, uint32_t state, uint32_t ino)
{
	InetSkEntry e = INET_SK_ENTRY__INIT;

	fresh_opts();
	memset(addresses, 0, sizeof(addresses));
	e.family = family;
	e.type = type;
	e.proto = proto;
	e.state = state;
	e.ino = ino;
	e.src_port = ino;
	e.dst_port = ino + 1000;
	e.src_addr = addresses[0];
	e.dst_addr = addresses[1];
	e.n_src_addr = e.n_dst_addr = family == AF_INET6 ? 4 : 1;
	addresses[0][e.n_src_addr - 1] = addresses[1][e.n_src_addr - 1] = htonl(family == AF_INET6 ? 1 : 0x7f000001);
	e.fown = &fown;
	e.opts = &opts;
	e.has_v6only = family == AF_INET6;
	return e;
}

static void put_inet(struct images *im, InetSkEntry e)
{
	FileEntry fe = FILE_ENTRY__INIT;

	e.id = fe.id = im->next++;
	fe.type = FD_TYPES__INETSK;
	fe.isk = &e;
	put_file(im, &fe, true);
}

static struct image_writer *new_image(struct images *im, const struct image_type *t, uint64_t n)
{
	struct image_writer *w;

	MUST(!image_create_(im->store, t, &w, n));
	return w;
}

static void put_stream(struct images *im, uint64_t ino)
{
	struct image_writer *w = new_image(im, &image_tcp_stream, ino);
	TcpStreamEntry e = TCP_STREAM_ENTRY__INIT;

	e.inq_len = 4;
	e.inq_seq = (uint32_t)odd();
	e.outq_len = 6;
	e.outq_seq = (uint32_t)odd();
	e.has_unsq_len = true;
	e.unsq_len = rnd(7);
	e.opt_mask = rnd(2) ? TCPI_OPT_WSCALE | TCPI_OPT_TIMESTAMPS | TCPI_OPT_SACK : 0;
	e.has_rcv_wscale = e.has_timestamp = true;
	e.snd_wscale = e.rcv_wscale = 7;
	e.mss_clamp = 1460;
	e.has_snd_wl1 = e.has_snd_wnd = e.has_max_window = e.has_rcv_wnd = e.has_rcv_wup = rnd(2);
	e.snd_wl1 = e.rcv_wup = e.inq_seq;
	e.snd_wnd = e.max_window = e.rcv_wnd = 65000;
	put(w, &e.base);
	MUST(!image_put_raw(w, "readsent..", rnd(20) ? 10 : rnd(10)));
	MUST(!image_close(w));
}

/* Files 16 to 23. */
static void put_inet_sockets(struct images *im)
{
	static const uint32_t states[] = { TCP_ESTABLISHED, TCP_SYN_SENT, TCP_FIN_WAIT1, TCP_FIN_WAIT2,
					   TCP_CLOSE_WAIT, TCP_LAST_ACK, TCP_CLOSING };
	uint8_t group[4] = { 239, 1, 2, 3 }, sources[4] = { 10, 0, 0, 1 };
	SkMcastEntry mcast = SK_MCAST_ENTRY__INIT, *list[] = { &mcast };
	IpOptsRawEntry raw = IP_OPTS_RAW_ENTRY__INIT;
	IpOptsEntry ip = IP_OPTS_ENTRY__INIT;
	TcpOptsEntry tcp = TCP_OPTS_ENTRY__INIT;
	uint32_t icmp[] = { 1 };
	InetSkEntry e;

	e = inet_entry(AF_INET, SOCK_STREAM, IPPROTO_TCP, TCP_LISTEN, 2116);
	e.backlog = 5;
	e.tcp_opts = &tcp;
	put_inet(im, e);
	e = inet_entry(AF_INET, SOCK_STREAM, IPPROTO_TCP, states[rnd(ARRAY_SIZE(states))], 2117);
	e.tcp_opts = &tcp;
	put_inet(im, e);
	put_inet(im, inet_entry(AF_INET6, SOCK_STREAM, IPPROTO_TCP, TCP_ESTABLISHED, 2118));
	e = inet_entry(AF_INET, SOCK_STREAM, IPPROTO_TCP, TCP_CLOSE, 2119);
	e.has_shutdown = e.has_reset = e.has_refused = true;
	e.shutdown = SK_SHUTDOWN__BOTH;
	e.reset = rnd(2);
	e.refused = rnd(2);
	put_inet(im, e);
	e = inet_entry(AF_INET, SOCK_DGRAM, IPPROTO_UDP, TCP_CLOSE, 2120);
	mcast.family = AF_INET;
	mcast.ifname = (char *)"lo";
	mcast.group = (ProtobufCBinaryData){ sizeof(group), group };
	mcast.sources = (ProtobufCBinaryData){ rnd(2) * 4, sources };
	mcast.mode = rnd(2);
	e.mcast = list;
	e.n_mcast = 1;
	put_inet(im, e);
	e = inet_entry(AF_INET6, SOCK_DGRAM, IPPROTO_UDP, TCP_ESTABLISHED, 2121);
	e.has_shutdown = true;
	e.shutdown = (SkShutdown)rnd(4);
	put_inet(im, e);
	e = inet_entry(AF_INET, SOCK_RAW, IPPROTO_ICMP, TCP_CLOSE, 2122);
	e.src_port = e.dst_port = 0;
	raw.icmpv_filter = icmp;
	raw.n_icmpv_filter = 1;
	ip.raw = &raw;
	ip.has_ttl = true;
	ip.ttl = 64;
	e.ip_opts = &ip;
	put_inet(im, e);
	put_inet(im, inet_entry(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE, TCP_CLOSE, 2123));
	for (uint64_t ino = 2117; ino <= 2119; ino++)
		put_stream(im, ino);
}

/* Files 24 to 26. */
static void put_other_sockets(struct images *im)
{
	uint8_t address[8] = { 1, 0, 0x5e, 0, 0, 1 };
	PacketMclist m = PACKET_MCLIST__INIT, *list[] = { &m };
	PacketSockEntry p = PACKET_SOCK_ENTRY__INIT;
	NetlinkSkEntry n = NETLINK_SK_ENTRY__INIT;
	FileEntry fe = FILE_ENTRY__INIT, fn = FILE_ENTRY__INIT;
	uint32_t words[2] = { 5 };

	fresh_opts();
	p.id = fe.id = im->next++;
	fe.type = FD_TYPES__PACKETSK;
	fe.psk = &p;
	p.type = rnd(2) ? SOCK_RAW : SOCK_DGRAM;
	p.protocol = 0x300;
	p.ifindex = 1;
	p.ifname = rnd(2) ? (char *)"lo" : NULL;
	p.fown = &fown;
	p.opts = &opts;
	m.index = 1;
	m.type = rnd(3);
	m.addr = (ProtobufCBinaryData){ m.type ? 0 : 6, address };
	p.mclist = list;
	p.n_mclist = 1;
	put_file(im, &fe, true);
	for (uint32_t i = 0; i < 2; i++) {
		fresh_opts();
		n.id = fn.id = im->next++;
		fn.type = FD_TYPES__NETLINKSK;
		fn.nlsk = &n;
		n.ino = 125 + i;
		n.state = 7;
		n.portid = 77 + i;
		n.dst_group = i;
		n.groups = words;
		n.n_groups = 2;
		n.fown = &fown;
		n.opts = &opts;
		put_file(im, &fn, true);
	}
}

static void write_images(struct image_store *s)
{
	struct images im = { .store = s, .next = 1 };

	im.files = new_image(&im, &image_files, 0);
	im.fds = new_image(&im, &image_fdinfo, 2);
	im.queues = new_image(&im, &image_sk_queues, 0);
	put_unix_sockets(&im);
	put_inet_sockets(&im);
	put_other_sockets(&im);
	for (uint32_t i = rnd(4); i > 0; i--)
		put_message(&im, (uint32_t[]){ 1, 2, 3, 4, 6, 8, 9, 15 }[rnd(8)]);
	MUST(!image_close(im.files) && !image_close(im.fds) && !image_close(im.queues));
}

/* The other end of a connection: with other numbers, but what it gets is not answered by a reset. */
static int peer_make(int family, uint16_t port)
{
	union inet_addr own = { 0 }, to = { 0 };
	struct linger reset = { .l_onoff = 1 };
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);

	own.sa.sa_family = (sa_family_t)family;
	if (family == AF_INET)
		own.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		own.v6.sin6_addr = in6addr_loopback;
	to = own;
	own.v4.sin_port = htons((uint16_t)(port + 1000));
	to.v4.sin_port = htons(port);
	MUST(fd >= 0 && !sk_set_int(fd, SOL_TCP, TCP_REPAIR, 1));
	MUST(!bind(fd, &own.sa, inet_addr_len(&own)) && !connect(fd, &to.sa, inet_addr_len(&to)));
	MUST(!sk_set_int(fd, SOL_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP));
	MUST(!setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)));
	return fd;
}

/* Somebody else has the name of file 3. */
static int rival_make(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX, .sun_path = "\0one" };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	/* Or the task before this one, which the kernel is still taking apart. */
	MUST(fd >= 0 && (!bind(fd, (struct sockaddr *)&a, offsetof(struct sockaddr_un, sun_path) + 4) ||
			 errno == EADDRINUSE));
	return fd;
}

/* A task as core/restore_seed.c makes them: nothing but the zone and the engine's pidfd. */
static void task_make(struct restore_ctx *ctx, struct restore_process *p)
{
	const pid_t want = TASK_PID;
	struct clone_args args = { .exit_signal = SIGCHLD, .set_tid = (uint64_t)(uintptr_t)&want,
				   .set_tid_size = 1 };
	long pid = syscall(SYS_clone3, &args, sizeof(args));

	if (!pid)
		for (;;)
			syscall(SYS_pause);
	MUST(pid == TASK_PID);
	p->pid = TASK_PID;
	p->task_made = p->alive = true;
	p->threads[0].task = (struct task){ .tid = p->pid, .remote = p->remote };
	MUST(!task_seize(&p->threads[0].task, PTRACE_O_EXITKILL, TASK_USEC));
	MUST(!task_get_regs(&p->threads[0].task));
	batch_begin(&ctx->batch, &p->threads[0].task);
	batch_call(&ctx->batch, SYS_close_range, 0, ctx->pidfd_t_fd - 1, 0);
	batch_call(&ctx->batch, SYS_close_range, ctx->pidfd_t_fd + 1, ~0u, 0);
	MUST(!batch_run(&ctx->batch));
}

/* With it goes all it made; nobody else may be there. */
static void task_end_all(struct restore_process *p)
{
	if (p->task_made)
		MUST(!kill(p->pid, SIGKILL) && waitpid(p->pid, NULL, 0) == p->pid);
	MUST(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
}

static int restore_files(struct restore_ctx *ctx, struct restore_process *p)
{
	int self, r = restore_files_load(ctx);

	if (r < 0)
		return r;
	self = (int)syscall(SYS_pidfd_open, getpid(), 0);
	MUST(self >= 0);
	ctx->pidfd_self = ctx->pidfd_t_fd = fcntl(self, F_DUPFD_CLOEXEC, MAX(ctx->pidfd_t_fd, 200));
	close(self);
	/* A number beyond what we may have. */
	if (ctx->pidfd_t_fd < 0)
		return -EMFILE;
	task_make(ctx, p);
	r = restore_files_begin(ctx);
	if (r >= 0)
		r = restore_fds_install(ctx, p);
	if (r >= 0)
		r = restore_files_watch(ctx);
	return r < 0 ? r : restore_files_finish(ctx);
}

/* Returns how many sockets came back; *ret: what the restore returned. */
static unsigned int restore_all(struct image_store *s, struct remote *remote, int *ret)
{
	struct cr_opts cr_opts = { .tcp_established = rnd(20) != 0, .tcp_close = !rnd(10) };
	TaskKobjIdsEntry ids = TASK_KOBJ_IDS_ENTRY__INIT;
	InventoryEntry inv = INVENTORY_ENTRY__INIT;
	PstreeEntry pst = PSTREE_ENTRY__INIT;
	struct restore_thread thread = { .t_cwd = -1, .t_root = -1 };
	struct restore_process p = { .pst = &pst, .ids = &ids, .threads = &thread, .n_threads = 1,
				     .remote = remote };
	struct restore_ctx *ctx = calloc(1, sizeof(*ctx));
	int peers[] = { peer_make(AF_INET, 2117), peer_make(AF_INET6, 2118) };
	int rival = rnd(20) ? -EBADF : rival_make();
	unsigned int made = 0;

	MUST(ctx);
	arena_init(&ctx->arena);
	ids.files_id = 2;
	ids.has_net_ns_id = true;
	ids.net_ns_id = 2;
	inv.root_ids = &ids;
	pst.pid = TASK_PID;
	p.ctx = ctx;
	ctx->opts = &cr_opts;
	ctx->store = s;
	ctx->inventory = &inv;
	ctx->procs = &p;
	ctx->n_procs = 1;
	ctx->pidfd_self = -EBADF;
	MUST(!map_put(&ctx->procs_by_pid, pst.pid, &p));
	*ret = restore_files(ctx, &p);
	ctx->failed = *ret < 0;
	for (size_t i = 0; i < ctx->n_files; i++)
		made += ctx->files[i]->fd >= 0;
	restore_files_done(ctx);
	task_end_all(&p);
	for (size_t i = 0; i < ARRAY_SIZE(peers); i++)
		close(peers[i]);
	close_fdp(&rival);
	close_fdp(&ctx->pidfd_self);
	map_done(&ctx->procs_by_pid);
	arena_done(&ctx->arena);
	free(ctx);
	return made;
}

static int open_descriptors(void)
{
	int n = 0;

	for (int fd = 3; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* How many names there are; with `sockets` they go, if they are. */
static int names_in(const char *dir, bool sockets)
{
	_cleanup_closedir_ DIR *d = opendir(dir);
	const struct dirent *de;
	int n = 0;

	MUST(d);
	while ((de = readdir(d))) {
		if (de->d_name[0] == '.')
			continue;
		if (sockets && de->d_type == DT_SOCK)
			MUST(!unlinkat(dirfd(d), de->d_name, 0));
		else
			n++;
	}
	return n;
}

/* 0: as before. A restore that has succeeded may leave the sockets' files. */
static int left_behind(bool failed, int descriptors)
{
	if (open_descriptors() != descriptors)
		return fprintf(stderr, "%d descriptors are left\n", open_descriptors() - descriptors);
	/* file, link */
	if (names_in("/dir", !failed) != 2 || access("/dir/file", F_OK))
		return fprintf(stderr, "/dir is not as it was\n");
	if (names_in("/tmp", false) || names_in(HERE, false))
		return fprintf(stderr, "something is left in /tmp or where we are\n");
	/* dir, here, proc, tmp */
	if (names_in("/", !failed) != 4)
		return fprintf(stderr, "something is left in /\n");
	return 0;
}

static void make_world(void)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	MUST(fd >= 0 && !ioctl(fd, SIOCSIFFLAGS, &ifr) && !close(fd));
	MUST(!mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
	MUST(!mount("fuzz", "/mnt", "tmpfs", 0, "size=64m") && !mkdir("/mnt/proc", 0755));
	MUST(!mount("proc", "/mnt/proc", "proc", 0, NULL) && !chroot("/mnt") && !chdir("/"));
	MUST(!mkdir("/dir", 0755) && !mkdir("/tmp", 01777) && !mkdir(HERE, 0755) && !chdir(HERE));
	fd = open("/dir/file", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	MUST(fd >= 0 && !close(fd) && !symlink("/dir/file", "/dir/link"));
}

static int run(uint32_t rounds)
{
	uint8_t *region = aligned_alloc(4096, REGION);
	unsigned long made = 0, whole = 0;
	struct remote remote;
	int before, r;

	MUST(region);
	make_world();
	MUST(!remote_map_shared(&remote, ZONE));
	before = open_descriptors();
	for (uint32_t i = 0; i < rounds; i++) {
		struct image_store *s;
		uint64_t bytes;

		MUST(!image_bundle_create(region, REGION, &s));
		write_images(s);
		MUST(!image_store_seal(s, &bytes, NULL));
		image_store_close(s);
		MUST(!image_bundle_open(region, bytes, &s));
		made += restore_all(s, &remote, &r);
		whole += r >= 0;
		image_store_close(s);
		if (left_behind(r < 0, before)) {
			fprintf(stderr, "round %u\n", i);
			return 1;
		}
	}
	free(region);
	printf("%u rounds, %lu sockets made, %lu images restored\n", rounds, made, whole);
	fflush(stdout);
	/* A fuzzer that makes nothing tests nothing. */
	return made > rounds && whole > rounds / 20 ? 0 : 1;
}

int main(int argc, char **argv)
{
	uint32_t rounds = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : ROUNDS;
	int status;
	pid_t pid;

	rng = argc > 2 ? strtoull(argv[2], NULL, 10) | 1 : 0x9e3779b97f4a7c15ull;
	log_init(getenv("FUZZ_LOG") ? LOGLEVEL_DEBUG : LOGLEVEL_NONE, -1);
	if (unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) < 0) {
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
