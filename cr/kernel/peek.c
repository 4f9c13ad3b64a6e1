/*
 * Three programs of type BPF_PROG_TYPE_SYSCALL, run by BPF_PROG_TEST_RUN. Their context is a
 * struct call: what is asked comes in, the answer goes out.
 *
 * Where a processor's per-CPU memory begins is nowhere exported: it is the distance between an
 * element of a per-CPU map as that processor sees it, and the pointer the map itself keeps.
 */
#include <linux/bpf.h>
#include <linux/btf.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "kernel/peek.h"
#include "util/io.h"

#define TRIES_MAX			100u
#define MEMBERS_MAX			64u	/* more than are asked for */
#define HELPER_PROBE_READ_KERNEL	113
#define HELPER_LOOKUP_PERCPU_ELEM	195
#define CALL_KFUNC			2	/* BPF_PSEUDO_KFUNC_CALL */
#define INIT_PID_NS_INO			0xEFFFFFFCu

struct call {
	uint64_t in, out;
	int64_t err;
};
#define IN	offsetof(struct call, in)
#define OUT	offsetof(struct call, out)
#define ERR	offsetof(struct call, err)

struct peek {
	char *text;	/* of BTF */
	struct btf btf;
	int map_fd, read_fd, task_fd, percpu_fd;
	uint64_t map_ptr;	/* the per-CPU pointer of the map's only element */
	/* Members that were asked for: finding one among all types takes up to 25 µs. */
	struct {
		const char *structure, *name;	/* the caller's literals */
		int off;
	} members[MEMBERS_MAX];
	size_t n_members;
};

#define INSN(c, d, s, o, i) ((struct bpf_insn){ .code = (c), .dst_reg = (d), .src_reg = (s), \
						.off = (short)(o), .imm = (i) })
#define MOV(d, s)		INSN(BPF_ALU64 | BPF_MOV | BPF_X, d, s, 0, 0)
#define MOV_IMM(d, i)		INSN(BPF_ALU64 | BPF_MOV | BPF_K, d, 0, 0, i)
#define ADD_IMM(d, i)		INSN(BPF_ALU64 | BPF_ADD | BPF_K, d, 0, 0, i)
#define LOAD(size, d, s, o)	INSN(BPF_LDX | BPF_MEM | (size), d, s, o, 0)
#define STORE(d, o, s)		INSN(BPF_STX | BPF_MEM | BPF_DW, d, s, o, 0)
#define STORE_IMM(d, o, i)	INSN(BPF_ST | BPF_MEM | BPF_DW, d, 0, o, i)
#define CALL(kind, id)		INSN(BPF_JMP | BPF_CALL, 0, kind, 0, id)
#define SKIP_IF_NOT(d, n)	INSN(BPF_JMP | BPF_JEQ | BPF_K, d, 0, n, 0)
#define MAP(d, fd)		INSN(BPF_LD | BPF_DW | BPF_IMM, d, BPF_PSEUDO_MAP_FD, 0, fd), \
				INSN(0, 0, 0, 0, 0)
#define RETURN			MOV_IMM(0, 0), INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)

/* A signal that comes in between ends the kernel's look at a program: EAGAIN. */
static int bpf(int cmd, union bpf_attr *attr)
{
	long r;

	for (unsigned int try = 0; try < TRIES_MAX; try++) {
		r = syscall(SYS_bpf, cmd, attr, sizeof(*attr));
		if (r >= 0 || (errno != EAGAIN && errno != EINTR))
			break;
	}
	return r < 0 ? neg_errno() : (int)r;
}

static int program_load(const struct bpf_insn *insns, size_t n)
{
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_SYSCALL,
		.prog_flags = BPF_F_SLEEPABLE,
		.insns = (uint64_t)insns,
		.insn_cnt = (uint32_t)n,
		.license = (uint64_t)"GPL",
	};

	return bpf(BPF_PROG_LOAD, &attr);
}

static int program_run(int fd, struct call *c)
{
	union bpf_attr attr = {
		.test.prog_fd = (uint32_t)fd,
		.test.ctx_in = (uint64_t)c,
		.test.ctx_size_in = sizeof(*c),
	};

	return bpf(BPF_PROG_TEST_RUN, &attr);
}

