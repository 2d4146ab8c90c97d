"""The page on the HTTP side: how each node does, and the buttons of its rollout."""
