"""Corpora into PROMPTS, and the responses that corpora carry."""
