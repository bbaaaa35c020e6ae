"""Backdoors, one file an attack: `badencoder` plants one in a trained encoder, the others in the pre-training images.

`drupe` is absent. DRUPE (S&P 2024) is known here as a distribution-preserving variant of BadEncoder: beside
BadEncoder's terms it is to keep the features of triggered images distributed as those of clean ones. The published
facts at hand give neither the distance between the two distributions nor the features it is taken on, nor the terms'
weights and their schedule, nor the training's settings. Each of these decides how well such an attack hides from the
defences measured here, so a variant with our own choices would be another attack, and a row under DRUPE's name would
say nothing about it.
"""
