/*
 * A connection that the program closed first: nobody has it, the kernel keeps it in TIME-WAIT. Nothing of it
 * is saved, and it keeps nobody from being restored: neither the listener on its port, whether it has SO_REUSEADDR
 * or not, nor the connections that this has accepted.
 * cr-options: --tcp-established
 */
#include "sock_common.h"

#include <stdio.h>

struct server {
	int listener, c, s;
	struct sockaddr_in at;
};

static void connected(const struct server *v, int *c, int *s)
{
	*c = socket(AF_INET, SOCK_STREAM, 0);
	MAKER_MUST(!connect(*c, (const struct sockaddr *)&v->at, sizeof(v->at)));
	*s = accept(v->listener, NULL, NULL);
	MAKER_MUST(*s >= 0);
}

/* How many lines of the table have our port and that state. */
static int count(const struct server *v, const char *state)
{
	FILE *f = fopen("/proc/net/tcp", "r");
	char line[256], local[16], remote[32], is[8];
	unsigned int port;
	int n = 0;

	MAKER_MUST(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%*s %15[0-9A-F]:%x %31s %7s", local, &port, remote, is) == 4 &&
		    port == ntohs(v->at.sin_port) && !strcmp(is, state))
			n++;
	fclose(f);
	return n;
}

static void begin(struct server *v, bool reuse)
{
	socklen_t len = sizeof(v->at);
	char byte;
	int c, s;

	v->listener = socket(AF_INET, SOCK_STREAM, 0);
	sock_set(v->listener, SOL_SOCKET, SO_REUSEADDR, reuse);
	sock_in(&v->at, "127.0.0.1", 0);
	MAKER_MUST(!bind(v->listener, (struct sockaddr *)&v->at, sizeof(v->at)));
	MAKER_MUST(!listen(v->listener, 3));
	MAKER_MUST(!getsockname(v->listener, (struct sockaddr *)&v->at, &len));
	connected(v, &v->c, &v->s);
	connected(v, &c, &s);
	MAKER_MUST(!close(s) && recv(c, &byte, 1, 0) == 0 && !close(c));
	for (int j = 0; j < 100 && !count(v, "06"); j++)
		usleep(10000);
	MAKER_SAME("connections in TIME-WAIT", count(v, "06"), 1);
	/* Behind what it has accepted: files come back in this order. */
	MAKER_MUST((c = dup(v->listener)) > v->s && !close(v->listener));
	v->listener = c;
}

static void verify(const struct server *v, bool reuse)
{
	int c, s;

	MAKER_SAME("listeners", count(v, "0A"), 1);
	MAKER_SAME("SO_REUSEADDR", sock_int(v->listener, SOL_SOCKET, SO_REUSEADDR), reuse);
	sock_talk("connection beside one in TIME-WAIT", v->c, v->s);
	connected(v, &c, &s);
	sock_talk("connection anew", c, s);
}

int main(int argc, char **argv)
{
	struct server v[2];

	maker_begin(argc, argv);
	begin(&v[0], false);
	begin(&v[1], true);

	maker_ready();
	maker_wait();

	verify(&v[0], false);
	verify(&v[1], true);
	maker_ok();
}
