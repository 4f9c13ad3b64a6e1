/*
 * An epoll whose waits are to poll the network devices themselves (EPIOCSPARAMS, Linux 6.9).
 */
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include "maker.h"

/* Not the engine's own definition: a mistake in that one shall show. */
struct busy_poll {
	uint32_t usec;
	uint16_t budget;
	uint8_t prefer, pad;
};
#define BUSY_POLL_SET	_IOW(0x8a, 0x01, struct busy_poll)
#define BUSY_POLL_GET	_IOR(0x8a, 0x02, struct busy_poll)

int main(int argc, char **argv)
{
	struct busy_poll b = { 50, 8, 1, 0 };
	int busy, usual;

	maker_begin(argc, argv);
	MAKER_MUST((busy = epoll_create1(0)) >= 0 && (usual = epoll_create1(0)) >= 0);
	if (ioctl(busy, BUSY_POLL_SET, &b) < 0)
		maker_skip("this kernel has no busy polling by epoll (Linux 6.9, CONFIG_NET_RX_BUSY_POLL): %m");
	maker_ready();
	maker_wait();
	memset(&b, 0, sizeof(b));
	MAKER_MUST(!ioctl(busy, BUSY_POLL_GET, &b));
	MAKER_SAME("microseconds", b.usec, 50);
	MAKER_SAME("budget", b.budget, 8);
	MAKER_SAME("preference", b.prefer, 1);
	MAKER_MUST(!ioctl(usual, BUSY_POLL_GET, &b));
	MAKER_SAME("the other one's", b.usec + b.budget + b.prefer, 0);
	maker_ok();
}
