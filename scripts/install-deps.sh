#!/usr/bin/env bash
# Installs what building and testing Drover needs and this machine lacks, from the distribution's
# packages. Says what it installs; does nothing, at once, when nothing is missing.
#
# usage: install-deps.sh [pgbouncer]     with an argument: what benchmarks need, too
set -euo pipefail

rust_minor_min=90
postgresql_major_min=15

say() { echo "install-deps: $*" >&2; }
fail() {
    say "$*"
    exit 1
}

has_compiler() { command -v cc > /dev/null && echo 'int main(void){return 0;}' | cc -x c -fsyntax-only - 2> /dev/null; }

has_c_headers() { echo '#include <stdio.h>' | cc -x c -fsyntax-only - 2> /dev/null; }

# What bindgen looks for: LIBCLANG_PATH, the dynamic linker's places, LLVM's own directories. The compiler's
# headers (stddef.h) come with clang's common package and are needed as well. libclang-cpp, which other packages
# bring along, is another library.
has_libclang() {
    [ -z "${LIBCLANG_PATH:-}" ] || return 0
    local file
    for file in /usr/lib/llvm-*/lib/libclang.so* /usr/lib/llvm-*/lib/libclang-*.so* /usr/lib/*/libclang*.so* \
        /usr/lib64/libclang.so* /usr/lib/libclang.so*; do
        case $file in *libclang-cpp*) continue ;; esac
        [ -e "$file" ] && return 0
    done
    return 1
}

# The server, not the client: a `bin` directory with initdb, of a version Drover supports.
has_postgresql() {
    local postgres directories=(/usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/local/pgsql/bin /usr/local/bin /usr/bin)
    local configured
    configured=$(pg_config --bindir 2> /dev/null || true)
    [ -z "$configured" ] || directories+=("$configured")
    for directory in "${directories[@]}"; do
        postgres=$directory/postgres
        [ -x "$postgres" ] && [ -x "$directory/initdb" ] || continue
        local version
        version=$("$postgres" --version | sed -E 's/^.*\(PostgreSQL\) ([0-9]+).*$/\1/')
        [ "$version" -ge "$postgresql_major_min" ] 2> /dev/null && return 0
    done
    return 1
}

check_cargo() {
    command -v cargo > /dev/null || fail "cargo is missing: install Rust from https://rustup.rs"
    local version
    version=$(cargo --version | sed -E 's/^cargo 1\.([0-9]+).*$/\1/')
    [ "$version" -ge "$rust_minor_min" ] 2> /dev/null ||
        fail "$(cargo --version) is too old: Drover needs 1.$rust_minor_min or newer, from https://rustup.rs"
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo > /dev/null; then
        sudo "$@"
    else
        fail "not root and no sudo: run as root: $*"
    fi
}

# Debian's packages create a cluster named main and start it as soon as a server is installed. Drover needs
# the programs only, and a server nobody asked for would take port 5432.
prevent_main_cluster() {
    local directory=/etc/postgresql-common/createcluster.d
    [ -e "$directory/drover.conf" ] && return 0
    say "PostgreSQL is installed without the default cluster that Debian's package would create and start" \
        "($directory/drover.conf says create_main_cluster = off)"
    as_root mkdir -p "$directory"
    echo "create_main_cluster = off" | as_root tee "$directory/drover.conf" > /dev/null
}

# The package starts a service, and its port is the one Drover listens on.
stop_pgbouncer_service() {
    [ -d /run/systemd/system ] || return 0
    say "switching off the pgbouncer service that the package started: it takes port 6432"
    as_root systemctl disable --now pgbouncer >&2
}

main() {
    check_cargo
    local packages=()
    has_compiler || packages+=(gcc)
    has_compiler && has_c_headers || packages+=(libc6-dev)
    command -v make > /dev/null || packages+=(make)
    has_libclang || packages+=(libclang-dev)
    has_postgresql || packages+=(postgresql)
    if [ "${1:-}" = pgbouncer ]; then
        [ -x /usr/sbin/pgbouncer ] || command -v pgbouncer > /dev/null || packages+=(pgbouncer)
    fi
    [ "${#packages[@]}" -gt 0 ] || return 0

    command -v apt-get > /dev/null ||
        fail "please install what Debian calls: ${packages[*]} (this script knows apt-get only)"
    say "missing on this machine: ${packages[*]}"
    case " ${packages[*]} " in *" postgresql "*) prevent_main_cluster ;; esac
    say "running: apt-get install ${packages[*]}"
    as_root apt-get update -q > /dev/null
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y -o Dpkg::Use-Pty=0 --no-install-recommends "${packages[@]}" >&2
    has_postgresql ||
        fail "the distribution's PostgreSQL is older than $postgresql_major_min; see https://apt.postgresql.org"
    case " ${packages[*]} " in *" pgbouncer "*) stop_pgbouncer_service ;; esac
    say "installed: ${packages[*]}"
}

main "$@"
