/*
 * A session on a pseudo terminal whose master is ours: a leader as a shell is, a job in the
 * foreground, one in the background. Afterwards keys, the window's size and the end of the
 * terminal reach whom they should, and jobs can be moved.
 */
#include "files_common.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>

static int master, reports[2], commands[2];
static const char *me;

static void report(const char *what)
{
	char line[64];
	int n = snprintf(line, sizeof(line), "%s %s\n", me, what);

	if (write(reports[1], line, (size_t)n) != n)
		_exit(4);
}

static void on_signal(int sig)
{
	report(sig == SIGINT ? "INT" : sig == SIGWINCH ? "WINCH" : sig == SIGHUP ? "HUP" : "CONT");
}

static void handle_all(void)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART };

	MAKER_MUST(!sigaction(SIGINT, &sa, NULL) && !sigaction(SIGWINCH, &sa, NULL) &&
		   !sigaction(SIGHUP, &sa, NULL) && !sigaction(SIGCONT, &sa, NULL));
}

static void foreground_job(void)
{
	me = "fg";
	report("ready");
	for (;;)
		pause();
}

/* Reads the terminal as soon as it is told to, which the kernel forbids in the background. */
static void background_job(void)
{
	char line[32] = "", text[48];
	ssize_t n;

	me = "bg";
	report("ready");
	while (getppid() != 1 && read(commands[0], line, 1) == 1 && *line != 'b')
		;
	n = read(0, line, sizeof(line) - 1);
	if (n > 0)
		line[n - 1] = '\0';
	snprintf(text, sizeof(text), "read %s", n > 0 ? line : "nothing");
	report(text);
	for (;;)
		pause();
}

static pid_t job(void (*run)(void))
{
	pid_t pid = fork();

	MAKER_MUST(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		setpgid(0, 0);
		run();
	}
	setpgid(pid, pid);
	return pid;
}

static int command(void)
{
	char c = 0;

	while (read(commands[0], &c, 1) < 0 && errno == EINTR)
		;
	return c;
}

static void shell(const char *slave)
{
	int tty, status, n, to_bg[2];
	pid_t fg, bg;

	me = "sh";
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close(master);
	MAKER_MUST(setsid() > 0);
	n = open(slave, O_RDWR);	/* no O_NOCTTY: becomes the session's */
	MAKER_MUST(n >= 0 && dup2(n, 0) == 0);
	close(n);
	tty = open("/dev/tty", O_RDWR | O_CLOEXEC);
	MAKER_MUST(tty >= 0);
	handle_all();
	signal(SIGTTOU, SIG_IGN);
	fg = job(foreground_job);
	/* The background job's commands are its own. */
	MAKER_MUST(!pipe(to_bg));
	n = dup(commands[0]);
	MAKER_MUST(n >= 0 && dup2(to_bg[0], commands[0]) >= 0);
	bg = job(background_job);
	MAKER_MUST(dup2(n, commands[0]) >= 0 && !close(n) && !close(to_bg[0]));
	MAKER_MUST(!tcsetpgrp(tty, fg));
	report("ready");

	MAKER_MUST(command() == 't');
	MAKER_MUST(tcgetpgrp(tty) == fg && tcgetsid(tty) == getpid());
	n = open("/dev/tty", O_RDWR);
	MAKER_MUST(n >= 0 && tcgetpgrp(n) == fg && !close(n));
	report("has its terminal");

	MAKER_MUST(command() == 'b' && write(to_bg[1], "b", 1) == 1);
	MAKER_MUST(waitpid(bg, &status, WUNTRACED) == bg && WIFSTOPPED(status));
	MAKER_SAME("it was stopped by", WSTOPSIG(status), SIGTTIN);
	report("saw bg stop");

	MAKER_MUST(command() == 'f');
	MAKER_MUST(!tcsetpgrp(tty, bg) && !kill(-bg, SIGCONT));
	report("moved bg");
	for (;;)
		pause();
}

/* All of these lines, in any order, and no others. */
static void expect(const char *what, const char *const *lines, size_t n)
{
	struct pollfd p = { reports[0], POLLIN, 0 };
	char got[256] = "";
	size_t len = 0, want = 0;

	for (size_t i = 0; i < n; i++)
		want += strlen(lines[i]) + 1;
	while (len < want && poll(&p, 1, 10000) > 0) {
		ssize_t k = read(reports[0], got + len, sizeof(got) - 1 - len);

		MAKER_MUST(k > 0);
		len += (size_t)k;
		got[len] = '\0';
	}
	for (size_t i = 0; i < n; i++)
		if (!strstr(got, lines[i]))
			maker_fail("%s: \"%s\" is not in \"%s\"", what, lines[i], got);
	if (len != want)
		maker_fail("%s: \"%s\"", what, got);
}
#define EXPECT(what, ...)								\
	expect(what, (const char *const[]){ __VA_ARGS__ },				\
	       sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(char *))

static void tell(char c)
{
	MAKER_MUST(write(commands[1], &c, 1) == 1);
}

int main(int argc, char **argv)
{
	struct winsize ws = { .ws_row = 33, .ws_col = 99 };
	pid_t pid;
	int sid;

	maker_begin(argc, argv);
	me = "me";
	master = posix_openpt(O_RDWR | O_NOCTTY);
	MAKER_MUST(master >= 0 && !grantpt(master) && !unlockpt(master));
	MAKER_MUST(!pipe(reports) && !pipe(commands));
	pid = fork();
	MAKER_MUST(pid >= 0);
	if (!pid)
		shell(ptsname(master));
	EXPECT("set-up", "sh ready", "fg ready", "bg ready");

	maker_ready();
	maker_wait();

	MAKER_MUST(!ioctl(master, TIOCGSID, &sid));
	MAKER_SAME("session", sid, pid);
	tell('t');
	EXPECT("the leader", "sh has its terminal");
	MAKER_MUST(write(master, "\003", 1) == 1);
	EXPECT("the interrupt key", "fg INT");
	MAKER_MUST(!ioctl(master, TIOCSWINSZ, &ws));
	EXPECT("another size", "fg WINCH");
	tell('b');
	EXPECT("reading in the background", "sh saw bg stop");
	tell('f');
	EXPECT("to the foreground", "sh moved bg", "bg CONT");
	MAKER_MUST(write(master, "hello\n", 6) == 6);
	EXPECT("reading in the foreground", "bg read hello");
	close(master);
	EXPECT("the end of the terminal", "sh HUP", "sh CONT");
	maker_ok();
}
