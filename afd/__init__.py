"""The protocol of Amazon Fraud Detector: its clients, boto3's among them, work with us unmodified."""
