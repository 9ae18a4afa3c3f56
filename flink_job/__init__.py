"""The stream: a PyFlink Table API job from `transactions` to decisions and dead letters."""
