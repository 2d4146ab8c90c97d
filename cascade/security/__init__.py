"""Who may call, and which bundles are trusted: bearer keys and bundle signatures. Knows nothing of gRPC."""
