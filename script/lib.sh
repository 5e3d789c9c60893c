# shellcheck shell=bash
# What the scripts share: where things are, how they speak, how they find PostgreSQL.
# Sourced, never run; the caller has already set -euo pipefail.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Tools that only development needs live inside the clone, so that removing the clone removes them.
TOOLS=${PGVIGIL_TOOLS:-$ROOT/.tools}
[[ $TOOLS == /* ]] || TOOLS=$PWD/$TOOLS

# Progress goes to standard error: standard output belongs to whoever calls the script.
say() { printf '%s\n' "$*" >&2; }

# One line a step with the time since the script began, so that a slow step is seen while it is slow.
step() { printf '[%3ds] %s\n' "$SECONDS" "$*" >&2; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# Major version of the PostgreSQL server programs in a directory; nothing when they are not all there.
# pgbench drives the demo's workload; Debian ships it with the server.
postgres_major() {
    local program
    for program in initdb pg_ctl postgres psql pgbench; do
        [[ -x $1/$program ]] || return 0
    done
    "$1/postgres" --version | sed -E 's/^[^0-9]*([0-9]+).*/\1/'
}

# Prints the directory of a PostgreSQL >= 14 server's programs, the newest there is; fails when there is none.
# Debian keeps them out of PATH, so PATH alone does not tell. PGVIGIL_PG_BINDIR overrules the search.
find_postgres() {
    local dir major best='' best_major=13
    if [[ -n ${PGVIGIL_PG_BINDIR:-} ]]; then
        best=$PGVIGIL_PG_BINDIR
        best_major=$(postgres_major "$best")
        ((${best_major:-0} >= 14)) || return 1
        printf '%s\n' "$best"
        return
    fi
    for dir in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin \
        "$(pg_config --bindir 2>/dev/null || true)" \
        "$(dirname "$(command -v postgres 2>/dev/null || true)")"; do
        major=$(postgres_major "$dir")
        if ((${major:-0} > best_major)); then
            best=$dir
            best_major=$major
        fi
    done
    [[ -n $best ]] && printf '%s\n' "$best"
}

# Prints the path of Chromium, or of Chrome, which is as good; fails when there is none. PGVIGIL_CHROMIUM overrules the search.
find_chromium() {
    local name
    for name in ${PGVIGIL_CHROMIUM:+"$PGVIGIL_CHROMIUM"} chromium chromium-browser google-chrome google-chrome-stable; do
        # Ubuntu's own chromium-browser may be a script that only tells to install a snap.
        ! "$name" --version >/dev/null 2>&1 || { command -v "$name" && return; }
        [[ -z ${PGVIGIL_CHROMIUM:-} ]] || return 1
    done
    return 1
}

# The user PostgreSQL runs as: it refuses root, so root lends it another name.
postgres_user() {
    if ((EUID != 0)); then
        id -un
    elif id postgres >/dev/null 2>&1; then
        echo postgres
    else
        echo nobody
    fi
}

# Runs a command as that user.
as_postgres() {
    if ((EUID != 0)); then
        "$@"
    else
        runuser -u "$(postgres_user)" -- "$@"
    fi
}

# Where cargo puts what it builds: CARGO_TARGET_DIR and cargo's own configuration both count.
target_dir() {
    (cd "$ROOT" && cargo metadata --no-deps --format-version 1 --offline) |
        sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'
}
