"""What `cascade demo` and the tests run without a network: a simulated frontier model."""

PORT = 8399
LATENCY_MS, LATENCY_SPREAD = 400.0, 0.35
"""A frontier model's answer of a few tokens: 0.4 s in the median, about 0.9 s at the 99th percentile."""
