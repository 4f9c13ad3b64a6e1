/*
 * What a file with a path holds beside its position, and what forbids to open it again: judged
 * at the dump.
 *
 * A trigger of pressure stall information belongs to the struct file it was written to, and no
 * file of the kernel shows it. Without it every poll reports an error at once, and a program
 * that waits for pressure spins. Whether there is one is asked by writing what is no trigger:
 * EBUSY where there is one already, EINVAL where there is none; neither changes anything
 * (Linux >= 5.17). poll(2) would tell as well, but take an event away.
 */
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>

#include "kind/kinds.h"

static bool is_for_writing(const struct dump_file *f)
{
	return !(f->flags & O_PATH) && (f->flags & O_ACCMODE) != O_RDONLY;
}

/* "/proc/pressure/memory", wherever that /proc is; "memory.pressure" of a control group. */
static bool is_pressure(const struct dump_file *f)
{
	const char *base = strrchr(f->link, '/'), *dot;
	static const char dir[] = "/pressure";
	uint64_t magic;

	if (!base)
		return false;
	magic = fs_magic(f->fd);
	if (magic == CGROUP2_SUPER_MAGIC) {
		dot = strchr(base, '.');
		/* cgroup.pressure is the switch for all of them. */
		return dot && !strcmp(dot, ".pressure") && !str_starts(base, "/cgroup.");
	}
	return magic == PROC_SUPER_MAGIC && base - f->link >= (ptrdiff_t)strlen(dir) &&
	       !strncmp(base - strlen(dir), dir, strlen(dir));
}

static int pressure_judge(const struct dump_file *f)
{
	if (!is_pressure(f) || write(f->fd, "?", 1) >= 0 || errno != EBUSY)
		return 0;
	return log_obstacle("MemoryPressureWatch=off for a service of systemd, or close it before",
			    "%s: a pressure trigger was written to it, which cannot be read back", f->link);
}

/* Attributes that were set after the file had been opened. */
static int attributes_judge(const struct dump_file *f)
{
	struct statx st;

	if (!S_ISREG(f->st.st_mode) || statx(f->fd, "", AT_EMPTY_PATH, STATX_TYPE, &st) < 0)
		return 0;
	if (st.stx_attributes & STATX_ATTR_IMMUTABLE)
		return log_obstacle("chattr -i until it is restored",
				    "%s: immutable now, and cannot be opened for writing again", f->link);
	if (st.stx_attributes & STATX_ATTR_APPEND && !(f->flags & O_APPEND))
		return log_obstacle("chattr -a until it is restored",
				    "%s: append-only now, and cannot be opened for writing without O_APPEND again",
				    f->link);
	return 0;
}

int reg_judge(const struct dump_file *f)
{
	int r;

	if (!is_for_writing(f))
		return 0;
	r = pressure_judge(f);
	return r < 0 ? r : attributes_judge(f);
}
