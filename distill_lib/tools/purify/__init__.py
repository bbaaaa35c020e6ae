"""Cleaning an encoder of one's own: a suspicious checkpoint and a folder of clean images in, safetensors out."""
