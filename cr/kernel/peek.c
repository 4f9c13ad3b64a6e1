#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "kernel/peek.h"
#include "kernel/peek_prog.h"
#include "util/io.h"

#define MEMBERS_MAX			96u	/* more than are asked for */
#define SHARES_ROOM			65536u	/* twice what one read gives */

struct peek {
	void *text;	/* of BTF, mapped; NULL: not yet */
	size_t text_bytes;
	struct btf btf;
	int map_fd, read_fd, percpu_fd;
	int task_fd, task_iter_fd;	/* one of them */
	int format_fd, symbol_fd;
	int shares_fd;	/* a link */
	uint64_t map_ptr;	/* the per-CPU pointer of the map's only element */
	/* Members that were asked for: finding one among all types takes up to 25 µs. */
	struct {
		const char *structure, *name;	/* the caller's literals */
		int off;
	} members[MEMBERS_MAX];
	size_t n_members;
};

static int link_shares(const struct btf *btf)
{
	_cleanup_close_ int prog_fd = peek_load_shares(btf);

	return peek_link_iter(prog_fd, 0);
}

/* Before Linux 6.10 only an iterator gives a task: 12 us instead of one. */
static int find_task_load(struct peek *pk)
{
	pk->task_fd = peek_load_task(&pk->btf);
	if (pk->task_fd >= 0)
		return 0;
	pk->task_iter_fd = peek_load_task_iter(&pk->btf);
	return MIN(pk->task_iter_fd, 0);
}

static int find_task_iterating(struct peek *pk, pid_t tid, uint64_t *ret_addr)
{
	_cleanup_close_ int link_fd = peek_link_iter(pk->task_iter_fd, tid);
	_cleanup_close_ int fd = link_fd < 0 ? link_fd : peek_iter_begin(link_fd);
	uint64_t found[2];
	ssize_t n;

	if (fd < 0)
		return fd;
	n = read(fd, found, sizeof(found));
	if (n < 0)
		return neg_errno();
	/* Before Linux 6.1 it gives all there are. */
	if (n > (ssize_t)sizeof(*found))
		return -EOPNOTSUPP;
	*ret_addr = n ? found[0] : 0;
	return 0;
}

