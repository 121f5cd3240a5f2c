"""What can be told of a text by looking at it: topic, language, repetition, refusal, breaking off, likeness."""
