/*
 * TCP connections: reading one in repair mode.
 *
 *   dump     TCP_REPAIR on through a duplicate of the descriptor; lengths and sequence numbers
 *            of both queues, their bytes by MSG_PEEK, options, timestamp, window; off again
 *
 * An urgent byte that was read by MSG_OOB stays in the queue as a hole with a mark. SIOCINQ counts,
 * and a read stops, at the mark. What is saved are the bytes that the program would read.
 *
 * Leaving repair mode clears SO_REUSEADDR, so that is read first and put back. Segments may
 * arrive while we read where nothing locks the network (loopback): the numbers are read
 * again after the bytes, and everything anew if they moved.
 */
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>

#include "kind/sk_inet.h"

#ifndef TCP_AO_INFO
#define TCP_AO_INFO	40
#endif
#define SNAPSHOT_TRIES	20
#define QUEUE_MAX	(1u << 30)

int tcp_get_info(int fd, struct tcp_info *ret)
{
	socklen_t len = sizeof(*ret);

	memset(ret, 0, sizeof(*ret));
	return getsockopt(fd, SOL_TCP, TCP_INFO, ret, &len) < 0 ? neg_errno() : 0;
}

struct repair {
	int fd, reuse, peek_off;
	bool on, has_peek_off;
};

static int repair_begin(struct repair *rp, int fd)
{
	int r;

	*rp = (struct repair){ .fd = fd };
	r = sk_get_int(fd, SOL_SOCKET, SO_REUSEADDR, &rp->reuse);
	if (r < 0)
		return r;
	/* A socket with a peek offset (TCP has them since 6.9) would not show its first bytes. */
	if (!sk_get_int(fd, SOL_SOCKET, SO_PEEK_OFF, &rp->peek_off) && rp->peek_off >= 0)
		rp->has_peek_off = !sk_set_int(fd, SOL_SOCKET, SO_PEEK_OFF, -1);
	r = sk_set_int(fd, SOL_TCP, TCP_REPAIR, 1);
	rp->on = !r;
	/* The mode changes it, leaving the mode clears it: so whoever ends it for us sees what it was. */
	return r < 0 ? r : sk_set_int(fd, SOL_SOCKET, SO_REUSEADDR, rp->reuse);
}

static void repair_end(struct repair *rp)
{
	if (rp->on && sk_set_int(rp->fd, SOL_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP) < 0 &&
	    sk_set_int(rp->fd, SOL_TCP, TCP_REPAIR, 0) < 0)
		log_warn("cannot leave TCP repair mode: %s", strerror(errno));
	if (rp->on && sk_set_int(rp->fd, SOL_SOCKET, SO_REUSEADDR, rp->reuse) < 0)
		log_warn("cannot put SO_REUSEADDR back: %s", strerror(errno));
	if (rp->has_peek_off && sk_set_int(rp->fd, SOL_SOCKET, SO_PEEK_OFF, rp->peek_off) < 0)
		log_warn("cannot put SO_PEEK_OFF back: %s", strerror(errno));
	rp->on = rp->has_peek_off = false;
}

struct numbers {
	uint32_t state, inq, outq, unsent;
	uint32_t inq_seq, outq_seq;
	uint32_t before_mark;		/* of inq; all of it if there is no mark behind it */
	uint32_t marked;
};

static int queue_seq(int fd, int queue, uint32_t *ret)
{
	int v, r = sk_set_int(fd, SOL_TCP, TCP_REPAIR_QUEUE, queue);

	if (!r)
		r = sk_get_int(fd, SOL_TCP, TCP_QUEUE_SEQ, &v);
	if (!r)
		*ret = (uint32_t)v;
	return r;
}

/*
 * Inline, SIOCINQ counts all; else up to the mark, whose byte the program will not see. The
 * few instructions between are all that a killed engine could leave the option on in.
 */
