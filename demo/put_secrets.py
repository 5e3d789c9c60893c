"""Stores secrets in Secrets Manager, as an operator would: {name: value} from standard input.

A value that is no string is stored as its JSON text. Where, and as whom, is said by the AWS_* environment.
"""

import json
import sys

import boto3

client = boto3.client("secretsmanager")
for name, value in json.load(sys.stdin).items():
    client.create_secret(Name=name, SecretString=value if isinstance(value, str) else json.dumps(value))
