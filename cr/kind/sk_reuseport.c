/*
 * Programs that choose which socket of a SO_REUSEPORT group gets a connection
 * (SO_ATTACH_REUSEPORT_EBPF, _CBPF). The kernel tells nobody whether a group has one. Of eBPF ones
 * it tells at least that they are there: then every socket in a group is suspect. Classic ones
 * cannot be seen at all.
 */
#include <linux/bpf.h>
#include <string.h>
#include <sys/syscall.h>

#include "kind/sk_common.h"

static int call_bpf(int cmd, union bpf_attr *a)
{
	long r = syscall(SYS_bpf, cmd, a, sizeof(*a));

	return r < 0 ? neg_errno() : (int)r;
}

static bool chooses_sockets(uint32_t id)
{
	union bpf_attr a = { .prog_id = id };
	struct bpf_prog_info info = { 0 };
	_cleanup_close_ int fd = call_bpf(BPF_PROG_GET_FD_BY_ID, &a);

	if (fd < 0)
		return false;
	memset(&a, 0, sizeof(a));
	a.info.bpf_fd = (uint32_t)fd;
	a.info.info_len = sizeof(info);
	a.info.info = (uint64_t)(uintptr_t)&info;
	return !call_bpf(BPF_OBJ_GET_INFO_BY_FD, &a) && info.type == BPF_PROG_TYPE_SK_REUSEPORT;
}

static uint32_t find_program(void)
{
	union bpf_attr a = { 0 };

	while (!call_bpf(BPF_PROG_GET_NEXT_ID, &a)) {
		uint32_t id = a.next_id;

		if (chooses_sockets(id))
			return id;
		memset(&a, 0, sizeof(a));
		a.start_id = id;
	}
	return 0;
}

void sk_reuseport_check(struct sk_reuseport *known)
{
	if (!known->looked)
		known->program = find_program();
	known->looked = true;
	if (known->program)
		log_warn("an eBPF program (id %u) spreads connections over some SO_REUSEPORT group: "
			 "if it is this socket's, that is lost", known->program);
}
