/*
 * An IPC namespace of its own, as PrivateIPC= makes it: limits, System V segments with and without
 * somebody attached, one of huge pages, semaphores, a queue, POSIX message queues, /dev/mqueue of that
 * namespace; the host's ids are another matter.
 *
 * huge-pages: 2
 */
#define _GNU_SOURCE
#include <libgen.h>
#include <mqueue.h>
#include <sched.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "maker.h"

#define KEY	((key_t)0x43524b41)
#define LOOSE	((2u << 20) + 17)

static const struct {
	const char *name, *value;
} limits[] = {
	{ "/proc/sys/kernel/msgmax", "9001" },
	{ "/proc/sys/kernel/shmmax", "1073741824" },
	{ "/proc/sys/kernel/shmmni", "77" },
	{ "/proc/sys/kernel/shm_rmid_forced", "0" },
	{ "/proc/sys/kernel/sem", "250\t32001\t33\t129" },
	{ "/proc/sys/fs/mqueue/msg_max", "11" },
	{ "/proc/sys/fs/mqueue/msgsize_default", "4096" },
};

static void limits_set(void)
{
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		int fd = open(limits[i].name, O_WRONLY | O_CLOEXEC);
		size_t n = strlen(limits[i].value);

		if (fd < 0 || write(fd, limits[i].value, n) != (ssize_t)n)
			maker_fail("%s: %s", limits[i].name, strerror(errno));
		close(fd);
	}
}

static void limits_check(void)
{
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		int fd = open(limits[i].name, O_RDONLY | O_CLOEXEC);
		char text[64] = "";

		if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
			maker_fail("%s: %s", limits[i].name, strerror(errno));
		close(fd);
		text[strcspn(text, "\n")] = '\0';
		if (strcmp(text, limits[i].value))
			maker_fail("%s is '%s', was '%s'", limits[i].name, text, limits[i].value);
	}
}

static void *attach(int id)
{
	void *p = shmat(id, NULL, 0);

	if (p == (void *)-1)
		maker_fail("shmat: %s", strerror(errno));
	return p;
}

static void check_mqueue(const char *dir)
{
	struct mq_attr attr = { .mq_maxmsg = 11, .mq_msgsize = 8 };
	mqd_t q = mq_open("/made", O_RDWR | O_CREAT | O_EXCL, 0600, &attr);
	char path[320];

	if (q < 0)
		maker_fail("mq_open: %s", strerror(errno));
	snprintf(path, sizeof(path), "%s/made", dir);
	if (access(path, F_OK) < 0)
		maker_fail("%s shows another namespace's queues", dir);
	MAKER_MUST(mq_unlink("/made") == 0);
}

static void mount_mqueue(const char *dir)
{
	MAKER_MUST(unshare(CLONE_NEWNS) == 0);
	MAKER_MUST(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) == 0);
	MAKER_MUST(mount("mqueue", dir, "mqueue", MS_NOSUID | MS_NODEV, NULL) == 0);
}

/* POSIX message queues: one that is open, two that nobody has open, one that has lost its name. */
static mqd_t opened, nameless;

static mqd_t queue_make(const char *name, long maxmsg, long msgsize)
{
	struct mq_attr attr = { .mq_maxmsg = maxmsg, .mq_msgsize = msgsize };
	mqd_t q = mq_open(name, O_RDWR | O_CREAT | O_EXCL | O_NONBLOCK, 0600, &attr);

	if (q < 0)
		maker_fail("mq_open %s: %s", name, strerror(errno));
	return q;
}

static void queues_make(void)
{
	mqd_t loose = queue_make("/loose", 11, 300), empty = queue_make("/empty", 3, 7);

	opened = queue_make("/opened", 2, 100);
	nameless = queue_make("/nameless", 2, 100);
	MAKER_MUST(!mq_send(loose, "low", 3, 1) && !mq_send(loose, "high", 4, 32767) &&
		   !mq_send(loose, "low too", 7, 1));
	MAKER_MUST(!fchown(loose, 1234, 4321) && !fchmod(loose, 0642) && !mq_close(loose));
	MAKER_MUST(!mq_close(empty));
	MAKER_MUST(!mq_send(opened, "open", 4, 5) && !mq_send(nameless, "gone", 4, 6));
	MAKER_MUST(!mq_unlink("/nameless"));
}

static void queue_expect(mqd_t q, const char *text, unsigned int priority)
{
	char buf[400] = "";
	unsigned int is = 0;
	ssize_t n = mq_receive(q, buf, sizeof(buf), &is);

	if (n != (ssize_t)strlen(text) || is != priority || memcmp(buf, text, strlen(text)))
		maker_fail("received '%.20s' (%zd) of priority %u, not '%s' of %u", buf, n, is, text, priority);
}

