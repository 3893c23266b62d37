#!/usr/bin/env bash
# The first process of a PostgreSQL node: primary or standby, whichever the other nodes say it is to be.
#
# On each start, and whenever PostgreSQL has ended while this lives, the node asks its peers who is primary
# (decide.sh), and initialises, clones, rewinds, follows or leads. While PostgreSQL runs, it looks after it
# (watch.sh): a primary gives way to one on a newer timeline, a standby follows whoever is primary. It never promotes:
# Pointsman does.
#
#   node.sh            run the node; SIGTERM or SIGINT stops PostgreSQL cleanly and ends
#   node.sh healthy    status 0 when PostgreSQL answers a login over TCP
#   node.sh decide STATE TIMELINE SYSTEM_IDENTIFIER MAY_INITIALISE < table      as decide.sh says
#   node.sh review ROLE TIMELINE SYSTEM_IDENTIFIER STREAMING < table
#
# NODE_NAME        this node, one of NODES; also its replication slot on the primary
# NODES            all nodes, as "db1=HOST:PORT db2=HOST:PORT"
# NODE_INITIAL     the node that makes the cluster when none is there
# NODE_LISTEN      where PostgreSQL listens ("*")
# NODE_GRACE_S     how long one that was primary looks for another before it leads again (10)
# NODE_WATCH_S     how often it looks while PostgreSQL runs (3)
# NODE_PATIENCE_S  how long it waits for a peer that is starting to say what it is (60)
# PGDATA, PGPORT   as PostgreSQL has them; the directory above PGDATA must be writable, and be kept with it
# POSTGRES_PASSWORD, REPLICATION_PASSWORD, HEALTH_PASSWORD, FAILOVER_PASSWORD, APP_PASSWORD
#                  of the roles postgres, replicator, pointsman, pointsman_failover and app; NAME_FILE names a file that
#                  holds one
set -uo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/node/decide.sh
. "$HERE/decide.sh"
# shellcheck source=deploy/node/peers.sh
. "$HERE/peers.sh"
# shellcheck source=deploy/node/data.sh
. "$HERE/data.sh"
# shellcheck source=deploy/node/watch.sh
. "$HERE/watch.sh"

stopping=no
child=
child_signal=TERM

log() {
    printf '%s node %s: %s\n' "$(date -u +%H:%M:%S)" "$NODE_NAME" "$*" >&2
}

die() {
    log "$*"
    exit 1
}

# Pause for so many seconds, or until a signal to stop.
nap() {
    sleep "$1" &
    wait $!
}

# Run a program to its end, also when a signal comes in between (it is passed on by `stop`).
run() {
    local status
    "$@" &
    child=$! child_signal=TERM
    # The signal may have come before there was a child to pass it on to.
    [ "$stopping" = no ] || stop
    while true; do
        wait "$child"
        status=$?
        kill -0 "$child" 2>/dev/null || break
    done
    child=
    return "$status"
}

stop() {
    stopping=yes
    [ -z "$child" ] || kill -"$child_signal" "$child" 2>/dev/null
}

# Look and decide until there is something to do; sets `verdict`. Leading again is decided on only when every look
# within the grace time has said so.
choose() {
    local now lead_at='' patience_ends=$((SECONDS + NODE_PATIENCE_S)) said='' table
    while [ "$stopping" = no ]; do
        table=$(look)
        now=$SECONDS
        # A standby that lacks WAL may be starting for as long as no primary is there: it is not waited for forever.
        [ "$now" -lt "$patience_ends" ] || table=$(awk '$2 == "starting" {$2 = "down"} {print}' <<<"$table")
        # shellcheck disable=SC2046 # four words
        verdict=$(decide $(own) <<<"$table")
        case $verdict in
            primary)
                [ -n "$lead_at" ] || lead_at=$((now + NODE_GRACE_S))
                [ "$now" -lt "$lead_at" ] || return 0
                ;;
            wait*) lead_at= ;;
            *) return 0 ;;
        esac
        if [ "$verdict" != "$said" ]; then
            said=$verdict
            [ "$verdict" != primary ] || log "was primary; leads again in $NODE_GRACE_S s unless another does"
            [ "$verdict" = primary ] || log "waits: ${verdict#wait }"
        fi
        nap 1
    done
    return 1
}

# Carry `verdict` out, up to PostgreSQL's end.
act() {
    local what peer
    read -r what peer <<<"$verdict"
    case $what in
        init) log "makes the cluster" && initialise && serve ;;
        clone) log "clones $peer" && clone "$peer" && serve ;;
        follow) rejoin "$peer" && serve ;;
        standby) log "starts as the standby it was" && serve ;;
        primary) log "leads" && serve ;;
    esac
}

main() {
    : "${NODE_NAME:?}" "${NODES:?}" "${PGDATA:?}"
    NODE_INITIAL=${NODE_INITIAL:-} NODE_LISTEN=${NODE_LISTEN:-*}
    NODE_GRACE_S=${NODE_GRACE_S:-10} NODE_WATCH_S=${NODE_WATCH_S:-3} NODE_PATIENCE_S=${NODE_PATIENCE_S:-60}
    export PGPORT=${PGPORT:-5432}
    trap stop TERM INT
    write_passwords || die "a password is missing, or $PGPASSFILE cannot be written"
    # Of a container that was killed: no PostgreSQL runs here yet, though something may have its process id by now.
    rm -f "$PGDATA/postmaster.pid"
    while choose; do
        act || log "could not: $verdict"
        [ "$stopping" = yes ] || nap 1
    done
    log "ends"
}

case ${1:-run} in
    run) main ;;
    decide | review) "$@" ;;
    healthy) healthy ;;
    *) echo "node.sh: what is \"$1\"?" >&2 && exit 2 ;;
esac
