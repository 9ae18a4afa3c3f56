"""The live page: what is being decided, drawn from the panels of `dashboards`.

The page itself is open and holds nothing; its data needs a session, which a key of role analyst or
above opens. What is looked for never stands in an address, where logs would keep it.
"""
