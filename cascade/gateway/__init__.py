"""The OpenAI-compatible side: an agent changes `base_url`; its calls are captured, or answered locally."""
