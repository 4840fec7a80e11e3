#!/usr/bin/env bash
# Sets this checkout up, on a machine that may have only Python 3.11 and make. `make setup`, `make test` and `make demo`
# call it; a second call finds everything done and costs a second.
#
# In this folder: .venv (the Python environment; the program is .venv/bin/srft), logs/ (what apt and dockerd said).
# On the machine, as root on Debian or Ubuntu only, announced first: missing Debian packages (git, python3-venv,
# bubblewrap; docker.io, iptables, debootstrap where no container engine answers), a running dockerd, and the image
# srft/base:bookworm. What is missing without being needed for everything is said in one sentence, with the remedy.
#
#   SRFT_SYSTEM_SETUP=no     leave the machine alone: no packages, no daemon, no image
#   PYTHON=/path/to/python   the interpreter to build .venv with
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

BASE_IMAGE=srft/base:bookworm
# A registry's image that can stand in: it has python3 with venv and pip, and git.
REGISTRY_IMAGE=python:3.11-bookworm
BASE_PACKAGES=python3,python3-venv,python3-pip,git,patch,ca-certificates,procps
# The version with a CPU build that the project is tested with. An unpinned torch means the newest, with its CUDA.
CPU_TORCH=2.13.0
VENV_PYTHON=.venv/bin/python
STAMP=.venv/srft-setup

say() { printf 'srft setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

main() {
    case "${SRFT_SYSTEM_SETUP:=yes}" in
        yes | no) ;;
        *) fail "SRFT_SYSTEM_SETUP is '$SRFT_SYSTEM_SETUP'; expected yes or no." ;;
    esac
    mkdir -p logs
    find_python
    set_up_programs
    set_up_venv
    set_up_engine
    say "ready: the program is .venv/bin/srft"
}

# ---- Python -----------------------------------------------------------------------------------------------------

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.11 python3.12 python3.13 python3.14}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            python=$candidate
            return
        fi
    done
    fail "no Python 3.11 or newer (looked for ${PYTHON:-python3, python3.11 to python3.14}); install one, or name it:" \
        "make setup PYTHON=/path/to/python3.11"
}

set_up_venv() {
    local wanted
    wanted=$({ echo "$CPU_TORCH" && cat pyproject.toml; } | "$python" -c \
        'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())')
    if [ "$(cat "$STAMP" 2>/dev/null)" = "$wanted" ] && "$VENV_PYTHON" -c '' 2>/dev/null; then return; fi
    say "installing the Python dependencies into .venv (2 GB, some minutes)"
    "$VENV_PYTHON" -c 'import pip' 2>/dev/null || "$python" -m venv --clear .venv
    install_torch
    "$VENV_PYTHON" -m pip install --quiet --editable '.[dev]' \
        || fail "pip could not install the dependencies, see above; check the network or pip's index, then run this again."
    echo "$wanted" >"$STAMP"
}

# Only a CPU build has "+cpu" in its version, so asking for it by name never fetches CUDA by accident. Machines have it
# from a folder of wheels or an index of CPU builds in pip's configuration. Where neither is, the plain version must do.
install_torch() {
    if "$VENV_PYTHON" -c 'from importlib.metadata import version; version("torch")' 2>/dev/null; then return; fi
    if compgen -G '/dev/nvidia[0-9]*' >/dev/null; then return; fi
    if "$VENV_PYTHON" -m pip install --quiet "torch==$CPU_TORCH+cpu" 2>/dev/null; then return; fi
    if [ "$(uname -sm)" = "Linux x86_64" ]; then
        say "pip's sources have no CPU build of torch $CPU_TORCH; taking the plain one, which brings several GB of CUDA" \
            "(to avoid that, stop this and set PIP_EXTRA_INDEX_URL to PyTorch's index of CPU wheels)"
    fi
    "$VENV_PYTHON" -m pip install --quiet "torch==$CPU_TORCH" \
        || fail "pip could not install torch $CPU_TORCH, see above; check the network or pip's index, then run this again."
}

# ---- Debian packages --------------------------------------------------------------------------------------------

