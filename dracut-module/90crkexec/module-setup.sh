#!/bin/bash
# dracut module: restores services in the distribution's initramfs, just before the switch to
# the real root. For machines whose root our own small initramfs cannot reach (LUKS, LVM, RAID).
# It does nothing unless crkexec has appended a manifest and images and booted with crkexec=.

check() {
	require_binaries /usr/lib/crkexec/crkexec-early || return 1
	return 0
}

depends() {
	echo systemd systemd-initrd
}

# Connections come back before the real root's modules can be reached: the drivers of this
# machine's network interfaces, whether the image is made for it alone or not.
installkernel() {
	local module

	for module in /sys/class/net/*/device/driver/module; do
		[ -e "$module" ] || continue
		hostonly='' instmods "$(basename "$(readlink -f "$module")")"
	done
	return 0
}

install() {
	inst_binary /usr/lib/crkexec/crkexec-early
	inst_simple "$moddir/crkexec-fence.service" "$systemdsystemunitdir/crkexec-fence.service"
	inst_simple "$moddir/crkexec-early.service" "$systemdsystemunitdir/crkexec-early.service"
	$SYSTEMCTL -q --root "$initdir" add-wants sysinit.target crkexec-fence.service
	$SYSTEMCTL -q --root "$initdir" add-wants initrd.target crkexec-early.service
}
