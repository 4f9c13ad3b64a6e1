/* Between inet.c, udp.c and the tcp_*.c files. */
#ifndef CR_KIND_SK_INET_H
#define CR_KIND_SK_INET_H

#include <netinet/in.h>
#include <netinet/tcp.h>

#include "kind/sk_common.h"

/* Newer than the oldest kernel headers we build with. */
#ifndef TCPI_OPT_USEC_TS
#define TCPI_OPT_USEC_TS	64
#endif
#ifndef TCP_REPAIR_OFF_NO_WP
#define TCP_REPAIR_OFF_NO_WP	-1
#endif
#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP	262
#endif
enum { REPAIR_NO_QUEUE, REPAIR_RECV_QUEUE, REPAIR_SEND_QUEUE };

struct tcp_window {		/* struct tcp_repair_window of linux/tcp.h */
	uint32_t snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup;
};

union inet_addr {
	struct sockaddr sa;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* Image words ↔ socket address; ifname gives a link-local address its interface. */
int inet_addr_from_image(uint32_t family, const uint32_t *words, size_t n_words, uint32_t port,
			 const char *ifname, union inet_addr *ret) _must_check_;
socklen_t inet_addr_len(const union inet_addr *a);
uint16_t inet_addr_port(const union inet_addr *a);
bool inet_addr_is_any(const union inet_addr *a);
/* IPv4, mapped into IPv6 or not; the former from the latter. */
bool inet_addr_is_v4(const union inet_addr *a);
void inet_addr_unmap(union inet_addr *a);
/* "10.0.0.1:80", "[fe80::1%eth0]:80". Static storage of the caller: buf of INET_ADDR_TEXT. */
#define INET_ADDR_TEXT	96
const char *inet_addr_text(const union inet_addr *a, char *buf);

/* IP_FREEBIND until inet_freebind_set(fd, family, as in the image). */
int inet_freebind_set(int fd, uint32_t family, bool on) _must_check_;
/*
 * bind(2) with an explanation, past connections in TIME-WAIT; nothing for a socket without port and
 * address.
 */
int inet_bind(int fd, const union inet_addr *a) _must_check_;

/*
 * tcp_time_wait.c. Is it connections in TIME-WAIT that keep fd from this address, and nothing else? Then they
 * are ended: bind(2) may be tried again. *ret_other is set where another reason than a process is known.
 */
bool tcp_time_wait_end(int fd, const union inet_addr *at, const char **ret_other);

static inline bool tcp_has_sent_fin(uint32_t state)
{
	return state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2 || state == TCP_LAST_ACK ||
	       state == TCP_CLOSING;
}

static inline bool tcp_has_got_fin(uint32_t state)
{
	return state == TCP_CLOSE_WAIT || state == TCP_LAST_ACK || state == TCP_CLOSING ||
	       state == TCP_CLOSE;
}

int tcp_get_info(int fd, struct tcp_info *ret) _must_check_;

/*
 * tcp.c. What cannot be dumped about a TCP socket, by name; then its stream into
 * tcp-stream-INO. The target's socket is in repair mode only inside tcp_dump_stream().
 */
int tcp_check(struct dump_ctx *ctx, struct dump_file *f, uint32_t state) _must_check_;
int tcp_dump_stream(struct dump_ctx *ctx, struct dump_file *f, InetSkEntry *e) _must_check_;
void tcp_dump_done(struct dump_ctx *ctx);

/* One connection's queues and numbers, free of any context; for tests, too. */
struct tcp_stream {
	TcpStreamEntry e;
	uint8_t *inq, *outq;		/* heap */
	bool marked;			/* by an urgent byte, not in inq */
};
int tcp_stream_get(int fd, struct tcp_stream *s) _must_check_;
void tcp_stream_done(struct tcp_stream *s);

/*
 * tcp_restore.c. fd: a fresh socket with its early options set. After tcp_stream_put() it is
 * in repair mode; tcp_stream_finish() leaves it, sends what was not sent and the FIN.
 */
struct tcp_put {
	uint32_t state;
	union inet_addr src, dst;
	const TcpStreamEntry *e;
	const uint8_t *inq, *outq;
	const char *device;		/* SO_BINDTODEVICE */
};
int tcp_stream_put(int fd, const struct tcp_put *p) _must_check_;
int tcp_stream_finish(int fd, const struct tcp_put *p) _must_check_;

/*
 * tcp_forge.c. One segment as if the peer had sent it, over loopback: the only way to give a
 * socket its peer's FIN, or an ACK of its own.
 */
struct tcp_segment {
	union inet_addr from, to;	/* the peer, our socket */
	uint32_t seq, ack;
	uint16_t window;
	bool fin, rst;
	bool replay;			/* passes the network lock on lo */
};
#define TCP_FORGE_MARK	0xC114	/* passes CRIU's network lock, and ours */
int tcp_forge(const struct tcp_segment *segment) _must_check_;
/* Until the socket is in that TCP state; -ETIMEDOUT after a second. */
int tcp_wait_state(int fd, uint32_t state, uint32_t *ret_last) _must_check_;
size_t tcp_forge_build(const struct tcp_segment *s, uint8_t *packet, size_t room);

/*
 * tcp_kick.c. The peer of an established connection is made to retransmit now. For those that
 * have received nothing since tcp_stream_finish(). Silent; nothing depends on it.
 */
int tcp_kick(const struct tcp_put *p) _must_check_;

/*
 * tcp_dead.c. A socket whose connection is over (state CLOSE after both FINs or a reset) but
 * whose last data may be unread: replays that end over loopback.
 */
enum tcp_end {
	TCP_END_CLOSED,
	TCP_END_RESET,			/* by the peer */
	TCP_END_REFUSED,		/* idem, before it began */
	TCP_END_REFUSED_READ,		/* and that has been read (SO_ERROR) */
};
int tcp_dead_make(int fd, uint32_t family, const union inet_addr *src, const uint8_t *inq,
		  size_t inq_bytes, enum tcp_end end) _must_check_;

/* inet_restore.c */
int inet_begin(struct restore_ctx *ctx) _must_check_;
int inet_restore(struct restore_ctx *ctx, struct restore_file *f, int *ret_fd) _must_check_;
int inet_finish(struct restore_ctx *ctx, struct restore_file *f) _must_check_;
void inet_restore_done(struct restore_ctx *ctx);
/* What a hostile or damaged entry could do harm with. */
int inet_check_entry(const InetSkEntry *e) _must_check_;
int tcp_check_entry(const TcpStreamEntry *e) _must_check_;

/* sk_mcast.c. The groups of all sockets: candidates. */
struct mcast_groups {
	struct mcast_groups *next;	/* of another network namespace */
	uint32_t ns_id;
	struct mcast_group {
		int family;
		unsigned int ifindex;
		char ifname[16];	/* IFNAMSIZ, of two headers that clash */
		uint8_t address[16];
	} *list;
	size_t n;
};
int mcast_dump(struct dump_ctx *ctx, struct dump_file *f, InetSkEntry *e) _must_check_;
int mcast_restore(int fd, const InetSkEntry *e) _must_check_;
/* /proc/net/igmp and igmp6; for tests, too. -EBADMSG. */
int mcast_parse_v4(struct arena *a, const char *text, struct mcast_groups *ret) _must_check_;
int mcast_parse_v6(struct arena *a, const char *text, struct mcast_groups *ret) _must_check_;

/* udp.c: what cannot be dumped about a UDP or raw socket. */
int udp_check(struct dump_ctx *ctx, struct dump_file *f, uint32_t type, uint32_t proto,
	      uint16_t port) _must_check_;
void udp_reset_peek_off(SkOptsEntry *o);
/*
 * 1 and *ret: a raw or ping socket is connected; getpeername(2) does not tell, since its peer has
 * no port. From /proc/net/raw and the like; the parser for tests, too.
 */
int raw_peer(const struct dump_file *f, const InetSkEntry *e, union inet_addr *ret) _must_check_;
int raw_peer_parse(const char *text, uint32_t family, uint64_t ino, union inet_addr *ret)
	_must_check_;
int raw_opts_dump(struct dump_ctx *ctx, int fd, const InetSkEntry *e, IpOptsEntry *o)
	_must_check_;
int raw_opts_restore(int fd, const InetSkEntry *e) _must_check_;

#endif
