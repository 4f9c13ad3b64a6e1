/*
 * Where a processor's per-CPU memory begins is nowhere exported: it is the distance between an
 * element of a per-CPU map as that processor sees it, and the pointer the map itself keeps.
 *
 * What a function is called, /proc/kallsyms tells only with CAP_SYSLOG, depending on kptr_restrict. A
 * program's snprintf("%ps") needs neither.
 */
#include <linux/bpf.h>
#include <linux/btf.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "kernel/peek.h"
#include "kernel/peek_prog.h"
#include "util/io.h"

#define TRIES_MAX			100u
#define HELPER_PROBE_READ_KERNEL	113
#define HELPER_SEQ_WRITE		127
#define HELPER_SNPRINTF			165
#define HELPER_LOOKUP_PERCPU_ELEM	195
#define CALL_KFUNC			2	/* BPF_PSEUDO_KFUNC_CALL */
#define INIT_PID_NS_INO			0xEFFFFFFCu

#define IN	offsetof(struct peek_call, in)
#define OUT	offsetof(struct peek_call, out)
#define ERR	offsetof(struct peek_call, err)
#define NAME(i)	(offsetof(struct peek_call, name) + 8 * (i))

#define INSN(c, d, s, o, i) ((struct bpf_insn){ .code = (c), .dst_reg = (d), .src_reg = (s), \
						.off = (short)(o), .imm = (i) })
#define MOV(d, s)		INSN(BPF_ALU64 | BPF_MOV | BPF_X, d, s, 0, 0)
#define MOV_IMM(d, i)		INSN(BPF_ALU64 | BPF_MOV | BPF_K, d, 0, 0, i)
#define ADD_IMM(d, i)		INSN(BPF_ALU64 | BPF_ADD | BPF_K, d, 0, 0, i)
#define LOAD(size, d, s, o)	INSN(BPF_LDX | BPF_MEM | (size), d, s, o, 0)
#define STORE(d, o, s)		INSN(BPF_STX | BPF_MEM | BPF_DW, d, s, o, 0)
#define STORE_IMM(d, o, i)	INSN(BPF_ST | BPF_MEM | BPF_DW, d, 0, o, i)
#define CALL(kind, id)		INSN(BPF_JMP | BPF_CALL, 0, kind, 0, id)
#define SKIP_IF(d, n)		INSN(BPF_JMP | BPF_JNE | BPF_K, d, 0, n, 0)
#define SKIP_IF_NOT(d, n)	INSN(BPF_JMP | BPF_JEQ | BPF_K, d, 0, n, 0)
#define MAP(d, fd)		INSN(BPF_LD | BPF_DW | BPF_IMM, d, BPF_PSEUDO_MAP_FD, 0, fd), \
				INSN(0, 0, 0, 0, 0)
#define MAP_VALUE(d, fd)	INSN(BPF_LD | BPF_DW | BPF_IMM, d, BPF_PSEUDO_MAP_VALUE, 0, fd), \
				INSN(0, 0, 0, 0, 0)
#define RETURN			MOV_IMM(0, 0), INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)
/* What an iterator is called with: the task (none: the end), and the file that is read. */
#define ITER_TASK(task, seq)	LOAD(BPF_DW, task, 1, 8), \
				LOAD(BPF_DW, seq, 1, 0), LOAD(BPF_DW, seq, seq, 0), \
				SKIP_IF(task, 2), RETURN

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

static int load(union bpf_attr attr, const struct bpf_insn *insns, size_t n)
{
	attr.insns = (uint64_t)insns;
	attr.insn_cnt = (uint32_t)n;
	attr.license = (uint64_t)"GPL";
	return bpf(BPF_PROG_LOAD, &attr);
}

static int program_load(const struct bpf_insn *insns, size_t n)
{
	return load((union bpf_attr){ .prog_type = BPF_PROG_TYPE_SYSCALL, .prog_flags = BPF_F_SLEEPABLE }, insns, n);
}

static int load_iter(int target, const struct bpf_insn *insns, size_t n)
{
	return load((union bpf_attr){ .prog_type = BPF_PROG_TYPE_TRACING, .expected_attach_type = BPF_TRACE_ITER,
				      .attach_btf_id = (uint32_t)target }, insns, n);
}

int peek_run(int fd, struct peek_call *c)
{
	union bpf_attr attr = {
		.test.prog_fd = (uint32_t)fd,
		.test.ctx_in = (uint64_t)c,
		.test.ctx_size_in = sizeof(*c),
	};

	return bpf(BPF_PROG_TEST_RUN, &attr);
}

/* in: an address; out: the eight bytes there. */
int peek_load_read(void)
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
int peek_load_task(const struct btf *btf)
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

/* For each task: its task_struct, to whoever reads. */
int peek_load_task_iter(const struct btf *btf)
{
	int iter = btf_find(btf, BTF_KIND_FUNC, "bpf_iter_task");
	const struct bpf_insn insns[] = {
		ITER_TASK(7, 6),
		STORE(10, -8, 7),
		MOV(1, 6), MOV(2, 10), ADD_IMM(2, -8), MOV_IMM(3, 8),
		CALL(0, HELPER_SEQ_WRITE),
		RETURN,
	};

	return iter < 0 ? -EOPNOTSUPP : load_iter(iter, insns, ARRAY_SIZE(insns));
}

/* in: a processor; out: the map's element there, or 0; err: the map itself. */
int peek_load_percpu(int map_fd)
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

