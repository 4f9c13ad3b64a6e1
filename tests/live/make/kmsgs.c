/*
 * /dev/kmsg: who has read the kernel's log to its end goes on with the next record, who has read one goes
 * on with the second, who has read nothing begins at the first.
 */
#include "files_common.h"

#define LOG_PATH "/dev/kmsg"

/* The next record's number and whether it has this text; -1: none. */
static long long record(int fd, const char *text, bool *ret_has)
{
	char buf[16384];
	long long number;
	ssize_t n;

	do
		n = read(fd, buf, sizeof(buf) - 1);
	while (n < 0 && errno == EPIPE);
	if (n < 0 && errno == EAGAIN)
		return -1;
	MAKER_MUST(n > 0);
	buf[n] = '\0';
	MAKER_MUST(sscanf(buf, "%*u,%lld,", &number) == 1);
	*ret_has = strstr(buf, text);
	return number;
}

/* Reads to the end; the last one's number. */
static long long read_all(int fd)
{
	long long number, last = -1;
	bool has;

	while ((number = record(fd, "", &has)) >= 0)
		last = number;
	return last;
}

int main(int argc, char **argv)
{
	long long first, last, number, next, blocking_last;
	int at_end, begin, blocking, middle, untouched, writer;
	char mark[64];
	bool is_mine, is_other;

	maker_begin(argc, argv);
	at_end = open(LOG_PATH, O_RDWR | O_NONBLOCK);
	if (at_end < 0)
		maker_skip("%s: %s", LOG_PATH, strerror(errno));
	snprintf(mark, sizeof(mark), "maker %d is ready\n", maker_number());
	MAKER_MUST(write(at_end, mark, strlen(mark)) == (ssize_t)strlen(mark));
	MAKER_MUST((untouched = open(LOG_PATH, O_RDONLY | O_NONBLOCK)) >= 0);
	MAKER_MUST((begin = open(LOG_PATH, O_RDONLY | O_NONBLOCK)) >= 0);
	first = record(begin, "", &is_mine);
	MAKER_MUST((middle = open(LOG_PATH, O_RDONLY | O_NONBLOCK)) >= 0);
	MAKER_MUST(record(middle, "", &is_mine) == first);
	MAKER_MUST(!close(begin));
	MAKER_MUST((writer = open(LOG_PATH, O_WRONLY)) >= 0);
	MAKER_MUST((blocking = open(LOG_PATH, O_RDONLY)) >= 0);
	MAKER_MUST(!fcntl(blocking, F_SETFL, O_NONBLOCK));
	blocking_last = read_all(blocking);
	MAKER_MUST(!fcntl(blocking, F_SETFL, 0));
	last = read_all(at_end);
	MAKER_MUST(first >= 0 && last >= 0 && blocking_last >= 0);

	maker_ready();
	maker_wait();

	MAKER_SAME("flags", fcntl(blocking, F_GETFL) & O_NONBLOCK, 0);
	snprintf(mark, sizeof(mark), "maker %d goes on\n", maker_number());
	MAKER_MUST(write(writer, mark, strlen(mark)) == (ssize_t)strlen(mark));
	next = record(at_end, mark, &is_mine);
	for (number = next; number >= 0 && number <= last;)
		number = record(at_end, mark, &is_mine);
	MAKER_SAME("the record behind the last", number, last + 1);
	/* Where the kernel does not let its structures be read the place is not known. */
	number = record(middle, mark, &is_other);
	if (number < first)
		maker_fail("the second record is %lld, the first was %lld", number, first);
	/* If somebody else has written, perhaps before the dump, the place was not known. */
	if (is_mine && blocking_last == last) {
		MAKER_SAME("the next record", next, last + 1);
		number = record(blocking, mark, &is_mine);
		MAKER_SAME("the next record of the blocking one", number, blocking_last + 1);
	}
	MAKER_MUST((begin = open(LOG_PATH, O_RDONLY | O_NONBLOCK)) >= 0);
	MAKER_SAME("the first record", record(untouched, mark, &is_mine), record(begin, mark, &is_mine));
	maker_ok();
}
