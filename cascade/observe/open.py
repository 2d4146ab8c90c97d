"""From the `observe` section to what watches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cascade.config import ChatRungConfig, Config
from cascade.observe.watcher import Watcher, watched
from cascade.traffic.store import TrafficStore

if TYPE_CHECKING:  # importing it decides where prometheus_client keeps its values
    from cascade.observe.metrics import Metrics
    from cascade.observe.traces import Traces


@dataclass(frozen=True)
class Observing:
    """What watches one serving process.

    Attributes
    ----------
    metrics : Metrics, optional
    traces : Traces, optional
    """

    metrics: Metrics | None = None
    traces: Traces | None = None

    def watch(self, store: TrafficStore) -> TrafficStore:
        """Give the store, watched."""
        watchers: list[Watcher] = [found for found in (self.metrics, self.traces) if found is not None]
        return watched(store, watchers)

    def follow(
        self,
        store: TrafficStore,
        queue: Callable[[], int],
        bundles: Callable[[], dict[tuple[str, str], bool]],
        on_loop: Callable[[Callable[[], None]], object],
        expiries: Callable[[], Mapping[str, float]] | None = None,
    ) -> None:
        """Watch what does not pass by: losses of the store, queue, bundles, event loop, certificates."""
        if self.metrics is not None:
            spans = None if self.traces is None else self.traces.stats
            self.metrics.follow(store.stats, queue, bundles, spans, on_loop, expiries)

    def close(self) -> None:
        """Stop, and send what is not sent yet."""
        if self.metrics is not None:
            self.metrics.close()
        if self.traces is not None:
            self.traces.close()


def open_observing(config: Config) -> Observing:
    """Build what watches; in the process that serves, after any fork.

    Raises
    ------
    ConfigError
        Traces are wanted and the extra `otel` is not installed.
    """
    metrics = traces = None
    if config.observe.metrics:
        from cascade.observe.metrics import Metrics

        metrics = Metrics()
    if config.observe.traces is not None:
        from cascade.observe.traces import open_traces

        models = {
            name: (rung.model, urlsplit(rung.base_url).hostname or "")
            for name, rung in config.rungs.items()
            if isinstance(rung, ChatRungConfig)
        }
        traces = open_traces(config.observe.traces, models)
    return Observing(metrics, traces)
