# shellcheck shell=bash
# Sourced by every step: prints the step's heading and, when it ends, its outcome and how long it took.

step_name=$(basename -- "$0")
printf '\n== %s ==\n' "$step_name"

finish() {
    local status=$? outcome=ok
    if ((status != 0)); then outcome="failed with status $status"; fi
    printf '== %s: %s, %d s ==\n' "$step_name" "$outcome" "$SECONDS"
}
trap finish EXIT

# apt_install PACKAGE...: installs Debian packages, through sudo where there is one and it is needed.
apt_install() {
    local as_root=()
    if ((EUID != 0)) && command -v sudo >/dev/null; then as_root=(sudo); fi
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
}

# cargo_install CRATE VERSION: installs a command at exactly that version, unless it is there.
cargo_install() {
    if ! cargo install --list | grep -Fx -e "$1 v$2:" >/dev/null; then
        cargo install "$1" --version "$2" --locked
    fi
}
