/*
 * What cannot be saved, each with its own sentence. Last in the table: matches everything.
 */
#include <linux/magic.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "kind/kinds.h"
#include "kind/sk_common.h"

struct refusal {
	const char *mark;		/* anonymous inode's name, or a path's beginning */
	const char *what, *remedy;
};

static const struct refusal anon_refusals[] = {
	{ "userfaultfd", "a userfaultfd: memory whose faults the program serves itself",
	  "stop the service; such programs (virtual machine monitors, JIT runtimes) cannot be"
	  " saved while it is open" },
	{ "perf_event", "a performance counter (perf_event_open)",
	  "end the profiling before" },
	{ "bpf-prog", "a loaded BPF program", "stop the program that loads BPF before" },
	{ "bpf-map", "a BPF map", "stop the program that uses BPF before" },
	{ "bpf_link", "an attached BPF link", "stop the program that attaches BPF before" },
	{ "bpf-link", "an attached BPF link", "stop the program that attaches BPF before" },
	{ "btf", "BPF type information", "stop the program that loads BPF before" },
	{ "bpf-token", "a BPF token", "stop the program that uses BPF before" },
	{ "bpf_iter", "a BPF iterator", "stop the program that uses BPF before" },
	{ "fscontext", "a file system being configured (fsopen)",
	  "try again when mounting has ended" },
	{ "landlock-ruleset", "a Landlock ruleset that is being built",
	  "try again when the program has entered its sandbox" },
	{ "seccomp notify", "a seccomp supervisor's descriptor",
	  "stop the supervised container before" },
	{ "kvm-vm", "a KVM virtual machine", "migrate or stop the virtual machine before" },
	{ "kvm-vcpu", "a KVM virtual CPU", "migrate or stop the virtual machine before" },
	{ "kvm-device", "a KVM device", "migrate or stop the virtual machine before" },
	{ "kvm-gmem", "a KVM guest's memory", "migrate or stop the virtual machine before" },
	{ "vfio-device", "a device passed through by VFIO", "detach the device before" },
	{ "sync_file", "a graphics fence", "stop the program that uses the graphics card" },
	{ "dma-buf", "a buffer shared with a device (dma-buf)",
	  "stop the program that uses the device" },
	{ "syncobj_file", "a graphics fence", "stop the program that uses the graphics card" },
	{ "gpio-event", "GPIO events", "stop the program that uses the GPIO lines" },
	{ "gpio-line", "GPIO lines", "stop the program that uses the GPIO lines" },
	{ "iommufd", "an IOMMU context", "detach the device before" },
	{ "rdma", "an RDMA context", "stop the program that uses InfiniBand" },
	{ "infinibandevent", "RDMA events", "stop the program that uses InfiniBand" },
	{ "secretmem", "secret memory (memfd_secret), which no other process can read",
	  "have the program release it before" },
	{ "mount", "a detached mount (open_tree, fsmount)", "try again when mounting has ended" },
};

static const struct refusal path_refusals[] = {
	{ "/secretmem", "secret memory (memfd_secret), which no other process can read",
	  "have the program release it before" },
	{ "/dmabuf:", "a buffer shared with a device (dma-buf)",
	  "stop the program that uses the device" },
	{ "/dev/kvm", "the KVM device", "migrate or stop the virtual machine before" },
	{ "/dev/vhost-", "a vhost device: the kernel moves the guest's packets",
	  "migrate or stop the virtual machine before" },
	{ "/dev/net/tun", "a tun or tap interface", "stop the VPN or virtual machine before" },
	{ "/dev/fuse", "the kernel side of a FUSE file system", "unmount it before" },
	{ "/dev/userfaultfd", "the userfaultfd device", "stop the program before" },
	{ "/dev/vfio/", "a device passed through by VFIO", "detach the device before" },
	{ "/dev/watchdog", "a hardware watchdog: closing it may reset the machine",
	  "stop the watchdog daemon before" },
	{ "/dev/dri/", "a graphics card", "stop the program that uses the graphics card" },
	{ "/dev/nvidia", "a graphics card", "stop the program that uses the graphics card" },
	{ "/dev/kfd", "a graphics card", "stop the program that uses the graphics card" },
	{ "/dev/infiniband/", "an RDMA device", "stop the program that uses InfiniBand" },
	{ "/dev/snd/", "a sound card", "stop the program that plays or records" },
	{ "/dev/input/", "an input device", "stop the program that reads it" },
	{ "/dev/uinput", "a virtual input device", "stop the program that made it" },
	{ "/dev/loop", "a loop device", "close it before" },
	{ "/dev/mapper/", "a device-mapper volume", "close it before" },
};