static int read_inq(int fd, struct numbers *n)
{
	int r, bad, in_line, all = 0, at_mark = 0, up_to_mark = 0;

	r = sk_get_int(fd, SOL_SOCKET, SO_OOBINLINE, &in_line);
	if (!r && ioctl(fd, SIOCINQ, &up_to_mark) < 0)
		r = neg_errno();
	if (!r && !in_line)
		r = sk_set_int(fd, SOL_SOCKET, SO_OOBINLINE, 1);
	if (r < 0)
		return r;
	bad = ioctl(fd, SIOCINQ, &all) < 0 ? neg_errno() : 0;
	if (!in_line)
		r = sk_set_int(fd, SOL_SOCKET, SO_OOBINLINE, 0);
	if (!r && ioctl(fd, SIOCATMARK, &at_mark) < 0)
		r = neg_errno();
	if (bad < 0 || r < 0)
		return bad < 0 ? bad : r;
	if (up_to_mark < 0 || all < 0 || all > (int)QUEUE_MAX)
		return -EOVERFLOW;
	if (all < up_to_mark)		/* the first bytes of a mark came in between */
		return -EAGAIN;
	n->marked = at_mark || all > up_to_mark;
	n->inq = (uint32_t)(all - (all > up_to_mark));
	n->before_mark = (uint32_t)up_to_mark;
	return 0;
}

static int read_numbers(int fd, struct numbers *n, struct tcp_info *info)
{
	int outq = 0, unsent = 0, r;

	memset(n, 0, sizeof(*n));	/* compared as bytes */
	r = tcp_get_info(fd, info);
	if (r < 0)
		return r;
	n->state = info->tcpi_state;
	if (ioctl(fd, SIOCOUTQ, &outq) < 0 || ioctl(fd, SIOCOUTQNSD, &unsent) < 0)
		return neg_errno();
	/* Our FIN counts as a byte until it is acknowledged. */
	if (tcp_has_sent_fin(n->state) && outq > 0)
		outq--;
	if (tcp_has_sent_fin(n->state) && unsent > 0)
		unsent--;
	if (n->state == TCP_CLOSE)
		outq = unsent = 0;
	if (outq < 0 || unsent < 0 || outq > (int)QUEUE_MAX)
		return -EOVERFLOW;
	n->outq = (uint32_t)outq;
	n->unsent = MIN((uint32_t)unsent, n->outq);
	r = read_inq(fd, n);
	if (!r)
		r = queue_seq(fd, REPAIR_RECV_QUEUE, &n->inq_seq);
	return r < 0 ? r : queue_seq(fd, REPAIR_SEND_QUEUE, &n->outq_seq);
}

/* A look at the receive queue ends before a mark that it does not begin at. */
static ssize_t peek_behind_mark(int fd, uint8_t *buf, size_t room, int mark)
{
	int r = sk_set_int(fd, SOL_SOCKET, SO_PEEK_OFF, mark), back;
	ssize_t n;

	if (r < 0)
		return -ENOTRECOVERABLE;	/* TCP has it since 6.9 */
	n = recv(fd, buf, room, MSG_PEEK | MSG_DONTWAIT);
	n = n < 0 ? neg_errno() : n;
	back = sk_set_int(fd, SOL_SOCKET, SO_PEEK_OFF, -1);
	return back < 0 ? back : n;
}

/*
 * The kernel copies whole segments of the send queue and gives EFAULT if they do not fit;
 * the first may hold bytes that are acknowledged already. So: more room than needed, and the
 * last bytes count.
 */
static int peek_queue(int fd, int queue, uint32_t bytes, const struct numbers *nu, uint8_t **ret)
{
	size_t room = (size_t)bytes + (queue == REPAIR_SEND_QUEUE ? 256u << 10 : 0);
	_cleanup_free_ uint8_t *buf = NULL;
	ssize_t n, more;
	int r;

	if (!bytes)
		return 0;
	buf = malloc(room);
	if (!buf)
		return -ENOMEM;
	r = sk_set_int(fd, SOL_TCP, TCP_REPAIR_QUEUE, queue);
	if (r < 0)
		return r;
	n = recv(fd, buf, room, MSG_PEEK | MSG_DONTWAIT);
	if (n < 0)
		return neg_errno();
	if (queue == REPAIR_RECV_QUEUE && nu->before_mark && (size_t)n < bytes) {
		more = peek_behind_mark(fd, buf + n, room - (size_t)n, (int)n);
		if (more < 0)
			return (int)more;
		n += more;
	}
	if ((size_t)n < bytes || (queue == REPAIR_RECV_QUEUE && (size_t)n != bytes))
		return -EAGAIN;
	memmove(buf, buf + ((size_t)n - bytes), bytes);
	*ret = take_ptr(buf);
	return 0;
}

