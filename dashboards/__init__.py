"""Panels declared once: for OpenSearch Dashboards as saved objects, for the live page as requests."""
