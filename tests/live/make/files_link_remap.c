/*
 * An open file that lost the name it was opened by, while another hard link lives.
 *
 * cr-options: --link-remap
 */
#include "files_common.h"

int main(int argc, char **argv)
{
	struct fd_look was;
	struct stat st, other;
	int fd;

	maker_begin(argc, argv);
	work_dir(argv[1]);
	fd = file_with("first", "shared by two names", 0);
	MAKER_MUST(!link("first", "second") || errno == EEXIST);
	MAKER_MUST(!unlink("first"));
	was = fd_look(fd);

	maker_ready();
	maker_wait();

	was.link[0] = '\0';	/* the helper's name */
	fd_same("file", &was);
	MAKER_MUST(!fstat(fd, &st) && !stat("second", &other));
	MAKER_SAME("inode", st.st_ino, other.st_ino);
	MAKER_SAME("links", st.st_nlink, 1);
	MAKER_SAME("write", pwrite(fd, "S", 1, 0), 1);
	maker_ok();
}
