"""Dashboard panels, used for the saved objects of OpenSearch Dashboards and for the live page."""
