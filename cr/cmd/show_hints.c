/* How fields of the images like to be shown: CRIU's display hints (hex, flags, devices …). */
#include <string.h>

#include "cmd/show.h"

static const struct hint_value mmap_prot[] = {
	{ 1, "PROT_READ" }, { 2, "PROT_WRITE" }, { 4, "PROT_EXEC" }, { 0, NULL },
};
static const struct hint_value mmap_flags[] = {
	{ 0x1, "MAP_SHARED" }, { 0x2, "MAP_PRIVATE" }, { 0x8, "MAP_DROPPABLE" },
	{ 0x20, "MAP_ANON" }, { 0x100, "MAP_GROWSDOWN" }, { 0x2000, "MAP_LOCKED" },
	{ 0x4000, "MAP_NORESERVE" }, { 0x40000, "MAP_HUGETLB" }, { 0, NULL },
};
static const struct hint_value mmap_status[] = {
	{ 0x1, "VMA_AREA_REGULAR" }, { 0x2, "VMA_AREA_STACK" }, { 0x4, "VMA_AREA_VSYSCALL" },
	{ 0x8, "VMA_AREA_VDSO" }, { 0x20, "VMA_AREA_HEAP" }, { 0x40, "VMA_FILE_PRIVATE" },
	{ 0x80, "VMA_FILE_SHARED" }, { 0x100, "VMA_ANON_SHARED" }, { 0x200, "VMA_ANON_PRIVATE" },
	{ 0x400, "VMA_AREA_SYSVIPC" }, { 0x800, "VMA_AREA_SOCKET" }, { 0x1000, "VMA_AREA_VVAR" },
	{ 0x2000, "VMA_AREA_AIORING" }, { 0x4000, "VMA_AREA_MEMFD" },
	{ 0x8000, "VMA_AREA_SHSTK" }, { 0x10000, "VMA_AREA_GUARD" },
	{ 0x20000, "VMA_AREA_UPROBES" }, { 0x8000000, "VMA_EXT_PLUGIN" }, { 0, NULL },
};
static const struct hint_value pagemap_flags[] = {
	{ 1, "PE_PARENT" }, { 2, "PE_LAZY" }, { 4, "PE_PRESENT" }, { 0, NULL },
};
/* Octal as in the kernel's headers; reading is the absence of the first two. */
static const struct hint_value file_flags[] = {
	{ 01, "O_WRONLY" }, { 02, "O_RDWR" }, { 0100, "O_CREAT" }, { 0200, "O_EXCL" },
	{ 0400, "O_NOCTTY" }, { 01000, "O_TRUNC" }, { 02000, "O_APPEND" },
	{ 04000, "O_NONBLOCK" }, { 010000, "O_DSYNC" }, { 020000, "FASYNC" },
	{ 040000, "O_DIRECT" }, { 0100000, "O_LARGEFILE" }, { 0200000, "O_DIRECTORY" },
	{ 0400000, "O_NOFOLLOW" }, { 01000000, "O_NOATIME" }, { 02000000, "O_CLOEXEC" },
	{ 010000000, "O_PATH" }, { 0, NULL },
};
static const struct hint_value seals[] = {
	{ 1, "F_SEAL_SEAL" }, { 2, "F_SEAL_SHRINK" }, { 4, "F_SEAL_GROW" }, { 8, "F_SEAL_WRITE" },
	{ 16, "F_SEAL_FUTURE_WRITE" }, { 32, "F_SEAL_EXEC" }, { 0, NULL },
};
static const struct hint_value task_state[] = {
	{ 1, "Alive" }, { 2, "Dead" }, { 3, "Stopped" }, { 0, NULL },
};
static const struct hint_value sk_family[] = {
	{ 1, "UNIX" }, { 2, "INET" }, { 10, "INET6" }, { 0, NULL },
};
static const struct hint_value sk_type[] = {
	{ 1, "STREAM" }, { 2, "DGRAM" }, { 3, "RAW" }, { 5, "SEQPACKET" }, { 10, "PACKET" },
	{ 0, NULL },
};
static const struct hint_value sk_proto[] = {
	{ 0, "IP" }, { 1, "ICMP" }, { 6, "TCP" }, { 17, "UDP" }, { 58, "ICMPV6" },
	{ 136, "UDPLITE" }, { 0, NULL },
};
static const struct hint_value sk_state[] = {
	{ 1, "ESTABLISHED" }, { 2, "SYN_SENT" }, { 3, "SYN_RECV" }, { 4, "FIN_WAIT1" },
	{ 5, "FIN_WAIT2" }, { 6, "TIME_WAIT" }, { 7, "CLOSE" }, { 8, "CLOSE_WAIT" },
	{ 9, "LAST_ACK" }, { 10, "LISTEN" }, { 11, "CLOSING" }, { 0, NULL },
};

#define HEX(f)		{ f, HINT_HEX, NULL }
#define FLAGS(f, t)	{ f, HINT_FLAGS, t }
#define DICT(f, t)	{ f, HINT_DICT, t }