static void fill_entry(TcpStreamEntry *e, const struct numbers *n, const struct tcp_info *info)
{
	tcp_stream_entry__init(e);
	e->inq_len = n->inq;
	e->inq_seq = n->inq_seq;
	e->outq_len = n->outq;
	e->outq_seq = n->outq_seq;
	e->has_unsq_len = true;
	e->unsq_len = n->unsent;
	if (n->state == TCP_SYN_SENT || n->state == TCP_CLOSE)
		return;
	e->opt_mask = info->tcpi_options;
	if (info->tcpi_options & TCPI_OPT_WSCALE) {
		e->snd_wscale = info->tcpi_snd_wscale;
		e->has_rcv_wscale = true;
		e->rcv_wscale = info->tcpi_rcv_wscale;
	}
}

static int read_window(int fd, TcpStreamEntry *e)
{
	struct tcp_window w;
	socklen_t len = sizeof(w);

	if (getsockopt(fd, SOL_TCP, TCP_REPAIR_WINDOW, &w, &len) < 0)
		return errno == ENOPROTOOPT ? 0 : neg_errno();
	e->has_snd_wl1 = e->has_snd_wnd = e->has_max_window = true;
	e->has_rcv_wnd = e->has_rcv_wup = true;
	e->snd_wl1 = w.snd_wl1;
	e->snd_wnd = w.snd_wnd;
	e->max_window = w.max_window;
	e->rcv_wnd = w.rcv_wnd;
	e->rcv_wup = w.rcv_wup;
	return 0;
}

static int read_options(int fd, TcpStreamEntry *e, const struct tcp_info *info)
{
	int v, r = sk_get_int(fd, SOL_TCP, TCP_MAXSEG, &v);

	if (r < 0)
		return r;
	e->mss_clamp = (uint32_t)v;
	if (!(info->tcpi_options & TCPI_OPT_TIMESTAMPS))
		return 0;
	r = sk_get_int(fd, SOL_TCP, TCP_TIMESTAMP, &v);
	if (r < 0)
		return r;
	e->has_timestamp = true;
	e->timestamp = (uint32_t)v;
	/*
	 * Since 6.7 the lowest bit says "in microseconds"; on older kernels it is just a bit.
	 * One millisecond more is always right, one less may not be.
	 */
	if (!(info->tcpi_options & TCPI_OPT_USEC_TS))
		e->timestamp = (e->timestamp + 1) & ~1u;
	return 0;
}

static int snapshot(int fd, struct tcp_stream *s)
{
	struct numbers before, after;
	struct tcp_info info;
	int r = read_numbers(fd, &before, &info);

	if (r < 0)
		return r;
	fill_entry(&s->e, &before, &info);
	if (before.state != TCP_CLOSE && before.state != TCP_SYN_SENT) {
		r = read_window(fd, &s->e);
		if (!r)
			r = read_options(fd, &s->e, &info);
	}
	if (!r)
		r = peek_queue(fd, REPAIR_RECV_QUEUE, before.inq, &before, &s->inq);
	if (!r)
		r = peek_queue(fd, REPAIR_SEND_QUEUE, before.outq, &before,
			       &s->outq);
	if (r < 0)
		return r;
	r = read_numbers(fd, &after, &info);
	if (r < 0)
		return r;
	s->marked = before.marked;
	return memcmp(&before, &after, sizeof(before)) ? -EAGAIN : 0;
}

