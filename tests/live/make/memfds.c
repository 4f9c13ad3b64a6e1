/*
 * memfd and shared anonymous memory: contents and holes, seals, positions, several struct files
 * of one inode, mappings that stay shared with a child and with a descriptor, a program that runs
 * from a memfd which is open for writing.
 */
#include "files_common.h"

#include <sys/sendfile.h>

#define BIG (32l << 20)

/* From its memfd: until the other end of the pipe is closed. */
static int run_from_memfd(void)
{
	char exe[64] = "", c;

	if (readlink("/proc/self/exe", exe, sizeof(exe) - 1) < 0 || !strstr(exe, "memfd:program") ||
	    write(STDOUT_FILENO, "x", 1) != 1 || read(STDIN_FILENO, &c, 1))
		return 5;
	return readlink("/proc/self/exe", exe, sizeof(exe) - 1) > 0 && strstr(exe, "memfd:program") ? 0 : 6;
}

static pid_t program_start(char **argv, int *ret_end)
{
	int in[2], out[2], exe, memfd;
	struct stat st;
	pid_t child;
	char c;

	MAKER_MUST(!pipe2(in, O_CLOEXEC) && !pipe2(out, O_CLOEXEC));
	child = fork();
	MAKER_MUST(child >= 0);
	if (!child) {
		char *args[] = { argv[0], argv[1], "program", NULL };

		exe = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
		memfd = memfd_create("program", 0);
		if (fstat(exe, &st) < 0 || sendfile(memfd, exe, NULL, (size_t)st.st_size) != st.st_size)
			_exit(3);
		dup2(in[0], STDIN_FILENO);
		dup2(out[1], STDOUT_FILENO);
		fexecve(memfd, args, environ);
		_exit(4);
	}
	close(in[0]);
	close(out[1]);
	MAKER_MUST(read(out[0], &c, 1) == 1);
	close(out[0]);
	*ret_end = in[1];
	return child;
}

int main(int argc, char **argv)
{
	int program_end = -1, sealed, plain, rdonly, unsealable, count;
	struct fd_look was[4];
	char path[64], buf[16] = "";
	char *anon, *map;
	struct stat st;
	pid_t child, program = -1;

	if (argc > 2)
		return run_from_memfd();
	maker_begin(argc, argv);
	if (!maker_is_plain())
		program = program_start(argv, &program_end);
	MAKER_MUST((plain = memfd_create("plain", MFD_CLOEXEC | MFD_ALLOW_SEALING)) >= 0);
	MAKER_MUST(!ftruncate(plain, BIG) && !fchmod(plain, 0640) && !fchown(plain, 5, 6));
	MAKER_MUST(pwrite(plain, "head", 4, 0) == 4 && pwrite(plain, "tail", 4, BIG - 4) == 4);
	MAKER_MUST(lseek(plain, 4711, SEEK_SET) == 4711);
	map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, plain, 4096);
	MAKER_MUST(map != MAP_FAILED);
	strcpy(map, "mapped");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", plain);
	MAKER_MUST((rdonly = open(path, O_RDONLY)) >= 0);
	MAKER_MUST((sealed = memfd_create("sealed", MFD_ALLOW_SEALING)) >= 0);
	MAKER_MUST(write(sealed, "for ever", 8) == 8);
	MAKER_MUST(!fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_SEAL));
	MAKER_MUST((unsealable = memfd_create("", 0)) >= 0 && write(unsealable, "x", 1) == 1);
	anon = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	MAKER_MUST(anon != MAP_FAILED);
	strcpy(anon + 40000, "shared with a child");
	child = fork();
	MAKER_MUST(child >= 0);
	if (!child) {
		while (__atomic_load_n(anon, __ATOMIC_SEQ_CST) != 'g')
			usleep(2000);
		if (strcmp(anon + 40000, "shared with a child") || strcmp(map, "mapped"))
			_exit(4);
		strcpy(map, "by the child");
		_exit(0);
	}
	was[0] = fd_look(plain);
	was[1] = fd_look(rdonly);
	was[2] = fd_look(sealed);
	was[3] = fd_look(unsealable);
	count = fd_count();

	maker_ready();
	maker_wait();

	MAKER_SAME("number of descriptors", fd_count(), count);
	fd_same("plain", &was[0]);
	fd_same("read-only", &was[1]);
	fd_same("sealed", &was[2]);
	fd_same("unsealable", &was[3]);
	MAKER_MUST(!fstat(plain, &st));
	MAKER_SAME("size", st.st_size, BIG);
	MAKER_SAME("mode", st.st_mode, S_IFREG | 0640);
	MAKER_SAME("owner", st.st_uid, 5);
	if (st.st_blocks * 512 > BIG / 2)
		maker_fail("the hole is filled: %lld blocks", (long long)st.st_blocks);
	MAKER_SAME("seals", fcntl(plain, F_GET_SEALS), 0);
	MAKER_SAME("seals", fcntl(sealed, F_GET_SEALS), F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_SEAL);
	MAKER_SAME("no seals", fcntl(unsealable, F_GET_SEALS), F_SEAL_SEAL);
	MAKER_SAME("sealed write", pwrite(sealed, "y", 1, 0), -1);
	MAKER_SAME("read", pread(sealed, buf, sizeof(buf), 0), 8);
	MAKER_SAME("read", pread(rdonly, buf, 4, BIG - 4), 4);
	if (memcmp(buf, "tail", 4) || pread(rdonly, buf, 4, 0) != 4 || memcmp(buf, "head", 4))
		maker_fail("other contents");
	MAKER_SAME("read", pread(rdonly, buf, 7, 4096), 7);
	if (strcmp(buf, "mapped"))
		maker_fail("the mapping and the file differ: %s", buf);
	__atomic_store_n(anon, 'g', __ATOMIC_SEQ_CST);
	child_ok(child, "shared memory");
	if (strcmp(map, "by the child"))
		maker_fail("the child wrote elsewhere: %s", map);
	/* The child had its pipe, too. */
	if (program >= 0) {
		close(program_end);
		child_ok(program, "a program in a memfd");
	}
	maker_ok();
}
