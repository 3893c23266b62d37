"""The page of all metrics, made of their declarations: docs/metrics.md, and what `pointsman metrics` prints."""

from typing import Final

from middleware.reports import BUCKETS_S
from middleware.web.metrics_table import CHAPTERS, Chapter, Metric

_HEAD: Final = f"""\
# Metrics

Made by `pointsman metrics` from their declarations. They are at `/metrics` of `http_listen_addr` and `http_port`, as
text or as OpenMetrics, whichever is asked for; one page has all workers. A page is made at most once a second. The last
column names the alarms of [alerts.yaml](../deploy/prometheus/alerts.yaml) that look at the metric;
[operations.md](operations.md) says what to do when they ring. How to set all this up is in
[monitoring.md](monitoring.md).

Histograms have these bounds, in seconds: {", ".join(f"{bound:g}" for bound in BUCKETS_S)}.
A quantile is known to within a bucket; what took more than a minute is counted as that.
"""


def reference() -> str:
    """The page, as Markdown."""
    return "\n".join([_HEAD, *map(_chapter, CHAPTERS)])


def _chapter(chapter: Chapter) -> str:
    lines = [f"## {chapter.title}", ""]
    if chapter.about:
        lines += [chapter.about, ""]
    lines += ["| Metric | Type | Labels | | Alarms |", "|---|---|---|---|---|"]
    return "\n".join([*lines, *map(_row, chapter.metrics), ""])


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    alarms = "<br>".join(f"[{name}](operations.md#{name.lower()})" for name in metric.alarms)
    cells = (f"`{metric.name}`", metric.type, labels, metric.help, alarms)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
