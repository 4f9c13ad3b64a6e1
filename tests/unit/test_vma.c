#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "task/regs.h"
#include "task/vma.h"
#include "unit.h"

static const char smaps[] =
	"55d0c0de0000-55d0c0de2000 r--p 00001000 fe:00 1234                       /usr/bin/a b (deleted)\n"
	"Size:                  8 kB\n"
	"VmFlags: rd mr mw me sd \n"
	"7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]\n"
	"VmFlags: rd wr mr mw me gd ac \n"
	"7ffc00030000-7ffc00034000 rw-s 00000000 00:01 77                         /dev/zero (deleted)\n"
	"VmFlags: rd wr sh mr mw me ms sd dd wf \n"
	"7ffc00040000-7ffc00041000 rw-p 00000000 00:00 0 \n"
	"VmFlags: rd wr mr mw me ac sr\n";

TEST("smaps text is understood: addresses, paths with blanks, flags, advice")
{
	struct arena a;
	struct vma *v;
	size_t n;

	arena_init(&a);
	ASSERT_EQ(vma_parse_smaps(&a, smaps, &v, &n), 0);
	ASSERT_EQ(n, 4);
	ASSERT_EQ(v[0].start, 0x55d0c0de0000);
	ASSERT_EQ(v[0].pgoff, 0x1000);
	ASSERT_EQ(v[0].ino, 1234);
	ASSERT_STREQ(v[0].path, "/usr/bin/a b (deleted)");
	ASSERT_EQ(v[0].prot, PROT_READ);
	ASSERT(v[1].flags & MAP_GROWSDOWN);
	ASSERT_EQ(v[2].flags & MAP_SHARED, MAP_SHARED);
	ASSERT_EQ(v[2].madv, 1ull << MADV_DONTDUMP | 1ull << MADV_WIPEONFORK);
	ASSERT_EQ(v[3].madv, 1ull << MADV_SEQUENTIAL);
	ASSERT_STREQ(v[3].path, "");
	arena_done(&a);
}

TEST("the smaps of a process are read as a whole, in whatever parts the kernel gives them")
{
	_cleanup_free_ char *maps = NULL, *text = NULL, *path = NULL;
	_cleanup_close_ int proc_fd = -1;
	pid_t child = fork();
	size_t n, lines = 0;
	struct arena a;
	struct vma *v;

	if (!child)
		for (;;)
			pause();
	arena_init(&a);
	path = str_fmt("/proc/%d", child);
	proc_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	ASSERT_OK(read_smaps_at(proc_fd, &text));
	ASSERT_OK(vma_parse_smaps(&a, text, &v, &n));
	ASSERT_OK(read_file_at(proc_fd, "maps", READ_FILE_MAX, &maps, NULL));
	kill(child, SIGKILL);
	ASSERT_EQ(waitpid(child, NULL, 0), child);
	for (const char *s = maps; (s = strchr(s, '\n')); s++)
		lines++;
	ASSERT(n > 10 && n == lines);
	ASSERT(!strncmp(strrchr(text, 'V'), "VmFlags:", 8));
	arena_done(&a);
}

TEST("the size of huge pages is told with the area's flags, and is a power of two")
{
	static const char huge[] = "40000000-40400000 rw-p 00000000 00:11 5    /anon_hugepage (deleted)\n"
				   "KernelPageSize:     2048 kB\nVmFlags: rd wr de ht \n";
	struct arena a;
	struct vma *v;
	size_t n;

	arena_init(&a);
	ASSERT_OK(vma_parse_smaps(&a, huge, &v, &n));
	ASSERT_EQ(v[0].flags, (uint32_t)(MAP_PRIVATE | MAP_HUGETLB) | 21u << MAP_HUGE_SHIFT);
	ASSERT_EQ(vma_parse_smaps(&a, "1000-2000 rw-p 0 00:11 5 x\nKernelPageSize: 12 kB\nVmFlags: ht\n",
				  &v, &n), -EBADMSG);
	arena_done(&a);
}

TEST("a sealed area, one locked on fault, and its protection key are told from smaps")
{
	static const char text[] = "1000-2000 rw-p 00000000 00:00 0   [anon:a name]\n"
				   "ProtectionKey:         5\nVmFlags: rd wr lo lf sl \n";
	struct arena a;
	struct vma *v;
	size_t n;

	arena_init(&a);
	ASSERT_OK(vma_parse_smaps(&a, text, &v, &n));
	ASSERT(v[0].sealed && v[0].lock_on_fault && v[0].flags & MAP_LOCKED);
	ASSERT_EQ(v[0].pkey, 5);
	ASSERT_STREQ(v[0].path, "[anon:a name]");
	arena_done(&a);
}

TEST("smaps text cut anywhere, overlapping or unaligned is refused or shortened, never misread")
{
	char cut[sizeof(smaps)];

	for (size_t len = 0; len < sizeof(smaps); len++) {
		struct arena a;
		struct vma *v;
		size_t n = 0;

		arena_init(&a);
		memcpy(cut, smaps, len);
		cut[len] = '\0';
		if (!vma_parse_smaps(&a, cut, &v, &n))
			for (size_t i = 0; i < n; i++)
				ASSERT(v[i].start < v[i].end);
		arena_done(&a);
	}
}

static int parse_text(const char *text)
{
	struct arena a;
	struct vma *v;
	size_t n;
	int r;

	arena_init(&a);
	r = vma_parse_smaps(&a, text, &v, &n);
	arena_done(&a);
	return r;
}

