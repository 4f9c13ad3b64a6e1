/* See iptables.h. The commands are those of the iptables package, whose rules these are. */
#include "netlock/iptables.h"

#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "kernel/sockdiag.h"
#include "netlock/hostlock.h"
#include "util/io.h"
#include "util/log.h"
#include "util/map.h"

static size_t put_rules(FILE *f, const struct map *connections, bool v4)
{
	char there[INET6_ADDRSTRLEN], here[INET6_ADDRSTRLEN];
	size_t n = 0;

	for (size_t i = 0; i < connections->room; i++) {
		const struct sockdiag *d = connections->slots[i].val;

		if (!d || hostlock_is_v4(d) != v4)
			continue;
		hostlock_address(d, d->dst, there);
		hostlock_address(d, d->src, here);
		fprintf(f, "-D INPUT -p tcp -m mark ! --mark " LOCK_MARK " -s %s --sport %u -d %s "
			"--dport %u -j DROP\n", there, d->dst_port, here, d->src_port);
		fprintf(f, "-D OUTPUT -p tcp -m mark ! --mark " LOCK_MARK " -s %s --sport %u -d %s "
			"--dport %u -j DROP\n", here, d->src_port, there, d->dst_port);
		n++;
	}
	return n;
}

char *iptables_rules(const struct map *connections, bool v4)
{
	char *text = NULL;
	size_t len, n;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	fputs("*filter\n", f);
	n = put_rules(f, connections, v4);
	fputs("COMMIT\n", f);
	if (fclose(f) || !n) {
		free(text);
		return NULL;
	}
	return text;
}

static int run(const char *command, const char *input)
{
	_cleanup_close_ int fd = memfd_create("rules", MFD_CLOEXEC);
	int r, status;
	pid_t child;

	if (fd < 0)
		return neg_errno();
	r = write_full(fd, input, strlen(input));
	if (r < 0)
		return r;
	if (lseek(fd, 0, SEEK_SET) < 0)
		return neg_errno();
	child = fork();
	if (child < 0)
		return neg_errno();
	if (!child) {
		dup2(fd, STDIN_FILENO);
		signal(SIGPIPE, SIG_DFL);
		execlp(command, command, "--noflush", "--wait", (char *)NULL);
		_exit(127);
	}
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return neg_errno();
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -EIO;
}

int iptables_unlock(const char *run_id _unused_, const struct map *connections)
{
	for (int v6 = 0; v6 < 2; v6++) {
		const char *command = v6 ? "ip6tables-restore" : "iptables-restore";
		_cleanup_free_ char *rules = iptables_rules(connections, !v6);

		/* Not fatal: somebody may have removed them by hand, and then all is well. */
		if (rules && run(command, rules) < 0)
			log_warn("%s did not remove CRIU's network lock: connections stay blocked "
				 "as long as its rules (mark " LOCK_MARK ") are there; it was given:"
				 "\n%s", command, rules);
	}
	return 0;
}
