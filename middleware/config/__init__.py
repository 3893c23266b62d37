"""Settings: a TOML file and POINTSMAN_* variables, checked by pydantic-settings.

In: `pointsman.toml` and the environment. Out: Settings for the control plane, and WorkerSettings, the plain values
the data plane reads on its hot path. Names follow PgBouncer's and pgpool-II's where those have the setting.
"""

from middleware.config.load import ConfigError, build_settings, load_settings
from middleware.config.settings import Settings
from middleware.config.tables import (
    HealthCheckSettings,
    LogSettings,
    NodeSettings,
    RouteSettings,
    UserSettings,
)
from middleware.config.worker import (
    CacheSettings,
    ClientPolicy,
    NetworkSettings,
    NodeShare,
    PoolPolicy,
    RoutePolicy,
    TlsMaterial,
    TlsSettings,
    WorkerSettings,
)

__all__ = [
    "CacheSettings",
    "ClientPolicy",
    "ConfigError",
    "HealthCheckSettings",
    "LogSettings",
    "NetworkSettings",
    "NodeSettings",
    "NodeShare",
    "PoolPolicy",
    "RoutePolicy",
    "RouteSettings",
    "Settings",
    "TlsMaterial",
    "TlsSettings",
    "UserSettings",
    "WorkerSettings",
    "build_settings",
    "load_settings",
]
