/*
 * Requests by a socket (CRIU's RPC): one message of image/proto/rpc.proto is one packet of a
 * SOCK_SEQPACKET connection.
 *
 *	service.c	swrk, service: where connections come from
 *	rpc_session.c	the requests, and what is answered
 *	rpc_opts.c	a request's options as words of a command line
 *	rpc_wire.c	packets
 */
#ifndef CR_CMD_RPC_H
#define CR_CMD_RPC_H

#include "cmd/cmd.h"
#include "image/proto.h"

struct rpc_session {
	int sock;
	pid_t peer;			/* whose descriptors a request names; 0: none of our pids */
	bool swrk;			/* we are the client's own child, with descriptors of its */
	bool told_to_end;		/* by a signal, while the last request ran */
	bool notify;			/* it wants to be asked at each event of the running request */
};

/* Serves a connection until it is over. Exit status as CRIU's: 0 or 255. */
int rpc_serve(struct rpc_session *s) _must_check_;
/* Answers, without a request, that there will be none. */
void rpc_turn_away(const struct rpc_session *s, int r);

/* The next request, in the arena: 1. 0: the peer has closed. -EBADMSG: it is none. */
int rpc_receive(int sock, struct arena *a, CriuReq **ret) _must_check_;
/* With descriptor fd, if that is not negative. */
int rpc_send(int sock, const CriuResp *resp, int fd) _must_check_;

/* Directories, log file and level: what must be known to log anything. */
int rpc_take_places(const struct rpc_session *s, const CriuOpts *req, struct cmd_opts *o) _must_check_;
/* Everything else. -EBADRQC, -EOPNOTSUPP: refused, and logged why. */
int rpc_take_options(const struct rpc_session *s, const CriuOpts *req, struct cmd_opts *o) _must_check_;

/* cmd_notify() calls it. Negative: the client refuses, or is gone. */
int rpc_notify(struct cmd_opts *o, const char *event, pid_t root) _must_check_;
/* struct cr_opts.give_master: an event that carries a descriptor. arg: struct cmd_opts. */
int rpc_give_master(void *arg, int fd) _must_check_;

#endif
