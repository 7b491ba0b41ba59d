"""Models on trial."""