static void queues_check(void)
{
	mqd_t loose = mq_open("/loose", O_RDWR | O_NONBLOCK), empty = mq_open("/empty", O_RDONLY);
	struct mq_attr attr;
	struct stat st;

	if (loose < 0 || empty < 0 || mq_open("/nameless", O_RDONLY) >= 0)
		maker_fail("other queues than before: %d %d", loose, empty);
	MAKER_MUST(!mq_getattr(loose, &attr) && !fstat(loose, &st));
	MAKER_SAME("messages", attr.mq_curmsgs, 3);
	MAKER_SAME("at most", attr.mq_maxmsg, 11);
	MAKER_SAME("of bytes", attr.mq_msgsize, 300);
	MAKER_SAME("mode", st.st_mode & 07777, 0642);
	MAKER_SAME("owner", st.st_uid, 1234);
	MAKER_SAME("group", st.st_gid, 4321);
	queue_expect(loose, "high", 32767);
	queue_expect(loose, "low", 1);
	queue_expect(loose, "low too", 1);
	queue_expect(opened, "open", 5);
	queue_expect(nameless, "gone", 6);
	MAKER_MUST(!mq_getattr(empty, &attr));
	MAKER_SAME("messages of the empty one", attr.mq_curmsgs, 0);
	MAKER_MUST(!mq_close(loose) && !mq_close(empty));
}

int main(int argc, char **argv)
{
	char base[256];
	int keyed, loose, huge, next, sem, queue;
	struct {
		long type;
		char text[8];
	} message = { 3, "queued" };
	volatile int *shared;
	struct shmid_ds ds;
	char *data;
	pid_t child;

	maker_begin(argc, argv);
	snprintf(base, sizeof(base), "%.200s/mqueue", dirname(strdup(argv[1])));
	MAKER_MUST(mkdir(base, 0700) == 0);
	MAKER_MUST(unshare(CLONE_NEWIPC) == 0);
	if (!maker_is_plain())
		mount_mqueue(base);
	limits_set();
	if (!maker_is_plain())
		queues_make();
	keyed = shmget(KEY, 8192, IPC_CREAT | IPC_EXCL | 0640);
	loose = shmget(KEY + 1, LOOSE, IPC_CREAT | IPC_EXCL | 0600);
	MAKER_MUST(keyed >= 0 && loose >= 0);
	shared = attach(keyed);
	data = attach(loose);
	memcpy(data + (1 << 20), "loose", 5);
	data[LOOSE - 1] = '!';
	MAKER_MUST(shmdt(data) == 0);
	huge = maker_is_plain() ? -1 : shmget(KEY + 4, LOOSE, IPC_CREAT | IPC_EXCL | SHM_HUGETLB | 0600);
	if (huge >= 0) {
		data = attach(huge);
		data[LOOSE + 1] = 'h';
		MAKER_MUST(shmdt(data) == 0);
	}
	MAKER_MUST(maker_is_plain() || shmctl(keyed, SHM_LOCK, NULL) == 0);
	sem = semget(KEY + 2, 2, IPC_CREAT | IPC_EXCL | 0600);
	queue = msgget(KEY + 3, IPC_CREAT | IPC_EXCL | 0600);
	MAKER_MUST(sem >= 0 && queue >= 0);
	MAKER_MUST(semctl(sem, 1, SETVAL, 5) == 0 && msgsnd(queue, &message, 8, 0) == 0);
	child = fork();
	if (!child) {
		for (;;) {
			shared[1] = shared[0] + 1;
			usleep(1000);
		}
	}
	shared[0] = 10;
	maker_ready();
	maker_wait();

	limits_check();
	if (!maker_is_plain()) {
		check_mqueue(base);
		queues_check();
	}
	MAKER_SAME("id of the key", shmget(KEY, 0, 0), keyed);
	MAKER_SAME("id of the second key", shmget(KEY + 1, 0, 0), loose);
	MAKER_MUST(shmctl(keyed, IPC_STAT, &ds) == 0);
	if (ds.shm_nattch != 2 || ds.shm_segsz != 8192 || (ds.shm_perm.mode & 0777) != 0640 ||
	    !(ds.shm_perm.mode & SHM_LOCKED) != maker_is_plain())
		maker_fail("%lu attached, mode 0%o", (unsigned long)ds.shm_nattch, ds.shm_perm.mode);
	shared[0] = 500;
	for (int i = 0; shared[1] != 501; i++) {
		if (i > 2000)
			maker_fail("the child sees other memory: %d", shared[1]);
		usleep(1000);
	}
	data = attach(loose);
	if (memcmp(data + (1 << 20), "loose", 5) || data[LOOSE - 1] != '!' || data[0])
		maker_fail("the loose segment's contents changed");
	if (huge >= 0) {
		MAKER_SAME("id of the huge pages", shmget(KEY + 4, 0, 0), huge);
		data = attach(huge);
		MAKER_SAME("their contents", data[LOOSE + 1], 'h');
	}
	MAKER_SAME("id of the semaphores", semget(KEY + 2, 0, 0), sem);
	MAKER_SAME("semaphore", semctl(sem, 1, GETVAL), 5);
	MAKER_SAME("id of the queue", msgget(KEY + 3, 0), queue);
	memset(&message, 0, sizeof(message));
	MAKER_MUST(msgrcv(queue, &message, 8, 3, IPC_NOWAIT) == 8 && !strcmp(message.text, "queued"));
	next = shmget(IPC_PRIVATE, 4096, 0600);
	MAKER_MUST(next >= 0 && next != keyed && next != loose);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	maker_ok();
}
