"""Every event that may be logged, and every field that it may have: the one table that code is held to (a test reads
all calls), and that docs/logs.md is made of.

An event is known by its text, as the code says it, and to machines by its name, which stays when the text is mended. To
declare one is a line of EVENTS; a field that is new is a line of FIELDS. Any event may come with `exception`.
"""

from typing import Final, NamedTuple

DEBUG: Final = "debug"
INFO: Final = "info"
WARNING: Final = "warning"
ERROR: Final = "error"

SUBJECTS: Final = {
    "client": "Clients' connections: logins, ends, what one of them takes too long for.",
    "statement": "Statements: slow ones, and samples; the sending of traces.",
    "session_state": "What clients leave behind on their sessions, see [session-state.md](session-state.md).",
    "pool": "Connections to the nodes.",
    "node": "The nodes: their roles, failover, switchover, Patroni, who leads.",
    "catalog": "What is known of the databases' functions and relations.",
    "cache": "The query cache.",
    "auth": "auth_query.",
    "service": "Start, reload, end; sockets that are listened on.",
    "worker": "The workers' processes.",
    "control": "The control socket.",
    "console": "The admin console.",
    "web": "What is served over HTTP.",
    "stats": "The line of figures that log_stats asks for.",
    "library": "What a library has to say.",
    "log": "The log itself.",
}
"""What a level can be set for apart, by [log] levels."""


class Event(NamedTuple):
    """One event."""

    name: str
    """For machines; it stays."""
    levels: tuple[str, ...]
    text: str
    """As the code says it."""
    fields: tuple[str, ...]
    about: str
    subject: str


def _of(subject: str, *events: tuple[str, str, str, str, str]) -> list[Event]:
    """Events of one subject: name, levels, text, fields, and what it means where the text does not say all."""
    return [
        Event(name, tuple(levels.split()), text, tuple(fields.split()), about, subject)
        for name, levels, text, fields, about in events
    ]


_CLIENT: Final = _of(
    "client",
    (
        "login",
        INFO,
        "client has logged in",
        "address port user database application_name rule tls replication node process_id login_s",
        "With log_connections. `node` is that of a replication connection, which has its server from the start.",
    ),
    (
        "client_gone",
        INFO,
        "client is gone",
        "reason sqlstate why address port user database application_name rule process_id connected_s",
        "With log_disconnections: the end of each that had logged in. `sqlstate` and `why` are what it was told, if it "
        "was.",
    ),
    (
        "login_refused",
        INFO,
        "login refused",
        "address port user database why sqlstate",
        "It was told why it cannot come in: a wrong password, a limit, no node, a timeout.",
    ),
    (
        "gone_before_login",
        DEBUG,
        "gone before it had logged in",
        "address port user database",
        "Somebody who looks whether the port is open, or who gave up.",
    ),
    (
        "pooler_error",
        WARNING,
        "error of Pointsman's own",
        "sqlstate severity why user database process_id",
        "With log_pooler_errors: what a client was sent that no node has said. A FATAL is told here only without "
        "log_disconnections, else in `client_gone`.",
    ),
    ("tls_failed", INFO, "a TLS handshake has failed", "address why", "With a client."),
    (
        "login_bug",
        ERROR,
        "a bug has ended a login",
        "user database",
        "Please report it, with its traceback. Others are not touched.",
    ),
    (
        "client_bug",
        ERROR,
        "a bug has ended a client's connection",
        "user database",
        "Please report it, with its traceback. Others are not touched.",
    ),
    (
        "newcomers_closed",
        WARNING,
        "too many connections that have not logged in: those that were silent for longest were closed",
        "max_client_logins closed",
        "Somebody connects and does not log in; or many do at once, and max_client_logins is too low.",
    ),
    (
        "query_timeout",
        INFO,
        "query_timeout",
        "user database statement",
        "A statement has run for longer than query_timeout, and is canceled.",
    ),
    (
        "leak",
        WARNING,
        "a client has held a server for longer than leak_warning",
        "user database process_id node held_s in_transaction statement",
        "It may have forgotten to end its transaction.",
    ),
    (
        "read_again",
        DEBUG,
        "read again",
        "user database node",
        "A server was lost; what was read there is read elsewhere, and the client hears nothing of it.",
    ),
    (
        "state_unknown",
        WARNING,
        "the state of a session could not be asked for",
        "user database",
        "Its server is reset when it gives it back.",
    ),
)

