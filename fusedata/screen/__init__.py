"""Responses that are no answer, whatever they score: truncated, refused, repeated, in another language."""