int tcp_stream_get(int fd, struct tcp_stream *s)
{
	_cleanup_(repair_end) struct repair rp = { .fd = -EBADF };
	int r = repair_begin(&rp, fd);

	*s = (struct tcp_stream){ 0 };
	if (r < 0)
		return r;
	for (int i = 0; i < SNAPSHOT_TRIES; i++) {
		r = snapshot(fd, s);
		if (!r)
			return 0;
		tcp_stream_done(s);
		if (r != -EAGAIN)
			return r;
	}
	return r;
}

void tcp_stream_done(struct tcp_stream *s)
{
	free(s->inq);
	free(s->outq);
	s->inq = s->outq = NULL;
}

/* Of a listener, too: its keys go to what it accepts. */
static int check_authentication(int fd)
{
	char probe[64] = { 0 };
	socklen_t len = sizeof(probe);

	if (!getsockopt(fd, SOL_TCP, TCP_AO_INFO, probe, &len))
		return log_obstacle("remove the keys or close the socket first",
				    "TCP socket with authentication option (TCP-AO)");
	return 0;
}

/* Asked for no byte of it, the kernel keeps it and says how much there is. */
static void warn_saved_syn(int fd)
{
	char none;
	socklen_t len = 0;

	if (getsockopt(fd, SOL_TCP, TCP_SAVED_SYN, &none, &len) < 0 && errno == EINVAL && len)
		log_warn("the connection's SYN that nobody has read (TCP_SAVED_SYN) is lost");
}

static int check_protocol(int fd)
{
	char ulp[16] = "";
	socklen_t len = sizeof(ulp) - 1;
	struct pollfd p = { .fd = fd, .events = POLLPRI };

	if (!getsockopt(fd, SOL_TCP, TCP_ULP, ulp, &len) && len && ulp[0])
		return log_obstacle("switch kernel TLS off in the service's configuration",
				    "TCP connection with upper layer protocol \"%s\"", ulp);
	if (poll(&p, 1, 0) > 0 && p.revents & POLLPRI)
		return log_obstacle("try again when the service has read it",
				    "TCP connection with unread urgent data");
	return 0;
}

static int check_queue(struct dump_ctx *ctx, struct dump_file *f)
{
	struct tcp_info info;
	int r = tcp_get_info(f->fd, &info);

	if (r < 0)
		return log_err(r, "cannot read TCP_INFO");
	if (!info.tcpi_unacked)
		return 0;
	if (!ctx->opts->skip_in_flight)
		return dump_obstacle_for_now(ctx, "try again, or give --skip-in-flight to lose them",
					     "%u connection(s) of a listening socket wait to be accepted",
					     info.tcpi_unacked);
	log_warn("%u connection(s) that wait to be accepted are lost", info.tcpi_unacked);
	return 0;
}

int tcp_check(struct dump_ctx *ctx, struct dump_file *f, uint32_t state)
{
	const struct sockdiag *d;
	int r = sk_diag(ctx, f, SOCKDIAG_TCP, true, &d);

	if (r < 0)
		return r;
	if (d && d->md5)
		return log_obstacle("remove the key or close the socket first",
				    "TCP socket with MD5 signatures (TCP_MD5SIG)");
	r = check_authentication(f->fd);
	if (r < 0)
		return r;
	if (state == TCP_LISTEN)
		return check_queue(ctx, f);
	warn_saved_syn(f->fd);
	r = check_protocol(f->fd);
	if (r < 0)
		return r;
	if (state == TCP_SYN_RECV)
		return log_obstacle("try again", "TCP connection in the middle of its handshake");
	if (state != TCP_CLOSE && !ctx->opts->tcp_established && !ctx->opts->tcp_close)
		return log_obstacle("give --tcp-established, or --tcp-close to lose it",
				    "connected TCP socket");
	return 0;
}

/* The connections of a tree that will be killed. */
struct tcp_held {
	struct repair *socks;
	size_t n;
};

