"""Requests to tokens: continuous batching over llama.cpp's low-level API."""
