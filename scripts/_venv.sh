# Sourced by the scripts next to it. Creates the project's virtual environments, and updates one when its requirements change.

# The newest supported Airflow. All other packages are resolved as of a date on which this set is known to work.
AIRFLOW="apache-airflow==3.3.2"
AS_OF="2026-11-20"

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# Use uv's cache if there is one; otherwise keep the cache inside this folder.
[ -d "${UV_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/uv}" ] || export UV_CACHE_DIR="$PWD/.cache/uv"

# Trust the certificates that the system trusts, such as those of a proxy, as pip does.
export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-true}"

# Airflow's hundreds of modules are compiled once and kept: without this, every process compiles them again (five seconds of CPU).
unset PYTHONDONTWRITEBYTECODE

say() { printf '%s\n' "$@" >&2; }

find_python() {
    local name
    for name in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
        if "$name" -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    say "Requires Python 3.10 or newer (tested up to 3.13) with venv (Debian: apt install python3 python3-venv). To choose one: PYTHON=/path/to/python3 $0"
    return 1
}

# usage SCRIPT: print the comment at its top.
usage() { sed -n '2,/^[^#]/{s/^# \{0,1\}//p;}' "scripts/${1##*/}"; }

# answer_help SCRIPT ARGUMENT...: with --help, print the usage and exit. Call it before anything is built.
answer_help() {
    local script=$1 argument
    shift
    for argument in "$@"; do
        case $argument in
            --help | -h) usage "$script" && exit ;;
        esac
    done
}

# ensure_venv FOLDER REQUIREMENT...: create or update the folder so that these requirements are installed in it; what else is there may stay
ensure_venv() {
    local folder=$1 basis requirement python missing= before=
    shift
    basis="$AS_OF $(cksum <pyproject.toml)"
    # made-of: what everything depends on, and the requirements, one in each line
    if [ -x "$folder/bin/python" ] && [ "$(head -n 1 "$folder/made-of" 2>/dev/null)" = "$basis" ]; then
        for requirement in "$@"; do
            grep -Fxq -e "$requirement" "$folder/made-of" || missing=yes
        done
        [ -n "$missing" ] || return 0
        before=$(tail -n +2 "$folder/made-of")
    fi
    if [ ! -x "$folder/bin/python" ]; then
        python=$(find_python) || return 1
        say "Creating a virtual environment in $folder with $("$python" --version) ..."
        rm -rf "$folder"
        "$python" -m venv "$folder" || return 1
        "$folder/bin/python" -m pip install --quiet --no-cache-dir --disable-pip-version-check uv || return 1
    fi
    say "Installing its packages ..."
    "$folder/bin/uv" pip install --quiet --python "$folder/bin/python" --exclude-newer "$AS_OF" "$@" || return 1
    # what earlier calls have installed is still there
    { printf '%s\n' "$basis" && printf '%s\n' "$before" "$@" | sort -u; } >"$folder/made-of"
}

# ensure_programs COMMAND=PACKAGE...: install the Debian packages of the commands that are missing; their services do not start
ensure_programs() {
    local pair as_root missing=() forbidden_by_us= failed
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null || compgen -G "/usr/lib/postgresql/*/bin/${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} -eq 0 ] && return
    command -v apt-get >/dev/null || { say "Requires ${missing[*]}; install them first." && return 1; }
    as_root=$([ "$(id -u)" = 0 ] || echo sudo)
    say "Installing ${missing[*]} ..."
    $as_root apt-get update -qq || return 1
    # a package's scripts do not start a service while this file forbids it
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        printf '#!/bin/sh\nexit 101\n' | $as_root install -m 755 /dev/stdin /usr/sbin/policy-rc.d && forbidden_by_us=yes
    fi
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    failed=$?
    [ -z "$forbidden_by_us" ] || $as_root rm -f /usr/sbin/policy-rc.d
    return $failed
}
