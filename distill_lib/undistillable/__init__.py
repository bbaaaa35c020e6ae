"""Teachers that resist distillation, and the thieves who distil them all the same."""
