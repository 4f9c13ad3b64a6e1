/*
 * Part of phase "check": what processes have because this kernel gives it to them, and the target
 * kernel may not. The processor stays the same one.
 */
#include <fcntl.h>
#include <string.h>

#include "crkexec/cmdline.h"
#include "crkexec/phases.h"
#include "crkexec/tree.h"
#include "util/io.h"

#define HIGH_MEMORY	0x7ffffffff000ull
/* What is beyond user space is the kernel's: [vsyscall]. */
#define KERNEL_SPACE	(1ull << 56)

struct check {
	struct upgrade *u;
	const struct unit *unit;
	const char *lacks;		/* why the target has no 57-bit addresses */
	int r;
};

bool maps_have_high_memory(const char *text, uint64_t *ret_start)
{
	for (const char *line = text; line && *line; line = strchr(line, '\n')) {
		unsigned long end;

		line += *line == '\n';
		if (sscanf(line, "%lx-%lx ", ret_start, &end) == 2 && end > HIGH_MEMORY &&
		    end <= KERNEL_SPACE)
			return true;
	}
	return false;
}

static int check_pid(void *arg, pid_t pid)
{
	_cleanup_free_ char *text = NULL;
	struct check *c = arg;
	uint64_t start;
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	/* Ended meanwhile: the dump will see. */
	if (read_file_at(AT_FDCWD, path, READ_FILE_MAX, &text, NULL) < 0 ||
	    !maps_have_high_memory(text, &start))
		return 0;
	c->r = upgrade_problem(c->u, -EOPNOTSUPP, c->unit->name, "choose another kernel or command line, "
			       "or leave the service out",
			       "pid %d: memory at 0x%lx is above 47 bits, and %s", pid, start, c->lacks);
	return 0;
}

int check_target(struct upgrade *u)
{
	struct check c = { .u = u };

	if (!u->target.has_high_memory)
		c.lacks = "the target kernel was built without CONFIG_X86_5LEVEL";
	else if (u->opt->append && cmdline_has(u->opt->append, "no5lvl"))
		c.lacks = "the target kernel is told no5lvl on its command line (--append)";
	for (size_t i = 0; i < u->n_units && c.lacks; i++) {
		int r;

		c.unit = u->units[i];
		r = tree_each_pid(&c.unit->tree, check_pid, &c);
		if (r < 0)
			return r;
	}
	return c.r;
}
