"""The product at work: real servers, simulated people, load, benchmarks."""
