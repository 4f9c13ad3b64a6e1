/* The kernel's description of its types: found in, and damaged anywhere. */
#include <linux/btf.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include "kernel/peek.h"
#include "kernel/peek_prog.h"
#include "unit.h"
#include "util/io.h"

/* struct outer { int a; struct { int b; union { int c; }; }; int bits : 3; }; */
static const char strings[] = "\0int\0outer\0a\0b\0c\0bits";
enum { INT = 1, OUTER = 5, A = 11, B = 13, C = 15, BITS = 17 };

struct image {
	struct btf_header h;
	struct btf_type int_type;
	uint32_t int_data;
	struct btf_type uni;
	struct btf_member uni_m[1];
	struct btf_type inner;
	struct btf_member inner_m[2];
	struct btf_type outer;
	struct btf_member outer_m[3];
	char str[sizeof(strings)];
};

#define INFO(kind, n) ((uint32_t)(kind) << 24 | (n))

static struct image image_make(void)
{
	struct image im = {
		.h = { .magic = BTF_MAGIC, .version = 1, .hdr_len = sizeof(im.h),
		       .type_len = offsetof(struct image, str) - sizeof(im.h),
		       .str_off = offsetof(struct image, str) - sizeof(im.h),
		       .str_len = sizeof(strings) },
		.int_type = { .name_off = INT, .info = INFO(BTF_KIND_INT, 0), .size = 4 },
		.uni = { .info = INFO(BTF_KIND_UNION, 1), .size = 4 },
		.uni_m = { { C, 1, 0 } },
		.inner = { .info = INFO(BTF_KIND_STRUCT, 2), .size = 8 },
		.inner_m = { { B, 1, 0 }, { 0, 2, 32 } },
		.outer = { .name_off = OUTER, .info = INFO(BTF_KIND_STRUCT, 3), .size = 16 },
		.outer_m = { { A, 1, 0 }, { 0, 3, 32 }, { BITS, 1, 97 } },
	};

	memcpy(im.str, strings, sizeof(strings));
	return im;
}

TEST("members are found in BTF, also in anonymous structures, bit fields are not")
{
	struct image im = image_make();
	struct btf b;

	ASSERT_OK(btf_parse(&im, sizeof(im), &b));
	ASSERT_EQ(btf_find(&b, BTF_KIND_INT, "int"), 1);
	ASSERT_EQ(btf_find(&b, BTF_KIND_STRUCT, "outer"), 4);
	ASSERT_EQ(btf_find(&b, BTF_KIND_STRUCT, "int"), -ENOENT);
	ASSERT_EQ(btf_member(&b, "outer", "a"), 0);
	ASSERT_EQ(btf_member(&b, "outer", "b"), 4);
	ASSERT_EQ(btf_member(&b, "outer", "c"), 8);
	ASSERT_EQ(btf_member(&b, "outer", "bits"), -ENOENT);
	ASSERT_EQ(btf_member(&b, "outer", "d"), -ENOENT);
	ASSERT_EQ(btf_member(&b, "nobody", "a"), -ENOENT);
	ASSERT_EQ(btf_member(&b, "outer", "a.b"), -ENOENT);
	ASSERT_EQ(btf_member(&b, "outer", "a."), -ENOENT);
	ASSERT_EQ(btf_member(&b, "outer", ".a"), -ENOENT);
	btf_done(&b);
}

TEST("an anonymous structure that contains itself is not followed for ever")
{
	struct image im = image_make();
	struct btf b;

	im.inner_m[1].type = 3;
	ASSERT_OK(btf_parse(&im, sizeof(im), &b));
	ASSERT_EQ(btf_member(&b, "outer", "c"), -ENOENT);
	btf_done(&b);
}

TEST("members of members are found in BTF, one of itself only as deep as it is written")
{
	struct image im = image_make();
	struct btf b;

	im.outer_m[1].name_off = B;
	ASSERT_OK(btf_parse(&im, sizeof(im), &b));
	ASSERT_EQ(btf_member(&b, "outer", "b"), 4);
	ASSERT_EQ(btf_member(&b, "outer", "b.b"), 4);
	ASSERT_EQ(btf_member(&b, "outer", "b.c"), 8);
	ASSERT_EQ(btf_member(&b, "outer", "c"), -ENOENT);
	im.outer_m[1].type = 4;
	ASSERT_EQ(btf_member(&b, "outer", "b.b.a"), 8);
	ASSERT_EQ(btf_member(&b, "outer", "b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b"), -ENOENT);
	btf_done(&b);
}

TEST("BTF cut or damaged anywhere is refused or read within its bounds")
{
	struct image im = image_make();
	struct btf b;

	for (size_t len = 0; len < offsetof(struct image, str) + sizeof(strings); len++) {
		void *cut = malloc(len + 1);

		memcpy(cut, &im, len);
		ASSERT(btf_parse(cut, len, &b) < 0);
		free(cut);
	}
	for (size_t i = 0; i < sizeof(im) * 8; i++) {
		struct image bad = im;

		((uint8_t *)&bad)[i / 8] ^= (uint8_t)(1u << i % 8);
		if (btf_parse(&bad, sizeof(bad), &b) < 0)
			continue;
		ASSERT(btf_member(&b, "outer", "c") < (1 << 29));
		btf_done(&b);
	}
}

