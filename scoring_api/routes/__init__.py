"""The routers of the REST API by subject; `scoring_api/wiring.py` mounts them."""
