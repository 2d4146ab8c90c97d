"""Rollouts and audits as metrics: read from the shared state when asked for, the same in every worker."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from cascade.config import Config
from cascade.errors import CascadeError
from cascade.rollout.alarm_board import shown_alarms
from cascade.rollout.database_store import DatabaseRolloutStore
from cascade.rollout.verbs import Verbs
from cascade.traffic.store import TrafficStore

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

_AUDITS = """
SELECT node, bundle_version, is_right, count(*) FROM evidence WHERE source <> 'no-verdict' GROUP BY 1, 2, 3
"""
_UNRESOLVED = (
    "SELECT node, bundle_version, status, count(*) FROM audits WHERE status IN ('given-up', 'no-verdict') "
    "GROUP BY 1, 2, 3"
)

_log = logging.getLogger(__name__)


def rollout_metrics(config: Config, store: TrafficStore) -> Iterable[Metric]:
    """Give the metrics of all nodes; none where the state cannot be read, which is logged."""
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

    audits = CounterMetricFamily(
        "cascade_audits", "Local answers compared with the teacher's.", labels=("node", "version", "right")
    )
    share = GaugeMetricFamily(
        "cascade_rollout_share", "Share of the traffic that the candidate gets.", labels=("node", "version")
    )
    status = GaugeMetricFamily(
        "cascade_rollout_status", "1 for what a node's rollout is doing.", labels=("node", "status")
    )
    bar = GaugeMetricFamily("cascade_bar_agreement", "The node's bar.", labels=("node",))
    waiting = GaugeMetricFamily("cascade_audits_waiting", "Audits that wait.", labels=("node",))
    unresolved = CounterMetricFamily(
        "cascade_audits_unresolved",
        "Audits that say neither right nor wrong.",
        labels=("node", "version", "why"),
    )
    alarms = GaugeMetricFamily(
        "cascade_alarms_raised",
        "Processes that have an alarm of the guard raised.",
        labels=("node", "version", "alarm"),
    )
    pulled_back = GaugeMetricFamily(
        "cascade_rolled_back_timestamp_seconds",
        "When a bundle was last pulled back, by the guard or a person.",
        labels=("node", "version"),
    )
    rollouts = DatabaseRolloutStore(store)
    verbs = Verbs(config, rollouts)
    try:
        for name, node in sorted(config.nodes.items()):
            bar.add_metric((name,), node.bar.agreement)
            found = verbs.describe(name)
            status.add_metric((name, found["status"]), 1)
            if found["candidate"]:
                share.add_metric((name, found["candidate"]), found["percent"] / 100)
            last = {event.bundle: event.time for event in rollouts.events(name) if event.what == "rollback"}
            for version, moment in last.items():
                pulled_back.add_metric((name, version), moment)
            waiting.add_metric((name,), rollouts.audits_waiting(name))
            for alarm in shown_alarms(store, name, time.time()):
                alarms.add_metric((name, alarm.bundle, alarm.name), alarm.processes)
        with store.database.reading() as connection:
            for name, version, right, count in connection.execute(_AUDITS).fetchall():
                audits.add_metric((name, version, "yes" if right else "no"), float(count))
            for name, version, why, count in connection.execute(_UNRESOLVED).fetchall():
                unresolved.add_metric((name, version, why), float(count))
    except CascadeError:
        _log.warning("rollouts cannot be shown as metrics", exc_info=True)
        return []
    return [bar, audits, unresolved, share, status, pulled_back, waiting, alarms]
