"""PROMPTS into RESPONSES: engines, and the stage that keeps them at work."""
