"""One node as the page shows it: bar, audits, certificate, rollout, traffic."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from cascade.config import Config
from cascade.errors import BundleError, CascadeError
from cascade.manifest import read_manifest
from cascade.page.audits import audit_spending, audited, confusions
from cascade.page.figures import answer_shift, traffic_figures
from cascade.page.interval import weighted_share
from cascade.rollout.alarm_board import shown_alarms
from cascade.rollout.database_store import DatabaseRolloutStore
from cascade.rollout.state import Life
from cascade.rollout.verbs import Verbs
from cascade.traffic.store import TrafficStore

_EVENTS = 8


class NodePages:
    """Gathers what is shown.

    Parameters
    ----------
    config : Config
    store : TrafficStore
    """

    def __init__(self, config: Config, store: TrafficStore) -> None:
        self._config, self._store = config, store
        self._rollouts = DatabaseRolloutStore(store)
        self.verbs = Verbs(config, self._rollouts)

    def all(
        self, now: float, hours: float, only: Collection[str] = (), tenant: str | None = None
    ) -> list[dict[str, Any]]:
        """Give the nodes. One that cannot be read has an `error` and nothing else.

        Parameters
        ----------
        now : float
            Unix seconds.
        hours : float
            How far back the traffic goes.
        only : collection of str
            These nodes; all, if none.
        tenant : str, optional
            Whose traffic and audits are counted; everybody's, if none. What belongs to the node (bar, bundle,
            certificate, rollout, events) is the same for all.
        """
        shown = []
        for name in sorted(self._config.nodes):
            if only and name not in only:
                continue
            try:
                shown.append(self.one(name, now, hours, tenant))
            except CascadeError as error:
                shown.append({"node": name, "error": error.message})
        return shown

    def one(self, name: str, now: float, hours: float, tenant: str | None = None) -> dict[str, Any]:
        """Give one node.

        Raises
        ------
        UnknownNode, StoreError
        """
        state = self.verbs.state(name)
        rollout = self.verbs.describe(name)
        node = self._config.nodes[name]
        version = rollout["candidate"] or rollout["stable"] or rollout["bundle"]
        traffic = traffic_figures(self._store, name, now, hours, tenant)
        spent = audit_spending(self._store, name, now - hours * 3600, tenant)
        saved = None
        if traffic["usd_if_teacher"] is not None:
            saved = traffic["usd_if_teacher"] - traffic["usd"] - spent
        return {
            "node": name,
            "bar": {"agreement": node.bar.agreement, "confidence": node.bar.confidence},
            "ladder": list(node.ladder),
            "rollout": rollout,
            "version": version,
            "audited": self._audited(name, version, state.life_of(version), tenant) if version else None,
            "certificate": self._certificate(name, version),
            "traffic": traffic,
            "money": {"saved": saved, "audits": spent, "hours": hours},
            "shift": answer_shift(self._store, name, tenant),
            "confusions": confusions(self._store, name, tenant),
            "alarms": [asdict(alarm) for alarm in shown_alarms(self._store, name, now)],
            "events": [
                {"time": e.time, "who": e.who, "what": e.what, "why": e.why, "bundle": e.bundle}
                for e in reversed(self.verbs.history(name)[-_EVENTS:])
            ],
        }

    def _audited(self, node: str, version: str, life: Life, tenant: str | None) -> dict[str, Any] | None:
        """Give the agreement that audits found, with its interval; None before the first."""
        evidence = audited(self._store, node, version, life, tenant)
        found = weighted_share([right for right, _ in evidence], [drawn for _, drawn in evidence])
        if found is None:
            return None
        unjudged = audited(self._store, node, version, life, tenant, verdict=False)
        return {
            "n": len(evidence),
            "without_verdict": len(unjudged),
            "agreement": found[0],
            "low": found[1],
            "high": found[2],
        }

    def _certificate(self, node: str, version: str) -> dict[str, Any] | None:
        if not version:
            return None
        try:
            certificate = read_manifest(self._config.models_path / node / version)["certificate"]
        except (BundleError, KeyError):
            return None
        names = ("valid", "bar", "delta", "n_held_out", "n_settled", "n_wrong", "agreement_lower", "reason")
        return {name: certificate.get(name) for name in names}
