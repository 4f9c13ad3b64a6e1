/* Children whose end is told by another signal than SIGCHLD, or by none; stopped ones and zombies among them. */
#include <sched.h>

#include "maker.h"

static pid_t child(int signo, int status)
{
	long pid = syscall(SYS_clone, signo, NULL, NULL, NULL, 0);

	MAKER_MUST(pid >= 0);
	if (!pid && status >= 0)
		_exit(status);
	while (!pid)
		pause();
	return (pid_t)pid;
}

static int exit_signal(pid_t pid)
{
	char text[1024], *s;
	int field = 2;

	maker_read_proc(pid, "stat", text, sizeof(text));
	s = strrchr(text, ')');
	MAKER_MUST(s);
	for (; field < 38; field++)
		s = strchr(s + 1, ' ');
	return atoi(s);
}

static void await_zombie(pid_t pid)
{
	for (int try = 0; maker_state(pid, NULL) != 'Z'; try++) {
		if (try == 1000)
			maker_fail("process %d is no zombie", pid);
		usleep(1000);
	}
}

/* Its end: waited for only by those who ask for such ones, and told by this signal or none. */
static void end(pid_t pid, int signo)
{
	struct timespec t = { signo ? 10 : 0, 0 };
	siginfo_t si;
	sigset_t set;
	int status;

	MAKER_SAME("exit signal", exit_signal(pid), signo);
	MAKER_MUST(!kill(pid, SIGKILL));
	MAKER_MUST(waitpid(pid, &status, signo == SIGCHLD ? 0 : __WCLONE) == pid);
	MAKER_SAME("wait status", status, SIGKILL);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGRTMIN + 2);
	sigaddset(&set, SIGCHLD);
	MAKER_SAME("signal of its end", sigtimedwait(&set, &si, &t), signo ? signo : -1);
	if (signo)
		MAKER_SAME("its process", si.si_pid, pid);
}

int main(int argc, char **argv)
{
	enum { USR2, NONE, RT, CHLD, N };
	static const int signals[N] = { SIGUSR2, 0, 0, SIGCHLD };
	pid_t pid[N], zombie, stopped;
	siginfo_t si;
	sigset_t set;
	int status, want[N];

	maker_begin(argc, argv);
	if (!maker_sets_up())
		maker_skip("a tree of processes");
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGRTMIN + 2);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	for (int i = 0; i < N; i++) {
		want[i] = i == RT ? SIGRTMIN + 2 : signals[i];
		pid[i] = child(want[i], -1);
	}
	/* Its signal has been taken already. */
	zombie = child(SIGUSR2, 4);
	await_zombie(zombie);
	MAKER_SAME("signal of the zombie", sigtimedwait(&set, &si, &(struct timespec){ 10, 0 }), SIGUSR2);
	stopped = child(SIGRTMIN + 2, -1);
	MAKER_MUST(!kill(stopped, SIGSTOP));
	MAKER_MUST(waitpid(stopped, &status, WUNTRACED | __WCLONE) == stopped && WIFSTOPPED(status));
	sigtimedwait(&set, &si, &(struct timespec){ 0, 0 });
	maker_ready();
	maker_wait();
	MAKER_SAME("a signal", sigtimedwait(&set, &si, &(struct timespec){ 0, 0 }), -1);
	MAKER_SAME("a stop that was waited for", waitpid(stopped, &status, WUNTRACED | WNOHANG | __WALL), 0);
	MAKER_SAME("the zombie, as a child of the usual sort", waitpid(zombie, &status, WNOHANG), -1);
	MAKER_SAME("the zombie", waitpid(zombie, &status, __WCLONE), zombie);
	MAKER_SAME("its status", WEXITSTATUS(status), 4);
	for (int i = 0; i < N; i++)
		end(pid[i], want[i]);
	end(stopped, SIGRTMIN + 2);
	maker_ok();
}