static int remember(struct dump_ctx *ctx, int fd)
{
	struct tcp_held *h = ctx->kind_state[FD_TYPES__INETSK];
	struct repair *slot;

	if (!h)
		h = ctx->kind_state[FD_TYPES__INETSK] = ARENA_NEW(&ctx->arena, struct tcp_held);
	slot = h ? ARENA_PUSH(&ctx->arena, h->socks, h->n) : NULL;
	if (!slot)
		return log_err(-ENOMEM, "cannot remember the connection");
	*slot = (struct repair){ .fd = fcntl(fd, F_DUPFD_CLOEXEC, 3) };
	return slot->fd < 0 ? log_err(neg_errno(), "cannot duplicate the connection") : 0;
}

/* A socket that is closed in repair mode tells its peer nothing. */
int sk_dump_silence(struct dump_ctx *ctx)
{
	struct tcp_held *h = ctx->kind_state[FD_TYPES__INETSK];
	int r = 0;

	for (size_t i = 0; h && !r && i < h->n; i++)
		r = repair_begin(&h->socks[i], h->socks[i].fd);
	if (r < 0) {
		for (size_t i = 0; i < h->n; i++)
			repair_end(&h->socks[i]);
		return log_err(r, "cannot silence the TCP connections");
	}
	return 0;
}

void tcp_dump_done(struct dump_ctx *ctx)
{
	struct tcp_held *h = ctx->kind_state[FD_TYPES__INETSK];

	for (size_t i = 0; h && i < h->n; i++)
		close_fdp(&h->socks[i].fd);
	if (h)
		h->n = 0;
}

/*
 * An error that nobody has read cannot be looked at. If nothing ever came (the first number of what
 * is received is not known) a connect failed: by a reset, which counts as a segment, or in a way
 * not told. Whose error has been read may connect again, where one that was connected may not.
 */
static void judge_failure(int fd, const struct tcp_stream *s, InetSkEntry *e)
{
	enum { SEGS_IN = 140 };		/* in struct tcp_info of linux/tcp.h, which clashes */
	uint8_t info[SEGS_IN + 4] = { 0 };
	socklen_t len = sizeof(info);
	uint32_t segs_in = 0;

	if (e->state != TCP_CLOSE || s->e.inq_seq || (!e->reset && !e->dst_port))
		return;
	e->has_refused = e->refused = true;
	if (!e->reset || getsockopt(fd, SOL_TCP, TCP_INFO, info, &len) < 0 || len < sizeof(info))
		return;
	memcpy(&segs_in, info + SEGS_IN, sizeof(segs_in));
	if (!segs_in)
		log_warn("why the connect failed is lost: it comes back as refused");
}

int tcp_dump_stream(struct dump_ctx *ctx, struct dump_file *f, InetSkEntry *e)
{
	_cleanup_image_writer_ struct image_writer *w = NULL;
	_cleanup_(tcp_stream_done) struct tcp_stream s = { 0 };
	int r = tcp_stream_get(f->fd, &s);

	if (r == -EAGAIN)
		return log_fail(r, "the TCP connection changes all the time; is the network "
				"locked?");
	if (r == -ENOTRECOVERABLE)
		return log_obstacle("try again when the service has read it, or on Linux >= 6.9",
				    "TCP connection with a mark of urgent data in the middle of "
				    "unread data");
	if (r == -EPERM)
		return log_err(r, "cannot read the TCP connection (needs CAP_NET_ADMIN)");
	if (r < 0)
		return log_err(r, "cannot read the TCP connection");
	if (s.marked)
		log_warn("the mark of urgent data that has been read (SIOCATMARK) is lost; the "
			 "data are not");
	judge_failure(f->fd, &s, e);
	s.e.has_cork = s.e.has_nodelay = false;
	r = image_create(ctx->store, &image_tcp_stream, &w, e->ino);
	if (!r)
		r = image_put(w, &s.e.base);
	if (!r && s.e.inq_len)
		r = image_put_raw(w, s.inq, s.e.inq_len);
	if (!r && s.e.outq_len)
		r = image_put_raw(w, s.outq, s.e.outq_len);
	if (!r)
		r = image_close(take_ptr(w));
	if (r < 0)
		return log_err(r, "cannot write tcp-stream-%x.img", e->ino);
	return e->state != TCP_CLOSE && ctx->opts->final_state == CR_KILL ? remember(ctx, f->fd)
									  : 0;
}