may_change_machine() { [ "$SRFT_SYSTEM_SETUP" = yes ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

install_packages() {
    say "installing Debian packages: $* (SRFT_SYSTEM_SETUP=no leaves the machine alone)"
    {
        apt-get -o DPkg::Lock::Timeout=300 update -qq
        DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "$@"
    } >logs/apt.log 2>&1 </dev/null || { say "apt-get failed: $(tail -n 1 logs/apt.log) (all of it: logs/apt.log)"; return 1; }
}

set_up_programs() {
    local missing=()
    "$python" -c 'import ensurepip' 2>/dev/null \
        || missing+=("python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv")
    command -v git >/dev/null || missing+=(git)
    if may_change_machine; then
        command -v bwrap >/dev/null || missing+=(bubblewrap)
        [ ${#missing[@]} = 0 ] || install_packages "${missing[@]}" || true
    fi
    "$python" -c 'import ensurepip' 2>/dev/null \
        || fail "$python cannot make virtual environments; install its venv package (Debian: apt-get install ${missing[0]})."
    command -v git >/dev/null || fail "git is missing; install it (Debian: apt-get install git)."
}

# ---- Container engine and base image ----------------------------------------------------------------------------

# One of: none (no engine answers), bare (it has no base image), ready.
engine_state() {
    "$VENV_PYTHON" - "$BASE_IMAGE" 2>/dev/null <<'PY' || echo none
import sys

import docker

client = docker.from_env(timeout=10)
client.ping()
print("ready" if client.images.list(sys.argv[1]) else "bare")
PY
}

set_up_engine() {
    local state
    state=$(engine_state)
    if [ "$state" = none ]; then
        start_engine || return 0
        state=$(engine_state)
    fi
    [ "$state" != bare ] || pull_base_image || make_base_image
}

start_engine() {
    local local_instead="srft takes its local sandbox meanwhile"
    command -v bwrap >/dev/null || local_instead+=", which needs bubblewrap (Debian: apt-get install bubblewrap)"
    if [ -n "${DOCKER_HOST:-}" ]; then
        say "no container engine answers at DOCKER_HOST=$DOCKER_HOST; start it there or unset DOCKER_HOST. $local_instead."
        return 1
    elif [ "$SRFT_SYSTEM_SETUP" = no ]; then
        say "no container engine answers and SRFT_SYSTEM_SETUP=no; start one or drop that setting. $local_instead."
        return 1
    elif ! may_change_machine; then
        say "no container engine answers and only root on Debian or Ubuntu can have one set up here; start Docker, or set" \
            "DOCKER_HOST to Podman's socket. $local_instead."
        return 1
    fi
    if ! command -v dockerd >/dev/null; then
        install_packages docker.io iptables debootstrap || return 1
    fi
    run_dockerd
    wait_for_engine || {
        say "dockerd did not answer within 60 s ($(tail -n 1 logs/dockerd.log 2>/dev/null | cut -c 1-200)); see" \
            "logs/dockerd.log and start an engine by hand. $local_instead."
        return 1
    }
}

run_dockerd() {
    if [ -d /run/systemd/system ]; then
        say "starting Docker's service"
        systemctl start docker || true
    elif ! kill -0 "$(cat /run/docker.pid 2>/dev/null)" 2>/dev/null; then
        say "starting dockerd in the background (log: logs/dockerd.log)"
        # A session of its own, and none of our streams: it must outlive make and must not hold a CI job's pipe open.
        setsid nohup dockerd >>logs/dockerd.log 2>&1 </dev/null &
    fi
}

wait_for_engine() {
    local second
    for second in $(seq 60); do
        [ "$(engine_state)" = none ] || return 0
        sleep 1
    done
    return 1
}

pull_base_image() {
    # Asking for the manifest first tells in seconds whether a registry answers at all.
    timeout 20 "$VENV_PYTHON" -c 'import docker, sys; docker.from_env().images.get_registry_data(sys.argv[1])' \
        "$REGISTRY_IMAGE" >/dev/null 2>&1 || return 1
    say "pulling $REGISTRY_IMAGE as the base image $BASE_IMAGE"
    timeout 900 "$VENV_PYTHON" - "$REGISTRY_IMAGE" "$BASE_IMAGE" <<'PY'
import sys

import docker

docker.from_env(timeout=900).images.pull(sys.argv[1]).tag(sys.argv[2])
PY
}

make_base_image() {
    if ! may_change_machine || ! { command -v debootstrap >/dev/null || install_packages debootstrap; }; then
        say "no base image: no registry answers, and making one with debootstrap takes root on Debian or Ubuntu; run" \
            "'make setup' once as root, or tag any image that has python3 with venv and pip, and git: docker tag IMAGE $BASE_IMAGE"
        return 0
    fi
    say "no registry answers; making the base image $BASE_IMAGE with debootstrap (about a minute)"
    (debootstrap_image) || say "debootstrap failed: $(tail -n 1 logs/debootstrap.log) (all of it: logs/debootstrap.log)"
}

debootstrap_image() {
    # Not /tmp, which may be mounted nodev or noexec.
    root=$(mktemp -d /var/tmp/srft-base.XXXXXX)
    trap 'rm -rf "$root"' EXIT
    local mirror
    # shellcheck disable=SC2016 # apt fills in these two, not the shell
    mirror=$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' \
        | awk '$1 == "bookworm" && $2 ~ /^(https?|file):/ && !seen++ {print $2}')
    # Without a mirror (Ubuntu has none of bookworm) debootstrap takes its own default.
    debootstrap --variant=minbase --include="$BASE_PACKAGES" bookworm "$root" ${mirror:+"$mirror"} >logs/debootstrap.log 2>&1
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
    tar -C "$root" -c . | "$VENV_PYTHON" -c '
import sys

import docker

repository, tag = sys.argv[1].split(":")
api = docker.from_env(timeout=600).api
api.import_image_from_stream(sys.stdin.buffer, repository=repository, tag=tag, changes=["ENV LANG=C.UTF-8"])
' "$BASE_IMAGE"
}

main
