"""API keys, access keys, the audit log, pseudonyms and sealing."""
