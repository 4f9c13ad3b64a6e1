/* Names of threads, one of them with odd bytes and one of full length. */
#include <sys/prctl.h>

#include "second_common.h"

static const char *const wanted[2] = { "a b)\n(\xff", "fifteen-letters" };
static char found[16];

static void *second(void *arg)
{
	(void)arg;
	if (maker_sets_up())
		prctl(PR_SET_NAME, wanted[1]);
	second_wait();
	prctl(PR_GET_NAME, found);
	return NULL;
}

int main(int argc, char **argv)
{
	char mine[16];

	maker_begin(argc, argv);
	second_begin(second);
	if (maker_sets_up())
		prctl(PR_SET_NAME, wanted[0]);
	maker_ready();
	maker_wait();
	/* Joining needs the thread's exit address. */
	second_end();
	prctl(PR_GET_NAME, mine);
	if (strcmp(mine, wanted[0]))
		maker_fail("the leader is called \"%s\"", mine);
	if (strcmp(found, wanted[1]))
		maker_fail("the thread is called \"%s\"", found);
	maker_ok();
}
