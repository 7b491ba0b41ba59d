"""Drawings of sagas, and of how they hang together: models first (`flow`, `relations`), then a renderer for each format. Pure."""
