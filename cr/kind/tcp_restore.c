/*
 * TCP connections: making one without a handshake.
 *
 *   restore  in repair mode: bind, sequence numbers, connect (sends nothing), options, both
 *            queues, window; the peer's FIN by a forged segment
 *   finish   repair off (probes the window, which makes the peer say what it has), the bytes
 *            that were never sent, our FIN
 *
 * TCP_REPAIR_OPTIONS sets the peer's MSS but the segment size was computed by connect():
 * TCP_MAXSEG, for the time of the connect, makes it right.
 */
#include <string.h>

#include "kind/sk_inet.h"

#define SEND_CHUNK	(64u << 10)

/* The options' numbers in a SYN; struct tcp_repair_opt takes the same. */
enum { OPT_MSS = 2, OPT_WINDOW = 3, OPT_SACK_PERM = 4, OPT_TIMESTAMP = 8 };

static int set_seq(int fd, int queue, uint32_t seq)
{
	int r = sk_set_int(fd, SOL_TCP, TCP_REPAIR_QUEUE, queue);

	if (!r)
		r = sk_set_int(fd, SOL_TCP, TCP_QUEUE_SEQ, (int)seq);
	return r < 0 ? log_err(r, "cannot set the TCP sequence number") : 0;
}

static int set_seqs(int fd, const struct tcp_put *p)
{
	uint32_t in = p->e->inq_seq - p->e->inq_len - (tcp_has_got_fin(p->state) ? 1 : 0);
	uint32_t out = p->e->outq_seq - p->e->outq_len - (tcp_has_sent_fin(p->state) ? 1 : 0);
	int r;

	/* The SYN itself has a number. */
	if (p->state == TCP_SYN_SENT)
		out--;
	r = set_seq(fd, REPAIR_RECV_QUEUE, in);
	return r < 0 ? r : set_seq(fd, REPAIR_SEND_QUEUE, out);
}

static int connect_to(int fd, const union inet_addr *dst)
{
	char text[INET_ADDR_TEXT];

	if (!connect(fd, &dst->sa, inet_addr_len(dst)))
		return 0;
	if (errno == ENETUNREACH || errno == EHOSTUNREACH || errno == EINVAL)
		return log_err(neg_errno(), "no route to %s: are the addresses and routes of "
			       "the dump there?", inet_addr_text(dst, text));
	if (errno == EADDRNOTAVAIL)
		return log_err(neg_errno(), "another socket holds the connection to %s: does "
			       "the dumped process still run?", inet_addr_text(dst, text));
	return log_err(neg_errno(), "cannot connect to %s", inet_addr_text(dst, text));
}

/* TCP_REPAIR_OPTIONS would take anything. */
static bool mss_is_sane(const TcpStreamEntry *e)
{
	return e->mss_clamp >= 88;
}

static int connect_silently(int fd, const struct tcp_put *p)
{
	uint32_t mss = p->e->mss_clamp;
	bool limit = mss_is_sane(p->e) && mss <= 32767;	/* what TCP_MAXSEG takes */
	int r = limit ? SK_SET(fd, SOL_TCP, TCP_MAXSEG, (int)mss) : 0;

	if (!r)
		r = connect_to(fd, &p->dst);
	if (!r && limit)
		r = SK_SET(fd, SOL_TCP, TCP_MAXSEG, 0);
	return r;
}

static int set_options(int fd, const TcpStreamEntry *e)
{
	struct tcp_repair_opt opts[4];
	socklen_t n = 0;
	uint32_t stamp = e->timestamp;
	int r;

	if (e->opt_mask & TCPI_OPT_SACK)
		opts[n++] = (struct tcp_repair_opt){ OPT_SACK_PERM, 0 };
	if (e->opt_mask & TCPI_OPT_WSCALE)
		opts[n++] = (struct tcp_repair_opt){ OPT_WINDOW,
						     e->snd_wscale | e->rcv_wscale << 16 };
	if (e->opt_mask & TCPI_OPT_TIMESTAMPS)
		opts[n++] = (struct tcp_repair_opt){ OPT_TIMESTAMP, 0 };
	if (mss_is_sane(e))
		opts[n++] = (struct tcp_repair_opt){ OPT_MSS, e->mss_clamp };
	if (n && setsockopt(fd, SOL_TCP, TCP_REPAIR_OPTIONS, opts, n * sizeof(*opts)) < 0)
		return log_err(neg_errno(), "cannot set the connection's TCP options");
	if (!(e->opt_mask & TCPI_OPT_TIMESTAMPS))
		return 0;
	/* See tcp.c: the lowest bit must not switch to microseconds by accident. */
	if (!(e->opt_mask & TCPI_OPT_USEC_TS))
		stamp = (stamp + 1) & ~1u;
	r = sk_set_int(fd, SOL_TCP, TCP_TIMESTAMP, (int)stamp);
	return r < 0 ? log_err(r, "cannot set the connection's TCP timestamp") : 0;
}

