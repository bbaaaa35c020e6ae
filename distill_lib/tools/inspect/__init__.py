"""Is this encoder suspicious: the smallest trigger that works on it, and how easily a backdoor comes back."""
