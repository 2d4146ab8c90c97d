"""A service in this process that follows its rollouts by itself."""

from functools import partial

from cascade.config import Config
from cascade.server import rollout_service
from cascade.server.engine import Engine
from cascade.server.gate import open_gate
from cascade.server.rollout_service import RolloutServicer
from cascade.server.serve import CascadeServer
from cascade.traffic import open_store


class FollowingService:
    """A service as `cascade serve` makes it, looking at the shared state often."""

    def __init__(self, config: Config, url: str) -> None:
        self.store = open_store(url)
        gate = open_gate(config)
        self.engine = Engine(config, self.store)
        add = partial(
            rollout_service.add_to_server,
            RolloutServicer(config, self.engine.rollouts, gate, self.engine.flags),
        )
        self.server = CascadeServer(
            self.engine, "127.0.0.1:0", config.server, gate=gate, base=config.base, admin=[add]
        )
        self.target = f"127.0.0.1:{self.server.start()}"

    def close(self) -> None:
        self.server.stop(0)
        self.engine.close()
        self.store.close()
