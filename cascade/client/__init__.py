"""A typed client of `cascade.v1.DecisionService`. It needs grpcio and protobuf only.

Examples
--------
>>> from cascade.client import Client
>>> client = Client("127.0.0.1:50051")
>>> client.close()
"""

from cascade.client.aio import AsyncClient
from cascade.client.questions import Question
from cascade.client.results import Attempt, Cost, Decision, DecisionError
from cascade.client.sync import Client

__all__ = ["AsyncClient", "Attempt", "Client", "Cost", "Decision", "DecisionError", "Question"]
