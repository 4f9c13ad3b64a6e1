# shellcheck shell=bash
# Sourced by deps, guest-image and criu-testing: where this machine gets its Debian packages from.
#
# Everything is read from the machine's own apt configuration, so that mirrors, proxies and
# local archives are honoured and no host name is written in the tree.  The trap: the origin
# of a target is known only after a first "apt-get update", so a fresh machine needs one.

export DEBIAN_FRONTEND=noninteractive LC_ALL=C

die() {
	echo "${0##*/}: $*" >&2
	exit 1
}

say() {
	echo "${0##*/}: $*" >&2
}

# Others may be installing at the same moment: wait for dpkg's lock instead of failing.
apt_get() {
	apt-get -q -y -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3 "$@"
}

# Prints "label|repository URI|release" for every configured Debian target with a main component.
# shellcheck disable=SC2016 # the $(…) are apt's
apt_debian_targets() {
	local fields='$(CREATED_BY)|$(COMPONENT)|$(ORIGIN)|$(LABEL)|$(REPO_URI)|$(RELEASE)'

	apt-get indextargets --format "$fields" |
		awk -F'|' '$1 == "Packages" && $2 == "main" && $3 == "Debian" { print $4 "|" $5 "|" $6 }'
}

# apt_mirror LABEL: the URI that serves LABEL ("Debian", "Debian-Security"); empty if none does.
apt_mirror() {
	if [ -z "$(apt_debian_targets)" ]; then
		say "no package lists yet, fetching them"
		apt_get update >&2 || return 1
	fi
	apt_debian_targets | awk -F'|' -v label="$1" '$1 == label { print $2; exit }'
}

# The keyring of the debian-archive-keyring package as an apt option, or nothing where apt's
# own trusted keys must do.
apt_signed_by() {
	local keyring=/usr/share/keyrings/debian-archive-keyring.gpg

	[ -r "$keyring" ] || keyring=/usr/share/keyrings/debian-archive-keyring.pgp
	[ ! -r "$keyring" ] || echo "[signed-by=$keyring] "
}

# apt_sources SUITE...: one-line apt sources for these suites, "*-security" ones from the
# machine's security mirror (left out, with a notice, when it has none).
apt_sources() {
	local suite mirror security signed

	mirror=$(apt_mirror Debian) || return 1
	[ -n "$mirror" ] || die "no Debian mirror in this machine's apt configuration"
	security=$(apt_mirror Debian-Security)
	signed=$(apt_signed_by)
	for suite; do
		case $suite in
		*-security)
			if [ -n "$security" ]; then
				echo "deb ${signed}${security} ${suite} main"
			else
				say "no security mirror configured, going without ${suite}"
			fi
			;;
		*)
			echo "deb ${signed}${mirror} ${suite} main"
			;;
		esac
	done
}

# apt_private DIR SUITE...: a configuration of apt for these suites alone in DIR, whose options it
# sets in the array apt_options.  The machine's own sources and lists are not touched.
apt_private() {
	local dir=$1

	shift
	# apt drops to the user _apt for its downloads, which must be able to get in.
	chmod 755 "$dir"
	mkdir -p "$dir/lists/partial" "$dir/archives/partial" "$dir/parts"
	apt_sources "$@" >"$dir/sources.list" || return 1
	# shellcheck disable=SC2034
	apt_options=(
		-o "Dir::Etc::sourcelist=$dir/sources.list"
		-o "Dir::Etc::sourceparts=$dir/parts"
		-o "Dir::State::lists=$dir/lists"
		-o "Dir::Cache::archives=$dir/archives"
		-o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
	)
}

# What the machine is: "bookworm", "trixie", …
debian_codename() {
	(. /etc/os-release && echo "${VERSION_CODENAME:-unknown}")
}
