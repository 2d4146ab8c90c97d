"""Pure decisions: the walk up the ladder, thresholds, the guard. No I/O."""