/* in: an address; out: the eight bytes there. */
static int load_read(void)
{
	const struct bpf_insn insns[] = {
		MOV(6, 1),
		LOAD(BPF_DW, 3, 6, IN),
		MOV(1, 10), ADD_IMM(1, -8), MOV_IMM(2, 8),
		CALL(0, HELPER_PROBE_READ_KERNEL),
		STORE(6, ERR, 0),
		LOAD(BPF_DW, 1, 10, -8),
		STORE(6, OUT, 1),
		RETURN,
	};

	return program_load(insns, ARRAY_SIZE(insns));
}

static bool in_initial_pid_ns(void)
{
	struct stat st;

	return !stat("/proc/self/ns/pid", &st) && st.st_ino == INIT_PID_NS_INO;
}

/* Pids as our own namespace counts them (since Linux 6.14), or as the initial one does. */
static int find_task_from_pid(const struct btf *btf)
{
	int find = btf_find(btf, BTF_KIND_FUNC, "bpf_task_from_vpid");

	if (find < 0 && in_initial_pid_ns())
		find = btf_find(btf, BTF_KIND_FUNC, "bpf_task_from_pid");
	return find;
}

/* in: a pid; out: its task_struct, or 0. The reference is not kept: the task is stopped. */
static int load_task(const struct btf *btf)
{
	int find = find_task_from_pid(btf);
	int release = btf_find(btf, BTF_KIND_FUNC, "bpf_task_release");
	const struct bpf_insn insns[] = {
		MOV(6, 1),
		LOAD(BPF_W, 1, 6, IN),
		CALL(CALL_KFUNC, find),
		SKIP_IF_NOT(0, 3),
		STORE(6, OUT, 0),
		MOV(1, 0),
		CALL(CALL_KFUNC, release),
		RETURN,
	};

	return find < 0 || release < 0 ? -EOPNOTSUPP : program_load(insns, ARRAY_SIZE(insns));
}

/* in: a processor; out: the map's element there, or 0; err: the map itself. */
static int load_percpu(int map_fd)
{
	const struct bpf_insn insns[] = {
		MOV(6, 1),
		STORE_IMM(10, -8, 0),
		MAP(1, map_fd),
		STORE(6, ERR, 1),
		MOV(2, 10), ADD_IMM(2, -8),
		LOAD(BPF_W, 3, 6, IN),
		CALL(0, HELPER_LOOKUP_PERCPU_ELEM),
		SKIP_IF_NOT(0, 1),
		STORE(6, OUT, 0),
		RETURN,
	};

	return program_load(insns, ARRAY_SIZE(insns));
}

static int map_make(void)
{
	union bpf_attr attr = {
		.map_type = BPF_MAP_TYPE_PERCPU_ARRAY,
		.key_size = 4,
		.value_size = 8,
		.max_entries = 1,
	};

	return bpf(BPF_MAP_CREATE, &attr);
}

static int peek_init(struct peek *pk)
{
	struct call c = { 0 };
	uint64_t at;
	size_t bytes;
	int r;

	r = read_file_at(-1, "/sys/kernel/btf/vmlinux", READ_FILE_MAX, &pk->text, &bytes);
	if (r >= 0)
		r = btf_parse(pk->text, bytes, &pk->btf);
	if (r >= 0)
		r = pk->map_fd = map_make();
	if (r >= 0)
		r = pk->read_fd = load_read();
	if (r >= 0)
		r = pk->task_fd = load_task(&pk->btf);
	if (r >= 0)
		r = pk->percpu_fd = load_percpu(pk->map_fd);
	if (r >= 0)
		r = program_run(pk->percpu_fd, &c);
	if (r >= 0)
		r = peek_inside(pk, (uint64_t)c.err, "bpf_array", "pptrs", &at);
	if (r >= 0)
		r = peek_word(pk, at, &pk->map_ptr);
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
	pk->map_fd = pk->read_fd = pk->task_fd = pk->percpu_fd = -EBADF;
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
	close_fdp(&pk->percpu_fd);
	btf_done(&pk->btf);
	free(pk->text);
	free(pk);
}

int peek_word(struct peek *pk, uint64_t addr, uint64_t *ret)
{
	struct call c = { .in = addr };
	int r = program_run(pk->read_fd, &c);

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
	struct call c = { .in = (uint64_t)pid };
	int r = program_run(pk->task_fd, &c);

	if (r < 0)
		return r;
	*ret_addr = c.out;
	return c.out ? 0 : -ESRCH;
}

int peek_percpu(struct peek *pk, uint64_t ptr, unsigned int cpu, uint64_t *ret_addr)
{
	struct call c = { .in = cpu };
	int r = program_run(pk->percpu_fd, &c);

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
