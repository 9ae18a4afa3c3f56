"""What every part of Fraudstream shares: contracts, features, decisions, and the edges."""
