"""Every metric that is exposed, declared once: what `pointsman metrics` prints and /metrics shows is made of this.

Names are Prometheus's way: base units, counters end in `_total`, and a gauge that bounds another has the name of the
setting that sets it.
"""

from typing import Final, Literal

import msgspec

MetricType = Literal["counter", "gauge", "histogram"]
NONE: Final = "(none)"
"""For no rule, and for no node: an empty label is none to Prometheus."""


class Metric(msgspec.Struct, frozen=True):
    """One of them."""

    name: str
    """As in a query; of a histogram without `_bucket`, `_sum` and `_count`."""
    type: MetricType
    help: str
    labels: tuple[str, ...] = ()
    alarms: tuple[str, ...] = ()
    """Of deploy/prometheus/alerts.yaml, which look at it."""


class Chapter(msgspec.Struct, frozen=True):
    """Those of one subject."""

    title: str
    about: str
    metrics: tuple[Metric, ...]


def _counter(name: str, help_: str, *labels: str, alarms: tuple[str, ...] = ()) -> Metric:
    return Metric(f"pointsman_{name}_total", "counter", help_, labels, alarms)


def _gauge(name: str, help_: str, *labels: str, alarms: tuple[str, ...] = ()) -> Metric:
    return Metric(f"pointsman_{name}", "gauge", help_, labels, alarms)


def _histogram(name: str, help_: str, *labels: str, alarms: tuple[str, ...] = ()) -> Metric:
    return Metric(f"pointsman_{name}", "histogram", help_, labels, alarms)


TRAFFIC: Final = ("database", "route", "node")
"""Bounded by TRAFFIC_ROWS_MAX of middleware.web.metrics_rows."""
POOL: Final = ("database", "user", "route", "node")
"""Bounded by POOL_ROWS_MAX there."""