int peek_map_make(void)
{
	union bpf_attr attr = {
		.map_type = BPF_MAP_TYPE_PERCPU_ARRAY,
		.key_size = 4,
		.value_size = 8,
		.max_entries = 1,
	};

	return bpf(BPF_MAP_CREATE, &attr);
}

/* A map with a text that nobody can change any more, as snprintf() wants it. */
int peek_format_make(void)
{
	union bpf_attr attr = {
		.map_type = BPF_MAP_TYPE_ARRAY,
		.key_size = 4,
		.value_size = 8,
		.max_entries = 1,
		.map_flags = BPF_F_RDONLY_PROG,
	};
	_cleanup_close_ int fd = bpf(BPF_MAP_CREATE, &attr);
	int r;

	if (fd < 0)
		return fd;
	attr = (union bpf_attr){ .map_fd = (uint32_t)fd, .key = (uint64_t)&(uint32_t){ 0 },
				 .value = (uint64_t)(const char[8]){ "%ps" } };
	r = bpf(BPF_MAP_UPDATE_ELEM, &attr);
	if (r < 0)
		return r;
	attr = (union bpf_attr){ .map_fd = (uint32_t)fd };
	r = bpf(BPF_MAP_FREEZE, &attr);
	return r < 0 ? r : take_fd(&fd);
}

/* in: an address of code; name: the function's there; err: its length. */
int peek_load_symbol(int format_fd)
{
	const struct bpf_insn insns[] = {
		MOV(6, 1),
		LOAD(BPF_DW, 1, 6, IN),
		STORE(10, -8, 1),
		STORE_IMM(10, -40, 0), STORE_IMM(10, -32, 0),
		STORE_IMM(10, -24, 0), STORE_IMM(10, -16, 0),
		MOV(1, 10), ADD_IMM(1, -40), MOV_IMM(2, 32),
		MAP_VALUE(3, format_fd),
		MOV(4, 10), ADD_IMM(4, -8), MOV_IMM(5, 8),
		CALL(0, HELPER_SNPRINTF),
		STORE(6, ERR, 0),
		LOAD(BPF_DW, 1, 10, -40), STORE(6, NAME(0), 1),
		LOAD(BPF_DW, 1, 10, -32), STORE(6, NAME(1), 1),
		LOAD(BPF_DW, 1, 10, -24), STORE(6, NAME(2), 1),
		LOAD(BPF_DW, 1, 10, -16), STORE(6, NAME(3), 1),
		RETURN,
	};

	return format_fd < 0 ? format_fd : program_load(insns, ARRAY_SIZE(insns));
}

/*
 * For each task there is: a struct peek_task_shares, to whoever reads. Members are not followed as the verifier
 * knows them: it looks the name of each one's type up among all there are, 0.7 ms each.
 */
int peek_load_shares(const struct btf *btf)
{
#define FIELD(name, member, n) { offsetof(struct peek_task_shares, name), btf_member(btf, "task_struct", member), n }
	const struct { size_t to; int from, bytes; } fields[] = {
		FIELD(tid, "pid", 4), FIELD(pid, "tgid", 4), FIELD(flags, "flags", 4),
		FIELD(at[SHARE_VM], "mm", 8), FIELD(at[SHARE_FILES], "files", 8), FIELD(at[SHARE_FS], "fs", 8),
		FIELD(at[SHARE_IO], "io_context", 8), FIELD(at[SHARE_UNDO], "sysvsem.undo_list", 8),
		FIELD(at[SHARE_NS], "nsproxy", 8), FIELD(at[SHARE_CGROUPS], "cgroups", 8),
	};
#undef FIELD
	enum { ROOM = sizeof(struct peek_task_shares) };
	struct bpf_insn insns[80] = {
		ITER_TASK(7, 6),
		STORE_IMM(10, (int)offsetof(struct peek_task_shares, flags) - ROOM, 0),
	};
	const struct bpf_insn end[] = {
		MOV(1, 6), MOV(2, 10), ADD_IMM(2, -ROOM), MOV_IMM(3, ROOM),
		CALL(0, HELPER_SEQ_WRITE),
		RETURN,
	};
	int iter = btf_find(btf, BTF_KIND_FUNC, "bpf_iter_task");
	size_t n = 7;

	if (iter < 0 || !in_initial_pid_ns())
		return -EOPNOTSUPP;
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		const struct bpf_insn read[] = {
			MOV(1, 10), ADD_IMM(1, (int)fields[i].to - ROOM), MOV_IMM(2, fields[i].bytes),
			MOV(3, 7), ADD_IMM(3, fields[i].from),
			CALL(0, HELPER_PROBE_READ_KERNEL),
		};

		if (fields[i].from < 0)
			return -EOPNOTSUPP;
		memcpy(insns + n, read, sizeof(read));
		n += ARRAY_SIZE(read);
	}
	memcpy(insns + n, end, sizeof(end));
	return load_iter(iter, insns, n + ARRAY_SIZE(end));
}

int peek_link_iter(int prog_fd, pid_t tid)
{
	union bpf_iter_link_info which = { .task = { .tid = (uint32_t)tid } };
	union bpf_attr attr = { .link_create = { .prog_fd = (uint32_t)prog_fd, .attach_type = BPF_TRACE_ITER,
						 .iter_info = (uint64_t)&which, .iter_info_len = sizeof(which) } };

	return prog_fd < 0 ? prog_fd : bpf(BPF_LINK_CREATE, &attr);
}

int peek_iter_begin(int link_fd)
{
	union bpf_attr attr = { .iter_create = { .link_fd = (uint32_t)link_fd } };

	return bpf(BPF_ITER_CREATE, &attr);
}
