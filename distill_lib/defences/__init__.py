"""Plain defences, which distillation is measured against: one file each; all change an encoder in place."""