TEST("areas that overlap, end before they begin or are not page-aligned are refused")
{
	ASSERT(parse_text("2000-1000 rw-p 0 00:00 0 \n") < 0);
	ASSERT(parse_text("1000-1800 rw-p 0 00:00 0 \n") < 0);
	ASSERT(parse_text("1000-3000 rw-p 0 00:00 0 \n2000-4000 rw-p 0 00:00 0 \n") < 0);
	ASSERT(parse_text("VmFlags: rd\n") < 0);
}

TEST("a vDSO whose entry points are patched answers through another one")
{
	struct vdso_image *own;
	struct arena a;
	size_t bytes, off;
	uint8_t *copy;
	uint64_t at;
	struct timespec ts = { 0 }, now;
	int (*get)(clockid_t, struct timespec *);

	arena_init(&a);
	ASSERT_EQ(vdso_read_own(&a, &own), 0);
	bytes = vdso_bytes(own);
	at = getauxval(AT_SYSINFO_EHDR);
	copy = mmap(NULL, bytes, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT(copy != MAP_FAILED);
	memcpy(copy, (void *)at, bytes);
	ASSERT_EQ(vdso_patch(copy, own, (uint64_t)copy, own, at), 0);
	/* The entry of clock_gettime: found by the difference that patching made. */
	off = vdso_entry_offset(own, "__vdso_clock_gettime");
	ASSERT(off > 0 && memcmp(copy + off, (uint8_t *)at + off, 5));
	get = (void *)(copy + off);
	ASSERT_EQ(get(CLOCK_MONOTONIC, &ts), 0);
	clock_gettime(CLOCK_MONOTONIC, &now);
	ASSERT(ts.tv_sec == now.tv_sec || ts.tv_sec + 1 == now.tv_sec);
	munmap(copy, bytes);
	arena_done(&a);
}

TEST("a vDSO image cut or damaged anywhere is refused or parsed within its bounds")
{
	struct vdso_image *own, *v;
	struct arena a;
	uint8_t *copy;
	size_t bytes;

	arena_init(&a);
	ASSERT_EQ(vdso_read_own(&a, &own), 0);
	bytes = vdso_bytes(own);
	for (size_t len = 0; len < bytes; len += 61) {
		copy = malloc(len ? len : 1);
		memcpy(copy, (void *)getauxval(AT_SYSINFO_EHDR), len);
		if (vdso_parse(&a, copy, len, &v) >= 0)
			ASSERT(vdso_entry_offset(v, "__vdso_time") < len);
		free(copy);
	}
	copy = malloc(bytes);
	for (size_t i = 0; i < 4096; i++) {
		memcpy(copy, (void *)getauxval(AT_SYSINFO_EHDR), bytes);
		copy[(i * 2654435761u) % bytes] ^= (uint8_t)(1u << (i & 7));
		copy[(i * 40503u) % 1024] ^= 0xff;
		if (vdso_parse(&a, copy, bytes, &v) >= 0)
			ASSERT(vdso_entry_offset(v, "__vdso_time") < bytes);
	}
	free(copy);
	arena_done(&a);
}

static char said[1024];

static void on_obstacle(void *arg, const char *scope, const char *what, const char *remedy)
{
	(void)arg;
	(void)scope;
	ASSERT(remedy && *remedy);
	snprintf(said, sizeof(said), "%s", what);
}

/* What a dump makes of a process whose smaps is this text. */
static int read_smaps(const char *text)
{
	struct dump_process p = { .pid = 100 };
	struct dump_ctx ctx = { 0 };
	char path[600];
	FILE *f;
	int r;

	snprintf(path, sizeof(path), "%s/smaps", unit_tmpdir());
	f = fopen(path, "w");
	ASSERT(f && fputs(text, f) >= 0 && !fclose(f));
	p.proc_fd = open(unit_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ASSERT(p.proc_fd >= 0);
	arena_init(&ctx.arena);
	said[0] = '\0';
	log_init(LOGLEVEL_NONE, -1);
	log_obstacles_set(on_obstacle, NULL);
	r = vma_read(&ctx, &p);
	log_obstacles_set(NULL, NULL);
	arena_done(&ctx.arena);
	close(p.proc_fd);
	return r;
}

#define AREA(flags, path)							\
	"7f0000000000-7f0000008000 rw-p 00000000 00:00 0      " path "\n"	\
	"VmFlags: rd wr mr mw me " flags "\n"

TEST("areas that cannot be saved are refused by their address and for what they are")
{
	static const struct { const char *text, *why; } bad[] = {
		{ AREA("ss", ""), "a shadow stack" },
		{ AREA("ac ss nh sd", "[anon:of a thread]"), "a shadow stack" },
		{ AREA("io", "/dev/mem"), "device memory" },
		{ AREA("pf", "/dev/fb0"), "device memory" },
		{ AREA("", "socket:[77]"), "a packet socket's ring" },
		{ AREA("", "anon_inode:[perf_event]"), "a kernel object that has no file" },
		{ AREA("", "[uprobes]"), "uprobes" },
	};

	ASSERT_OK(read_smaps(AREA("ac sd", "")));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		ASSERT_EQ(read_smaps(bad[i].text), -EOPNOTSUPP);
		ASSERT_CONTAINS(said, "0x7f0000000000-0x7f0000008000");
		ASSERT_CONTAINS(said, bad[i].why);
	}
}

TEST("areas above 47 bits are areas like others")
{
	ASSERT_OK(read_smaps("800000000000-800000001000 rw-p 00000000 00:00 0 \nVmFlags: rd wr\n"
			     "ffffffffffe000-fffffffffff000 rw-p 00000000 00:00 0 \nVmFlags: rd wr\n"
			     "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0  [vsyscall]\nVmFlags: ex\n"));
}
