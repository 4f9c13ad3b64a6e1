/* Unix sockets: what a restore makes of damaged entries of them, and of what is queued in them. */
#include <sys/socket.h>

#include "core/files_restore.h"
#include "files_world.h"
#include "kind/sk_unix.h"

static SkOptsEntry opts[2];
static FownEntry fown = FOWN_ENTRY__INIT;

/* Two ends of a socketpair, files 5 and 6, with inodes 50 and 60. */
static void good_pair(UnixSkEntry e[2])
{
	for (uint32_t i = 0; i < 2; i++) {
		unix_sk_entry__init(&e[i]);
		sk_opts_entry__init(&opts[i]);
		e[i].id = 5 + i;
		e[i].ino = 50 + 10 * i;
		e[i].peer = 60 - 10 * i;
		e[i].type = SOCK_STREAM;
		e[i].state = UNIX_ESTABLISHED;
		e[i].fown = &fown;
		e[i].opts = &opts[i];
	}
}

static void put_name(UnixSkEntry *e, const char *name, size_t len)
{
	e->name = (ProtobufCBinaryData){ len, (uint8_t *)name };
}

static void put_unix(struct world *w, UnixSkEntry *e)
{
	FileEntry fe = FILE_ENTRY__INIT;

	fe.type = FD_TYPES__UNIXSK;
	fe.id = e->id;
	fe.usk = e;
	ASSERT_OK(image_put(w->files, &fe.base));
	put_fd(w, e->id, e->id, FD_TYPES__UNIXSK);
}

static int load_pair(UnixSkEntry e[2])
{
	struct world w;
	int r;

	world_begin(&w);
	put_unix(&w, &e[0]);
	put_unix(&w, &e[1]);
	r = world_load(&w);
	world_end(&w);
	return r;
}

#define REFUSES(change)					\
	do {						\
		UnixSkEntry e[2];			\
							\
		good_pair(e);				\
		ASSERT_OK(load_pair(e));		\
		change;					\
		ASSERT_EQ(load_pair(e), -EBADMSG);	\
	} while (0)

TEST("unix socket entries that cannot be are refused")
{
	static const char name[109] = "/run/x";

	REFUSES(e[0].type = e[1].type = SOCK_RAW);
	REFUSES(e[0].state = 2);
	REFUSES(e[0].state = UINT32_MAX);
	REFUSES(put_name(&e[0], name, sizeof(name)));
	REFUSES(put_name(&e[0], "/run\0x", 6));
	REFUSES(put_name(&e[0], "/run\0x", 7));	/* with the one that ends it */
	REFUSES(e[0].name_dir = (char *)"run");
	REFUSES(e[0].path_now = (char *)"../x");
	REFUSES((e[0].has_shutdown = true, e[0].shutdown = (SkShutdown)4));
	REFUSES(opts[1].so_rcv_tmo_sec = UINT64_MAX);
}

TEST("unix sockets that are one, of two types, or listen with a peer or for datagrams, are refused")
{
	REFUSES(e[1].ino = e[0].ino);
	REFUSES(e[1].type = SOCK_SEQPACKET);
	REFUSES(e[1].type = SOCK_DGRAM);
	REFUSES(e[1].state = UNIX_LISTEN);
	REFUSES((e[0].type = SOCK_DGRAM, e[0].state = UNIX_LISTEN, e[0].peer = e[1].peer = 0));
}

TEST("one end of unix sockets that is outside of the tree may be of any sort that listens")
{
	UnixSkEntry e[2];

	good_pair(e);
	e[0].type = e[1].type = SOCK_DGRAM;
	e[1].state = UNIX_LISTEN;
	e[1].peer = 0;
	e[1].uflags = USK_EXTERN;
	ASSERT_OK(load_pair(e));
	/* Its name is its own matter. */
	put_name(&e[1], "x", 2);
	ASSERT_OK(load_pair(e));
}

TEST("a unix socket bound by a relative name without its directory is not bound in the engine's")
{
	REFUSES((e[0].state = UNIX_CLOSE, e[0].peer = e[1].peer = 0, put_name(&e[0], "x", 2)));
	REFUSES((e[0].type = e[1].type = SOCK_DGRAM, put_name(&e[0], "x", 2)));
}

static int load_message(uint32_t for_file, uint32_t length, const char *data, size_t bytes)
{
	SkPacketEntry m = SK_PACKET_ENTRY__INIT;
	UnixSkEntry e[2];
	struct world w;
	int r;

	good_pair(e);
	world_begin(&w);
	put_unix(&w, &e[0]);
	put_unix(&w, &e[1]);
	ASSERT_OK(image_create(w.f.store, &image_sk_queues, &w.other));
	m.id_for = for_file;
	m.length = length;
	ASSERT_OK(image_put(w.other, &m.base));
	if (bytes)
		ASSERT_OK(image_put_raw(w.other, data, bytes));
	r = world_load(&w);
	world_end(&w);
	return r;
}

TEST("a queued message for a file that is no unix socket, or beyond the end of its image, is refused")
{
	ASSERT_OK(load_message(5, 3, "abc", 3));
	ASSERT_OK(load_message(5, 0, "", 0));
	ASSERT_EQ(load_message(7, 3, "abc", 3), -EBADMSG);
	ASSERT_EQ(load_message(5, 4, "abc", 3), -EBADMSG);
	ASSERT_EQ(load_message(5, UINT32_MAX, "abc", 3), -EBADMSG);
}

/* Fills the queue of one end through the other, as a restore does at last. */
static int fill_with(ScmEntry **scm, size_t n_scm)
{
	SkPacketEntry m = SK_PACKET_ENTRY__INIT;
	struct unix_packet p = { .e = &m, .data = "abc" };
	struct usk u = { .queue = &p, .queue_bytes = 3 };
	UnixSkEntry e = UNIX_SK_ENTRY__INIT;
	struct world w;
	int ends[2], r;

	world_begin(&w);
	put_eventfd(&w, 7, 7);
	ASSERT_OK(world_load(&w));
	ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
	e.type = SOCK_STREAM;
	u.e = &e;
	m.length = 3;
	m.scm = scm;
	m.n_scm = n_scm;
	r = usk_fill_queue(&w.ctx, &u, ends[0]);
	close(ends[0]);
	close(ends[1]);
	world_end(&w);
	return r;
}

TEST("queued descriptors that are none, too many, of no file, or of another sort are refused")
{
	ScmEntry one = SCM_ENTRY__INIT, *scm[] = { &one, &one };
	uint32_t rights[254];

	for (size_t i = 0; i < ARRAY_SIZE(rights); i++)
		rights[i] = 7;
	one.type = SCM_RIGHTS;
	one.rights = rights;
	one.n_rights = 253;
	ASSERT_OK(fill_with(NULL, 0));
	ASSERT_OK(fill_with(scm, 1));
	ASSERT_EQ(fill_with(scm, 2), -EBADMSG);
	one.n_rights = 254;
	ASSERT_EQ(fill_with(scm, 1), -EBADMSG);
	one.n_rights = 0;
	ASSERT_EQ(fill_with(scm, 1), -EBADMSG);
	one.n_rights = 1;
	one.type = SCM_CREDENTIALS;
	ASSERT_EQ(fill_with(scm, 1), -EBADMSG);
	one.type = SCM_RIGHTS;
	rights[0] = 8;
	ASSERT_EQ(fill_with(scm, 1), -EBADMSG);
}
