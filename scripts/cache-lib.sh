# shellcheck shell=bash
# shellcheck disable=SC2034 # cache is theirs
# Sourced by what set-up downloads and builds once: guest-image, criu-testing.
#
# Everything is built beside its final name, under one lock, and renamed, so a builder that is
# killed leaves nothing half-made and two builders do the work once.

cache=${XDG_CACHE_HOME:-$HOME/.cache}/crkexec

# Until the shell ends.
cache_lock() {
	mkdir -p "$cache"
	exec 9>"$cache/lock"
	flock 9
}

# Not used for a month: no current recipe asks for it.
cache_prune() {
	find "$cache" -mindepth 1 -maxdepth 1 \
		\( -name 'guest-*' -o -name 'base-*' -o -name 'criu-*' \) -mtime +30 -exec rm -rf {} +
	rm -rf "$cache"/tmp.*
}
