/*
 * System V message queues: messages of several types and sizes in their order, an empty queue,
 * a full one, owner, mode and size limit, who used them last, a process that waits to receive and one
 * that waits to send.
 */
#include <sys/msg.h>
#include <sys/wait.h>

#include "sysv_common.h"

#define BIG	8192
#define SMALL	300

/* Of one run; what a failed test left has it only if it had our pid. */
static key_t key;

struct message {
	long type;
	char text[BIG];
};

static struct message m;

static int msg_get(key_t k)
{
	return sysv_made("msg", msgget(k, IPC_CREAT | IPC_EXCL | 0600));
}

static void put(int id, long type, const char *text, size_t n)
{
	m.type = type;
	memcpy(m.text, text, n);
	MAKER_MUST(!msgsnd(id, &m, n, 0));
}

static void take(int id, long want, long type, const char *text, size_t n)
{
	ssize_t got = msgrcv(id, &m, BIG, want, IPC_NOWAIT);

	if (got != (ssize_t)n || m.type != type || memcmp(m.text, text, n))
		maker_fail("got %zd bytes of type %ld (%s), not %zu of type %ld", got, m.type,
			   got < 0 ? strerror(errno) : "", n, type);
}

static struct msqid_ds stat_of(int id)
{
	struct msqid_ds ds;

	if (msgctl(id, IPC_STAT, &ds) < 0)
		maker_fail("queue %d: %s", id, strerror(errno));
	return ds;
}

static pid_t child_receives(int id)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	MAKER_MUST(msgrcv(id, &m, BIG, 5, 0) == 3 && !memcmp(m.text, "way", 3));
	_exit(18);
}

static void on_signal(int sig)
{
	(void)sig;
}

/* A handler ends this call, SA_RESTART or not: signal(7). */
static pid_t child_interrupted(int id)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	pid_t pid = fork();

	if (pid)
		return pid;
	sigaction(SIGUSR2, &sa, NULL);
	if (msgrcv(id, &m, BIG, 6, 0) >= 0 || errno != EINTR)
		maker_fail("msgrcv: %s", strerror(errno));
	_exit(20);
}

static pid_t child_sends(int id, const char *text)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	put(id, 9, text, SMALL);	/* there is room for this one */
	put(id, 8, text, SMALL);
	_exit(19);
}

int main(int argc, char **argv)
{
	static char big[BIG];
	int keyed, empty, full;
	struct msqid_ds ds;
	pid_t receiver, sender, interrupted;

	maker_begin(argc, argv);
	key = 0x43000000 + maker_number();
	msgctl(msgget(key, 0), IPC_RMID, NULL);
	for (size_t i = 0; i < BIG; i++)
		big[i] = (char)(i * 7 + i / 256);
	keyed = msg_get(key);
	empty = msg_get(IPC_PRIVATE);
	full = msg_get(IPC_PRIVATE);
	ds = stat_of(keyed);
	sysv_give(&ds.msg_perm, 0624);
	ds.msg_qbytes = 12345;
	MAKER_MUST(!msgctl(keyed, IPC_SET, &ds));
	put(keyed, 7, "first", 5);
	put(keyed, 3, "", 0);
	put(keyed, 1l << 40, big, BIG);
	put(keyed, 3, "third", 6);
	/* Received from by its own child, which is dead now. */
	put(keyed, 11, "gone", 4);
	sender = fork();
	if (!sender) {
		take(keyed, 11, 11, "gone", 4);
		_exit(0);
	}
	maker_ends_with(sender, 0);
	receiver = child_receives(empty);
	interrupted = child_interrupted(empty);
	ds = stat_of(full);
	ds.msg_qbytes = SMALL;
	MAKER_MUST(!msgctl(full, IPC_SET, &ds));
	sender = child_sends(full, big);
	while (stat_of(full).msg_qnum != 1)
		usleep(1000);
	maker_await_call(receiver, SYS_msgrcv);
	maker_await_call(interrupted, SYS_msgrcv);
	maker_await_call(sender, SYS_msgsnd);
	maker_ready();
	maker_wait();

	ds = stat_of(keyed);
	sysv_given(&ds.msg_perm, key, 0624);
	MAKER_SAME("size limit", ds.msg_qbytes, 12345);
	MAKER_SAME("messages", ds.msg_qnum, 4);
	MAKER_SAME("bytes", ds.__msg_cbytes, BIG + 11);
	MAKER_SAME("last sender", ds.msg_lspid, getpid());
	MAKER_SAME("the key's id", msgget(key, 0), keyed);
	take(keyed, 3, 3, "", 0);
	take(keyed, 0, 7, "first", 5);
	take(keyed, 0, 1l << 40, big, BIG);
	take(keyed, 0, 3, "third", 6);
	MAKER_SAME("messages in the empty one", stat_of(empty).msg_qnum, 0);
	MAKER_MUST(!waitpid(receiver, NULL, WNOHANG));
	put(empty, 4, "not you", 7);
	put(empty, 5, "way", 3);
	maker_ends_with(receiver, 18);
	take(empty, 0, 4, "not you", 7);
	kill(interrupted, SIGUSR2);
	maker_ends_with(interrupted, 20);
	ds = stat_of(full);
	MAKER_SAME("messages in the full one", ds.msg_qnum, 1);
	MAKER_SAME("its size limit", ds.msg_qbytes, SMALL);
	MAKER_SAME("its last sender", ds.msg_lspid, sender);
	MAKER_MUST(!waitpid(sender, NULL, WNOHANG));
	take(full, 0, 9, big, SMALL);
	maker_ends_with(sender, 19);
	take(full, 0, 8, big, SMALL);
	MAKER_MUST(!msgctl(keyed, IPC_RMID, NULL) && !msgctl(empty, IPC_RMID, NULL) &&
		   !msgctl(full, IPC_RMID, NULL));
	maker_ok();
}
