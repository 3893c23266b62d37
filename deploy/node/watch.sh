# PostgreSQL while it runs: started here, looked after at an interval, to its end.
# shellcheck shell=bash

#: Looks in a row in which a standby did not stream from a primary that is there, before it is cloned anew.
STALLED_LOOKS_MAX=10
stalled=0

# Start PostgreSQL and stay until it has ended, by its own or because it has to give way.
serve() {
    local sleeper status
    postgres -D "$PGDATA" -c cluster_name="$NODE_NAME" -c listen_addresses="$NODE_LISTEN" -c port="$PGPORT" &
    child=$! child_signal=INT # PostgreSQL's fast shutdown
    # The signal may have come before there was a child to pass it on to.
    [ "$stopping" = no ] || stop
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
    local self role timeline cluster streaming verdict what peer
    self=$(psql -XAtq -F ' ' -U postgres -d postgres -c "$QUESTION" 2>/dev/null) || return 0
    read -r role timeline cluster streaming <<<"$self"
    keep_slots
    verdict=$(look | review "$role" "$timeline" "$streaming" "$cluster")
    read -r what peer <<<"$verdict"
    case $what in
        yield) log "gives way: $peer is primary on a newer timeline" && kill -INT "$child" ;;
        stalled) stalled=$((stalled + 1)) ;;
        *) stalled=0 ;;
    esac
    if [ "$stalled" -ge "$STALLED_LOOKS_MAX" ]; then
        log "does not stream from $peer, the primary: stops, to be cloned anew"
        kill -INT "$child"
    fi
}

# A slot for each node named, where there is none. It holds no WAL back until it is used.  NAME...
slots_sql() {
    printf "SELECT pg_create_physical_replication_slot(name) FROM unnest(string_to_array('%s', ' ')) AS name
        WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = name)" "$*"
}

# Every node has a slot for each other, so that they find it on whichever is promoted. One that was used while this was
# the primary would hold WAL for ever on the standby it has become.
keep_slots() {
    psql -XAtq -U postgres -d postgres >/dev/null <<SQL
SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
 WHERE pg_is_in_recovery() AND slot_type = 'physical' AND NOT active AND restart_lsn IS NOT NULL;
$(slots_sql "$(peers | awk '{print $1}' | paste -sd ' ')");
SQL
}
