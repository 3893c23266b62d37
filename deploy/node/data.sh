# The data directory: what it holds, making it, bringing it into line with another node's.
#
# A new one is made beside the old and takes its place when it is whole. While the old is removed or rewound a mark
# stands beside it: where it is found, what is left is good for nothing but to be replaced.
# shellcheck shell=bash

# "STATE TIMELINE SYSTEM_IDENTIFIER MAY_INITIALISE", as `decide` wants them
own() {
    local state=none timeline=- cluster=- may_initialise=no
    [ "$NODE_NAME" != "$NODE_INITIAL" ] || may_initialise=yes
    if [ -e "$PGDATA.incomplete" ]; then
        state=broken
    elif [ -s "$PGDATA/PG_VERSION" ]; then
        state=primary
        [ ! -e "$PGDATA/standby.signal" ] || state=standby
        timeline=$(newest_timeline)
        cluster=$(control 'Database system identifier')
    fi
    printf '%s %s %s %s\n' "$state" "$timeline" "$cluster" "$may_initialise"
}

# A line of pg_controldata.  LABEL
control() {
    LC_ALL=C pg_controldata -D "$PGDATA" | sed -n "s/^$1: *//p"
}

# The newest timeline this node has been on or heard of. The control file has that of the last checkpoint alone; one
# that ended right after its promotion has only the new timeline's history to show for it.
newest_timeline() {
    local timeline file
    timeline=$(control "Latest checkpoint's TimeLineID")
    for file in "$PGDATA"/pg_wal/*.history; do
        [ -e "$file" ] || continue
        file=${file##*/}
        [ $((16#${file%.history})) -le "$timeline" ] || timeline=$((16#${file%.history}))
    done
    echo "$timeline"
}

# Put a data directory that is whole in place of what is there.  DIRECTORY
put_in_place() {
    if [ -e "$PGDATA" ]; then
        touch "$PGDATA.incomplete" && rm -rf "$PGDATA" || return
    fi
    mv "$1" "$PGDATA" && rm -f "$PGDATA.incomplete"
}

initialise() {
    local new=$PGDATA.new
    rm -rf "$new"
    run initdb -D "$new" -U postgres --auth-local=peer --auth-host=scram-sha-256 --pwfile=<(secret POSTGRES_PASSWORD) \
        --encoding=UTF8 --locale=C --no-instructions || return
    printf 'host all all all scram-sha-256\nhost replication replicator all scram-sha-256\n' >>"$new/pg_hba.conf"
    cat "$HERE/postgresql.conf" >>"$new/postgresql.conf"
    pg_ctl -D "$new" -w -s -o "-c listen_addresses='' -c unix_socket_directories=$SOCKETS" start || return
    make_roles
    local made=$?
    pg_ctl -D "$new" -w -s -m fast stop && [ "$made" = 0 ] && put_in_place "$new"
}

make_roles() {
    app=$(secret APP_PASSWORD) health=$(secret HEALTH_PASSWORD) replication=$(secret REPLICATION_PASSWORD) \
        failover=$(secret FAILOVER_PASSWORD) psql -Xq -v ON_ERROR_STOP=1 -h "$SOCKETS" -U postgres -d postgres <<'SQL'
\set app `printf %s "$app"`
\set health `printf %s "$health"`
\set replication `printf %s "$replication"`
\set failover `printf %s "$failover"`
SET log_statement = none;
CREATE ROLE replicator LOGIN REPLICATION PASSWORD :'replication';
CREATE ROLE pointsman LOGIN PASSWORD :'health' IN ROLE pg_monitor;
CREATE ROLE pointsman_failover LOGIN REPLICATION PASSWORD :'failover'
    IN ROLE pg_monitor, pg_checkpoint, pg_execute_server_program; -- the last two for a switchover
GRANT EXECUTE ON FUNCTION pg_catalog.pg_promote, pg_catalog.pg_reload_conf TO pointsman_failover;
GRANT ALTER SYSTEM ON PARAMETER primary_conninfo TO pointsman_failover;
CREATE ROLE app LOGIN PASSWORD :'app';
CREATE DATABASE app OWNER app;
SQL
}

# A copy of the primary.  PEER
clone() {
    local new=$PGDATA.new where
    where=$(conninfo "$1")
    rm -rf "$new"
    new_slot "$where" || return
    run pg_basebackup -d "$where user=replicator" -D "$new" -X stream -S "$NODE_NAME" --checkpoint=fast || return
    touch "$new/standby.signal"
    put_in_place "$new" && point_at "$1"
}

# A slot of this node's name on the primary, in place of one whose WAL may be gone.  CONNINFO
new_slot() {
    psql -XAtq -v ON_ERROR_STOP=1 -v name="$NODE_NAME" -d "$1 user=replicator dbname=postgres" >/dev/null <<'SQL'
SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = :'name';
SELECT pg_create_physical_replication_slot(:'name');
SQL
}

# Go back to where the primary's timeline began, and become its standby. Fails where both are on one timeline.  PEER
rewind() {
    local source theirs
    source="$(conninfo "$1") user=postgres dbname=postgres"
    # The source's control file must show its new timeline, or pg_rewind finds nothing to do.
    theirs=$(psql -XAtq -d "$source" -c CHECKPOINT -c 'SELECT timeline_id FROM pg_control_checkpoint()') || return
    [ "$theirs" != "$(control "Latest checkpoint's TimeLineID")" ] || return
    touch "$PGDATA.incomplete"
    run pg_rewind -D "$PGDATA" --source-server="$source" || return
    touch "$PGDATA/standby.signal"
    rm -f "$PGDATA.incomplete"
    point_at "$1"
}

# Become a standby of the primary, whatever this was.  PEER
rejoin() {
    if [ -e "$PGDATA/standby.signal" ] && [ "$stalled" -lt "$STALLED_LOOKS_MAX" ]; then
        log "starts as a standby of $1"
        point_at "$1"
        return
    fi
    stalled=0 # a standby that can be neither rewound nor cloned serves reads as it is
    log "rewinds to $1"
    rewind "$1" && return
    [ "$stopping" = no ] || return
    log "could not be rewound: clones $1"
    clone "$1"
}

# What primary_conninfo says of a peer. A list of all peers would not do: the WAL receiver hangs at one that is frozen,
# since it does not mind connect_timeout.  PEER
upstream() {
    printf '%s user=replicator application_name=%s' "$(conninfo "$1")" "$NODE_NAME"
}

# Whom the standby follows when it starts.  PEER
point_at() {
    local conf=$PGDATA/postgresql.auto.conf
    {
        grep -vE '^ *(primary_conninfo|primary_slot_name) *=' "$conf"
        printf "primary_conninfo = '%s'\nprimary_slot_name = '%s'\n" "$(upstream "$1")" "$NODE_NAME"
    } >"$conf.new" && mv "$conf.new" "$conf"
}

# The same while it runs.  PEER
repoint() {
    local wanted
    wanted=$(upstream "$1")
    [ "$(local_sql 'SHOW primary_conninfo')" != "$wanted" ] || return 0
    log "follows $1 from now on"
    local_sql "ALTER SYSTEM SET primary_conninfo = '$wanted'" && local_sql 'SELECT pg_reload_conf()' >/dev/null
}