/* The kernel takes what fits into one segment buffer at a time. */
static int fill_queue(int fd, const uint8_t *data, size_t bytes, const char *what)
{
	while (bytes) {
		ssize_t n = send(fd, data, MIN(bytes, (size_t)SEND_CHUNK),
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return log_err(n ? neg_errno() : -EIO,
				       "cannot put %zu more bytes into the TCP %s queue", bytes,
				       what);
		data += n;
		bytes -= (size_t)n;
	}
	return 0;
}

static int fill_queues(int fd, const struct tcp_put *p)
{
	uint32_t sent = p->e->outq_len - p->e->unsq_len;
	int r = sk_set_int(fd, SOL_TCP, TCP_REPAIR_QUEUE, REPAIR_RECV_QUEUE);

	if (r < 0)
		return log_err(r, "cannot choose the TCP receive queue");
	r = fill_queue(fd, p->inq, p->e->inq_len, "receive");
	if (r < 0)
		return r;
	r = sk_set_int(fd, SOL_TCP, TCP_REPAIR_QUEUE, REPAIR_SEND_QUEUE);
	if (r < 0)
		return log_err(r, "cannot choose the TCP send queue");
	return fill_queue(fd, p->outq, sent, "send");
}

static int set_window(int fd, const TcpStreamEntry *e)
{
	struct tcp_window w = {
		.snd_wl1 = e->snd_wl1,
		.snd_wnd = e->snd_wnd,
		.max_window = e->max_window,
		.rcv_wnd = e->rcv_wnd,
		.rcv_wup = e->rcv_wup,
	};

	if (!e->has_snd_wl1)
		return 0;
	if (setsockopt(fd, SOL_TCP, TCP_REPAIR_WINDOW, &w, sizeof(w)) < 0)
		return log_err(neg_errno(), "cannot set the connection's TCP window");
	return 0;
}

static int expect_state(int fd, uint32_t state)
{
	uint32_t last;
	int r = tcp_wait_state(fd, state, &last);

	if (r == -ETIMEDOUT)
		return log_fail(r, "the connection is in TCP state %u instead of %u after its FIN "
				"was replayed: is lo up, does a firewall drop packets on it?",
				last, state);
	return r < 0 ? log_err(r, "cannot read TCP_INFO") : 0;
}

/* A socket bound to an interface would not get what comes over lo, and the peer a reset. */
static int forge(int fd, const struct tcp_put *p, const struct tcp_segment *s)
{
	size_t len = p->device ? strlen(p->device) : 0;
	int r;

	if (len && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "", 0) < 0)
		return log_err(neg_errno(), "cannot unbind the socket from %s", p->device);
	r = tcp_forge(s);
	if (len && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, p->device, (socklen_t)len) < 0)
		return log_err(neg_errno(), "cannot bind the socket to %s", p->device);
	return r < 0 ? log_err(r, "cannot replay the end of the TCP connection") : 0;
}

static int replay_fins(int fd, const struct tcp_put *p)
{
	const TcpStreamEntry *e = p->e;
	uint32_t window = e->snd_wnd >> MIN(e->snd_wscale, 14u);
	struct tcp_segment s = {
		.from = p->dst,
		.to = p->src,
		.seq = e->inq_seq,
		.ack = e->outq_seq - e->outq_len - (tcp_has_sent_fin(p->state) ? 1 : 0),
		.window = (uint16_t)MIN(window, 65535u),
	};
	int r = 0;

	switch (p->state) {
	case TCP_CLOSE_WAIT:
	case TCP_LAST_ACK:
		s.seq--;
		s.fin = true;
		r = forge(fd, p, &s);
		return r < 0 ? r : expect_state(fd, TCP_CLOSE_WAIT);
	case TCP_FIN_WAIT2:
		s.ack++;
		if (shutdown(fd, SHUT_WR) < 0)
			return log_err(neg_errno(), "cannot shut the connection down");
		r = forge(fd, p, &s);
		return r < 0 ? r : expect_state(fd, TCP_FIN_WAIT2);
	case TCP_CLOSING:
		if (e->unsq_len)	/* ends as LAST_ACK: the same but for TIME_WAIT */
			break;
		if (shutdown(fd, SHUT_WR) < 0)
			return log_err(neg_errno(), "cannot shut the connection down");
		break;
	default:
		return 0;
	}
	s.seq--;
	s.fin = true;
	r = forge(fd, p, &s);
	return r < 0 ? r : expect_state(fd, e->unsq_len ? TCP_CLOSE_WAIT : TCP_CLOSING);
}

int tcp_stream_put(int fd, const struct tcp_put *p)
{
	int r = sk_set_int(fd, SOL_TCP, TCP_REPAIR, 1);

	if (r < 0)
		return log_err(r, "cannot enter TCP repair mode (needs CAP_NET_ADMIN)");
	r = inet_bind(fd, &p->src);
	if (!r)
		r = sk_buffers_for(fd, MAX(p->e->inq_len, 1u), MAX(p->e->outq_len, 1u));
	if (!r)
		r = set_seqs(fd, p);
	if (r < 0 || p->state == TCP_SYN_SENT)
		return r;
	r = connect_silently(fd, p);
	if (!r)
		r = set_options(fd, p->e);
	if (!r)
		r = fill_queues(fd, p);
	if (!r)
		r = replay_fins(fd, p);
	/* Last: a forged segment may have changed it. */
	return r < 0 ? r : set_window(fd, p->e);
}

int tcp_stream_finish(int fd, const struct tcp_put *p)
{
	uint32_t sent = p->e->outq_len - p->e->unsq_len;
	int r = sk_set_int(fd, SOL_TCP, TCP_REPAIR, 0);

	if (r < 0)
		return log_err(r, "cannot leave TCP repair mode");
	if (p->state == TCP_SYN_SENT) {
		/* Begins the handshake again, with the same number; the task sees EINPROGRESS. */
		if (connect(fd, &p->dst.sa, inet_addr_len(&p->dst)) < 0 && errno != EINPROGRESS)
			return connect_to(fd, &p->dst);
		return 0;
	}
	r = fill_queue(fd, p->outq ? p->outq + sent : NULL, p->e->unsq_len, "send");
	if (r < 0)
		return r;
	if (p->state != TCP_FIN_WAIT1 && p->state != TCP_LAST_ACK &&
	    !(p->state == TCP_CLOSING && p->e->unsq_len))
		return 0;
	if (shutdown(fd, SHUT_WR) < 0)
		return log_err(neg_errno(), "cannot shut the connection down");
	return 0;
}
