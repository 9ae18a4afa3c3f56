"""The protocol of Amazon Fraud Detector (AFD): its clients, such as boto3, work unmodified."""
