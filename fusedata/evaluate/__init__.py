"""Models on the benchmarks of the method: asked through lm-evaluation-harness, judged by what builds judge by."""
