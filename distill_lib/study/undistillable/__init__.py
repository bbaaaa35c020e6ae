"""The study of undistillable teachers: settings, artefacts, rows, and what its notebook calls."""
