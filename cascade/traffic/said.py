"""Where in the database what callers and models said stands, and how its age is told."""

from __future__ import annotations

SAID: dict[str, tuple[str, tuple[str, ...]]] = {
    "decisions": ("decision_id", ("text", "messages", "context", "output", "attempts", "error")),
    "outcomes": ("outcome_id", ("output",)),
    "labelled": ("id", ("text", "messages", "output", "context")),
    "calls": ("call_id", ("messages", "output", "context", "error")),
}
"""Of each table its id column, and the columns of what was said."""

PLAIN = {"labelled": ("session",)}
"""Said as well, and never encrypted."""

BESIDE = {
    "audits": ("id", "decision_id", {"output": "audit.output"}),
    "shadow_runs": ("id", "decision_id", {"answer": "shadow.answer"}),
}
"""Answers that rollouts keep beside a decision: encrypted under names of their own, and deleted with it."""

AGE = {"decisions": "time", "labelled": "imported_at", "calls": "time"}
"""Of each table that has a tenant the column that says since when a row is there."""
