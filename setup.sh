#!/bin/sh
# Sets up .venv, or does nothing when it already is as pyproject.toml and constraints.txt want it.
# Needs a Python and a POSIX shell. Every trouble it can foresee is one line that names the fix.
# Pip's own configuration (proxy, index, find-links, certificates) is honoured.
#
#   PYTHON=python3.12   which Python to use; remembered
#   TORCH_INDEX=URL     another package index for torch alone; remembered, empty forgets it
set -eu
cd "$(dirname "$0")"

# What the caller's shell carries must not leak into .venv.
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV PIP_REQUIRE_VIRTUALENV PIP_TARGET PIP_PREFIX
export PIP_USER=0 PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1

state=.venv/setup.state
log=.venv/setup.log
needed_mb=${SETUP_DISK_MB:-2500} # the CPU build of torch, all packages unpacked: 2.2 GB measured

die() {
    echo "setup: $1" >&2
    exit 1
}

recall() { # what an earlier set-up wrote down
    sed -n "s/^$1: //p" $state 2>/dev/null || true
}

version_of() {
    "$1" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null || true
}

is_supported() {
    case $1 in 3.11.* | 3.12.* | 3.13.* | 3.14.*) true ;; *) false ;; esac
}

choose_python() { # the one asked for, else the one of an earlier set-up, else the first that will do
    for python in ${PYTHON:-.venv/bin/python python3 python3.14 python3.13 python3.12 python3.11}; do
        version=$(version_of "$python")
        if is_supported "$version"; then return; fi
    done
    found=$(version_of "${PYTHON:-python3}")
    die "Python 3.11 to 3.14 is needed, and ${PYTHON:-python3} is ${found:-not there}. Install one (Debian: apt install python3 python3-venv), then name it: PYTHON=python3.12 make setup"
}

check_machine() {
    # Debian ships venv without the ensurepip that it needs.
    "$base" -c 'import ensurepip, venv' 2>/dev/null ||
        die "$base (Python $version) has no venv module. Install it (Debian: apt install python3-venv), then run make setup again."
    free_mb=$(($(df -Pk . | awk 'NR == 2 { print $4 }') / 1024))
    [ "$free_mb" -ge "$needed_mb" ] ||
        die "$PWD has $free_mb MB free, and the packages need about $needed_mb MB. Free some space, then run make setup again."
}

remember() {
    printf 'place: %s\nindex: %s\npackages: %s\n' "$place" "$index" "$1" >$state
}

build_venv() {
    base=$("$python" -c 'import sys; print(sys._base_executable)') # not the .venv about to go
    check_machine
    rm -rf .venv
    mkdir .venv
    remember unfinished
    "$base" -m venv .venv
}

show() { # of pip's many words, those that tell how far it is
    case $1 in
    *Downloading*[0-9][0-9].[0-9]" MB)" | *Downloading*" GB)") echo "  ${1#"${1%%D*}"}" ;;
    "Installing collected packages"*) echo "  Unpacking" ;;
    esac
}

pip_install() {
    { .venv/bin/python -m pip install --progress-bar off -c constraints.txt "$@" 2>&1 && echo done; } | {
        last=
        while IFS= read -r last_line; do
            last=$last_line
            printf '%s\n' "$last" >>$log
            show "$last"
        done
        [ "$last" = done ]
    } || explain_pip
}

explain_pip() {
    if grep -q 'No space left' $log; then
        die "the disk filled up under .venv or ${TMPDIR:-/tmp} (CUDA builds of torch need about 8 GB). Free some space or set TMPDIR, then run make setup again. Details: $log"
    elif grep -Eq 'connection broken|Failed to establish|Max retries|ConnectionError|timed out' $log; then
        die "the package index cannot be reached. Check the network, or the proxy (HTTPS_PROXY) and index (PIP_INDEX_URL, TORCH_INDEX) given to pip, then run make setup again. Details: $log"
    fi
    die "pip failed: $(grep '^ *ERROR' $log | tail -n 1 | cut -c 1-200). Mend that, then run make setup again. Details: $log"
}

install() {
    echo "Installing the packages into .venv (about 700 MB of downloads, one to five minutes) …"
    remember unfinished # an interrupted pip leaves half a package that it later takes for whole
    : >$log
    # Without dependencies: an index of torch alone has other versions of those, or none.
    [ -z "$index" ] || pip_install --no-deps --index-url "$index" torch
    # The development tools too: one environment to understand, and they add about 10 s.
    pip_install -e '.[dev]'
    remember "$wanted"
    echo "Set up: .venv has Python $version and the packages of constraints.txt."
}

wanted=$(cat pyproject.toml constraints.txt setup.sh | cksum)
index=${TORCH_INDEX-$(recall index)}
choose_python
place="$(pwd -P), Python $version, torch from ${index:-the usual index}"

if [ "$(recall place)" = "$place" ] && [ "$(recall packages)" = "$wanted" ]; then exit 0; fi
if [ "$(recall place)" != "$place" ] || [ "$(recall packages)" = unfinished ]; then build_venv; fi
install
