"""One node as the page shows it: bar, audits, certificate, rollout, traffic."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from cascade.bundle import read_manifest
from cascade.config import Config
from cascade.errors import BundleError, CascadeError
from cascade.page.figures import answer_shift, traffic_figures
from cascade.page.interval import weighted_share
from cascade.rollout.database_store import DatabaseRolloutStore
from cascade.rollout.sql import OUTPUT
from cascade.rollout.verbs import Verbs
from cascade.traffic.store import TrafficStore

_MOST_EVIDENCE = 20_000
_EVENTS = 8
_WRONG = """
SELECT a.decision_id, d.output, a.output FROM audits AS a JOIN decisions AS d ON d.decision_id = a.decision_id
WHERE a.node = ? AND a.is_right = 0 AND a.status = 'done' ORDER BY a.finished DESC LIMIT 500
"""


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

    def all(self, now: float, hours: float) -> list[dict[str, Any]]:
        """Give all nodes. One that cannot be read has an `error` and nothing else.

        Parameters
        ----------
        now : float
            Unix seconds.
        hours : float
            How far back the traffic goes.
        """
        shown = []
        for name in sorted(self._config.nodes):
            try:
                shown.append(self.one(name, now, hours))
            except CascadeError as error:
                shown.append({"node": name, "error": error.message})
        return shown

    def one(self, name: str, now: float, hours: float) -> dict[str, Any]:
        """Give one node.

        Raises
        ------
        UnknownNode, StoreError
        """
        state = self.verbs.state(name)
        rollout = self.verbs.describe(name)
        node = self._config.nodes[name]
        version = rollout["candidate"] or rollout["stable"] or rollout["bundle"]
        traffic = traffic_figures(self._store, name, now, hours)
        spent, _ = self._rollouts.audit_spending(name, now - hours * 3600)
        saved = None
        if traffic["usd_if_teacher"] is not None:
            saved = traffic["usd_if_teacher"] - traffic["usd"] - spent
        return {
            "node": name,
            "bar": {"agreement": node.bar.agreement, "confidence": node.bar.confidence},
            "ladder": list(node.ladder),
            "rollout": rollout,
            "version": version,
            "audited": self._audited(name, version, state.marks[0]) if version else None,
            "certificate": self._certificate(name, version),
            "traffic": traffic,
            "money": {"saved": saved, "audits": spent, "hours": hours},
            "shift": answer_shift(self._store, name),
            "confusions": self._confusions(name),
            "events": [
                {"time": e.time, "who": e.who, "what": e.what, "why": e.why, "bundle": e.bundle}
                for e in reversed(self.verbs.history(name)[-_EVENTS:])
            ],
        }

    def _audited(self, node: str, version: str, after: int) -> dict[str, Any] | None:
        """Give the agreement that audits found, with its interval; None before the first."""
        evidence = self._rollouts.evidence(node, version, after, _MOST_EVIDENCE)
        found = weighted_share([e.right for e in evidence], [e.propensity for e in evidence])
        if found is None:
            return None
        return {"n": len(evidence), "agreement": found[0], "low": found[1], "high": found[2]}

    def _certificate(self, node: str, version: str) -> dict[str, Any] | None:
        if not version:
            return None
        try:
            certificate = read_manifest(self._config.models_path / node / version)["certificate"]
        except (BundleError, KeyError):
            return None
        names = ("valid", "bar", "delta", "n_held_out", "n_settled", "n_wrong", "agreement_lower", "reason")
        return {name: certificate.get(name) for name in names}

    def _confusions(self, node: str) -> list[dict[str, Any]]:
        """Give what audits found wrong: the answer, the teacher's, how often; the commonest first."""
        with self._store.database.reading() as connection:
            rows = connection.execute(_WRONG, (node,)).fetchall()
        pairs: Counter[tuple[str, str]] = Counter()
        for id_, ours, theirs in rows:
            answer = _shown(self._store.rows.value_of(ours, "output", id_))
            pairs[answer, _shown(self._store.rows.value_of(theirs, OUTPUT, id_))] += 1
        return [
            {"answer": answer, "teacher": teacher, "count": count}
            for (answer, teacher), count in pairs.most_common(8)
        ]


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
