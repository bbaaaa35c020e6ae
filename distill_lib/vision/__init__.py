"""Images on the device: encoders, their features, batched augmentation, triggers."""