static const struct {
	int family;
	const char *what, *remedy;
} family_refusals[] = {
	{ AF_VSOCK, "a vsock socket: its other end is the hypervisor or a guest",
	  "stop the guest agent or the virtual machine before" },
	{ AF_ALG, "a socket of the kernel's crypto interface (AF_ALG)",
	  "have the program use a library instead" },
	{ AF_XDP, "an AF_XDP socket: its rings are shared with the network driver",
	  "stop the program that captures or forwards packets" },
	{ AF_KEY, "an IPsec key socket (AF_KEY)", "stop the IPsec daemon before" },
	{ AF_CAN, "a CAN bus socket", "stop the program that uses the bus" },
	{ AF_BLUETOOTH, "a Bluetooth socket", "disconnect the device before" },
	{ AF_TIPC, "a TIPC socket", "stop the cluster program before" },
	{ AF_RDS, "an RDS socket", "stop the cluster program before" },
	{ AF_SMC, "an SMC socket (shared memory communications)",
	  "let the service use plain TCP" },
	{ AF_PPPOX, "a PPP socket (PPPoE, L2TP)", "close the tunnel before" },
	{ AF_KCM, "a kernel connection multiplexer (AF_KCM)", "let the service use plain TCP" },
};

static const char *const no_remedy = "close it before, or leave this service out";

static bool refuse_match(const struct dump_file *f _unused_)
{
	return true;
}

static int refuse_anon(const struct dump_file *f)
{
	const char *name = f->link + strlen("anon_inode:");

	if (*name == '[')
		name++;
	for (size_t i = 0; i < ARRAY_SIZE(anon_refusals); i++)
		if (str_starts(name, anon_refusals[i].mark))
			return log_obstacle(anon_refusals[i].remedy, "%s: %s", f->link,
					    anon_refusals[i].what);
	return log_obstacle(no_remedy, "%s: an object of the kernel that is not known here",
			    f->link);
}

static int refuse_socket(const struct dump_file *f)
{
	int family = sk_family(f);

	for (size_t i = 0; i < ARRAY_SIZE(family_refusals); i++)
		if (family_refusals[i].family == family)
			return log_obstacle(family_refusals[i].remedy, "%s", family_refusals[i].what);
	return log_obstacle(no_remedy, "%s: a socket of family %d, which is not known here",
			    f->link, family);
}

static int refuse_other(const struct dump_file *f)
{
	mode_t type = f->st.st_mode & S_IFMT;

	if (str_starts(f->link, "net:[") || str_starts(f->link, "mnt:["))
		return log_obstacle(no_remedy, "%s: a namespace", f->link);
	if (type == S_IFCHR)
		return log_obstacle(no_remedy, "%s: device %u:%u, whose state its driver has",
				    f->link, major(f->st.st_rdev), minor(f->st.st_rdev));
	if (type == S_IFBLK)
		return log_obstacle("use a file system on it, or close it before",
				    "%s: block device %u:%u, which may be another one after a boot",
				    f->link, major(f->st.st_rdev), minor(f->st.st_rdev));
	if (type == S_IFSOCK)
		return refuse_socket(f);
	return log_obstacle(no_remedy, "%s: a file of mode %o that is not known here", f->link,
			    f->st.st_mode);
}

static int refuse_dump(struct dump_ctx *ctx _unused_, struct dump_file *f)
{
	if (str_starts(f->link, "anon_inode:"))
		return refuse_anon(f);
	for (size_t i = 0; i < ARRAY_SIZE(path_refusals); i++)
		if (str_starts(f->link, path_refusals[i].mark))
			return log_obstacle(path_refusals[i].remedy, "%s: %s", f->link,
					    path_refusals[i].what);
	return refuse_other(f);
}

const struct kind kind_refuse = {
	.name = "unsupported file",
	.type = FD_TYPES__UND,
	.match = refuse_match,
	.dump = refuse_dump,
};
