# PostgreSQL while it runs: started here, looked after at an interval, to its end.
# shellcheck shell=bash

#: Looks in a row in which a standby got nothing from a primary that is there, before it is rewound or cloned.
STALLED_LOOKS_MAX=5
stalled=0

# Start PostgreSQL and stay until it has ended, by its own or because it has to give way.
serve() {
    local sleeper status
    postgres -D "$PGDATA" -c cluster_name="$NODE_NAME" -c listen_addresses="$NODE_LISTEN" -c port="$PGPORT" \
        -c unix_socket_directories="$SOCKETS" &
    child=$! child_signal=INT # PostgreSQL's fast shutdown
    [ "$stopping" = no ] || stop # as in `run`
    while kill -0 "$child" 2>/dev/null; do
        sleep "$NODE_WATCH_S" &
        sleeper=$!
        wait -n "$child" "$sleeper"
        kill "$sleeper" 2>/dev/null
        [ "$stopping" = yes ] || ! kill -0 "$child" 2>/dev/null || look_after
    done
    wait "$child"
    status=$?
    child=
    log "PostgreSQL has ended with status $status"
}

look_after() {
    local self role timeline cluster streaming what peer
    self=$(local_sql "$QUESTION") || return 0
    read -r role timeline cluster streaming <<<"$self"
    keep_slots
    read -r what peer <<<"$(look | review "$role" "$timeline" "$cluster" "$streaming")"
    case $what in
        yield) log "gives way: $peer is primary on a newer timeline" && kill -INT "$child" ;;
        follow) repoint "$peer" && stalled=0 ;;
        stalled) repoint "$peer" && stalled=$((stalled + 1)) ;;
        *) stalled=0 ;;
    esac
    if [ "$stalled" -ge "$STALLED_LOOKS_MAX" ]; then
        log "cannot follow $peer: stops, to be brought into line"
        kill -INT "$child"
    fi
}

# Every node has a slot for each other, so that they find it on whichever is promoted. One that was used while this was
# the primary would hold WAL for ever on the standby it has become.
keep_slots() {
    local_sql "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
        WHERE pg_is_in_recovery() AND slot_type = 'physical' AND NOT active AND restart_lsn IS NOT NULL" >/dev/null
    local_sql "SELECT pg_create_physical_replication_slot(name)
        FROM unnest(string_to_array('$(peers | awk '{print $1}' | paste -sd ' ')', ' ')) AS name
        WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = name)" >/dev/null
}