static const struct hint hints[] = {
	HEX("sa_entry.sigaction"), HEX("sa_entry.flags"), HEX("sa_entry.restorer"),
	HEX("sa_entry.mask"), HEX("sa_entry.mask_extended"),
	DICT("task_core_entry.task_state", task_state),
	HEX("task_core_entry.blk_sigset"), HEX("task_core_entry.blk_sigset_extended"),
	HEX("task_core_entry.flags"), HEX("task_core_entry.membarrier_registration_mask"),
	HEX("thread_core_entry.futex_rla"), HEX("thread_core_entry.blk_sigset"),
	HEX("thread_core_entry.blk_sigset_extended"), HEX("thread_sas_entry.ss_sp"),
	HEX("rseq_entry.rseq_abi_pointer"), HEX("rseq_entry.signature"),
	HEX("rseq_entry.rseq_cs_pointer"), HEX("posix_timer_entry.sival_ptr"),
	HEX("user_x86_cet_entry.cet"), HEX("user_x86_cet_entry.ssp"),
	HEX("thread_info_x86.clear_tid_addr"), HEX("user_x86_regs_entry."),
	HEX("user_x86_xsave_entry."), HEX("user_x86_fpregs_entry."),
	HEX("user_desc_t.base_addr"), HEX("user_desc_t.limit"),
	HEX("creds_entry.cap_inh"), HEX("creds_entry.cap_prm"), HEX("creds_entry.cap_eff"),
	HEX("creds_entry.cap_bnd"), HEX("creds_entry.cap_amb"), HEX("creds_entry.secbits"),
	HEX("mm_entry.mm_start_code"), HEX("mm_entry.mm_end_code"),
	HEX("mm_entry.mm_start_data"), HEX("mm_entry.mm_end_data"),
	HEX("mm_entry.mm_start_stack"), HEX("mm_entry.mm_start_brk"), HEX("mm_entry.mm_brk"),
	HEX("mm_entry.mm_arg_start"), HEX("mm_entry.mm_arg_end"),
	HEX("mm_entry.mm_env_start"), HEX("mm_entry.mm_env_end"),
	HEX("mm_entry.mm_saved_auxv"), HEX("aio_ring_entry.id"),
	HEX("vma_entry.start"), HEX("vma_entry.end"), HEX("vma_entry.pgoff"),
	FLAGS("vma_entry.prot", mmap_prot), FLAGS("vma_entry.flags", mmap_flags),
	FLAGS("vma_entry.status", mmap_status), HEX("vma_entry.madv"), HEX("vma_entry.fdflags"),
	HEX("pagemap_entry.vaddr"), FLAGS("pagemap_entry.flags", pagemap_flags),
	{ "irmap_cache_entry.dev", HINT_ODEV, NULL },
	HEX("signalfd_entry.flags"), HEX("signalfd_entry.sigmask"),
	HEX("timerfd_entry.flags"), HEX("timerfd_entry.settime_flags"),
	HEX("eventpoll_tfd_entry.events"), HEX("eventpoll_tfd_entry.data"),
	HEX("inotify_wd_entry.mask"), HEX("inotify_wd_entry.ignored_mask"),
	{ "inotify_wd_entry.s_dev", HINT_DEV, NULL }, HEX("inotify_file_entry.flags"),
	HEX("fanotify_mark_entry.mflags"), HEX("fanotify_mark_entry.mask"),
	HEX("fanotify_mark_entry.ignored_mask"), { "fanotify_mark_entry.s_dev", HINT_DEV, NULL },
	HEX("fanotify_file_entry.flags"), HEX("fanotify_file_entry.faflags"),
	HEX("fanotify_file_entry.evflags"), HEX("fh_entry.handle"),
	FLAGS("bpfmap_file_entry.flags", file_flags),
	DICT("unix_sk_entry.type", sk_type), DICT("unix_sk_entry.state", sk_state),
	HEX("unix_sk_entry.flags"), HEX("unix_sk_entry.uflags"),
	{ "unix_sk_entry.name", HINT_UNIX_NAME, NULL },
	HEX("tcp_stream_entry.opt_mask"),
	DICT("inet_sk_entry.family", sk_family), DICT("inet_sk_entry.type", sk_type),
	DICT("inet_sk_entry.proto", sk_proto), DICT("inet_sk_entry.state", sk_state),
	HEX("inet_sk_entry.flags"), { "inet_sk_entry.src_addr", HINT_IP, NULL },
	{ "inet_sk_entry.dst_addr", HINT_IP, NULL }, HEX("sk_opts_entry.so_filter"),
	HEX("netlink_sk_entry.flags"), HEX("packet_sock_entry.flags"),
	HEX("tty_file_entry.flags"), HEX("termios_entry."),
	FLAGS("reg_file_entry.flags", file_flags), FLAGS("memfd_file_entry.flags", file_flags),
	FLAGS("memfd_inode_entry.seals", seals), HEX("reg_file_entry.build_id"),
	FLAGS("eventfd_file_entry.flags", file_flags),
	FLAGS("eventpoll_file_entry.flags", file_flags),
	FLAGS("mqueue_entry.flags", file_flags),
	{ "ghost_file_entry.dev", HINT_DEV, NULL }, { "ghost_file_entry.rdev", HINT_ODEV, NULL },
	HEX("pipe_entry.flags"), HEX("tun_link_entry.flags"),
	{ "mnt_entry.root_dev", HINT_DEV, NULL }, HEX("mnt_entry.flags"),
	HEX("mnt_entry.sb_flags"), HEX("net_device_entry.flags"), HEX("ns_file_entry.ns_cflag"),
	{ "sit_entry.local", HINT_IP, NULL }, { "sit_entry.remote", HINT_IP, NULL },
	{ "sit_entry.rd_prefix", HINT_IP, NULL }, { "sit_entry.relay_prefix", HINT_IP, NULL },
};

const struct hint *show_hint(const char *message, const char *field)
{
	size_t n = strlen(message);

	for (size_t i = 0; i < ARRAY_SIZE(hints); i++) {
		const char *f = hints[i].field;

		/* "message." alone speaks for all its fields. */
		if (!strncmp(f, message, n) && f[n] == '.' &&
		    (!f[n + 1] || !strcmp(f + n + 1, field)))
			return &hints[i];
	}
	return NULL;
}
