"""What people run beside the study."""
