"""What prompts share with the benchmarks that a model is judged on."""
