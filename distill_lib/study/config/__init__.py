"""All settings of a run: frozen dataclasses that a TOML profile fills, strictly."""