_STATEMENT: Final = _of(
    "statement",
    (
        "slow_statement",
        INFO,
        "slow statement",
        "duration_s wait_s rows failed unanswered node target why user database application_name rule process_id "
        "statement text",
        "It took log_min_duration or longer on its server. `why` is why it went to the primary; `text` is there with "
        "log_statement_text.",
    ),
    (
        "sampled_statement",
        INFO,
        "sampled statement",
        "duration_s wait_s rows failed unanswered node target why user database application_name rule process_id "
        "statement text",
        "One of those that log_sample_rate has logged by chance.",
    ),
)

_STATE: Final = _of(
    "session_state",
    (
        "session_state",
        WARNING,
        "session state",
        "state action statement application_name user database",
        "A session uses a class of session state for the first time.",
    ),
)

_POOL: Final = _of(
    "pool",
    (
        "server_open",
        INFO,
        "server connection is open",
        "node address database user rule backend encrypted",
        "With log_connections.",
    ),
    (
        "server_closed",
        INFO,
        "server connection is closed",
        "reason sqlstate why node address database user rule backend connected_s",
        "With log_disconnections. `reason` is `idle_timeout`, `lifetime`, `reconnect` (RECONNECT, or "
        "its node has moved), `paused` (PAUSE), `left_behind` (its "
        "client went in the middle of something), `wanted_elsewhere` (another pool or worker gets its place), `limit` "
        "(it was an administrator's), `node` (that is not used any more), `lost` (see `why`) or `uncertain`.",
    ),
    (
        "server_unreachable",
        WARNING,
        "no connection to the node could be opened",
        "node database user why",
        "Told once for all the clients who hear of it, until one can be opened again or the reason changes.",
    ),
    (
        "server_reachable",
        INFO,
        "connections to the node can be opened again",
        "node database user",
        "",
    ),
    ("server_bug", ERROR, "a bug has ended the opening of a connection", "node user", "Please report it."),
)

_NODE: Final = _of(
    "node",
    ("node_added", INFO, "node added", "node host port", "By a reload. It is used once it has answered."),
    ("node_removed", INFO, "node removed", "node", "By a reload. What is lent of it may end."),
    ("node_up", INFO, "node up", "node role", "It is used, in this role."),
    ("node_draining", INFO, "node draining", "node role", "It is given nothing new, and what it has may end."),
    ("node_down", WARNING, "node not used", "node role why", ""),
    ("no_primary", WARNING, "no primary", "", "Writes wait, for query_wait_timeout each."),
    (
        "happened",
        "info warning",
        "happened",
        "event_kind node what",
        "What `pointsman events` shows: failover, switchover, who leads, Patroni, the query cache. `event_kind` is one "
        "of its kinds, `what` says it in words; a warning where it is bad.",
    ),
    ("node_trouble", DEBUG, "node trouble", "node why worker", "A connection has failed, and the node is looked at."),
)

_CATALOG: Final = _of(
    "catalog",
    (
        "catalog_failed",
        WARNING,
        "catalog not loaded, trying again",
        "database why",
        "Reads of this database stay on the primary, or are decided by what was read before.",
    ),
    ("catalog_loaded", INFO, "catalog loaded", "database", "After it had failed."),
    (
        "catalogs_too_many",
        WARNING,
        "too many databases: the reads of some stay on the primary",
        "most",
        "",
    ),
    ("catalog_forgotten", INFO, "catalog forgotten, too many databases", "database most", ""),
)

_CACHE: Final = _of(
    "cache",
    (
        "writes_watched",
        INFO,
        "writes of others are watched",
        "database mode why",
        "`why` says why not in the way that was asked for.",
    ),
    (
        "writes_unwatched",
        "warning error",
        "writes of others are not seen",
        "database why",
        "Answers from the query cache may miss what did not pass through Pointsman. An error where it was asked for.",
    ),
    (
        "second_level_lost",
        WARNING,
        "the second level of the query cache is not there: nodes are asked instead",
        "why",
        "",
    ),
    ("second_level_back", INFO, "the second level of the query cache is there again", "", ""),
    (
        "second_level_full",
        WARNING,
        "the second level of the query cache takes no answers",
        "why",
        "Redis has refused one.",
    ),
    (
        "second_level_bug",
        ERROR,
        "a bug, or a stranger, at the second level of the query cache",
        "",
        "What came from there was not Redis's, or not understood.",
    ),
    (
        "second_level_not_closed",
        DEBUG,
        "a connection to the second level was not closed",
        "why",
        "",
    ),
)

