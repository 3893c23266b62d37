#!/usr/bin/env bash
# The compose demo's tests, with what they need: `make compose-test`.
#
# Takes the Docker engine that answers. Without one it starts its own, as root and where dockerd is installed, and ends
# it again; its images stay in build/engine. Where a machine permits no bridge: DOCKERD_FLAGS="--iptables=false --bridge=none".
# Images that cannot be pulled are made locally (deploy/local-images.sh).
set -euo pipefail
cd "$(dirname "$0")/../.."

ENGINE_TIMEOUT_S=30

start_engine() {
    local deadline=$((SECONDS + ENGINE_TIMEOUT_S))
    run=$(mktemp -d)
    export DOCKER_HOST=unix://$run/docker.sock
    # shellcheck disable=SC2086 # words
    dockerd --host "$DOCKER_HOST" --data-root "$PWD/build/engine" --exec-root "$run/exec" --pidfile "$run/pid" \
        ${DOCKERD_FLAGS:-} >"$run/log" 2>&1 &
    engine=$!
    trap stop_engine EXIT
    until docker version >/dev/null 2>&1; do
        if ! kill -0 "$engine" 2>/dev/null || [ "$SECONDS" -ge "$deadline" ]; then
            tail -n 20 "$run/log" >&2
            exit 1
        fi
        sleep 0.2
    done
}

stop_engine() {
    kill "$engine" 2>/dev/null || true
    wait "$engine" || true
    umount "$run"/exec/netns/* 2>/dev/null || true # it leaves these
    rm -rf "$run"
}

if docker compose version >/dev/null 2>&1; then compose=(docker compose); else compose=(docker-compose); fi
docker version >/dev/null 2>&1 || start_engine
files=(-f compose.yaml)
docker network inspect bridge >/dev/null 2>&1 || files+=(-f compose.host.yaml)
if [ -e build/compose.env ] || ! "${compose[@]}" "${files[@]}" pull --quiet db1 2>/dev/null; then
    deploy/local-images.sh
    set -a
    # shellcheck source=/dev/null
    . build/compose.env
    set +a
    # The reaper of testcontainers is an image that would have to be pulled.
    export TESTCONTAINERS_RYUK_DISABLED=true
fi
"${compose[@]}" "${files[@]}" build --quiet pointsman
export POINTSMAN_PG_IMAGE=${POSTGRES_IMAGE:-postgres:18}
"${PYTEST:-.venv/bin/pytest}" tests/compose tests/sandbox/test_containers.py "$@"
