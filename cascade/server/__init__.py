"""The gRPC service: what stands between the wire and the engine."""
