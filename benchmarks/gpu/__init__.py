"""What a GPU is measured by; `bash benchmarks/gpu.sh OUT` runs all of it."""
