"""The live page: current decisions, drawn as the panels of `dashboards`.

The page itself is public and holds no data. Its data needs a session, which an API key of role
analyst or above opens. Values searched for never appear in URLs, where logs would keep them.
"""
