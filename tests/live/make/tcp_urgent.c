/*
 * TCP connections whose urgent byte has been read (MSG_OOB) while data in front of it, behind it or
 * both wait: all of it comes, in order, without that byte; with SO_OOBINLINE, set since, with it.
 * cr-options: --tcp-established
 */
#include "sock_common.h"

#include <sys/ioctl.h>

struct pair {
	int c, s;
};

static struct pair make(void)
{
	struct sockaddr_in a;
	socklen_t len = sizeof(a);
	int l = socket(AF_INET, SOCK_STREAM, 0);
	struct pair p;

	sock_in(&a, "127.0.0.1", 0);
	MAKER_MUST(!bind(l, (struct sockaddr *)&a, sizeof(a)) && !listen(l, 1));
	MAKER_MUST(!getsockname(l, (struct sockaddr *)&a, &len));
	p.c = socket(AF_INET, SOCK_STREAM, 0);
	MAKER_MUST(!connect(p.c, (struct sockaddr *)&a, len));
	p.s = accept(l, NULL, NULL);
	MAKER_MUST(p.s >= 0 && !close(l));
	return p;
}

static void say(const struct pair *p, const char *text, int flags)
{
	MAKER_MUST(send(p->c, text, strlen(text), flags) == (ssize_t)strlen(text));
}

/* front, the urgent byte, back. That byte is read. */
static struct pair marked(const char *front, const char *back)
{
	struct pair p = make();
	struct pollfd urgent = { .fd = p.s, .events = POLLPRI };
	char byte = 0;

	if (*front)
		say(&p, front, 0);
	say(&p, "!", MSG_OOB);
	if (*back)
		say(&p, back, 0);
	MAKER_MUST(poll(&urgent, 1, 5000) == 1);
	MAKER_MUST(recv(p.s, &byte, 1, MSG_OOB) == 1 && byte == '!');
	return p;
}

/* The last byte has come. */
static void settle(const struct pair *p)
{
	int unacked = 1;

	for (int i = 0; i < 500 && unacked; i++) {
		MAKER_MUST(!ioctl(p->c, TIOCOUTQ, &unacked));
		usleep(10000);
	}
	MAKER_MUST(!unacked);
}

static void expect(const char *what, const struct pair *p, const char *text)
{
	sock_expect(what, p->s, text, strlen(text));
	sock_empty(what, p->s);
	sock_talk(what, p->c, p->s);
}

int main(int argc, char **argv)
{
	struct pair behind, front, both, read_up, nothing, inlined;
	char buf[8];
	bool in_the_middle;
	int off = -1;

	maker_begin(argc, argv);
	behind = marked("", "12345678");
	/* A look behind a mark in the middle takes SO_PEEK_OFF, for TCP since 6.9. */
	in_the_middle = !setsockopt(behind.s, SOL_SOCKET, SO_PEEK_OFF, &off, sizeof(off));
	front = marked("ab", "");
	both = in_the_middle ? marked("ab", "yz") : front;
	read_up = marked("ab", "");
	MAKER_MUST(recv(read_up.s, buf, sizeof(buf), 0) == 2);
	say(&read_up, "tail", 0);
	nothing = marked("", "");
	inlined = in_the_middle ? marked("ab", "yz") : nothing;
	if (in_the_middle)
		sock_set(inlined.s, SOL_SOCKET, SO_OOBINLINE, 1);
	settle(&behind);
	settle(&front);
	settle(&both);
	settle(&read_up);
	settle(&inlined);

	maker_ready();
	maker_wait();

	expect("behind the mark", &behind, "12345678");
	expect("in front of it", &front, "ab");
	if (in_the_middle)
		expect("on both sides", &both, "abyz");
	expect("after what was read", &read_up, "tail");
	expect("the mark alone", &nothing, "");
	if (in_the_middle) {
		MAKER_SAME("SO_OOBINLINE", sock_int(inlined.s, SOL_SOCKET, SO_OOBINLINE), 1);
		expect("inline", &inlined, "ab!yz");
	}
	MAKER_SAME("SO_OOBINLINE of another", sock_int(both.s, SOL_SOCKET, SO_OOBINLINE), 0);
	maker_ok();
}
