"""Verifiers: each says of a response whether it is right, wrong, or could not be judged, and why."""
