"""How bundles go live: modes, shadow, canary, audit, and the state that all workers share."""
