"""What the emulator's HTTP server cannot pass on, and API Gateway can."""

import os
import re

import schemathesis


@schemathesis.hook
def filter_body(_context, body):
    """The emulator answers 500 by itself to a body that is not UTF-8, which API Gateway would send in base64.

    The integration tests send such bodies in the gateway's format.
    """
    if not isinstance(body, bytes):
        return True
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


@schemathesis.hook
def map_query(context, query):
    """Any name that a database may have is described; which there are, each installation knows. The demo has one.

    And one project, whose public key is no header that the command line could give.
    """
    if context.operation.path == "/api/monitoring/vitals":
        query = {**(query or {}), "key": os.environ["VITALS_KEY"]}
    if query and re.fullmatch("[a-z0-9][a-z0-9-]{0,62}", str(query.get("target", ""))):
        query["target"] = "default"
    return query


@schemathesis.hook
def map_path_parameters(_context, parameters):
    """The project that there is, but for names that say they are another."""
    if parameters and len(str(parameters.get("project", ""))) > 2:
        parameters["project"] = "random"
    return parameters
