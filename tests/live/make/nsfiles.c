/* Open namespaces of the host. */
#include "files_common.h"

int main(int argc, char **argv)
{
	struct fd_look was[2];
	struct stat a, b;
	int net, uts;

	maker_begin(argc, argv);
	MAKER_MUST((net = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC)) >= 0);
	MAKER_MUST((uts = open("/proc/self/ns/uts", O_RDONLY)) >= 0);
	was[0] = fd_look(net);
	was[1] = fd_look(uts);

	maker_ready();
	maker_wait();

	fd_same("net", &was[0]);
	fd_same("uts", &was[1]);
	MAKER_MUST(!fstat(net, &a) && !stat("/proc/self/ns/net", &b));
	MAKER_SAME("network namespace", a.st_ino, b.st_ino);
	MAKER_MUST(!fstat(uts, &a) && !stat("/proc/self/ns/uts", &b));
	MAKER_SAME("uts namespace", a.st_ino, b.st_ino);
	maker_ok();
}
