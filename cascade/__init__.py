"""Answers narrow agent calls from the cheapest model that is proven good enough."""
