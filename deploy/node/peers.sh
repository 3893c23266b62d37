# Asking the nodes what they are, over TCP, each within a few seconds and all at once.
# shellcheck shell=bash

ANSWER_TIMEOUT_S=4

# The timeline of a primary is the one it inserts WAL on: the control file shows the old one until the checkpoint after
# a promotion. A standby that receives nothing knows only what it has replayed.
QUESTION="
SELECT CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE 'primary' END,
       CASE WHEN pg_is_in_recovery()
            THEN greatest((SELECT received_tli FROM pg_stat_wal_receiver), (SELECT timeline_id FROM pg_control_checkpoint()))
            ELSE ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int END,
       (SELECT system_identifier FROM pg_control_system()),
       EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming')"

SOCKETS=/var/run/postgresql
export PGPASSFILE=$SOCKETS/node.pgpass
export PGCONNECT_TIMEOUT=2

# A secret by its name: the variable's value, or the content of the file that NAME_FILE names.
secret() {
    local file_variable=$1_FILE
    if [ -n "${!file_variable:-}" ]; then
        cat "${!file_variable}"
    else
        printf '%s\n' "${!1:?}"
    fi
}

# All passwords where libpq finds them, the WAL receiver's too, and no list of processes or settings file shows them.
write_passwords() {
    local role name password
    (
        umask 077
        while read -r role name; do
            password=$(secret "$name") || exit
            printf '*:*:*:%s:%s\n' "$role" "$(sed 's/[\\:]/\\&/g' <<<"$password")"
        done <<'ROLES' >"$PGPASSFILE"
postgres POSTGRES_PASSWORD
replicator REPLICATION_PASSWORD
pointsman HEALTH_PASSWORD
ROLES
    )
}

# "NAME HOST PORT" for each other node
peers() {
    local node
    for node in $NODES; do
        [ "${node%%=*}" = "$NODE_NAME" ] || printf '%s %s\n' "${node%%=*}" "$(tr ':' ' ' <<<"${node#*=}")"
    done
}

# HOST and PORT as libpq's settings.  PEER
conninfo() {
    peers | awk -v name="$1" '$1 == name {print "host=" $2 " port=" $3}'
}

# A line of the table.  NAME HOST PORT
ask() {
    local answer
    if answer=$(timeout "$ANSWER_TIMEOUT_S" psql -XAtq -F ' ' -h "$2" -p "$3" -U pointsman -d postgres -c "$QUESTION" 2>/dev/null); then
        printf '%s %s\n' "$1" "$answer"
        return
    fi
    pg_isready -q -t 2 -h "$2" -p "$3"
    case $? in
        0) printf '%s unknown - -\n' "$1" ;;
        1) printf '%s starting - -\n' "$1" ;;
        *) printf '%s down - -\n' "$1" ;;
    esac
}

# What this node's own PostgreSQL answers.  SQL
local_sql() {
    timeout "$ANSWER_TIMEOUT_S" psql -XAtq -F ' ' -h "$SOCKETS" -U postgres -d postgres -c "$1" 2>/dev/null
}

# The table of all peers.
look() {
    local name host port
    while read -r name host port; do
        ask "$name" "$host" "$port" &
    done < <(peers)
    wait
}

healthy() {
    timeout "$ANSWER_TIMEOUT_S" psql -XAtq -h 127.0.0.1 -p "${PGPORT:-5432}" -U pointsman -d postgres -c 'SELECT 1' >/dev/null
}
