"""One page a profile: headline, verdicts, figures, executed notebooks, how all of it was made."""