_AUTH: Final = _of(
    "auth",
    ("auth_query_failed", WARNING, "auth_query failed", "user why", "Nobody knows whether this user may log in."),
)

_SERVICE: Final = _of(
    "service",
    ("listening", INFO, "listening", "host port path", "For clients: an address, or the path of a unix socket."),
    ("listening_http", INFO, "listening for HTTP", "host port", ""),
    ("no_ipv6", INFO, "not listening on IPv6: this machine has no IPv6 address", "", ""),
    (
        "descriptors_few",
        WARNING,
        "the limit on open files may be too low: clients would not be accepted, or servers not be opened",
        "limit needed",
        "Raise LimitNOFILE, or the limits of clients and pools are too high.",
    ),
    ("signal", INFO, "received signal", "signal", ""),
    ("ready", INFO, "ready", "workers", "All workers accept clients."),
    (
        "shutting_down",
        INFO,
        "shutting down",
        "mode by shutdown_timeout",
        "`mode` is now, wait_for_servers or wait_for_clients.",
    ),
    ("workers_killed", WARNING, "workers killed before they had drained", "", "Their clients were cut off."),
    (
        "waiting_for_predecessor",
        INFO,
        "waiting for the process before",
        "clients",
        "Its own clients have gone: it ends when those have that the process before an online restart still has.",
    ),
    (
        "predecessor_not_ended",
        WARNING,
        "the process before has not ended",
        "",
        "Its shutdown_timeout is longer, or it stands still: this one ends without it.",
    ),
    ("stopped", INFO, "stopped", "", ""),
    (
        "nothing_to_take_over",
        INFO,
        "there is no Pointsman to take over from",
        "path",
        "With --take-over: none answers at that control socket, so this one starts as if it were the first.",
    ),
    (
        "address_given_up",
        WARNING,
        "nobody listens any more where this Pointsman did",
        "address_bound",
        "The one that has taken over has other settings.",
    ),
    (
        "predecessor_dead",
        WARNING,
        "the Pointsman that was to be taken over from is dead",
        "pid",
        "This one goes on alone.",
    ),
    (
        "successor_gone",
        WARNING,
        "the Pointsman that has taken over is gone",
        "pid",
        "This one takes nobody all the same.",
    ),
    ("restart_timeout_over", INFO, "restart_timeout is over", "restart_timeout", "Who is left is sent away."),
    (
        "not_understood",
        ERROR,
        "what another Pointsman says is not understood",
        "why",
        "In an online restart; the link to it is cut.",
    ),
    (
        "out_of_turn",
        ERROR,
        "another Pointsman has said something at the wrong time",
        "message",
        "In an online restart. A bug; please report it.",
    ),
    ("notify_failed", WARNING, "NOTIFY_SOCKET could not be told", "said why", "By sd_notify."),
    ("reload_refused", ERROR, "not reloaded", "why by", "Nothing has changed. A line for each mistake."),
    ("set_refused", ERROR, "not set", "key why by", "One setting was to be another: SET, in the console."),
)

_WORKER: Final = _of(
    "worker",
    ("worker_ready", INFO, "worker ready", "worker pid", ""),
    (
        "suspend_timeout",
        WARNING,
        "suspend_timeout: what does not take what it is sent is closed",
        "connections",
        "SUSPEND waits for no longer.",
    ),
    ("worker_stopped", INFO, "worker stopped", "worker status", "It has drained."),
    (
        "worker_died",
        ERROR,
        "worker died",
        "worker status lived_s restart_in_s",
        "Its clients were cut off; another takes its place.",
    ),
    ("worker_killed", ERROR, "worker does not exit, killing it", "worker", ""),
    ("worker_nonsense", ERROR, "worker sent nonsense", "worker why", "A bug; it is started again."),
    (
        "worker_out_of_turn",
        ERROR,
        "worker said what only the supervisor says",
        "worker message",
        "A bug; please report it.",
    ),
    (
        "worker_tls_refused",
        ERROR,
        "the new certificates and keys cannot be used here: the old ones stay",
        "why",
        "",
    ),
)

_CONTROL: Final = _of(
    "control",
    (
        "control_not_accepted",
        WARNING,
        "control socket: a connection could not be accepted",
        "why",
        "",
    ),
    ("control_bug", ERROR, "a bug has ended a request to the control socket", "", "Please report it."),
)

