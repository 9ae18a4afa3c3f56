"""Rules, lists and models as people change them: the folded control topic, its follower, the editor."""
