"""What people change while it runs: rules, lists and models, followed, kept and published."""
