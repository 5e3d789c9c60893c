"""Prints what CloudFormation makes of a SAM template: plain resources, which cfn-lint checks more closely.

No linter reads schedule expressions, so a bad one is refused here.
Usage: expand_template.py TEMPLATE [DOCUMENT]
With a document, what its blocks of YAML hold is added to the resources first.
"""

import json
import re
import sys

from samcli.lib.cfn_language_extensions.sam_integration import expand_language_extensions
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse


class NoManagedPolicies:
    """The translator asks for the account's managed policies; offline there are none, and we name none."""

    def load(self):
        return {}


def is_schedule(expression: str) -> bool:
    """rate(1 minute), rate(5 minutes), or cron() with six fields and a ? for the day that is not meant."""
    if re.fullmatch(r"rate\((1 (minute|hour|day)|([2-9]|[1-9]\d+) (minutes|hours|days))\)", expression):
        return True
    cron = re.fullmatch(r"cron\(([\d*/,\-A-Z?#]+( [\d*/,\-A-Z?#]+){5})\)", expression)
    if not cron:
        return False
    minute, hour, day, month, weekday, year = cron[1].split()
    return (day == "?") != (weekday == "?") and "?" not in minute + hour + month + year


def value_of(expression: str | dict, parameters: dict) -> str:
    """A schedule as it is written, or the default of the parameter it refers to."""
    return parameters[expression["Ref"]]["Default"] if isinstance(expression, dict) else expression


def resources_of(document: str) -> dict:
    """What a document's blocks of YAML hold, loops unrolled."""
    resources = {}
    for block in re.findall(r"^```yaml\n(.*?)^```", document, re.MULTILINE | re.DOTALL):
        resources.update(yaml_parse(block))
    loops = {"Transform": "AWS::LanguageExtensions", "Resources": resources}
    unrolled = expand_language_extensions(loops, {"AWS::Region": "us-east-1"}, enabled=True)
    return unrolled.expanded_template["Resources"]


with open(sys.argv[1]) as file:
    template = yaml_parse(file)
if len(sys.argv) > 2:
    with open(sys.argv[2]) as file:
        template["Resources"].update(resources_of(file.read()))
# What is on this disk would be in a bucket by now.
for resource in template["Resources"].values():
    if "CodeUri" in resource.get("Properties", {}):
        resource["Properties"]["CodeUri"] = "s3://bucket/key"
expanded = transform(template, {}, NoManagedPolicies())
for name, resource in expanded["Resources"].items():
    if resource["Type"] == "AWS::Scheduler::Schedule":
        expression = value_of(resource["Properties"]["ScheduleExpression"], template["Parameters"])
        if not is_schedule(expression):
            sys.exit(f"{name}: EventBridge Scheduler refuses {expression}")
json.dump(expanded, sys.stdout, indent=2)