_CONSOLE: Final = _of(
    "console",
    (
        "console_opened",
        INFO,
        "console opened",
        "address port user database application_name admin process_id",
        "Somebody looks, or does something.",
    ),
    (
        "console_closed",
        INFO,
        "console closed",
        "reason sqlstate why address port user database application_name admin process_id connected_s",
        "With log_disconnections: the end of it. `sqlstate` and `why` are what its client was told, if it was.",
    ),
    (
        "command",
        INFO,
        "command",
        "command user via",
        "By the console, the control socket or HTTP; more than to look. Of SET the key alone.",
    ),
    (
        "console_stalled",
        WARNING,
        "a client of the console does not read its answer",
        "user",
        "It was closed.",
    ),
    ("console_bug", ERROR, "a bug has ended a session of the console", "user", "Please report it."),
    ("command_bug", ERROR, "a bug has ended a command of the console", "command", "Please report it."),
)

_TRACE: Final = _of(
    "statement",
    ("spans_dropped", WARNING, "spans dropped: there were more than can be sent", "spans", "Lower otel_sample_ratio."),
    (
        "traces_not_taken",
        WARNING,
        "traces are not taken by otel_endpoint: they are lost meanwhile",
        "",
        "The collector does not answer, or not with success. Clients do not notice.",
    ),
    ("traces_taken", INFO, "traces are taken again", "", ""),
)

_WEB: Final = _of(
    "web",
    ("request_bug", ERROR, "request failed", "method path", "A bug has ended a request. Please report it."),
    ("dashboard_login", INFO, "dashboard login", "address", "Somebody has shown dashboard_password."),
    ("dashboard_logout", INFO, "dashboard logout", "address", ""),
    ("dashboard_login_failed", WARNING, "dashboard login failed", "address", "The password was wrong."),
    (
        "dashboard_login_refused",
        WARNING,
        "dashboard login refused: too many have failed",
        "address",
        "From that address, or from all. Within a minute it may be tried again.",
    ),
    ("command_canceled", INFO, "command canceled", "command address", "By a button of the dashboard."),
    (
        "dashboard_slow",
        INFO,
        "a dashboard was closed: it reads too slowly",
        "",
        "Its page opens its stream again by itself.",
    ),
    ("dashboard_bug", ERROR, "a bug has ended what dashboards are told", "", "It begins anew. Please report it."),
    ("dashboard_command_bug", ERROR, "a bug has ended a command of the dashboard", "command", "Please report it."),
)

_STATS: Final = _of(
    "stats",
    (
        "stats",
        INFO,
        "figures",
        "clients waiting xacts_per_s queries_per_s assignments_per_s client_parses_per_s server_parses_per_s "
        "binds_per_s received_bytes_per_s sent_bytes_per_s average_xact_s average_query_s average_wait_s",
        "With log_stats, each stats_period: of all workers, in that time.",
    ),
)

LIBRARY: Final = Event(
    "library",
    (DEBUG, INFO, WARNING, ERROR),
    "from a library",
    ("logger", "said"),
    "What Python's own modules and others log: warnings and errors.",
    "library",
)
LINES_LEFT_OUT: Final = Event(
    "lines_left_out",
    (WARNING,),
    "lines left out: there were more of one event than event_rate_max",
    ("event_id", "lines"),
    "As many lines of that event were not written by this process since it was last said.",
    "log",
)
LINES_LOST: Final = Event(
    "lines_lost",
    (WARNING,),
    "lines lost: standard error could not be written to",
    ("lines",),
    "A full disk, or a reader that is slow or gone. Nothing else waits for it.",
    "log",
)

EVENTS: Final[tuple[Event, ...]] = (
    *_CLIENT,
    *_STATEMENT,
    *_STATE,
    *_POOL,
    *_NODE,
    *_CATALOG,
    *_CACHE,
    *_AUTH,
    *_SERVICE,
    *_WORKER,
    *_CONTROL,
    *_CONSOLE,
    *_TRACE,
    *_WEB,
    *_STATS,
    LIBRARY,
    LINES_LEFT_OUT,
    LINES_LOST,
)
BY_TEXT: Final = {event.text: event for event in EVENTS}

