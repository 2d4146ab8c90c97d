"""Finds the recurring kinds of call in an agent's raw calls: the nodes that are worth demoting.

The clustering step (S3) of Belcak et al., "Small Language Models are the Future of Agentic AI", arXiv
2506.02153, section 6.
"""

from training.discovery.candidates import Candidate, Discovered, discover

__all__ = ["Candidate", "Discovered", "discover"]