CHAPTERS: Final = (
    Chapter(
        "Pointsman itself",
        "",
        (
            _gauge("build_info", "What runs: always 1.", "version", "python", "data_plane"),
            _gauge("start_time_seconds", "When it was started, since 1970."),
            _gauge(
                "phase",
                'What it is about: 1 for one of "starting", "serving" and "draining", 0 for the others.',
                "phase",
            ),
            _gauge(
                "supervisor_loop_lag_seconds",
                "How late the supervisor's event loop was at most within the last 15 s.",
                alarms=("PointsmanControlPlaneSlow",),
            ),
            _counter("supervisor_cpu_seconds", "CPU time of the supervisor, user and system."),
            _gauge("supervisor_resident_memory_bytes", "Memory of the supervisor."),
            _counter(
                "events",
                "What has become of the nodes and of Pointsman, by kind, as `pointsman events` has it.",
                "event",
                alarms=(
                    "PointsmanFailover",
                    "PointsmanFailoverAbandoned",
                    "PointsmanNodeFlapping",
                    "PointsmanCoordinationTrouble",
                    "PointsmanReloadFailed",
                ),
            ),
            _gauge(
                "certificate_not_after_timestamp_seconds",
                "When a certificate of ours that is in force expires, or one that is shown with it, by the setting "
                "that names its file. Nothing where there is none.",
                "setting",
                alarms=("PointsmanCertificateExpires", "PointsmanCertificateExpired"),
            ),
            _gauge(
                "leads",
                "1 while this one of several Pointsmans may act on the nodes. Nothing where it does not claim to "
                '(`etcd_hosts` with `failover = "promote"`), as of the two that follow.',
                alarms=("PointsmanNobodyLeads",),
            ),
            _gauge("leads_since_timestamp_seconds", "Since when it does, or does not."),
            _gauge("etcd_answers", "1 while etcd does.", alarms=("PointsmanEtcdSilent",)),
            _gauge("http_connections", "Connections on which HTTP is served now."),
            _gauge("scrape_seconds", "How long the last answer of /metrics took to be made."),
            _gauge("workers_silent", "Workers that have not answered what the last answer of /metrics needed."),
        ),
    ),
    Chapter(
        "Workers",
        "One series for each worker; counters begin anew with its process.",
        (
            _gauge("workers", "How many there are to be: the setting `workers`."),
            _gauge("worker_up", "1 while it accepts clients.", "worker", alarms=("PointsmanWorkerDown",)),
            _counter(
                "worker_restarts",
                "Processes that followed one that had died.",
                "worker",
                alarms=("PointsmanWorkerRestarts",),
            ),
            _gauge(
                "worker_silence_seconds",
                "How long ago it last said something, which it does once a second.",
                "worker",
                alarms=("PointsmanWorkerDown",),
            ),
            _gauge(
                "worker_loop_lag_seconds",
                "How late its event loop was, the last time it looked.",
                "worker",
                alarms=("PointsmanWorkerSaturated",),
            ),
            _counter(
                "worker_cpu_seconds",
                "CPU time, user and system. A worker uses one core at most.",
                "worker",
                alarms=("PointsmanWorkerSaturated",),
            ),
            _gauge("worker_resident_memory_bytes", "Memory.", "worker", alarms=("PointsmanWorkerMemory",)),
        ),
    ),
    Chapter(
        "Clients",
        "",
        (
            _gauge("clients", "Clients that are logged in.", alarms=("PointsmanClientsNearLimit",)),
            _gauge(
                "max_client_conn",
                "How many there may be: the setting, 0 for no bound.",
                alarms=("PointsmanClientsNearLimit",),
            ),
            _gauge(
                "clients_before",
                "Clients that processes before an online restart still have. They are in no other metric.",
                alarms=("PointsmanClientsNearLimit",),
            ),
            _gauge("clients_waiting", "Clients that wait for a server.", alarms=("PointsmanClientsWaiting",)),
            _gauge(
                "client_logins_in_flight",
                "Connections of clients that have not logged in yet.",
                "worker",
                alarms=("PointsmanLoginsNearLimit",),
            ),
            _gauge(
                "max_client_logins",
                "How many of these a worker bears: the setting.",
                alarms=("PointsmanLoginsNearLimit",),
            ),
            _counter(
                "client_logins",
                'How logins have ended: "done", "refused", or "abandoned" by the client or a timeout.',
                "worker",
                "outcome",
                alarms=("PointsmanLoginsRefused",),
            ),
            _histogram("client_login_seconds", "From a client's connecting until it was logged in.", "worker"),
        ),
    ),
    Chapter(
        "Traffic",
        f"By the database as clients call it, the rule that holds for them, and the node; `{NONE}` for no rule, and "
        "for what needed no node, as answers of the query cache. The first 500 combinations have series of their own, "
        "what comes beyond is counted for the database `(others)`.",
        (
            _counter("transactions", "Transactions.", *TRAFFIC),
            _counter("queries", "Statements, or batches of them.", *TRAFFIC, alarms=("PointsmanErrorRatio",)),
            _counter("server_assignments", "Times that a client was lent a server.", *TRAFFIC),
            _counter("received_bytes", "From clients.", *TRAFFIC),
            _counter("sent_bytes", "To clients.", *TRAFFIC),
            _counter("transaction_seconds", "Time spent in transactions.", *TRAFFIC),
            _counter("query_seconds", "Time spent on queries, from sending them until they were answered.", *TRAFFIC),
            _counter("wait_seconds", "Time that clients waited for a server.", *TRAFFIC),
            _counter("client_parses", "Parse messages of clients.", *TRAFFIC),
            _counter("server_parses", "Parse messages to servers.", *TRAFFIC),
            _counter("binds", "Bind messages of clients.", *TRAFFIC),
            _counter(
                "errors",
                "ErrorResponses that clients were sent, the servers' and ours.",
                *TRAFFIC,
                alarms=("PointsmanErrorRatio",),
            ),
        ),
    ),
    Chapter(
        "Times",
        "By rule and node, over all workers.",
        (
            _histogram(
                "query_duration_seconds",
                "From a batch's being sent to a server until it was answered.",
                "route",
                "node",
                alarms=("PointsmanQueriesSlow",),
            ),
            _histogram(
                "wait_duration_seconds",
                "How long each batch that needed a server waited for one.",
                "route",
                "node",
                alarms=("PointsmanWaitsLong",),
            ),
            _histogram("checkout_duration_seconds", "How long a client had a server.", "route", "node"),
        ),
    ),
    Chapter(
        "Nodes",
        "",
        (
            _gauge("primary_available", "1 while a primary is in use, else 0.", alarms=("PointsmanNoPrimary",)),
            _gauge("topology_version", "Grows with every change of the nodes that workers act on."),
            _gauge("timeline", "The highest timeline that a primary was seen on."),
            _gauge(
                "node_up",
                "1 while it is in use.",
                "node",
                alarms=("PointsmanNoStandby", "PointsmanReadsOnPrimary"),
            ),
            _gauge(
                "node_role",
                'What it said of itself last: 1 for one of "primary", "standby" and "unknown", 0 for the others.',
                "node",
                "role",
                alarms=("PointsmanNoStandby", "PointsmanReadsOnPrimary"),
            ),
            _gauge(
                "node_condition",
                "How it is, 1 for one, as `pointsman status` has it: up, suspect, down, draining, detached, unknown.",
                "node",
                "condition",
                alarms=("PointsmanNodeDown", "PointsmanNodeDetached"),
            ),
            _gauge("node_since_timestamp_seconds", "Since when it has been in use, or not, in its role.", "node"),
            _gauge(
                "node_replay_lag_bytes",
                "WAL that the primary has written and this standby has not replayed; nothing while that is not known.",
                "node",
                alarms=("PointsmanLagBytes",),
            ),
            _gauge(
                "node_replay_lag_seconds",
                "How old the last transaction is that this standby has replayed, 0 where it has replayed all it has.",
                "node",
                alarms=("PointsmanLagSeconds",),
            ),
            _gauge(
                "max_replica_lag_seconds",
                "A standby further behind serves no reads: the setting `max_replica_lag`.",
                alarms=("PointsmanLagSeconds",),
            ),
            _gauge("node_timeline", "The timeline it is on.", "node"),
            _gauge("node_weight", "Its share of the reads: the setting `weight`.", "node"),
            _gauge(
                "node_connections",
                "Client backends that it has, all of them.",
                "node",
                alarms=("PointsmanNodeConnectionsNearLimit",),
            ),
            _gauge(
                "node_max_connections",
                "How many it allows.",
                "node",
                alarms=("PointsmanNodeConnectionsNearLimit",),
            ),
            _counter("node_reads", "Statements or batches decided for a standby, where they went.", "node"),
            _counter("node_writes", "Statements or batches that only the primary may serve.", "node"),
            _gauge("node_servers", "Connections open to it.", "node"),
            _gauge("node_leases", "Servers lent to a client.", "node"),
            _gauge("server_logins_in_flight", "Servers that are being opened.", "worker"),
            _counter(
                "server_login_failures",
                "Servers that could not be opened.",
                "worker",
                alarms=("PointsmanServerLoginsFail",),
            ),
            _histogram("server_login_seconds", "From connecting to a node until the login was done.", "worker"),
        ),
    ),
    Chapter(
        "Pools",
        "Over all workers, by the database and user as the node has them, the rule whose pool it is, and the node. The "
        "200 with the most clients and servers have series of their own, the others together are the database "
        "`(others)`.",
        (
            _gauge(
                "pool_servers",
                "Servers, by state as in SHOW POOLS: active, active_cancel, being_canceled, idle, used, tested, login, "
                "closing.",
                *POOL,
                "state",
                alarms=("PointsmanPoolExhausted",),
            ),
            _gauge(
                "pool_clients",
                "Clients, by state as in SHOW POOLS: active, waiting, active_cancel_req, waiting_cancel_req. Each is "
                "counted once, at the primary's pool.",
                *POOL,
                "state",
            ),
            _gauge("pool_size", "How many servers it may have.", *POOL, alarms=("PointsmanPoolExhausted",)),
            _gauge("pool_reserve_size", "How many more, for clients that have waited long.", *POOL),
            _gauge(
                "pool_max_wait_seconds",
                "How long the first of its queue has waited.",
                *POOL,
                alarms=("PointsmanWaitsLong",),
            ),
            _gauge(
                "pools",
                "Pools of all workers, by state: active, draining, closed, failing.",
                "state",
                alarms=("PointsmanPoolFailing",),
            ),
            _gauge("paused", "1 while all databases are paused or suspended.", alarms=("PointsmanPaused",)),
            _gauge("databases_paused", "Databases that are paused by their names.", alarms=("PointsmanPaused",)),
            _gauge("databases_disabled", "Databases that are disabled.", alarms=("PointsmanPaused",)),
        ),
    ),
    Chapter(
        "Reads",
        "Why reads stay on the primary. Some reasons name functions and relations: the first 100 have series of their "
        "own, the others together are `(others)`.",
        (
            _counter("standby_reads", "Reads that standbys served.", alarms=("PointsmanReadsOnPrimary",)),
            _counter(
                "primary_reads",
                "Reads that went to the primary, by why, as SHOW REASONS has it.",
                "reason",
                alarms=("PointsmanReadsOnPrimary",),
            ),
            _counter("reads_again", "Reads that were sent again, because the server was lost that had them first."),
        ),
    ),
    Chapter(
        "The query cache",
        "",
        (
            _gauge("cache_serving", "1 while cached answers are given."),
            _gauge(
                "cache_watched_databases",
                'Databases whose writes of others are watched, by how: "logical", "poll"; "none" where they should be.',
                "mode",
                alarms=("PointsmanCacheUnwatched",),
            ),
            _gauge(
                "cache_watch_age_seconds",
                "How old what is known of these writes is, where it is oldest; nothing before it is known.",
                alarms=("PointsmanCacheWatchBehind",),
            ),
            _counter("cache_hits", "Answers that came from it.", alarms=("PointsmanCacheUseless",)),
            _counter("cache_misses", "Statements that asked for one in vain.", alarms=("PointsmanCacheUseless",)),
            _counter("cache_stored", "Answers to misses that were stored.", alarms=("PointsmanCacheTooSmall",)),
            _counter("cache_not_stored", "Those that were not, by why.", "reason"),
            _gauge("cache_entries", "Answers that are kept."),
            _gauge("cache_bytes", "Their size."),
            _gauge("query_cache_size_bytes", "How much they may have in all workers together: `query_cache_size`."),
            _counter("cache_evictions", "Answers that made room for others.", alarms=("PointsmanCacheTooSmall",)),
            _counter("cache_expired", "Answers that had become too old."),
            _counter("cache_invalidations", "Answers that did not hold any more, by what was the cause.", "cause"),
            _counter("cache_flights", "Misses that waited for another client's, instead of asking a node."),
            _counter("cache_saved_seconds", "How long the answers had taken that were hit."),
            _counter("cache_second_level_hits", "Answers that Redis had."),
            _counter("cache_second_level_misses", "Questions to Redis in vain."),
            _counter(
                "cache_second_level_errors",
                "Questions to Redis that failed.",
                alarms=("PointsmanSecondLevelFails",),
            ),
        ),
    ),
    Chapter(
        "Session state",
        "",
        (
            _counter(
                "session_state_statements",
                "Statements that left something behind, by its class and by what was done: track, pin, reject, allow. "
                "Whose they are is in SHOW SESSION_STATE.",
                "state",
                "action",
                alarms=("PointsmanClientsPinned",),
            ),
        ),
    ),
)

METRICS: Final = {metric.name: metric for chapter in CHAPTERS for metric in chapter.metrics}