/* Some MiB, of which little is looked at: since Linux 6.16 it can be mapped as it is. */
static int read_btf(struct peek *pk)
{
	_cleanup_close_ int fd = open("/sys/kernel/btf/vmlinux", O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *text;
	int r = 0;

	if (fd < 0 || fstat(fd, &st) < 0)
		return neg_errno();
	if (st.st_size <= 0 || st.st_size > (off_t)READ_FILE_MAX)
		return -EBADMSG;
	text = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (text == MAP_FAILED) {
		text = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		if (text == MAP_FAILED)
			return neg_errno();
		r = read_full(fd, text, (size_t)st.st_size);
	}
	pk->text = text;
	pk->text_bytes = (size_t)st.st_size;
	return r < 0 ? r : btf_parse(text, pk->text_bytes, &pk->btf);
}

static int peek_init(struct peek *pk)
{
	struct peek_call c = { 0 };
	uint64_t at;
	int r;

	/* First what tells in microseconds that it is not allowed. */
	r = pk->map_fd = peek_map_make();
	if (r >= 0)
		r = pk->read_fd = peek_load_read();
	if (r >= 0)
		r = read_btf(pk);
	if (r >= 0)
		r = find_task_load(pk);
	if (r >= 0)
		r = pk->percpu_fd = peek_load_percpu(pk->map_fd);
	if (r >= 0)
		r = peek_run(pk->percpu_fd, &c);
	if (r >= 0)
		r = peek_inside(pk, (uint64_t)c.err, "bpf_array", "pptrs", &at);
	if (r >= 0)
		r = peek_word(pk, at, &pk->map_ptr);
	/* Most do without these. */
	if (r >= 0) {
		pk->shares_fd = link_shares(&pk->btf);
		pk->format_fd = peek_format_make();
		pk->symbol_fd = peek_load_symbol(pk->format_fd);
	}
	switch (r) {
	case -EPERM:
	case -EACCES:
	case -ENOENT:
	case -ENOSYS:
	case -EINVAL:
	case -EBADMSG:
	case -ENODATA:
		return -EOPNOTSUPP;
	}
	return MIN(r, 0);
}

int peek_open(struct peek **ret)
{
	struct peek *pk = calloc(1, sizeof(*pk));
	int r;

	if (!pk)
		return -ENOMEM;
	pk->map_fd = pk->read_fd = pk->percpu_fd = pk->task_fd = pk->task_iter_fd = -EBADF;
	pk->format_fd = pk->symbol_fd = pk->shares_fd = -EBADF;
	r = peek_init(pk);
	if (r < 0)
		peek_close(pk);
	else
		*ret = pk;
	return r;
}

void peek_close(struct peek *pk)
{
	if (!pk)
		return;
	close_fdp(&pk->map_fd);
	close_fdp(&pk->read_fd);
	close_fdp(&pk->task_fd);
	close_fdp(&pk->task_iter_fd);
	close_fdp(&pk->percpu_fd);
	close_fdp(&pk->format_fd);
	close_fdp(&pk->symbol_fd);
	close_fdp(&pk->shares_fd);
	btf_done(&pk->btf);
	if (pk->text)
		munmap(pk->text, pk->text_bytes);
	free(pk);
}

int peek_word(struct peek *pk, uint64_t addr, uint64_t *ret)
{
	struct peek_call c = { .in = addr };
	int r = peek_run(pk->read_fd, &c);

	if (r < 0 || c.err < 0)
		return r < 0 ? r : (int)c.err;
	*ret = c.out;
	return 0;
}

static int offset_of(struct peek *pk, const char *structure, const char *member)
{
	int off;

	for (size_t i = 0; i < pk->n_members; i++)
		if (!strcmp(pk->members[i].structure, structure) &&
		    !strcmp(pk->members[i].name, member))
			return pk->members[i].off;
	off = btf_member(&pk->btf, structure, member);
	if (pk->n_members < MEMBERS_MAX) {
		pk->members[pk->n_members].structure = structure;
		pk->members[pk->n_members].name = member;
		pk->members[pk->n_members++].off = off;
	}
	return off;
}

int peek_inside(struct peek *pk, uint64_t addr, const char *structure, const char *member,
		uint64_t *ret_addr)
{
	int off = offset_of(pk, structure, member);

	if (off < 0)
		return -ENODATA;
	*ret_addr = addr + (uint64_t)off;
	return 0;
}

int peek_member(struct peek *pk, uint64_t addr, const char *structure, const char *member,
		unsigned int bytes, uint64_t *ret)
{
	uint64_t at;
	int r = peek_inside(pk, addr, structure, member, &at);

	if (r >= 0)
		r = peek_word(pk, at, ret);
	if (r >= 0 && bytes < 8)
		*ret &= (1ull << bytes * 8) - 1;
	return r;
}

int peek_task(struct peek *pk, pid_t pid, uint64_t *ret_addr)
{
	struct peek_call c = { .in = (uint64_t)pid };
	int r = pk->task_fd < 0 ? find_task_iterating(pk, pid, &c.out) : peek_run(pk->task_fd, &c);

	if (r < 0)
		return r;
	*ret_addr = c.out;
	return c.out ? 0 : -ESRCH;
}

int peek_symbol(struct peek *pk, uint64_t addr, char *name, size_t room)
{
	struct peek_call c = { .in = addr };
	int r = pk->symbol_fd < 0 ? -EOPNOTSUPP : peek_run(pk->symbol_fd, &c);

	if (r < 0 || c.err < 0)
		return r < 0 ? r : (int)c.err;
	snprintf(name, room, "%.*s", (int)sizeof(c.name) - 1, (const char *)c.name);
	/* What a compiler adds to the name of a copy it has made: ".constprop.0", ".llvm.123", ".cfi_jt". */
	name[strcspn(name, ".")] = '\0';
	return 0;
}

int peek_percpu(struct peek *pk, uint64_t ptr, unsigned int cpu, uint64_t *ret_addr)
{
	struct peek_call c = { .in = cpu };
	int r = peek_run(pk->percpu_fd, &c);

	if (r < 0)
		return r;
	if (!c.out)
		return -ENXIO;
	*ret_addr = ptr + (c.out - pk->map_ptr);
	return 0;
}

int peek_files(struct peek *pk, pid_t pid, uint64_t *ret_table, uint64_t *ret_n)
{
	uint64_t task, files, fdt;
	int r = peek_task(pk, pid, &task);

	if (r >= 0)
		r = peek_member(pk, task, "task_struct", "files", 8, &files);
	if (r >= 0)
		r = peek_member(pk, files, "files_struct", "fdt", 8, &fdt);
	if (r >= 0)
		r = peek_member(pk, fdt, "fdtable", "max_fds", 4, ret_n);
	return r < 0 ? r : peek_member(pk, fdt, "fdtable", "fd", 8, ret_table);
}

int peek_file(struct peek *pk, pid_t pid, int fd, uint64_t *ret_addr)
{
	uint64_t table, n;
	int r = peek_files(pk, pid, &table, &n);

	*ret_addr = 0;
	if (r < 0 || fd < 0 || (uint64_t)fd >= n)
		return r;
	return peek_word(pk, table + (uint64_t)fd * 8, ret_addr);
}

int peek_shares(struct peek *pk, struct peek_task_shares **ret, size_t *ret_n)
{
	_cleanup_close_ int fd = pk->shares_fd < 0 ? -EOPNOTSUPP : peek_iter_begin(pk->shares_fd);
	_cleanup_free_ char *buf = NULL;
	size_t room = 0, have = 0;

	if (fd < 0)
		return fd;
	for (;;) {
		ssize_t n;

		if (room - have < SHARES_ROOM) {
			char *more = realloc(buf, room += room / 2 + SHARES_ROOM);

			if (!more)
				return -ENOMEM;
			buf = more;
		}
		n = read(fd, buf + have, room - have);
		if (!n)
			break;
		if (n < 0 && errno != EINTR)
			return neg_errno();
		have += n < 0 ? 0 : (size_t)n;
	}
	*ret_n = have / sizeof(**ret);
	*ret = (struct peek_task_shares *)(void *)take_ptr(buf);
	return 0;
}
