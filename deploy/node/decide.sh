# What a node is to do, from what it is itself and what its peers say. Only decides: no I/O, no clock.
#
# A table of peers has a line for each:  NAME ROLE TIMELINE SYSTEM_IDENTIFIER
# ROLE is  primary | standby  as the peer itself says;
#          starting           it refuses connections: it may yet become either;
#          unknown            it accepts connections, but does not say what it is (a wrong password, say);
#          down               nobody listens there.
# The last three have "-" in place of timeline and system identifier.
# shellcheck shell=bash

# The peers that are primary in this cluster, highest timeline first.  SYSTEM_IDENTIFIER ("-": any) < table
primaries() {
    # As strings: awk's numbers are too short for an identifier of 64 bits.
    awk -v ours="$1" '$2 == "primary" && (ours == "-" || $4 "" == ours "")' | sort -k3,3nr
}

# decide STATE TIMELINE SYSTEM_IDENTIFIER MAY_INITIALISE < table, when PostgreSQL does not run here.
#
# STATE is what lies in the data directory: none | broken (left half-made by a clone or a rewind) | primary | standby.
# Prints one line:  init | clone PEER | follow PEER | standby | primary | wait REASON
decide() {
    local state=$1 timeline=$2 cluster=$3 may_initialise=$4 table foreigner peers name theirs rival_timeline
    table=$(cat)
    foreigner=$(awk -v ours="$cluster" 'ours != "-" && $2 == "primary" && $4 "" != ours "" {print $1; exit}' <<<"$table")
    if [ -n "$foreigner" ]; then
        echo "wait $foreigner is the primary of another cluster"
        return
    fi
    peers=$(primaries "$cluster" <<<"$table")
    read -r name _ theirs _ <<<"$peers"
    rival_timeline=$(awk 'NR == 2 {print $3}' <<<"$peers")
    if [ -n "$name" ] && [ "$theirs" = "$rival_timeline" ]; then
        echo "wait more than one primary on timeline $theirs"
        return
    fi
    case $state in
        none | broken) decide_without_data "$state" "$name" "$may_initialise" <<<"$table" ;;
        standby) decide_standby "$timeline" "$name" "$theirs" ;;
        primary) decide_primary "$timeline" "$cluster" "$name" "$theirs" <<<"$table" ;;
    esac
}

# STATE PRIMARY MAY_INITIALISE < table
decide_without_data() {
    local there
    # Whoever listens has data of a cluster that was: beside it no other is to begin.
    there=$(awk '$2 != "down" {print $1; exit}')
    if [ -n "$2" ]; then
        echo "clone $2"
    elif [ "$1" = none ] && [ "$3" = yes ] && [ -z "$there" ]; then
        echo init
    else
        echo "wait there is no primary to clone from"
    fi
}

# TIMELINE PRIMARY ITS_TIMELINE
decide_standby() {
    if [ -n "$2" ] && [ "$3" -ge "$1" ]; then
        echo "follow $2"
    else
        echo standby
    fi
}

# TIMELINE SYSTEM_IDENTIFIER PRIMARY ITS_TIMELINE < table
decide_primary() {
    local timeline=$1 cluster=$2 name=$3 theirs=$4 table newer silent
    table=$(cat)
    newer=$(awk -v timeline="$timeline" -v ours="$cluster" '
        $2 == "standby" && $4 "" == ours "" && $3 > timeline {print $1 " has seen timeline " $3; exit}' <<<"$table")
    silent=$(awk '$2 == "starting" || $2 == "unknown" {print $1; exit}' <<<"$table")
    if [ -n "$name" ] && [ "$theirs" -gt "$timeline" ]; then
        echo "follow $name"
    elif [ -n "$name" ] && [ "$theirs" -eq "$timeline" ]; then
        # Both were promoted from the same timeline. pg_rewind cannot tell them apart, and what only this one has
        # committed would be lost by a clone: a person has to say so.
        echo "wait $name is primary on the same timeline $timeline; to clone it, remove the data directory"
    elif [ -n "$newer" ]; then
        echo "wait $newer, and this was primary on timeline $timeline"
    elif [ -n "$silent" ]; then
        echo "wait $silent does not say yet what it is"
    else
        echo primary
    fi
}

# review ROLE TIMELINE SYSTEM_IDENTIFIER STREAMING < table, while PostgreSQL runs here: what it says of itself.
# Prints one line:  keep | yield PEER (stop: it is primary on a newer timeline) | follow PEER
#                   | stalled PEER (follow it, but so far nothing of its timeline arrives)
review() {
    local name theirs
    read -r name _ theirs _ <<<"$(primaries "$3")"
    if [ -z "$name" ]; then
        echo keep
    elif [ "$1" = primary ] && [ "$theirs" -gt "$2" ]; then
        echo "yield $name"
    elif [ "$1" = standby ] && [ "$theirs" -eq "$2" ] && [ "$4" = t ]; then
        echo "follow $name"
    elif [ "$1" = standby ] && [ "$theirs" -ge "$2" ]; then
        # A standby that has replayed more than the new primary had connects and streams, again and again, to no effect.
        echo "stalled $name"
    else
        echo keep
    fi
}
