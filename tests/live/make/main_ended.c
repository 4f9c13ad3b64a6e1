/*
 * A process whose main thread has ended while two others go on, with names, masks and nice values
 * of their own, and a child, which asks for a signal when its parent ends. In the end the process
 * has the status of its last thread.
 */
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "maker.h"

#define STATUS 3

static struct {
	pid_t pid, tid[2], child;
	int phase, done[2], asked;
	char error[200];
} *sh;
static int file;
static int mine = 1;		/* private memory */
static __thread int own;	/* a thread's */
static volatile sig_atomic_t handled;

/* Its name is the process's. */
static char main_state(void)
{
	return maker_state(sh->pid, "main has gone");
}

#define CHECK(cond)									\
	do {										\
		if (!(cond))								\
			snprintf(sh->error, sizeof(sh->error), "%s: %s", #cond, strerror(errno)); \
	} while (0)

static void on_signal(int sig)
{
	(void)sig;
	handled++;
}

static void *thread_main(void *arg)
{
	int i = (int)(size_t)arg;
	sigset_t set, is;
	char name[16], byte;

	own = 40 + i;
	snprintf(name, sizeof(name), "goes on %d", i);
	prctl(PR_SET_NAME, name);
	setpriority(PRIO_PROCESS, (id_t)maker_tid(), 3 + i);
	sigemptyset(&set);
	sigaddset(&set, i ? SIGUSR2 : SIGHUP);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_SETMASK, &set, NULL);
	sh->tid[i] = maker_tid();
	while (main_state() != 'Z')
		usleep(1000);
	__atomic_store_n(&sh->done[i], 1, __ATOMIC_RELEASE);
	maker_await(&sh->phase, 2);

	CHECK(main_state() == 'Z');
	CHECK(own == 40 + i && mine == 2);
	CHECK(getpid() == sh->pid && maker_tid() == sh->tid[i]);
	prctl(PR_GET_NAME, name);
	CHECK(strcmp(name, i ? "goes on 0" : "goes on 1"));
	CHECK(getpriority(PRIO_PROCESS, (id_t)maker_tid()) == 3 + i);
	pthread_sigmask(SIG_SETMASK, NULL, &is);
	CHECK(!memcmp(&set, &is, 8));
	CHECK(pread(file, &byte, 1, 0) == 1 && byte == 'x');
	if (i) {
		CHECK(waitpid(sh->child, NULL, WNOHANG) == 0);
		CHECK(handled == 0);
		raise(SIGALRM);
		CHECK(handled == 1);
		kill(sh->child, SIGKILL);
		CHECK(waitpid(sh->child, NULL, 0) == sh->child);
	}
	__atomic_store_n(&sh->done[i], 2, __ATOMIC_RELEASE);
	/* It may be the child's parent. */
	maker_await(&sh->done[1], 2);
	syscall(SYS_exit, STATUS);
	return NULL;
}

static void child_main(void)
{
	pthread_t t;

	sh->pid = getpid();
	mine = 2;
	file = open("/tmp", O_TMPFILE | O_RDWR, 0600);
	MAKER_MUST(write(file, "x", 1) == 1);
	signal(SIGALRM, on_signal);
	prctl(PR_SET_NAME, "main has gone");
	for (size_t i = 0; i < 2; i++)
		MAKER_MUST(pthread_create(&t, NULL, thread_main, (void *)i) == 0);
	syscall(SYS_exit, 5);
}

static void grandchild(void)
{
	pid_t pid = fork();

	if (!pid) {
		/* The thread that it is a child of is another one when the main thread has ended. */
		maker_await(&sh->done[0], 1);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		__atomic_store_n(&sh->asked, 1, __ATOMIC_RELEASE);
		for (;;)
			pause();
	}
	sh->child = pid;
}

int main(int argc, char **argv)
{
	int status = -1;
	pid_t pid;

	maker_begin(argc, argv);
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	MAKER_MUST(sh != MAP_FAILED);
	pid = fork();
	if (!pid) {
		grandchild();
		child_main();
	}
	for (int i = 0; i < 2; i++)
		maker_await(&sh->done[i], 1);
	maker_await(&sh->asked, 1);
	maker_ready();
	maker_wait();

	__atomic_store_n(&sh->phase, 2, __ATOMIC_RELEASE);
	for (int i = 0; i < 2; i++)
		maker_await(&sh->done[i], 2);
	if (*sh->error)
		maker_fail("%s", sh->error);
	MAKER_SAME("wait", waitpid(pid, &status, 0), pid);
	MAKER_SAME("status", status, STATUS << 8);
	maker_ok();
}
