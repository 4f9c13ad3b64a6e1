/* POSIX message queues: what the kernel says of them, and damaged images. */
#include <mqueue.h>

#include "core/files.h"
#include "image_fixture.h"
#include "kind/mqueue.h"

TEST("what a queue says of itself is understood, and nothing else")
{
	struct mqueue_info info;
	static const char *const bad[] = {
		"", "QSIZE:", "QSIZE:x NOTIFY_PID:1 ", "QSIZE:-1 NOTIFY:0 NOTIFY_PID:0 \n",
		"QSIZE:1 NOTIFY_PID:", "QSIZE:1 NOTIFY_PID:99999999999 ", "QSIZE:1x NOTIFY_PID:1 ",
		"QSIZE:99999999999999999999 NOTIFY_PID:1 ", "QSIZE:18446744073709551615 NOTIFY_PID:1 ",
		"QSIZE:1 NOTIFY_PID:5",
	};

	ASSERT_OK(mqueue_info_parse("QSIZE:129        NOTIFY:2     SIGNO:0     NOTIFY_PID:8260  \n", &info));
	ASSERT_EQ(info.bytes, 129);
	ASSERT_EQ(info.notify_pid, 8260);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ASSERT_EQ(mqueue_info_parse(bad[i], &info), -EBADMSG);
}

TEST("messages are read in order and are there afterwards")
{
	const struct { const char *text; unsigned int priority; } put[] = {
		{ "low", 1 }, { "high", 9 }, { "", 1 }, { "higher", 32767 }, { "high again", 9 },
	};
	const unsigned int order[] = { 3, 1, 4, 0, 2 };
	struct mq_attr attr = { .mq_maxmsg = 5, .mq_msgsize = 10 };
	MqueueMessage **m;
	struct arena a;
	char name[64];
	size_t n;
	int fd;

	arena_init(&a);
	snprintf(name, sizeof(name), "/crk-unit-%d", getpid());
	fd = mq_open(name, O_RDWR | O_CREAT | O_EXCL | O_NONBLOCK, 0600, &attr);
	ASSERT_OK(fd);
	ASSERT_OK(mq_unlink(name));
	ASSERT_OK(mqueue_read(&a, fd, &m, &n));
	ASSERT_EQ(n, 0);
	for (size_t i = 0; i < ARRAY_SIZE(put); i++)
		ASSERT_OK(mq_send(fd, put[i].text, strlen(put[i].text), put[i].priority));
	/* Reading it leaves the file blocking: that one is ours. */
	for (unsigned int again = 0; again < 2; again++) {
		ASSERT_OK(mqueue_read(&a, fd, &m, &n));
		ASSERT_EQ(n, ARRAY_SIZE(put));
		for (size_t i = 0; i < n; i++) {
			const char *text = put[order[i]].text;

			ASSERT_EQ(m[i]->priority, put[order[i]].priority);
			ASSERT_EQ(m[i]->data.len, strlen(text));
			ASSERT_MEM_EQ(m[i]->data.data, text, strlen(text));
		}
	}
	close(fd);
	arena_done(&a);
}

struct image {
	FownEntry fown;
	ExtFileEntry ext;
	MqueueEntry e;
	MqueueState s;
	MqueueMessage m[2], *list[2];
	char name[300];
};

static void good(struct image *i)
{
	memset(i, 0, sizeof(*i));
	fown_entry__init(&i->fown);
	ext_file_entry__init(&i->ext);
	mqueue_entry__init(&i->e);
	mqueue_state__init(&i->s);
	i->ext.fown = &i->fown;
	i->ext.mqueue = &i->e;
	i->e.state = &i->s;
	i->e.queue = 5;
	strcpy(i->name, "queue");
	i->s.name = (ProtobufCBinaryData){ 5, (uint8_t *)i->name };
	i->s.maxmsg = i->s.msgsize = i->s.n_messages = 2;
	i->s.messages = i->list;
	for (unsigned int k = 0; k < 2; k++) {
		mqueue_message__init(&i->m[k]);
		i->list[k] = &i->m[k];
		i->m[k].priority = 7;
		i->m[k].data = (ProtobufCBinaryData){ 2, (uint8_t *)i->name };
	}
}

static void put(struct image *i, struct image_writer *w, uint32_t id)
{
	FileEntry fe = FILE_ENTRY__INIT;

	fe.type = FD_TYPES__EXT;
	fe.id = i->ext.id = id;
	fe.ext = &i->ext;
	ASSERT_OK(image_put(w, &fe.base));
}

/* Loads it n times over, as files of their own. */
static int load(struct image *i, unsigned int n)
{
	static const struct cr_opts opts;
	struct fixture f = fixture_begin(BUNDLE, 8u << 20);
	struct restore_ctx ctx = { .opts = &opts };
	struct image_writer *w;
	int r;

	arena_init(&ctx.arena);
	ASSERT_OK(image_create(f.store, &image_files, &w));
	for (unsigned int k = 0; k < n; k++)
		put(i, w, k + 1);
	ASSERT_OK(image_close(w));
	fixture_reopen(&f);
	ctx.store = f.store;
	r = restore_files_load(&ctx);
	restore_files_done(&ctx);
	arena_done(&ctx.arena);
	fixture_end(&f);
	return r;
}

#define REFUSED(change)				\
	do {					\
		struct image i;			\
						\
		good(&i);			\
		change;				\
		ASSERT_EQ(load(&i, 1), -EBADMSG);	\
	} while (0)

TEST("queues with impossible names, sizes, modes and messages are refused")
{
	struct image fine;

	good(&fine);
	ASSERT_OK(load(&fine, 1));
	REFUSED(i.s.name.len = 0);
	REFUSED(i.s.name.len = 256);
	REFUSED(i.name[2] = '/');
	REFUSED(i.name[2] = '\0');
	REFUSED((strcpy(i.name, ".."), i.s.name.len = 2));
	REFUSED((strcpy(i.name, "."), i.s.name.len = 1));
	REFUSED(i.s.mode = 010000);
	REFUSED(i.s.maxmsg = 0);
	REFUSED(i.s.maxmsg = 1);
	REFUSED(i.s.maxmsg = 65537);
	REFUSED(i.s.msgsize = 0);
	REFUSED(i.s.msgsize = 1);
	REFUSED(i.s.msgsize = UINT32_MAX);
	REFUSED(i.m[0].priority = 32768);
	/* In no order that a queue could have. */
	REFUSED(i.m[0].priority = 6);
}

TEST("a queue that is there twice, one that is missing, and a plugin's file are refused")
{
	struct image i;

	good(&i);
	ASSERT_EQ(load(&i, 2), -EBADMSG);
	i.ext.mqueue = NULL;
	ASSERT_EQ(load(&i, 1), -EOPNOTSUPP);
	good(&i);
	i.e.state = NULL;
	ASSERT_EQ(load(&i, 1), -EBADMSG);
}