TEST("the running kernel's own structures are read: a task's id, and every processor's memory")
{
	_cleanup_peek_ struct peek *pk = NULL;
	uint64_t task, pid, tgid, at, name[2], fn;
	char own[16] = "", symbol[32];
	unsigned int n = 0;
	struct utsname u;
	int r = peek_open(&pk);

	if (r == -EOPNOTSUPP && access("/sys/kernel/btf/vmlinux", F_OK) < 0)
		unit_skip("the kernel does not describe itself (CONFIG_DEBUG_INFO_BTF)");
	ASSERT_OK(uname(&u));
	if (r == -EOPNOTSUPP && strverscmp(u.release, "6.1") < 0)
		unit_skip("Linux %s is older than 6.1", u.release);
	ASSERT_OK(r);
	ASSERT_OK(peek_task(pk, getpid(), &task));
	/* Its number is another one if we are in a PID namespace; its name is not. */
	snprintf(own, sizeof(own), "crk-peek-%d", getpid());
	ASSERT_OK(prctl(PR_SET_NAME, own));
	ASSERT_OK(peek_inside(pk, task, "task_struct", "comm", &at));
	ASSERT_OK(peek_word(pk, at, &name[0]));
	ASSERT_OK(peek_word(pk, at + 8, &name[1]));
	ASSERT_STREQ((char *)name, own);
	ASSERT_OK(peek_member(pk, task, "task_struct", "tgid", 4, &tgid));
	ASSERT_OK(peek_member(pk, task, "task_struct", "pid", 4, &pid));
	ASSERT(tgid && tgid == pid);
	ASSERT_EQ(peek_member(pk, task, "task_struct", "no such member", 4, &pid), -ENODATA);
	ASSERT(peek_word(pk, 8, &at) < 0);
	/* Every thread begins with this one, and nothing has interrupted a wait of ours. */
	ASSERT_OK(peek_member(pk, task, "task_struct", "restart_block.fn", 8, &fn));
	ASSERT_OK(peek_symbol(pk, fn, symbol, sizeof(symbol)));
	ASSERT_STREQ(symbol, "do_no_restart_syscall");
	while (!peek_percpu(pk, 0x1000, n, &at))
		n++;
	ASSERT(n >= (unsigned int)sysconf(_SC_NPROCESSORS_ONLN));
}

TEST("a task is found by an iterator, too, which older kernels want")
{
	_cleanup_peek_ struct peek *pk = NULL;
	_cleanup_free_ char *text = NULL;
	uint64_t task, found[2];
	struct btf btf;
	size_t bytes;
	int r = peek_open(&pk), prog_fd, link_fd, fd;

	if (r == -EOPNOTSUPP)
		unit_skip("this kernel's structures cannot be read");
	ASSERT_OK(r);
	ASSERT_OK(peek_task(pk, getpid(), &task));
	ASSERT_OK(read_file_at(-1, "/sys/kernel/btf/vmlinux", READ_FILE_MAX, &text, &bytes));
	ASSERT_OK(btf_parse(text, bytes, &btf));
	prog_fd = peek_load_task_iter(&btf);
	ASSERT_OK(prog_fd);
	link_fd = peek_link_iter(prog_fd, getpid());
	ASSERT_OK(link_fd);
	fd = peek_iter_begin(link_fd);
	ASSERT_OK(fd);
	ASSERT_EQ(read(fd, found, sizeof(found)), (ssize_t)sizeof(*found));
	ASSERT_EQ(found[0], task);
	close(fd);
	close(link_fd);
	close(prog_fd);
	btf_done(&btf);
}

static int sleep_on(void *arg __attribute__((unused)))
{
	for (;;)
		pause();
	return 0;
}

TEST("what tasks share by clone(2) is told of all tasks of the machine")
{
	_cleanup_peek_ struct peek *pk = NULL;
	const struct peek_task_shares *own = NULL, *other = NULL;
	struct peek_task_shares *all;
	static char stack[65536] __attribute__((aligned(16)));
	int r = peek_open(&pk);
	size_t n;
	pid_t pid;

	if (r == -EOPNOTSUPP)
		unit_skip("the kernel cannot be looked into");
	ASSERT_OK(r);
	pid = clone(sleep_on, stack + sizeof(stack), CLONE_FILES | SIGCHLD, NULL);
	ASSERT(pid > 0);
	r = peek_shares(pk, &all, &n);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	if (r == -EOPNOTSUPP)
		unit_skip("not in the initial PID namespace");
	ASSERT_OK(r);
	for (size_t i = 0; i < n; i++) {
		if (all[i].tid == (uint32_t)getpid())
			own = &all[i];
		if (all[i].tid == (uint32_t)pid)
			other = &all[i];
	}
	ASSERT(own && other && own->pid == own->tid);
	for (unsigned int i = SHARE_VM; i <= SHARE_FS; i++)
		ASSERT_EQ(own->at[i] == other->at[i], i == SHARE_FILES);
	for (unsigned int i = SHARE_NS; i <= SHARE_CGROUPS; i++)
		ASSERT(own->at[i] && own->at[i] == other->at[i]);
	free(all);
}
