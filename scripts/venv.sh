# Sourced by the other scripts: creates the project's own virtual environment from a lock file on first use, and updates
# it when the lock has changed. All scripts share it; each adds the packages that it needs. Sets ROOT and PYTHON.
# Usage: . "$(dirname "$0")/venv.sh" requirements.lock worker console     (only the packages that these extras need)
#        . "$(dirname "$0")/venv.sh" requirements-dev.lock                (all packages)

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="${TIERSTREAM_VENV:-$ROOT/.venv}"
PYTHON="$VENV/bin/python"
# Without .pyc files every start would take seconds longer.
unset PYTHONDONTWRITEBYTECODE
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}" PIP_DISABLE_PIP_VERSION_CHECK=1

# The pins of a requirements file, NAME==VERSION.
pins() { sed -n 's/^\([A-Za-z0-9][^ ;\\]*\).*/\1/p' "$1"; }

make_environment() {
    local lock="$ROOT/$1" installed="$VENV/tierstream-installed.txt" wanted="$1" base="$PYTHON" part="" candidate
    shift
    if [ ! -x "$PYTHON" ]; then
        base=
        for candidate in python3.11 python3.12 python3.13 python3; do
            if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then base="$candidate"; break; fi
        done
        if [ -z "$base" ]; then
            echo "Python 3.11 or newer is needed; install it and try again." >&2
            exit 1
        fi
    fi
    if [ $# -gt 0 ]; then
        part="$(mktemp)"
        "$base" "$ROOT/scripts/requirements.py" "$lock" "$@" >"$part" || exit 1
        wanted="$wanted for $*" lock="$part"
    fi
    if [ ! -x "$PYTHON" ] || [ ! -f "$installed" ] || grep -qvxFf "$installed" <(pins "$lock"); then
        if [ ! -x "$PYTHON" ] && ! "$base" -m venv "$VENV" >&2; then
            echo "The virtual environment could not be created; on Debian: apt-get install python3-venv" >&2
            exit 1
        fi
        echo "Installing the packages of $wanted into $VENV (once; about a minute) ..." >&2
        # Python compiles a module when it is first imported; pip would compile all of them, for a third of its time.
        "$PYTHON" -m pip install --quiet --no-compile --require-hashes -r "$lock" >&2 || {
            echo "The installation failed; see above. Is the package index reachable?" >&2
            exit 1
        }
        touch "$installed"
        { cat "$installed"; pins "$lock"; } |
            awk -F== '{ versions[$1] = $2 } END { for (name in versions) print name "==" versions[name] }' | sort >"$installed.new"
        mv "$installed.new" "$installed"
    fi
    if [ -n "$part" ]; then rm -f "$part"; fi
}

# Of two scripts that start at the same time, one installs and the other waits.
exec 9>"$ROOT/.venv.lock"
if command -v flock >/dev/null; then flock 9; fi
make_environment "$@"
exec 9>&-
