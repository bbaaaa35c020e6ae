"""Distillation: losses, teachers, students and the distilling itself."""
