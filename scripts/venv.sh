# Shared by scripts/setup and scripts/demo: source it from the checkout's root.
# shellcheck shell=bash

say() { echo "${0##*/}: $*" >&2; }

# Installs Debian packages where that is ours to do; fails quietly where it is not.
apt_install() {
    if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
        return 1
    fi
    say "installing $*"
    if [[ -z ${apt_updated:-} ]]; then
        apt-get update -qq >&2 || return 1
        apt_updated=1
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >&2
}

# Sets `python` to a Python of 3.11 or newer.
find_python() {
    local name
    for name in python3.13 python3.12 python3.11 python3; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            python=$name
            return 0
        fi
    done
    return 1
}

# True when .venv works. A moved checkout breaks its scripts, an upgraded system its interpreter.
is_sound() {
    [[ -x .venv/bin/pip ]] && grep -qF "$PWD/.venv" .venv/bin/activate &&
        .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))'
} 2>/dev/null

# Makes .venv unless a sound one is there.
make_venv() {
    if is_sound; then
        return 0
    fi
    if ! find_python && ! { apt_install python3 && find_python; }; then
        say "needs Python 3.11 or newer (Debian: apt-get install python3 python3-venv)"
        return 1
    fi
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then # Debian packs them apart
        local version
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        if ! apt_install "python$version-venv" && ! apt_install python3-venv; then
            say "$python has no venv module: install it first" \
                "(Debian: apt-get install python$version-venv)"
            return 1
        fi
    fi
    say "making .venv with $("$python" --version)"
    rm -rf .venv
    "$python" -m venv .venv
}

# A line that changes when what is to be installed does.
wanted() { cat pyproject.toml scripts/requirements.txt | sha256sum; }

# True when .venv holds this ("package" or "tests") of what is wanted now.
is_installed() { [[ -f .venv/installed-$1 && $(<".venv/installed-$1") == "$(wanted)" ]]; }