FIELDS: Final = {
    "key": "A setting's name.",
    "admin": "Whether it may change something.",
    "command": "As it was read, without what may be a secret.",
    "connections": "How many.",
    "via": "How it was said: console, socket or http.",
    "by": "Who has asked for it.",
    "method": "Of HTTP.",
    "path": "A file's, or what was asked for over HTTP.",
    "action": "What is done about it: track, pin, reject or allow.",
    "address_bound": "Where clients connected: an address and a port, or the path of a unix socket.",
    "address": 'The client\'s, without its port; "unix" for a unix socket.',
    "application_name": "As the client gave it at its login.",
    "connected_s": "How long it was connected, in seconds.",
    "assignments_per_s": "How often a server was lent to a client, a second.",
    "average_query_s": "From a query's being sent to a server until it was answered, in seconds.",
    "average_wait_s": "How long it was waited for a server, in seconds.",
    "average_xact_s": "From a transaction's begin to its end, in seconds.",
    "backend": "The process id of the node's backend, as in pg_stat_activity.",
    "binds_per_s": "Bind messages of named statements that servers were sent, a second.",
    "client_parses_per_s": "Parse messages of named statements that clients have sent, a second.",
    "clients": "How many are logged in.",
    "closed": "How many connections were closed.",
    "database": "Its name.",
    "duration_s": "From its being sent to a server, or from the end of what that did before, to its answer, seconds.",
    "encrypted": "Whether it runs over TLS.",
    "event_id": "The `id` of another event.",
    "event_kind": "A kind of happening.",
    "failed": "Whether the answer was an error.",
    "held_s": "For how long, in seconds.",
    "host": "An address of this machine.",
    "in_transaction": "Whether a transaction is open.",
    "limit": "How many there may be.",
    "lines": "How many.",
    "spans": "How many.",
    "lived_s": "How long the process has lived, in seconds.",
    "login_s": "From its connecting until it could begin, in seconds: its own time to prove who it is, and ours.",
    "logger": "The library's own name of what speaks.",
    "max_client_logins": "The setting.",
    "message": "The kind of a message between our processes.",
    "mode": "How it is done, in one word.",
    "most": "How many there may be.",
    "needed": "How many there should be able to be, by the settings.",
    "node": "A node's name.",
    "pid": "A process's, as the system has it.",
    "port": "A port: of this machine, or of the client.",
    "process_id": "A client's, as in its BackendKeyData, in SHOW CLIENTS and in cancel keys.",
    "queries_per_s": "A second; a query is one Query, or all extended-query messages up to a Sync.",
    "received_bytes_per_s": "From clients, a second.",
    "reason": "In one word, why it is over; of a client `goodbye` (it said so), `closed` (it just closed), `lost` (the "
    "connection broke), `server` (its server has sent FATAL), `server_lost`, `administrator` (shutdown, drain, KILL), "
    "`idle_timeout`, `idle_transaction_timeout`, `transaction_timeout`, `query_timeout`, `refused` (another FATAL, "
    "see `sqlstate`), `stalled` (one of the console has read nothing for a minute), `bug`.",
    "replication": "physical or logical.",
    "restart_in_s": "In so many seconds another is started.",
    "restart_timeout": "The setting.",
    "role": "A node's: primary, standby or unknown.",
    "rows": "How many PostgreSQL says it has returned or changed.",
    "rule": "The name of the rule of [[routes]] that holds for it.",
    "said": "Its words.",
    "sent_bytes_per_s": "To clients, a second.",
    "server_parses_per_s": "Parse messages of named statements that servers were sent, a second.",
    "severity": "ERROR, and the session goes on, or FATAL.",
    "shutdown_timeout": "The setting.",
    "signal": "Its name.",
    "sqlstate": "What the client was told, see PostgreSQL's appendix A.",
    "state": "A class of session state.",
    "statement": "A statement's shape: its text with $1 or ? for each constant, without comments.",
    "status": "How the process ended.",
    "target": "primary or standby.",
    "text": "As it was sent, with its literals; of several statements the last.",
    "tls": "Version and cipher.",
    "unanswered": "True where it was not answered: its client had gone before, or its server.",
    "user": "As the client calls it.",
    "wait_s": "How long it has waited for a server before that, in seconds.",
    "waiting": "How many of them wait for a server.",
    "what": "In words.",
    "why": "The reason, in words.",
    "worker": "A worker's number, from 0: the one that the line is about, or that has written it.",
    "workers": "How many there are.",
    "xacts_per_s": "Transactions a second, those of one statement too.",
    "exception": "The traceback of an error in Pointsman, or in what it uses. Without the values of variables.",
}
"""What a field says, in whichever event."""
